"""Several allocations of one budget, of which the one that harms least is found by trying.

The price of a group is measured on half of its channels, alone. Where the sum of what goes by such prices
is small, it holds. Where a budget takes most of the channels, groups harm each other, and the last
channels of one are worth more than the first. Prices that differ less, or costs that rise with what is
gone already, then do better on some networks and worse on others, which nothing tells beforehand. So each
allocation is cut and fitted on the samples that scores saw, and the outputs of the others judge it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..coupling.trace import Trace
from ..moments.held import Held
from ..moments.second import Progress
from ..scoring.table import GroupScore, ScoreTable
from ..selection.plan import Plan
from ..surgery.surgeon import rewrite_trace
from .allocation import expected
from .harm import HIGH, OriginalOutputs
from .walk import Way, recover

DAMPED, RISING = 0.5, 1.0
"""Power of prices that differ less, and power of the share that is left by which costs rise."""

GAIN = 0.15
"""Share of the harm by prices that another allocation has to save: less of it may be chance on few samples."""

PRICES = "harm"
"""The allocation by the prices as they were measured."""

AFTER = {"damped twice": ("damped", PRICES)}
"""Allocation -> two others, of which the first has to harm less for it to be tried."""

Told = Callable[[str], Progress]
"""Progress of a stage by its name."""


def costs_of(table: ScoreTable) -> dict[str, ScoreTable]:
    """Costs of every allocation by its name, in the order of trial; those that are given come first."""
    return {
        PRICES: table,
        "rising": rising(table, RISING),
        "damped": damped(table, DAMPED),
        "damped twice": damped(table, DAMPED**2),
    }


def damped(table: ScoreTable, power: float) -> ScoreTable:
    """The same with a power of the prices about their geometric mean.

    Costs that are in no unit of those of others keep their price.
    """
    prices: Mapping[str, float] = table.options["prices"]  # type: ignore[assignment]
    alike = {name for name, ranked in table.ranked.items() if ranked.removal is not None}
    known = {name: price for name, price in prices.items() if name in alike and 0 < price < np.inf}
    mean = np.exp(np.mean(np.log([*known.values()]))) if known else 1.0
    return table.priced({name: float((price / mean) ** (power - 1)) for name, price in known.items()})


def rising(table: ScoreTable, power: float) -> ScoreTable:
    """The same with costs that rise with what is gone: their sums over a power of the share that is left."""
    return replace(table, scores={name: _risen(found, power) for name, found in table.items()})


def _risen(found: GroupScore, power: float) -> GroupScore:
    if found.costs is None:
        return found
    size = len(found.costs)
    left = np.maximum(np.arange(size - 1, -1, -1), 0.5) / size
    sums = np.cumsum(found.costs) * left**-power
    return replace(found, costs=np.diff(sums, prepend=0.0))


@dataclass(frozen=True, eq=False)
class Trial:
    """What allocations are tried on.

    Attributes
    ----------
    seen, judges : Held
        Samples that a fit sees, and those whose outputs judge it.
    way : Way
        How it is fitted.
    """

    traced: Trace
    seen: Held
    judges: Held
    way: Way

    @cached_property
    def _reference(self) -> OriginalOutputs:
        return OriginalOutputs(self.traced.model, self.judges, self.way.provider)

    def harm(self, plan: Plan, progress: Progress) -> float:
        """What a plan does behind a fit."""
        removed = plan.removed(self.traced)
        sizes, slim = self.traced.sizes(removed), rewrite_trace(self.traced, removed)
        found = recover(self.traced, sizes, slim, self.seen, self.way, progress)
        return self._reference.of(found.apply(slim))


def least_harmful(
    table: ScoreTable, planned: Callable[[ScoreTable], Plan], trial: Trial, told: Told
) -> ScoreTable:
    """Costs by which a budget harms least; those that are given where no more than ``HIGH`` is expected.

    Parameters
    ----------
    table : ScoreTable
        With costs in the unit of harm.
    planned : callable
        What a budget makes of costs.
    trial : Trial
    told : callable
        Gives the progress of a stage by its name.

    Returns
    -------
    ScoreTable
        Its options say what was ``tried``: the harm of every allocation, the one that is taken first.
    """
    if not HIGH < sum(expected(table, planned(table).counts).values()) < np.inf:
        return table
    tables = costs_of(table)
    plans = _distinct({name: planned(costs) for name, costs in tables.items()})
    if len(plans) == 1:
        return table
    harms: dict[str, float] = {}
    for name, plan in plans.items():
        if name not in AFTER or _better(harms, *AFTER[name]):
            harm = trial.harm(plan, told(f"try {len(harms) + 1}:"))
            harms[name] = min(harm, sys.float_info.max)
    tried = {name: harms[name] for name in _order(harms)}
    return replace(tables[next(iter(tried))], options={**table.options, "tried": tried})


def _distinct(plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """Plans of which none keeps as many channels of every group as one before it."""
    found: dict[str, Plan] = {}
    for name, plan in plans.items():
        if all(plan.counts != other.counts for other in found.values()):
            found[name] = plan
    return found


def _better(harms: Mapping[str, float], one: str, other: str) -> bool:
    return one in harms and other in harms and harms[one] < harms[other]


def _order(harms: Mapping[str, float]) -> list[str]:
    """Allocations, the one that harms least first; prices, unless another gains; of equal ones the first."""
    return sorted(harms, key=lambda name: harms[name] * (1 - GAIN if name == PRICES else 1))
