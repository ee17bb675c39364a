"""Scores of layers and groups, and the costs that come with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..labels.facts import Kernel
from .registry import Scores

if TYPE_CHECKING:
    from ..moments.ranking import Ranked


@dataclass(frozen=True, slots=True)
class LayerScore:
    """Scores of one layer of a group, one per channel of the whole layer."""

    kernel: Kernel
    raw: Scores
    normalized: Scores

    @property
    def measured(self) -> bool:
        """Whether the criterion says anything about this layer."""
        return not np.isnan(self.raw).any()


@dataclass(frozen=True, slots=True)
class GroupScore:
    """Scores of a group: of every layer, and merged, one per unit.

    ``merged`` is NaN where the criterion measures none of the layers. ``costs`` are what is lost
    with each unit, in the order in which they go, where the criterion knows that. ``problem`` says
    why it does not, and the scores are those of weights.
    """

    group: Group
    layers: tuple[LayerScore, ...]
    merged: Scores
    costs: Scores | None = None
    problem: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class ScoreTable(Mapping[str, GroupScore]):
    """Group name -> scores."""

    trace: Trace
    scores: Mapping[str, GroupScore]
    options: Mapping[str, object] = field(default_factory=dict)
    ranked: Mapping[str, Ranked] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"ScoreTable({', '.join(self.scores)})"

    @property
    def additive(self) -> bool:
        """Whether scores come with costs that add up."""
        return bool(self.ranked)

    @property
    def odd(self) -> dict[str, str]:
        """Groups that are scored by weights because of numbers that data make -> why."""
        return {name: known.problem for name, known in self.ranked.items() if known.odd}

    def costed(self) -> ScoreTable:
        """The same with costs for groups of which the criterion knows none: squared scores.

        They are in no unit of those of others, until a price makes them comparable.
        """
        table = dict(self.scores)
        for name, found in table.items():
            if found.costs is None and not np.isnan(found.merged).any():
                table[name] = replace(found, costs=np.sort(np.square(found.merged)))
        return replace(self, scores=table)

    def priced(self, prices: Mapping[str, float]) -> ScoreTable:
        """The same with the costs of every group times a price: what they do to the outputs."""
        table = dict(self.scores)
        for name, price in prices.items():
            found = table[name]
            if found.costs is not None:
                table[name] = replace(found, merged=found.merged * price, costs=found.costs * price)
        return replace(self, scores=table)

    def __getitem__(self, name: str) -> GroupScore:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)
