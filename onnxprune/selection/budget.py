"""Budgets: the largest model whose MACs, parameters, bytes and latency stay within given shares.

One granule after the other is taken away, in the order in which a growing ratio would take them
(layer scope: the same share of every group, or, where time is saved, more of those that save much of it;
global scope: the lowest scores first, or, where scores come with costs or time is saved, the lowest per
share of the budget). The search
bisects that chain on the size view, so no trial model is written. Then granules are given back,
those that went last first, as long as the budget holds: the result is never above the budget, and
no group can have another granule. Only what a step touches is counted anew (``meter.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..errors import BudgetError
from ..labels.sizes import Term
from ..labels.vector import Floats, Ints
from ..scoring.table import GroupScore, ScoreTable
from .cost import byte_terms, mac_terms, parameter_terms
from .meter import Meter
from .rounding import Rounding
from .strategies import Want, removal_order

if TYPE_CHECKING:
    from ..timing.model import LatencyModel

TERMS: dict[str, Callable[[Trace], list[Term]]] = {
    "keep_macs": mac_terms, "keep_params": parameter_terms, "keep_size": byte_terms,
}  # fmt: skip

MACS, LATENCY = "keep_macs", "keep_latency"

SLIGHT = 1e-9
"""Share of a budget that a step counts as saving at least, so that it goes last and not never."""

PROBED = 64
"""Steps of a group at most of which the time is predicted: between them it is taken to fall with the channels."""

SMALLER = "or allow fewer channels (min-channels, min-share, granularity)."

ATTEMPTS, SPARE = 10, 64
"""How often the bytes of a file are tried, and how many are kept free at first."""


class Chain:
    """Plans from the whole model to the smallest allowed, one granule apart.

    Attributes
    ----------
    whole : dict
        What a target is a share of.
    groups, kept : int array, shape (steps,)
        Position of the group that each step shrinks, and the channels that it keeps then.
    meter : Meter
        Stands at one of the plans.
    """

    def __init__(
        self,
        traced: Trace,
        groups: Sequence[Group],
        scores: ScoreTable,
        rounding: Rounding,
        scope: str,
        names: Sequence[str],
        latency: LatencyModel | None = None,
    ) -> None:
        self.traced = traced
        self._full = np.array([len(group) for group in groups], np.int64)
        self._rungs = [_counts(group, rounding) for group in groups]
        orders = [removal_order(group, scores[group.name].merged) for group in groups]
        alike = LATENCY in names and scope != "global"
        counted = dict.fromkeys([*names, MACS] if alike else names)
        self.meter = Meter(traced, groups, orders, {n: _terms(traced, n, latency) for n in counted})
        self.whole = {name: _whole(traced, name, self.meter.totals[name]) for name in counted}
        limits = [
            np.asarray(rungs + rounding.limit(group, 0), np.float64)
            for group, rungs in zip(groups, self._rungs, strict=True)
        ]
        if scope == "global":
            found = [scores[group.name] for group in groups]
            prices = [self._prices(k, found[k], orders[k], limits[k], names) for k in range(len(groups))]
        else:
            prices = [self._shares(k, limits[k], names) for k in range(len(groups))]
        if alike and MACS not in names:
            self.meter.forget(MACS)
        self.groups, self.kept = self._in_order(prices, [rounding.granule(group) for group in groups])
        self._last: int | None = None

    def _in_order(self, prices: Sequence[Floats], granules: Sequence[int]) -> tuple[Ints, Ints]:
        """Group of every step, and the channels that it keeps, the cheapest steps first."""
        owner = np.repeat(np.arange(len(prices)), [len(rungs) for rungs in self._rungs])
        kept = np.concatenate([np.zeros(0, np.int64), *self._rungs])
        # Of steps of one price those of whole blocks go first: a narrow group's save work, but no time.
        coarse = np.array(granules, np.int64)[owner]
        order = np.lexsort((-kept, owner, -coarse, np.concatenate([np.zeros(0), *prices])))
        return owner[order], kept[order]

    def _shares(self, number: int, limits: Floats, names: Sequence[str]) -> Floats:
        """What each step of a group leaves, as a share of it: all groups lose alike, or in step with time.

        A group then counts as much as half of its shares of the time and of the multiply-accumulates, and a
        step as much as the share that is gone behind it: where time falls with the channels, a group loses at
        most twice as much as one of which both shares are alike, and next to nothing where it saves none.
        """
        lost = np.maximum(0.0, 1 - limits / self._full[number])
        if not len(limits) or LATENCY not in names:
            return lost
        rungs, size = self._rungs[number], int(self._full[number])
        last = np.array([len(rungs) - 1])
        saved, macs = self._saved(number, LATENCY, _probed(rungs)), self._saved(number, MACS, last)[-1]
        worth = (max(saved[-1], SLIGHT) + max(macs, 0.0)) / 2
        steps = np.concatenate([[size], rungs[:-1]]) - rungs
        return _slopes(worth * np.cumsum(lost * (steps / (size - rungs[-1]))), saved)

    def _prices(
        self, number: int, found: GroupScore, order: Ints, limits: Floats, names: Sequence[str]
    ) -> Floats:
        """What each step of a group costs, per share of the budget where costs are known or time counts."""
        rungs, size = self._rungs[number], int(self._full[number])
        if not len(rungs) or (found.costs is None and LATENCY not in names):
            return _ranks(found.merged[order], limits)
        costs = found.merged[order] if found.costs is None else found.costs
        places = _probed(rungs) if LATENCY in names else np.array([len(rungs) - 1])
        saved = np.sum([self._saved(number, name, places) for name in names], axis=0)
        return _slopes(np.cumsum(costs)[size - rungs - 1], saved)

    def _saved(self, number: int, name: str, places: Ints) -> Floats:
        """Share of one cost that one group alone saves with each of its steps.

        It is counted at some of them, the last included: between them it is taken to fall with the channels.
        """
        rungs, size, before = self._rungs[number], int(self._full[number]), self.meter.totals[name]
        probed = rungs[places]
        left = self.meter.along(name, number, probed)
        saved: Floats = 1 - left / before if before else np.zeros(len(probed))
        if len(places) == len(rungs):
            return saved
        return np.interp(size - rungs, [0, *(size - probed)], [0.0, *saved])

    def go(self, length: int) -> None:
        """Stand at the plan behind so many steps."""
        counts = self._full.copy()
        counts[self.groups[:length]] = self.kept[:length]  # of several steps the last one counts
        changed = np.flatnonzero(counts != self.meter.counts)
        self.meter.keep(zip(changed.tolist(), counts[changed].tolist(), strict=True))

    def meets(self, limits: Mapping[str, float], length: int) -> bool:
        """Whether all limits hold behind so many steps."""
        if not 0 <= length <= len(self.groups):
            return length > 0
        self.go(length)
        return self._within(limits)

    def _within(self, limits: Mapping[str, float]) -> bool:
        return all(self.meter.totals[name] <= limit for name, limit in limits.items())

    def solve(self, limits: Mapping[str, float]) -> list[int] | None:
        """Units that every group keeps within the limits; None where nothing is."""
        length = self._shortest(limits)
        if length > len(self.groups):
            return None
        self._last = length
        self.go(length)
        recent = self.groups[:length][::-1]
        _, first = np.unique(recent, return_index=True)
        for number in recent[np.sort(first)].tolist():
            self._refill(number, limits)
        return list(self.meter.counts)

    def _shortest(self, limits: Mapping[str, float]) -> int:
        """Fewest steps behind which the limits hold; one more than there are where they never do.

        A second search begins where the first one ended.
        """
        low, high, stride = -1, len(self.groups) + 1, 1
        if self._last is not None:
            sign = -1 if self.meets(limits, self._last) else 1
            low, high = (low, self._last) if sign < 0 else (self._last, high)
            while self.meets(limits, at := self._last + sign * stride) == (sign < 0):
                low, high = (low, at) if sign < 0 else (at, high)
                stride *= 2
            low, high = (max(low, at), high) if sign < 0 else (low, min(high, at))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.meets(limits, middle) else (middle, high)
        return high

    def _refill(self, number: int, limits: Mapping[str, float]) -> None:
        """Give back as many granules of a group as the limits have room for: mostly none."""
        kept = self.meter.counts[number]
        rungs = [*(n for n in self._rungs[number][::-1].tolist() if n > kept), int(self._full[number])]
        low, high, probe = -1, len(rungs), 0
        while high - low > 1:
            self.meter.keep([(number, rungs[probe])])
            low, high = (probe, high) if self._within(limits) else (low, probe)
            probe = min(2 * low + 2, high - 1) if high == len(rungs) else (low + high) // 2
        self.meter.keep([(number, rungs[low] if low >= 0 else kept)])


def _slopes(costs: Floats, saved: Floats) -> Floats:
    """Price of every step of a group: cost per share of the budget that is saved.

    Steps of one edge of the lower convex hull have one price, so a cheap step behind a dear one
    pays for both (the relaxation of a multiple-choice knapsack problem, Sinha and Zoltners 1979).

    Parameters
    ----------
    costs, saved : float array
        Of each step and all before it.
    """
    slight = SLIGHT * np.arange(1, len(saved) + 1)
    places = [0.0, *(np.maximum.accumulate(np.maximum(saved, 0.0)) + slight).tolist()]
    heights = [0.0, *costs.tolist()]

    def slope(first: int, last: int) -> float:
        return (heights[last] - heights[first]) / (places[last] - places[first])

    hull, edges = [0], list[float]()
    for place in range(1, len(places)):
        while edges and slope(hull[-2], place) <= edges[-1]:
            hull.pop()
            edges.pop()
        edges.append(slope(hull[-1], place))
        hull.append(place)
    return np.repeat(edges, np.diff(hull))


def _probed(rungs: Ints) -> Ints:
    """Places of the steps at which the time is predicted, which may fall in leaps."""
    if len(rungs) <= PROBED:
        return np.arange(len(rungs))
    return np.unique(np.linspace(0, len(rungs) - 1, PROBED).astype(np.int64))


def _ranks(merged: Floats, limits: Floats) -> Floats:
    """Highest score that is lost where so many units may be kept.

    Where blocks take turns the order is not that of the scores.
    """
    lost = np.ceil(len(merged) - limits - 1e-9).astype(np.int64)
    return np.maximum.accumulate(merged)[np.clip(lost, 1, len(merged)) - 1]


def _counts(group: Group, rounding: Rounding) -> Ints:
    """Counts that a group may keep, descending, without its full size."""
    step, least = rounding.step(group), rounding.least(group)
    first = (len(group) - 1) // step * step
    return np.arange(first, least - 1, -step)


def by_budget(
    traced: Trace,
    groups: Sequence[Group],
    scores: ScoreTable,
    targets: Mapping[str, float],
    rounding: Rounding,
    scope: str,
    latency: LatencyModel | None,
) -> dict[str, Want]:
    """The fewest removals that meet every target.

    Parameters
    ----------
    latency : LatencyModel
        Where the latency is one of them.

    Raises
    ------
    BudgetError
        If even the smallest allowed model is above a target.
    """
    chain = Chain(traced, groups, scores, rounding, scope, list(targets), latency)
    limits = {name: share * chain.whole[name] for name, share in targets.items()}
    if latency is not None and LATENCY in limits:
        limits[LATENCY] = latency.counted(targets[LATENCY]) * chain.whole[LATENCY]
    counts = _as_written(chain, limits) if "keep_size" in targets else chain.solve(limits)
    if counts is None:
        raise _unreachable(chain, targets, latency)
    why = ", ".join(f"{name.replace('_', '-')} {share:g}" for name, share in targets.items())
    return {group.name: Want(count, why) for group, count in zip(groups, counts, strict=True)}


def _terms(traced: Trace, name: str, latency: LatencyModel | None) -> list[Term]:
    if name in TERMS:
        return TERMS[name](traced)
    assert latency is not None
    return latency.terms(traced)


def _whole(traced: Trace, name: str, counted: int) -> int:
    """What a target is a share of: what is counted, but for the bytes of the file."""
    return traced.model.nbytes() if name == "keep_size" else counted


def _as_written(chain: Chain, limits: Mapping[str, float]) -> list[int] | None:
    """The same with the bytes of the file as it is written, of which tensors are only a part.

    The search is repeated with what the last file held besides, until a file is small enough.
    """
    from ..surgery.surgeon import written_bytes

    traced, limit = chain.traced, limits["keep_size"]
    besides, spare = chain.whole["keep_size"] - chain.meter.totals["keep_size"], 0
    for attempt in range(ATTEMPTS):
        counts = chain.solve({**limits, "keep_size": limit - besides - spare})
        if counts is None:
            return None
        removed = chain.meter.removed()
        written = written_bytes(traced, removed)
        if attempt and written <= limit:
            return counts
        besides = written - chain.meter.totals["keep_size"]
        spare = 2**attempt * SPARE if attempt else 0
    return None


def _unreachable(chain: Chain, targets: Mapping[str, float], latency: LatencyModel | None) -> BudgetError:
    from ..surgery.surgeon import written_bytes

    traced = chain.traced
    chain.go(len(chain.groups))
    left = dict(chain.meter.totals)
    if "keep_size" in targets:
        left["keep_size"] = written_bytes(traced, chain.meter.removed())
    reached = {name: count / chain.whole[name] for name, count in left.items()}
    if latency is not None and LATENCY in reached:
        reached[LATENCY] = latency.share(reached[LATENCY])
    name = max(targets, key=lambda n: reached[n] - targets[n])
    nearest = math.ceil(reached[name] * 1e4) / 1e4
    flag = name.replace("_", "-")
    error = BudgetError(
        f"{flag} {targets[name]:g} cannot be met: found {nearest:g} at the least",
        f"Ask for {nearest:g} or more, {SMALLER}",
    )
    error.budget, error.least = name, nearest
    return error
