"""What happens to every group that can shrink: what the strategy wants of it, rounded to counts it may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..errors import BudgetError, UsageError
from ..printable import plural
from ..scoring.table import ScoreTable
from ..settings.table import BUDGETS
from .budget import LATENCY, by_budget
from .granules import AUTO, Granules
from .rounding import Rounding
from .strategies import Want, by_index, by_rank, by_ratio, by_threshold, evened, kept_positions, per_group

if TYPE_CHECKING:
    from ..timing.model import LatencyModel

WORTH = 0.05
"""Share by which coarse steps, which are faster, may cost more than the best ones."""

COARSE = 0.05
"""Share of a group by which what stays may differ from what was asked without a word."""

FEWEST = "as few as may stay"
"""Why a group that is weighed against others loses no more: that it would is what its costs say."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a group, and how it came about.

    Attributes
    ----------
    keep : int array
        Kept positions, ascending.
    want : Want or None
        What the strategy asked; None where the group was left whole or given by index.
    step, least : int
        Granule and minimum, in units.
    reason : str
        Why a group is kept whole, or what overruled the strategy by more than ``COARSE``.
    granule : int
        What its channel counts are multiples of.
    """

    group: Group
    keep: npt.NDArray[np.int64]
    want: Want | None = None
    step: int = 1
    least: int = 1
    reason: str = ""
    granule: int = 1


def decide(
    traced: Trace, scores: ScoreTable, options: Mapping[str, Any], latency: LatencyModel | None
) -> list[Decision]:
    """What happens to every group; ``options`` as :func:`onnxprune.selection.decide.complete` returns them."""
    whole = _left_whole(traced, scores, options)
    if "remove" in options:
        return _given(traced, options["remove"], whole)
    try:
        return list(_Strategy(traced, scores, options, latency).decisions(whole))
    except BudgetError as error:
        if whole:
            name, reason = next(iter(whole.items()))
            error.hint += f" Whole groups: {len(whole)}, such as '{name}' ({reason})."
        raise


@dataclass(frozen=True, eq=False)
class _Strategy:
    """What decides about the groups that are not left whole."""

    traced: Trace
    scores: ScoreTable
    options: Mapping[str, Any]
    latency: LatencyModel | None

    @cached_property
    def granules(self) -> Granules | None:
        """Steps that the target rewards, where those are asked for."""
        auto = self.options["granularity"] == AUTO
        return Granules(self.traced, self.options, self.latency) if auto else None

    @cached_property
    def rounding(self) -> Rounding:
        """To counts that the options allow, in single channels where they name no step."""
        step = 1 if self.granules is not None else self.options["granularity"]
        counts = {name: self.options[name] for name in ("rounding", "min_channels", "min_share")}
        return Rounding(step, **counts, always=self.weighed)

    @property
    def weighed(self) -> bool:
        """Whether groups are weighed against each other by costs on data."""
        return self.scores.additive and self.options["scope"] == "global"

    def decisions(self, whole: Mapping[str, str]) -> Iterator[Decision]:
        """One for every group, in their order.

        Parameters
        ----------
        whole : mapping
            Group that is left whole -> why.
        """
        wants, rounding = self.wants([group for group in self.traced if group.name not in whole])
        for group in self.traced:
            if group.name in whole:
                yield Decision(group, np.arange(len(group)), reason=whole[group.name])
            else:
                yield self.decision(group, wants[group.name], rounding)

    def decision(self, group: Group, want: Want, rounding: Rounding) -> Decision:
        """What is wanted of one group, rounded."""
        merged = self.scores[group.name].merged
        want = evened(group, merged, want, str(self.traced.options.get("group_policy", "")))
        if self.granules is not None and group.name not in rounding.granules:
            told = isinstance(self.options.get("ratio"), Mapping)
            step = self.granules.wanted(group, rounding, want.kept, told)
            rounding = replace(rounding, granules={group.name: step})
        keep = kept_positions(group, merged, rounding.count(group, want.kept))
        step, least = rounding.step(group), rounding.least(group)
        reason = _why(group, want, len(keep), step, least)
        if self.weighed and least == len(keep) < len(group):
            reason = reason or FEWEST
        return Decision(group, keep, want, step, least, reason, rounding.granule(group))

    def wants(self, groups: Sequence[Group]) -> tuple[dict[str, Want], Rounding]:
        """What the strategy that the options name wants of some groups, and how that is rounded."""
        options, rounding = self.options, self.rounding
        budgets = {name: options[name] for name in BUDGETS if name in options}
        if budgets:
            return self.within(groups, budgets)
        if "threshold" in options:
            return by_threshold(groups, self.scores, options["threshold"]), rounding
        ratio = options["ratio"]
        if isinstance(ratio, Mapping):
            return by_ratio(groups, per_group(self.traced, ratio)), rounding
        if options["scope"] == "global":
            return by_rank(groups, self.scores, ratio), rounding
        return by_ratio(groups, dict.fromkeys((group.name for group in groups), ratio)), rounding

    def within(
        self, groups: Sequence[Group], budgets: Mapping[str, float]
    ) -> tuple[dict[str, Want], Rounding]:
        """What budgets want, in the coarsest steps in which they can be met.

        Where costs are known, and time is not what counts, these are the coarsest that lose hardly more
        than the best ones. Where they cannot be met, the smallest selection need not be that in the finest
        steps.
        """
        scope = self.options["scope"]
        weighed = self.weighed and LATENCY not in budgets
        found: list[tuple[float, dict[str, Want], Rounding]] = []
        failed: list[BudgetError] = []
        for rounding in self.levels(groups):
            try:
                wants = by_budget(self.traced, groups, self.scores, budgets, rounding, scope, self.latency)
            except BudgetError as error:
                failed.append(error)
                continue
            if not weighed:
                return wants, rounding
            found.append((_lost(groups, self.scores, wants), wants, rounding))
        if not found:
            raise min(failed, key=lambda error: error.least)
        least = min(lost for lost, _, _ in found)
        return next((wants, rounding) for lost, wants, rounding in found if lost <= least * (1 + WORTH))

    def levels(self, groups: Sequence[Group]) -> list[Rounding]:
        """Steps in which a budget may be met, the coarsest first."""
        if self.granules is None:
            return [self.rounding]
        return [replace(self.rounding, granules=steps) for steps in self.granules.levels(groups)]


def _lost(groups: Sequence[Group], scores: ScoreTable, wants: Mapping[str, Want]) -> float:
    """Costs of all channels that should go."""
    gone = {group.name: len(group) - round(wants[group.name].kept) for group in groups}
    known = {name: found.costs for name, found in scores.items() if found.costs is not None}
    return sum(float(known[name][:count].sum()) for name, count in gone.items() if name in known)


def _left_whole(traced: Trace, scores: ScoreTable, options: Mapping[str, Any]) -> dict[str, str]:
    """Groups that are not for the strategy to decide, and why."""
    whole: dict[str, str] = {}
    if options["include"]:
        named = {g.name for pattern in options["include"] for g in traced.find(pattern)}
        whole = {g.name: "not included" for g in traced if g.name not in named}
    for pattern in options["exclude"]:
        whole |= {g.name: f"excluded by '{pattern}'" for g in traced.find(pattern)}
    criterion = scores.options.get("criterion", "the criterion")
    for name, score in scores.items():
        if np.isnan(score.merged).any() and "remove" not in options:
            whole.setdefault(name, f"criterion '{criterion}' measures none of its layers")
        if scores.additive and score.costs is None and options["scope"] == "global":
            whole.setdefault(name, f"its costs are not known: {score.problem}")
    return whole


def _given(traced: Trace, remove: Mapping[str, Sequence[int]], whole: Mapping[str, str]) -> list[Decision]:
    """Decisions where the channels that go are named one by one."""
    gone = by_index(traced, remove)
    decisions = []
    for group in traced:
        lost = gone.get(group.name, np.zeros(0, np.int64))
        keep = np.delete(np.arange(len(group)), lost)
        if len(lost) and group.name in whole:
            raise UsageError(f"remove: group '{group.name}' is {whole[group.name]}")
        if not len(keep):
            raise UsageError(
                f"remove: found all {plural(len(group), 'channel')} of group '{group.name}', expected at most {len(group) - 1}"
            )
        if not group.even(keep):
            raise UsageError(
                f"remove: the blocks of group '{group.name}' would lose different numbers of channels, expected equal ones"
            )
        reason = "" if len(lost) else "none of its channels is named"
        decisions.append(Decision(group, keep, reason=whole.get(group.name, reason)))
    return decisions


def _why(group: Group, want: Want, count: int, step: int, least: int) -> str:
    """Why a group stays whole, or what overruled the strategy; empty where what was asked goes."""
    size = len(group)
    if want.kept > size - 1e-9:
        return f"{want.why}: all {size} should stay"
    if count < size and abs(count - want.kept) <= COARSE * size:
        return ""
    asked = f"{want.why} asks for {want.kept:g}"
    if count == least > want.kept:
        return f"{asked}; at least {least} of {size} stay"
    return f"{asked}; in steps of {step} that is {'all ' if count == size else ''}{count}"
