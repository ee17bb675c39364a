"""What a budget will cost, stated before anything is cut."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np

from ..coupling.trace import Trace
from ..data.one_run import inputs_of
from ..errors import UsageError
from ..model.file import ModelLike, collector_paused
from ..model.loading import load
from ..recovery import job
from ..recovery.allocation import expected
from ..recovery.forecast import Forecast
from ..recovery.harm import HIGH
from ..scoring.table import ScoreTable
from ..selection.cost import macs
from ..selection.decide import select
from ..selection.plan import Plan
from ..selection.settings import SelectSettings, Settings, part
from ..settings.table import BUDGETS, DEFAULTS
from ..timing.machine import Machine, MachineSettings
from ..timing.model import LatencyModel, measure_model
from .prune import opened

TRIED = 8
"""Steps from a budget to the whole in which one that harms less is looked for."""


@np.errstate(all="ignore")  # what overflows is asked for in the results
def forecast(
    source: ModelLike,
    *,
    probes: str | os.PathLike[str] | None = None,
    provider: str = DEFAULTS["provider"],
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> Forecast:
    """Measure every group once, and say what a budget is expected to do.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    probes : path, optional
        A file in which measurements are kept, so that they can be broken off and gone on with.
    **settings
        Those of :func:`onnxprune.prune`: ``data``, one or more budgets, and more. A budget of latency
        is predicted from one profile; nothing that it leaves is measured.

    Raises
    ------
    UsageError
        If there are no data or no budget, or the probes are of something else.
    BudgetError
        If no selection meets the budget.
    """
    budget = _budget(settings)
    told = progress or job.unheard
    with collector_paused():
        told("load")
        model = load(source)
        told("trace")
        _, traced, _ = opened(model, cast(Settings, settings), True)
        told("score")
        chosen = job.with_data(cast(Settings, {**settings, "allocate": "harm"}))
        table, found, data = job.probed(traced, chosen, provider, told, probes)
        latency = _timed(traced, provider, settings, told) if "keep_latency" in budget else None
        told("select")
        price = table.priced({one.group: one.price for one in found})
        planned = partial(_planned, traced, price, latency, chosen)
        plan = planned(budget)
        harm = expected(price, plan.counts)
        enough = None
        if sum(harm.values()) > HIGH and len(budget) == 1:
            enough = _enough(budget, lambda tried: expected(price, planned(tried).counts))
        sizes = traced.sizes(plan.removed(traced))
        counts = macs(traced, traced.sizes()), macs(traced, sizes)
        share = latency.share(latency.left(traced, sizes)) if latency is not None else None
    return Forecast(budget, found, plan.counts, harm, counts, data.samples, enough, share)


def _budget(settings: Mapping[str, Any]) -> dict[str, float]:
    """The budgets among some settings, which take data."""
    if settings.get("data") is None:
        raise UsageError(
            "a forecast measures what groups do to the outputs: found no data, expected samples",
            "Give a few hundred, which need no labels, with --data.",
        )
    budget = {name: settings[name] for name in BUDGETS if settings.get(name) is not None}
    if not budget:
        raise UsageError(f"forecast: found no budget, expected {', '.join(BUDGETS[:-1])} or {BUDGETS[-1]}")
    return budget


def _timed(
    traced: Trace, provider: str, settings: Mapping[str, Any], told: Callable[[str], None]
) -> LatencyModel:
    told("profile")
    machine = Machine.of(provider, **part(settings, MachineSettings))
    return measure_model(traced, machine, **inputs_of(settings))


def _planned(
    traced: Trace,
    table: ScoreTable,
    latency: LatencyModel | None,
    settings: Mapping[str, Any],
    budget: dict[str, float],
) -> Plan:
    return select(traced, table, latency=latency, **part({**settings, **budget}, SelectSettings))


def _enough(budget: dict[str, float], harm: Callable[[dict[str, float]], dict[str, float]]) -> float | None:
    """A larger share of which little enough is expected."""
    ((name, share),) = budget.items()
    low, high = 0, TRIED
    while high - low > 1:
        middle = (low + high) // 2
        tried = share + (1 - share) * middle / TRIED
        low, high = (low, middle) if sum(harm({name: tried}).values()) <= HIGH else (middle, high)
    return round(share + (1 - share) * high / TRIED, 3) if high < TRIED else None
