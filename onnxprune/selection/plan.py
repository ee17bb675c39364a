"""The plan: what is kept in every group, and why. JSON in and out; the format is stable.

The same plan applied to a retrained or differently typed copy of the model gives the same slim
structure, because it names groups and stored tensors, not values.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..errors import PlanError
from ..files.writing import write_atomically
from ..model.file import Model
from ..printable import finite, json_text, page, plural
from ..surgery.computed import find_computed, origin
from ..surgery.slices import find_slices

FORMAT, VERSION = "onnxprune.plan", 1

TRACE_OPTIONS = ("norm", "reshape_channel_axis", "group_policy", "parts")


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """What happens to one group.

    Attributes
    ----------
    keep : tuple of int
        Kept channels, ascending positions in the group.
    status : {"pruned", "kept", "blocked"}
    reason : str
        Why a group is blocked or kept whole, or why it loses another share than was asked.
    """

    name: str
    channels: int
    keep: tuple[int, ...]
    scores: tuple[float, ...]
    members: tuple[tuple[str, int], ...]
    status: str
    reason: str = ""

    @classmethod
    def of(
        cls, group: Group, keep: Sequence[int] | npt.NDArray[np.int64], scores: Any, reason: str = ""
    ) -> PlanGroup:
        """Entry of a group from its kept positions."""
        status = "blocked" if group.reason else "kept" if len(keep) == len(group) else "pruned"
        values = tuple(np.asarray(scores, np.float64).tolist())
        return cls(
            group.name,
            len(group),
            tuple(np.asarray(keep).tolist()),
            values,
            group.members,
            status,
            group.reason or reason,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PlanGroup:
        """Entry as in plan.json."""
        return cls(
            str(data["name"]),
            int(data["channels"]),
            tuple(int(k) for k in data["keep"]),
            tuple(float(s) for s in data["scores"]),
            tuple((str(m["tensor"]), int(m["axis"])) for m in data["members"]),
            str(data["status"]),
            str(data["reason"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """As in plan.json."""
        return {
            "name": self.name,
            "channels": self.channels,
            "keep": list(self.keep),
            "scores": [min(max(s, -sys.float_info.max), sys.float_info.max) for s in self.scores],
            "members": [{"tensor": t, "axis": a} for t, a in self.members],
            "status": self.status,
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What is kept, and why.

    Attributes
    ----------
    model : dict
        ``sha256`` of the file, number of its ``nodes``, and ``opset``.
    options : dict
        Every setting that led to the plan.
    constants : dict
        Stored tensor of the input file -> ``shape`` and, per sliced axis, the kept indices.
    """

    model: Mapping[str, Any]
    options: Mapping[str, Any]
    groups: tuple[PlanGroup, ...]
    constants: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Plan({self._headline})"

    @property
    def _headline(self) -> str:
        kept, channels = sum(len(g.keep) for g in self.groups), sum(g.channels for g in self.groups)
        return f"{kept} of {plural(channels, 'channel')} kept in {plural(len(self.groups), 'group')}"

    def __str__(self) -> str:
        lines = [
            f"  {g.name}: {len(g.keep)} of {g.channels}" + (f", {g.reason}" if g.reason else "")
            for g in self.groups
        ]
        return page([self._headline, *lines])

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON types."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": dict(self.model),
            "options": finite(self.options),  # a harm may be infinite
            "groups": [g.to_dict() for g in self.groups],
            "constants": dict(self.constants),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write plan.json, atomically."""
        text = json_text(self.to_dict())
        write_atomically(Path(path), (text + "\n").encode())

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Plan from JSON types.

        Raises
        ------
        PlanError
            If it is malformed or of another version.
        """
        from ..settings.schema import PlanFile, checked

        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise PlanError(f"not a plan: found no format '{FORMAT}'")
        if data.get("version") != VERSION:
            raise PlanError(f"plan version {data.get('version')}: expected {VERSION}")
        checked(data, PlanFile, "malformed plan", PlanError)
        groups = tuple(PlanGroup.from_dict(entry) for entry in data["groups"])
        return cls(dict(data["model"]), dict(data["options"]), groups, dict(data["constants"]))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read plan.json.

        Raises
        ------
        PlanError
            If it cannot be read.
        """
        from ..settings.schema import read_json

        return cls.from_dict(read_json(path, "plan", PlanError))

    def whole(self, reason: str) -> Plan:
        """The same plan with every channel kept, for a reason."""
        groups = [
            replace(g, keep=tuple(range(g.channels)), status="kept", reason=reason)
            if g.status == "pruned"
            else g
            for g in self.groups
        ]
        return replace(self, groups=tuple(groups), constants={})

    @property
    def trace_options(self) -> dict[str, Any]:
        """The settings that a model must be traced with for this plan."""
        return {k: self.options[k] for k in TRACE_OPTIONS if k in self.options}

    @property
    def counts(self) -> dict[str, int]:
        """How many channels are kept of every group that is not blocked."""
        return {group.name: len(group.keep) for group in self.groups if group.status != "blocked"}

    def removed(self, traced: Trace) -> npt.NDArray[np.int64]:
        """Units of a traced model that this plan removes.

        Raises
        ------
        PlanError
            If a group of the plan is missing from the model, or differs in size.
        """
        groups = {g.name: g for g in traced}
        units: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for entry in self.groups:
            if entry.status != "pruned":
                continue
            group = groups.get(entry.name)
            if group is None or len(group) != entry.channels:
                found = "no such group" if group is None else plural(len(group), "channel")
                raise PlanError(
                    f"group '{entry.name}': found {found}, expected {plural(entry.channels, 'channel')}",
                    "The plan was made for another model.",
                )
            keep = np.array(entry.keep, np.int64)
            gone = np.ones(len(group), np.bool_)
            if len(keep) and 0 <= keep.min() <= keep.max() < len(group):
                gone[keep] = False
            if not len(keep) or np.count_nonzero(gone) != len(group) - len(keep):
                raise PlanError(
                    f"group '{entry.name}': its kept channels are no subset of 0..{len(group) - 1}"
                )
            if not group.even(keep):
                raise PlanError(f"group '{entry.name}': its blocks keep different numbers of channels")
            units.append(group.units[gone])
        return np.concatenate(units)


def make_plan(traced: Trace, decided: Sequence[PlanGroup], options: Mapping[str, Any]) -> Plan:
    """Complete a selection: blocked groups and the slices of every stored tensor."""
    blocked = [PlanGroup.of(g, range(len(g)), ()) for g in traced.blocked]
    groups = (*decided, *blocked)
    constants = Late(lambda: _constants(traced, Plan({}, {}, groups, {})))
    identity = Late(lambda: _identity(traced.model))
    return Plan(identity, options, groups, constants)


def _constants(traced: Trace, plan: Plan) -> dict[str, Any]:
    """What becomes of every stored tensor."""
    sizes = traced.sizes(plan.removed(traced))
    computed = find_computed(traced)
    constants: dict[str, Any] = {}
    for part in find_slices(traced.graph, sizes):
        if part.whole:
            continue
        keep = {str(k): _indices(i) for k, i in enumerate(part.cut) if i is not None}
        entry: dict[str, Any] = {"shape": list(part.shape), "keep": keep}
        if part.name != part.root:
            entry["copy_of"] = part.root
        if part.root in traced.graph.folded:
            if not computed[part.root].replaces:
                continue  # nothing that is stored changes
            entry["computed_from"] = origin(traced.graph, part.root)
        constants[part.name] = entry
    return constants


def _indices(index: npt.NDArray[np.int64]) -> Any:
    """Kept indices as JSON: a list, or one list per block of the first axis."""
    return index.tolist() if index.ndim == 1 else {"blocks": index.tolist()}


def _identity(model: Model) -> dict[str, Any]:
    """What identifies a model."""
    return {"sha256": model.sha256(), "nodes": len(model.proto.graph.node), "opset": model.opset}


class Late(Mapping[str, Any]):
    """A table that is made when it is first asked for: most plans are carried out at once."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make = make

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return self._make()

    def __getitem__(self, key: str) -> Any:
        return self._facts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)
