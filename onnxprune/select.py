"""From scores to a plan: which channels of each group are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .errors import UsageError, unknown_name
from .plan import Plan, PlanGroup, make_plan
from .scoring import ScoreTable
from .trace import Group, Trace

ROUNDINGS = ("nearest", "up", "down", "none")

FLOOR = 0.1
"""Share of a group that stays where counts are rounded (PruningBench, arXiv 2406.12315)."""


def select(
    traced: Trace,
    scores: ScoreTable,
    *,
    ratio: float | Mapping[str, float] = 0.5,
    granularity: int = 8,
    rounding: str = "nearest",
    min_channels: int = 1,
    exclude: Sequence[str] = (),
) -> Plan:
    """Choose the channels to keep, the same share of every group.

    Parameters
    ----------
    traced : Trace
    scores : ScoreTable
    ratio : float or mapping
        Fraction of channels removed, 0 <= ratio < 1; per group name in a mapping, where groups
        that it does not name keep everything.
    granularity : int
        Kept channel counts are multiples of it (or the whole group). Counts that are no multiple
        of 8 can run slower than the unpruned model.
    rounding : {"nearest", "up", "down", "none"}
        Of the kept count, in steps of the granularity; halves go down.
    min_channels : int
        Fewest channels kept in a group.
    exclude : sequence of str
        Patterns of node, weight or group names that are left whole.

    Raises
    ------
    UsageError
        If a value is out of range, or a pattern names nothing.
    """
    _check(ratio, granularity, rounding, min_channels)
    whole = excluded(traced, exclude)
    decided = []
    for group in traced:
        merged = scores[group.name].merged
        if group.name in whole:
            keep, reason = np.arange(len(group)), f"excluded by '{whole[group.name]}'"
        else:
            share = ratio.get(group.name, 0.0) if isinstance(ratio, Mapping) else ratio
            count = kept_count(group, share, granularity, rounding, min_channels)
            keep, reason = top(merged, count), _why(group, share, count, granularity)
        decided.append(PlanGroup.of(group, keep, merged, reason))
    options = {
        **traced.options, **scores.options, "ratio": ratio if not isinstance(ratio, Mapping) else dict(ratio),
        "granularity": granularity, "rounding": rounding, "min_channels": min_channels,
        "exclude": list(exclude),
    }  # fmt: skip
    return make_plan(traced, decided, options)


def _check(ratio: float | Mapping[str, float], granularity: int, rounding: str, min_channels: int) -> None:  # fmt: skip
    for value in ratio.values() if isinstance(ratio, Mapping) else [ratio]:
        if not 0 <= value < 1:
            raise UsageError(f"ratio: found {value:g}, expected 0 <= ratio < 1", "It is the fraction of channels removed.")  # fmt: skip
    for name, count in (("granularity", granularity), ("min-channels", min_channels)):
        if count < 1:
            raise UsageError(f"{name}: found {count}, expected at least 1")
    if rounding not in ROUNDINGS:
        raise unknown_name("rounding", rounding, ROUNDINGS)


def excluded(traced: Trace, patterns: Sequence[str]) -> dict[str, str]:
    """Group name -> the pattern that excludes it."""
    return {g.name: pattern for pattern in patterns for g in traced.find(pattern)}


def kept_count(group: Group, ratio: float, granularity: int, rounding: str, min_channels: int) -> int:  # fmt: skip
    """How many channels of a group stay.

    The kept count is rounded, not the removed one: ``step * f(kept / step)``. A step is the
    smallest number of units that changes channel counts by a multiple of the granularity.
    """
    size = len(group)
    if ratio == 0:
        return size
    step = granularity // math.gcd(granularity, group.width) if rounding != "none" else 1
    steps = size * (1 - ratio) / step
    if rounding == "up":
        count = step * math.ceil(steps - 1e-9)
    elif rounding == "down":
        count = step * math.floor(steps + 1e-9)
    else:
        count = step * math.ceil(steps - 0.5 - 1e-9)
    least = max(min_channels, math.ceil(size * FLOOR) if step > 1 else 1)
    return min(size, max(count, step * math.ceil(least / step)))


def top(scores: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Positions of the ``count`` largest scores, ascending; ties keep the lowest position."""
    order = np.lexsort((np.arange(len(scores)), -np.nan_to_num(scores, nan=-np.inf)))
    return np.sort(order[:count])


def _why(group: Group, ratio: float, count: int, granularity: int) -> str:
    if count < len(group) or ratio == 0:
        return ""
    return (
        f"{len(group)} channels at ratio {ratio:g} round to all of them (granularity {granularity})"
    )
