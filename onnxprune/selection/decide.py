"""From scores to a plan: which channels of each group are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..errors import BudgetError, UsageError
from ..scoring.table import ScoreTable
from ..settings.described import described
from ..settings.table import DEFAULTS, TARGETS, of
from ..timing.machine import Machine
from ..timing.model import LatencyModel, measure_model
from .budget import LATENCY, by_budget
from .granules import AUTO, Granules, target
from .plan import Plan, PlanGroup, make_plan
from .rounding import Rounding
from .settings import SelectSettings, check, one_target
from .strategies import Want, by_index, by_rank, by_ratio, by_threshold, evened, kept_positions, per_group

EIGHTH = 0.125
"""Smallest share of a group where what it does to the outputs was measured at half of it."""

WORTH = 0.1
"""Share by which coarse steps, which are faster, may cost more than the best ones."""

COARSE = 0.05
"""Share of a group by which what stays may differ from what was asked without a word."""


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


@described("select")
def select(
    traced: Trace,
    scores: ScoreTable,
    *,
    latency: LatencyModel | None = None,
    **settings: Unpack[SelectSettings],
) -> Plan:
    """Choose the channels to keep.

    Parameters
    ----------
    traced : Trace
    scores : ScoreTable
    latency : LatencyModel, optional
        How long the model takes, where ``keep_latency`` is a target; it is measured otherwise.
    **settings
        Those of the stage ``select`` in ``onnxprune.settings.table``.

    Raises
    ------
    UsageError
        If a value is out of range, or a name matches nothing.
    BudgetError
        If no selection meets the budget.
    """
    options = complete(settings)
    if options.get("keep_latency") is not None and latency is None:
        latency = measure_model(traced, Machine.of())
    decisions = decide(traced, scores, options, latency)
    entries = [_entry(d, scores[d.group.name].merged) for d in decisions]
    recorded = {name: _plain(value) for name, value in options.items()}
    if options["granularity"] == AUTO and "remove" not in options:
        recorded["target"] = target(options, latency)
        recorded["granules"] = {d.group.name: d.granule for d in decisions if d.want is not None}
    if options.get("keep_latency") is not None and latency is not None:
        recorded["latency"] = latency.to_dict()
    return make_plan(traced, entries, {**traced.options, **scores.options, **recorded})


def _entry(decision: Decision, merged: npt.NDArray[np.float64]) -> PlanGroup:
    group, keep = decision.group, decision.keep
    known = () if np.isnan(merged).any() else merged
    return PlanGroup.of(group, keep, known, decision.reason)


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the defaults that depend on the target filled in.

    Raises
    ------
    UsageError
        If a value is impossible, or two targets contradict each other.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name, value in given.items():
        check(name, value)
    one_target(given)
    if not any(name in given for name in TARGETS):
        given["ratio"] = DEFAULTS["ratio"]
    if "allocate" in given:
        given["scope"] = "layer" if given["allocate"] == "uniform" else "global"
        if given["allocate"] == "harm":
            given.setdefault("min_share", EIGHTH)
    varying = ("min_share", *TARGETS)
    always = {o.name: o.default for o in of("select") if o.name not in varying and o.default is not None}
    return {**always, "min_share": 0.0 if "threshold" in given else DEFAULTS["min_share"], **given}


def _plain(value: Any) -> Any:
    """A setting as JSON types."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def decide(
    traced: Trace, scores: ScoreTable, options: Mapping[str, Any], latency: LatencyModel | None
) -> list[Decision]:
    """What happens to every group that can shrink; ``options`` as :func:`complete` returns them."""
    counts = {k: options[k] for k in ("rounding", "min_channels", "min_share")}
    auto = options["granularity"] == AUTO
    rounding = Rounding(
        1 if auto else options["granularity"], **counts, always=options.get("allocate") == "harm"
    )
    granules = Granules(traced, options, latency) if auto else None
    whole = _left_whole(traced, scores, options)
    if "remove" in options:
        return _given(traced, options["remove"], whole)
    open_groups = [g for g in traced if g.name not in whole]
    wants, rounding = _wants(traced, open_groups, scores, options, rounding, granules, latency)
    policy, told = str(traced.options.get("group_policy", "")), isinstance(options.get("ratio"), Mapping)
    decisions = []
    for group in traced:
        if group.name in whole:
            decisions.append(Decision(group, np.arange(len(group)), reason=whole[group.name]))
            continue
        merged = scores[group.name].merged
        want = evened(group, merged, wants[group.name], policy)
        mine = rounding
        if granules is not None and group.name not in rounding.granules:
            step = granules.wanted(group, rounding, want.kept, told)
            mine = replace(rounding, granules={group.name: step})
        keep = kept_positions(group, merged, mine.count(group, want.kept))
        step, least = mine.step(group), mine.least(group)
        reason = _why(group, want, len(keep), step, least)
        decisions.append(Decision(group, keep, want, step, least, reason, mine.granule(group)))
    return decisions


def _wants(
    traced: Trace,
    groups: Sequence[Group],
    scores: ScoreTable,
    options: Mapping[str, Any],
    rounding: Rounding,
    granules: Granules | None,
    latency: LatencyModel | None,
) -> tuple[dict[str, Want], Rounding]:
    """What the strategy that the options name wants of each group, and how that is rounded."""
    budgets = {name: options[name] for name in TARGETS if name in options and name.startswith("keep_")}
    if budgets:
        levels = [rounding]
        if granules is not None:
            levels = [replace(rounding, granules=found) for found in granules.levels(groups)]
        return _within(traced, groups, scores, budgets, levels, options["scope"], latency)
    if "threshold" in options:
        return by_threshold(groups, scores, options["threshold"]), rounding
    ratio = options["ratio"]
    if isinstance(ratio, Mapping):
        return by_ratio(groups, per_group(traced, ratio)), rounding
    if options["scope"] == "global":
        return by_rank(groups, scores, ratio), rounding
    return by_ratio(groups, dict.fromkeys((g.name for g in groups), ratio)), rounding


def _within(
    traced: Trace,
    groups: Sequence[Group],
    scores: ScoreTable,
    budgets: Mapping[str, float],
    levels: Sequence[Rounding],
    scope: str,
    latency: LatencyModel | None,
) -> tuple[dict[str, Want], Rounding]:
    """What budgets want, in the coarsest steps in which they can be met.

    Where costs are known, and time is not what counts, these are the coarsest that lose hardly more
    than the best ones. Where they cannot be met, the smallest selection need not be that in the finest steps.
    """
    weighed = scores.additive and scope == "global" and LATENCY not in budgets
    found: list[tuple[float, dict[str, Want], Rounding]] = []
    failed: list[BudgetError] = []
    for rounding in levels:
        try:
            wants = by_budget(traced, groups, scores, budgets, rounding, scope, latency)
        except BudgetError as error:
            failed.append(error)
            continue
        if not weighed:
            return wants, rounding
        found.append((_lost(groups, scores, wants), wants, rounding))
    if not found:
        raise min(failed, key=lambda error: error.least)
    least = min(lost for lost, _, _ in found)
    return next((wants, rounding) for lost, wants, rounding in found if lost <= least * (1 + WORTH))


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
                f"remove: found all {len(group)} channels of group '{group.name}', expected at most {len(group) - 1}"
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
