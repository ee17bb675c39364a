"""Budgets: the largest model whose MACs, parameters and bytes stay within given shares.

One granule after the other is taken away, in the order in which a growing ratio would take them
(layer scope: the same share of every group; global scope: the lowest scores first). The search
bisects that chain on the size view, so no trial model is written. Then granules are given back,
those that went last first, as long as the budget holds: the result is never above the budget, and
no group can have another granule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .cost import macs, parameters, stored_bytes
from .errors import BudgetError
from .groups import Group
from .rounding import Rounding
from .scoring import ScoreTable
from .selectors import Want, removal_order
from .sizes import Sizes
from .trace import Trace

Metric = Callable[[Trace, Sizes], int]

METRICS: dict[str, Metric] = {
    "keep_macs": macs, "keep_params": parameters, "keep_size": stored_bytes,
}  # fmt: skip

ATTEMPTS, SPARE = 10, 64
"""How often the bytes of a file are tried, and how many are kept free at first."""

Step = tuple[float, int, int]
"""When it is taken, position of the group, units that the group keeps then."""


class Chain:
    """Plans from the whole model to the smallest allowed, one granule apart."""

    def __init__(
        self, traced: Trace, groups: Sequence[Group], scores: ScoreTable, rounding: Rounding, scope: str
    ) -> None:
        self.traced, self.groups = traced, groups
        self.orders = [removal_order(g, scores[g.name].merged) for g in groups]
        self.steps: list[Step] = []
        for number, group in enumerate(groups):
            merged = scores[group.name].merged[self.orders[number]]
            for count in _counts(group, rounding):
                limit = rounding.limit(group, count)
                lost = max(1, math.ceil(len(group) - limit - 1e-9))
                ratio = max(0.0, 1 - limit / len(group))
                # Where blocks take turns the order is not that of the scores.
                key = float(merged[:lost].max()) if scope == "global" else ratio
                self.steps.append((key, number, count))
        self.steps.sort(key=lambda step: (step[0], step[1], -step[2]))

    def counts(self, length: int) -> list[int]:
        """Units that every group keeps after so many steps."""
        counts = [len(group) for group in self.groups]
        for _, number, count in self.steps[:length]:
            counts[number] = count
        return counts

    def removed(self, counts: Sequence[int]) -> npt.NDArray[np.int64]:
        """Units that are gone when the groups keep so many."""
        units = [
            group.units[order[: len(group) - count]]
            for group, order, count in zip(self.groups, self.orders, counts, strict=True)
        ]
        return np.concatenate([*units, np.zeros(0, np.int64)])

    def meets(self, counts: Sequence[int], limits: Mapping[str, float]) -> bool:
        """Whether all limits hold when the groups keep so many."""
        sizes = self.traced.sizes(self.removed(counts))
        return all(METRICS[name](self.traced, sizes) <= limit for name, limit in limits.items())

    def solve(self, limits: Mapping[str, float]) -> list[int] | None:
        """Units that every group keeps within the limits; None where nothing is."""
        low, high = -1, len(self.steps) + 1
        while high - low > 1:
            middle = (low + high) // 2
            met = self.meets(self.counts(middle), limits)
            low, high = (low, middle) if met else (middle, high)
        return self._refill(high, limits) if high <= len(self.steps) else None

    def _refill(self, length: int, limits: Mapping[str, float]) -> list[int]:
        """Give back granules that the limits have room for, those that went last first."""
        counts = self.counts(length)
        history: dict[int, list[int]] = {}
        for _, number, count in self.steps[:length]:
            taken = history.pop(number, [len(self.groups[number])])
            history[number] = [*taken, count]  # groups in the order of their last step
        for number, taken in reversed(history.items()):
            for more in reversed(taken[:-1]):
                trial = [more if k == number else count for k, count in enumerate(counts)]
                if not self.meets(trial, limits):
                    break
                counts = trial
        return counts


def _counts(group: Group, rounding: Rounding) -> list[int]:
    """Counts that a group may keep, descending, without its full size."""
    step, least = rounding.step(group), rounding.least(group)
    first = (len(group) - 1) // step * step
    return list(range(first, least - 1, -step))


def by_budget(
    traced: Trace,
    groups: Sequence[Group],
    scores: ScoreTable,
    targets: Mapping[str, float],
    rounding: Rounding,
    scope: str,
) -> dict[str, Want]:
    """The fewest removals that meet every target.

    Raises
    ------
    BudgetError
        If even the smallest allowed model is above a target.
    """
    chain = Chain(traced, groups, scores, rounding, scope)
    limits = {name: share * _whole(traced, name) for name, share in targets.items()}
    counts = _as_written(chain, limits) if "keep_size" in targets else chain.solve(limits)
    if counts is None:
        raise _unreachable(chain, targets)
    why = ", ".join(f"{name.replace('_', '-')} {share:g}" for name, share in targets.items())
    return {group.name: Want(count, why) for group, count in zip(groups, counts, strict=True)}


def _whole(traced: Trace, name: str) -> int:
    """What a target is a share of."""
    return traced.model.nbytes() if name == "keep_size" else METRICS[name](traced, traced.sizes())


def _as_written(chain: Chain, limits: Mapping[str, float]) -> list[int] | None:
    """The same with the bytes of the file as it is written, of which tensors are only a part.

    The search is repeated with what the last file held besides, until a file is small enough.
    """
    from .rewrite import rewrite_trace

    traced, limit = chain.traced, limits["keep_size"]
    besides, spare = traced.model.nbytes() - stored_bytes(traced, traced.sizes()), 0
    for attempt in range(ATTEMPTS):
        counts = chain.solve({**limits, "keep_size": limit - besides - spare})
        if counts is None:
            return None
        removed = chain.removed(counts)
        written = rewrite_trace(traced, removed).nbytes()
        if attempt and written <= limit:
            return counts
        besides = written - stored_bytes(traced, traced.sizes(removed))
        spare = 2**attempt * SPARE if attempt else 0
    return None


def _unreachable(chain: Chain, targets: Mapping[str, float]) -> BudgetError:
    from .rewrite import rewrite_trace

    traced, removed = chain.traced, chain.removed(chain.counts(len(chain.steps)))
    least = traced.sizes(removed)
    left = {
        n: rewrite_trace(traced, removed).nbytes() if n == "keep_size" else METRICS[n](traced, least)
        for n in targets
    }
    reached = {name: count / _whole(traced, name) for name, count in left.items()}
    name = max(targets, key=lambda n: reached[n] - targets[n])
    nearest = math.ceil(reached[name] * 1e4) / 1e4
    flag = name.replace("_", "-")
    return BudgetError(
        f"{flag} {targets[name]:g} cannot be met: found {nearest:g} at the least",
        f"Ask for {nearest:g} or more, or allow fewer channels (min-channels, min-share, granularity).",
    )
