"""The groups of a network as a page shows them, and which nodes carry their channels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..labels.vector import Labels, carried, distinct
from ..model.node import Node
from ..printable import printable
from ..reports.chains import Chains
from ..selection.plan import Plan, PlanGroup


@dataclass(frozen=True, slots=True)
class Coupled:
    """One group.

    Attributes
    ----------
    kept : int or None
        Channels that stay; None where nothing was decided.
    status : {"free", "pruned", "kept", "blocked"}
    layers : tuple of str
        Nodes that make the channels.
    members : tuple of (str, int)
        Stored axes that shrink with the group.
    scores : tuple of float
        What decided, by channel; empty where nothing has a score.
    keep : tuple of int
    way : tuple of str
        From a blocked layer to what blocks it.
    """

    name: str
    channels: int
    kept: int | None
    status: str
    reason: str
    layers: tuple[str, ...]
    members: tuple[tuple[str, int], ...]
    scores: tuple[float, ...] = ()
    keep: tuple[int, ...] = ()
    way: tuple[str, ...] = ()

    @property
    def cut(self) -> tuple[float, float] | None:
        """Highest score that goes and lowest that stays; None where all stay or there are no scores."""
        kept = set(self.keep)
        gone = [s for k, s in enumerate(self.scores) if k not in kept]
        stay = [s for k, s in enumerate(self.scores) if k in kept]
        return (max(gone), min(stay)) if gone and stay else None

    def to_dict(self) -> dict[str, Any]:
        """As the page's script takes it."""
        return {
            "name": printable(self.name),
            "channels": self.channels,
            "kept": self.kept,
            "status": self.status,
            "reason": printable(self.reason),
            "layers": [*map(printable, self.layers)],
            "members": [[printable(tensor), axis] for tensor, axis in self.members],
            "scores": [*map(short, self.scores)],
            "keep": list(self.keep) if self.status == "pruned" else [],
            "cut": [short(score) for score in self.cut or ()],
            "way": [*map(printable, self.way)],
        }


def short(number: float) -> float | None:
    """Five digits of a number; None where it is not finite."""
    return float(f"{number:.5g}") if math.isfinite(number) else None


def coupled(traced: Trace, plan: Plan | None = None) -> list[Coupled]:
    """All groups of an analysis, with what a plan says of them; those of the plan alone come last."""
    planned = {group.name: group for group in plan.groups} if plan is not None else {}
    chains = Chains(traced)
    found = [_view(group, planned.pop(group.name, None), chains) for group in traced.all_groups]
    return found + [_planned(group) for group in planned.values()]


def _view(group: Group, planned: PlanGroup | None, chains: Chains) -> Coupled:
    layers = tuple(node.name for node in group.nodes)
    way = tuple(chains.of(group, group.nodes[0])) if group.reason and group.nodes else ()
    members = tuple((member.tensor, member.axis) for member in group.members)
    if planned is None or planned.channels != len(group):
        status = "blocked" if group.reason else "free"
        return Coupled(group.name, len(group), None, status, group.reason, layers, members, way=way)
    return Coupled(
        group.name,
        len(group),
        len(planned.keep),
        planned.status,
        planned.reason,
        layers,
        members,
        planned.scores,
        planned.keep,
        way,
    )


def _planned(group: PlanGroup) -> Coupled:
    """A group that the analysis does not know: the clean-up before it changed what there is."""
    return Coupled(
        group.name,
        group.channels,
        len(group.keep),
        group.status,
        group.reason,
        (group.name,),
        group.members,
        group.scores,
        group.keep,
    )


class Carried:
    """Numbers of the groups whose channels a tensor has."""

    def __init__(self, traced: Trace) -> None:
        self._axes = traced.walk.axes
        self._seen: dict[int, list[int]] = {}
        self._maps: list[npt.NDArray[np.int64]] = []
        groups = list(enumerate(traced.all_groups))
        for parts in traced.resolutions:
            of_unit = np.full(int(parts.unit.max(initial=-1)) + 1, -1, np.int64)
            for number, group in groups:
                if traced.owners(group) is parts.unit:
                    of_unit[group.units] = number
            self._maps.append(of_unit[parts.unit])

    def by(self, node: Node) -> list[int]:
        """Groups whose channels the outputs of a node have, those of the first first."""
        found: dict[int, None] = {}
        for name in node.outputs:
            for labels in self._axes.get(name, ()):
                found |= dict.fromkeys(self._of(labels))
        return list(found)

    def _of(self, labels: Labels | None) -> Sequence[int]:
        if not carried(labels):
            return ()
        known = self._seen.get(id(labels))
        if known is None:
            known = self._seen[id(labels)] = list(self._numbers(labels))
        return known

    def _numbers(self, labels: Labels) -> Iterator[int]:
        for of_label in self._maps:
            yield from (number for number in distinct(of_label[labels]).tolist() if number >= 0)
