"""A budget of latency: predicted, measured as a whole, and corrected until it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from statistics import median
from typing import Any

from ..checks.sessions import Repeated, measure_sessions, opener
from ..coupling.trace import Trace
from ..data.one_run import one_run
from ..errors import BudgetError
from ..model.file import Model
from ..model.graph import Graph
from ..scoring.table import ScoreTable
from ..selection.budget import LATENCY, SMALLER
from ..selection.cost import macs
from ..selection.decide import select
from ..selection.plan import Plan
from ..settings.table import BUDGETS
from ..surgery.surgeon import rewrite_trace
from ..timing.achieved import ABOVE, BELOW, Achieved
from ..timing.kernels import profile
from ..timing.learning import learned
from ..timing.machine import Machine
from ..timing.model import LatencyModel, measure_model

TRIES = 6
"""How many plans are measured at most."""

RUNS, BRIEF, SECONDS = 60, 0.3, 10.0
"""Runs of each model, of which the fastest count, in sessions that agree; seconds that brief ones are
repeated for; and after how long there are no more."""


def aim(
    model: Model,
    traced: Trace,
    scores: ScoreTable,
    options: Mapping[str, Any],
    machine: Machine,
    data: Mapping[str, Any],
    progress: Callable[[str], None],
) -> tuple[Plan, Achieved]:
    """Choose channels so that the latency that is left is the one asked for.

    Parameters
    ----------
    model : Model
        The original, of which the latency is a share; ``traced`` may be of a cleaned one.
    options : mapping
        Of :func:`onnxprune.select`.
    data : mapping
        ``data``, ``profile`` and ``seed`` of the inputs.

    Raises
    ------
    BudgetError
        If no selection meets another budget, or none that was measured does.
    """
    progress("profile")
    predictor = measure_model(traced, machine, **data)
    feeds = one_run(traced, machine.provider, batch=machine.batch, **data).feeds
    runs = max(RUNS, round(BRIEF * 1e6 / predictor.us))
    target, least = float(options["keep_latency"]), False
    found: list[tuple[Plan, Achieved]] = []
    while len(found) < TRIES:
        plan, smallest = _planned(traced, scores, options, predictor)
        if (least and smallest) or any(plan.groups == known.groups for known, _ in found):
            break  # there is no step between
        least |= smallest
        progress(f"measure {len(found) + 1}")
        removed = plan.removed(traced)
        sizes, slim = traced.sizes(removed), rewrite_trace(traced, removed)
        timed = _timed(model, slim, feeds, machine, runs, target)
        predicted = predictor.share(predictor.left(traced, sizes))
        achieved = _achieved(timed, target, predicted, len(found) + 1, machine)
        found.append((_recorded(plan, achieved), achieved))
        if achieved.close or (achieved.holds and _decided_by_another(options, achieved)):
            break
        graph = Graph(slim)
        kernels = profile(graph, feeds, machine)
        predictor = learned(predictor, traced, sizes, graph, kernels, achieved.measured)
        predictor = predictor.aimed(_between(_points(predictor, traced, found), target), target)
    return _best(traced, found, least)


def _achieved(timed: Repeated, target: float, predicted: float, tries: int, machine: Machine) -> Achieved:
    """What was measured of a plan, beside what was asked and predicted."""
    before = median(pair.fastest[0] for pair in timed.pairs)
    return Achieved(
        target=target,
        predicted=predicted,
        measured=timed.share,
        before=before,
        after=timed.share * before,
        spread=timed.spread,
        pairs=len(timed.pairs),
        tries=tries,
        machine=machine,
    )


def _decided_by_another(options: Mapping[str, Any], achieved: Achieved) -> bool:
    """Whether another budget leaves clearly less time than the one of latency allows."""
    others = any(name in options for name in BUDGETS if name != LATENCY)
    return others and achieved.predicted < BELOW * achieved.target


def _points(
    predictor: LatencyModel, traced: Trace, found: Sequence[tuple[Plan, Achieved]]
) -> list[tuple[float, float]]:
    """Predicted and measured shares of the whole model, and of plans."""
    counted = [predictor.left(traced, traced.sizes(plan.removed(traced))) for plan, _ in found]
    return [(1.0, 1.0), *zip(counted, [achieved.measured for _, achieved in found], strict=True)]


def _planned(
    traced: Trace, scores: ScoreTable, options: Mapping[str, Any], predictor: LatencyModel
) -> tuple[Plan, bool]:
    """The plan that should meet the budget; where none does, the smallest that is allowed, and true."""
    try:
        return select(traced, scores, latency=predictor, **options), False
    except BudgetError as error:
        if error.budget != LATENCY:
            raise
        plan = select(traced, scores, latency=predictor, **{**options, LATENCY: error.least})
        return replace(plan, options={**plan.options, "keep_latency": options["keep_latency"]}), True


def _between(points: Sequence[tuple[float, float]], target: float) -> float:
    """Predicted share at which a measured one is to be expected, from pairs of both.

    It lies on the line through the nearest pairs above and below. The whole model, the first, is one of
    them, unless two others are faster than the target: then a slim model may gain what the whole does not.
    """
    whole, *others = points
    above, below = sorted(p for p in others if p[1] > target), sorted(p for p in others if p[1] <= target)
    low, high = (below or above[:1])[-1], (above[0] if above and below else whole)
    most = 1.0
    if len(below) > 1 and not above and below[-2][0] < low[0] and below[-2][1] < low[1]:
        low, high, most = below[-2], low, (1 + low[0]) / 2
    if high[1] <= low[1]:
        return 0.0  # fewer channels take longer
    slope = (high[0] - low[0]) / (high[1] - low[1])
    return min(low[0] + slope * (target - low[1]), most)


def _recorded(plan: Plan, achieved: Achieved) -> Plan:
    """The plan with what was measured beside what was predicted."""
    latency = {**plan.options["latency"], "achieved": achieved.to_dict()}
    return replace(plan, options={**plan.options, "latency": latency})


def _best(traced: Trace, found: Sequence[tuple[Plan, Achieved]], least: bool) -> tuple[Plan, Achieved]:
    """The one that computes most of those that hold; ``least`` if the smallest that is allowed is among them.

    Raises
    ------
    BudgetError
        If none does.
    """
    good = [pair for pair in found if pair[1].holds]
    if good:
        return max(good, key=lambda pair: macs(traced, traced.sizes(pair[0].removed(traced))))
    nearest = min((achieved for _, achieved in found), key=lambda achieved: achieved.measured)
    slower = ", which is slower than the original" if nearest.measured > 1 else ""
    if least and not slower:
        share = ceil(nearest.measured * 1e3) / 1e3
        raise BudgetError(
            f"keep-latency {nearest.target:g} cannot be met: measured {share:g} at the least",
            f"Ask for {share:g} or more, {SMALLER}",
        )
    raise BudgetError(
        f"keep-latency {nearest.target:g} was not met: measured {nearest.measured:.3f}{slower}, "
        f"predicted {nearest.predicted:.3f}",
        "Ask for more, or measure on a quieter machine.",
    )


def _timed(original: Model, slim: Model, feeds: Any, machine: Machine, runs: int, target: float) -> Repeated:
    """Both in turns, in as many pairs of sessions as it takes to tell on which side of the target it is."""
    return measure_sessions(
        opener(original, machine, "the original"),
        opener(slim, machine, "the slim model"),
        feeds,
        runs,
        lambda pair: pair.fastest_ratio,
        bounds=(BELOW * target, ABOVE * target),
        seconds=SECONDS,
        clock=machine.clock,
    )
