"""From scores to a plan: which channels of each group are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from ..coupling.trace import Trace
from ..scoring.table import ScoreTable
from ..settings.described import described
from ..settings.table import DEFAULTS, TARGETS, of
from .decision import Decision, decide
from .granules import AUTO, target
from .plan import Plan, PlanGroup, make_plan
from .settings import SelectSettings, check, one_target

if TYPE_CHECKING:
    from ..timing.model import LatencyModel

EIGHTH = 0.125
"""Smallest share of a group where costs on data decide: they say little of what a ruin of a group does."""


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
    options = complete(settings, scores.additive)
    if options.get("keep_latency") is not None and latency is None:
        from ..timing.machine import Machine
        from ..timing.model import measure_model

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


def complete(settings: Mapping[str, Any], additive: bool = False) -> dict[str, Any]:
    """Settings with the defaults filled in that depend on the target, and on whether scores come with costs.

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
    if additive and given.get("scope") == "global" and "threshold" not in given:
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
