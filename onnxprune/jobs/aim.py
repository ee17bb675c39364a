"""A budget of latency: predicted, measured as a whole, and corrected until it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..checks.latency import measure_latency
from ..coupling.trace import Trace
from ..data.one_run import one_run
from ..errors import BudgetError
from ..model.file import Model
from ..runtime.session import open_session
from ..scoring.score import ScoreTable
from ..selection.decide import select
from ..selection.plan import Plan
from ..surgery.surgeon import rewrite_trace
from ..timing.achieved import Achieved
from ..timing.machine import Machine
from ..timing.model import measure_model

TRIES = 3
"""How often a plan is measured."""

RUNS, SECONDS = 60, 10.0
"""Runs of each model of which the fastest count, and after how long there are no more."""


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
        If no selection meets the budget, or none that was measured does.
    """
    progress("profile")
    predictor = measure_model(traced, machine, **data)
    feeds = one_run(traced, machine.provider, batch=machine.batch, **data).feeds
    target, points = float(options["keep_latency"]), [(1.0, 1.0)]
    found: list[tuple[Plan, Achieved]] = []
    while len(found) < TRIES and not (found and found[-1][1].close):
        try:
            plan = select(traced, scores, latency=predictor, **options)
        except BudgetError:
            if found:
                break  # what was measured says more than what was predicted
            raise
        if found and plan.groups == found[-1][0].groups:
            break  # there is no step between
        progress(f"measure {len(found) + 1}/{TRIES}")
        removed = plan.removed(traced)
        counted = predictor.left(traced, traced.sizes(removed))
        before, after = _fastest(model, rewrite_trace(traced, removed), feeds, machine)
        times = (predictor.share(counted), after / before, before, after)
        achieved = Achieved(target, *times, len(found) + 1, machine)
        found.append((_recorded(plan, achieved), achieved))
        points.append((counted, after / before))
        predictor = predictor.aimed(_between(points, target), target)
    return _best(found)


def _between(points: Sequence[tuple[float, float]], target: float) -> float:
    """Predicted share at which a measured one is to be expected, from pairs of both.

    It lies on the line through the nearest pairs above and below; the whole model is one of them.
    """
    above = min((p for p in points if p[1] > target), key=lambda p: p[1])
    below = max((p for p in points if p[1] <= target), key=lambda p: p[1], default=None)
    if below is None:
        below, above = above, points[0]
    if above[1] <= below[1]:
        return 0.0  # fewer channels take longer
    slope = (above[0] - below[0]) / (above[1] - below[1])
    return below[0] + slope * (target - below[1])


def _recorded(plan: Plan, achieved: Achieved) -> Plan:
    """The plan with what was measured beside what was predicted."""
    latency = {**plan.options["latency"], "achieved": achieved.to_dict()}
    return replace(plan, options={**plan.options, "latency": latency})


def _best(found: Sequence[tuple[Plan, Achieved]]) -> tuple[Plan, Achieved]:
    """The largest of those that hold.

    Raises
    ------
    BudgetError
        If none does.
    """
    good = [pair for pair in found if pair[1].holds]
    if good:
        return max(good, key=lambda pair: pair[1].measured)
    nearest = min((achieved for _, achieved in found), key=lambda achieved: achieved.measured)
    slower = ", which is slower than the original" if nearest.measured > 1 else ""
    raise BudgetError(
        f"keep-latency {nearest.target:g} was not met: measured {nearest.measured:.3f}{slower}, "
        f"predicted {nearest.predicted:.3f}",
        "Ask for more, or measure on a quieter machine.",
    )


def _fastest(original: Model, slim: Model, feeds: Any, machine: Machine) -> tuple[float, float]:
    """Milliseconds of the fastest runs of each, in turns."""
    with (
        open_session(original, machine.provider, "the original", tf32=True, timed=machine.timed()) as before,
        open_session(slim, machine.provider, "the slim model", tf32=True, timed=machine.timed()) as after,
    ):
        return measure_latency(before, after, feeds, RUNS, SECONDS, machine.clock).fastest
