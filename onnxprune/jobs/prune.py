"""The whole job in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Unpack

from ..checks.report import Report
from ..coupling.numbering import Numbering
from ..coupling.trace import Trace, trace
from ..data.dataset import open_data
from ..model.file import Model, ModelLike, collector_paused
from ..model.loading import load
from ..recovery import job
from ..selection.config import read_config
from ..selection.cost import Cost, cost
from ..selection.decide import select
from ..selection.plan import Plan
from ..selection.recovered import Recovery, opened_recovery
from ..selection.settings import SelectSettings, Settings, TraceSettings, merge, part
from ..settings.described import described
from ..settings.table import DEFAULTS
from ..surgery.surgeon import rewrite_trace
from ..timing.achieved import Achieved
from ..timing.machine import Machine, MachineSettings
from .aim import aim
from .growth import fitting, never_larger
from .replay import prepared, staged
from .result import Result
from .verify import check_on_failure, require
from .verify import verify as compare


@described("job", "trace", "score", "select", "recover", "machine")
def prune(
    source: ModelLike,
    *,
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    plan: Plan | None = None,
    recovery: Recovery | str | os.PathLike[str] | None = None,
    clean: bool = True,
    verify: bool = False,
    on_failure: str = "raise",
    provider: str = DEFAULTS["provider"],
    progress: Callable[[str], None] | None = None,
    **settings: Unpack[Settings],
) -> Result:
    """Remove channels from a model.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    config : path of a TOML file, optional
        Settings; those given here come first.
    plan : Plan, optional
        Replay this plan; settings of scoring and selection are then not used.
    recovery : Recovery or path of an .npz file, optional
        Recovered weights that belong to ``plan``: nothing is fitted.
    clean : bool
        Remove first what provably contributes nothing, see :func:`onnxprune.clean`. Settings of
        selection are about the channels that are left.
    verify : bool
        Run the checks of :func:`onnxprune.verify` on the first batch of ``data``, or on synthetic
        inputs. Where the original does not run on those, nothing can be checked: then the report
        is false, and its ``problem`` says why.
    on_failure : {"raise", "return"}
        Raise :class:`SurgeryError` where the slim model fails the checks, or return it with a
        report that says so.
    progress : callable, optional
        Called with the name of each stage when it begins.
    **settings
        Those of the stages ``trace``, ``score``, ``select``, ``recover`` and ``machine`` in
        ``onnxprune.settings.table``.

    Returns
    -------
    Result
        ``model`` (the slim model), ``plan``, ``report`` of the checks, ``recovery``, costs ``before``
        and ``after``, and more.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    UsageError
        If a setting is impossible or unknown, or the data do not fit.
    BudgetError
        If no selection meets a budget.
    PlanError
        If the plan, or the recovery, does not belong to the model.
    SurgeryError
        If the slim model fails the checks.

    Notes
    -----
    Data change defaults: channels are then chosen by what the layers behind them lose (the criterion
    ``reconstruction``, unless one, a policy or a normalizer is named), a budget is met by measured
    harm (``allocate="harm"``, unless a scope is named), and weights are recovered.
    """
    check_on_failure(on_failure)
    progress = progress or job.unheard
    recovery = opened_recovery(recovery, plan)
    with collector_paused():
        progress("load")
        model = load(source)
        chosen = merged(preset, config, settings)
        how = job.chosen(chosen, plan is not None)
        first, traced, plan, numbering, achieved = _planned(model, plan, chosen, clean, provider, progress)
        progress("rewrite")
        plan, slim = _carried_out(model, traced, plan)
        removed = plan.removed(traced)

    def check(slim: Model, recovery: Recovery | None) -> Report:
        progress("verify")
        data = _data(traced, chosen, whole=recovery is not None)
        found = compare(model, slim, plan=plan, provider=provider, traced=traced, recovery=recovery, **data)
        require(found, "slim", on_failure)
        return found

    report = check(slim, None) if verify else None
    if recovery is not None:
        job.check_recorded(plan.options, recovery)
        recovery = fitting(recovery, model, slim)
    elif how != job.NONE and (report is None or not report.failed):
        sizes = traced.sizes(removed)
        told = job.told(progress, "recover")
        recovery = job.recover_model(traced, sizes, slim, chosen, how, provider, told)
        recovery = fitting(recovery, model, slim)
        record = {**recovery.options, "weights": recovery.sha256()}
        plan = replace(plan, options={**plan.options, "recovery": record})
    if recovery is not None and recovery.weights:
        slim = recovery.apply(slim)
        report = check(slim, recovery) if verify else None
    if first is not None and numbering is not None:
        plan = staged(first.plan, plan, numbering)

    def count() -> tuple[Cost, Cost]:
        before = cost(traced, traced.sizes(), model) if first is None else first.before
        return before, cost(traced, traced.sizes(removed), slim)

    log = first.log if first else None
    made = Result(model=slim, plan=plan, report=report, trace=traced, count=count, log=log, recovery=recovery)
    return replace(made, latency=achieved)


def _planned(
    model: Model,
    plan: Plan | None,
    chosen: Settings,
    clean: bool,
    provider: str,
    progress: Callable[[str], None],
) -> tuple[Result | None, Trace, Plan, Numbering | None, Achieved | None]:
    """The clean-up, the analysis of what it leaves, what goes of that, and where all that comes from.

    The last is how long that takes, where it was measured.
    """
    progress("trace")
    if plan is not None:
        return None, *prepared(model, plan), None
    first, traced, numbering = opened(model, chosen, clean)
    progress("score")
    chosen = job.with_data(chosen)
    scores = job.priced(traced, chosen, provider, progress)
    options = part(chosen, SelectSettings)
    if "keep_latency" in options:
        machine = Machine.of(provider, **part(chosen, MachineSettings))
        data = {name: chosen.get(name) for name in ("data", "profile")}
        data["seed"] = chosen.get("seed", DEFAULTS["seed"])
        plan, achieved = aim(model, traced, scores, options, machine, data, progress)
        return first, traced, plan, numbering, achieved
    progress("select")
    return first, traced, select(traced, scores, **options), numbering, None


def _carried_out(model: Model, traced: Trace, plan: Plan) -> tuple[Plan, Model]:
    """The slim model, and the plan that led to it: nothing goes where the file would grow."""
    from ..cleanup.cleanup import replay

    ready = replay(traced, plan) if plan.options.get("lossless") else traced
    return never_larger(model, traced, plan, rewrite_trace(ready, plan.removed(traced)))


def merged(preset: str | None, config: str | os.PathLike[str] | None, settings: Settings) -> Settings:
    """Settings of a preset, of a configuration file and of the caller; the last come first."""
    file = read_config(config, [*Settings.__annotations__, "preset"]) if config else {}
    named = file.pop("preset", None)
    return merge(preset or named, file, settings)


def opened(model: Model, settings: Settings, clean: bool) -> tuple[Result | None, Trace, Numbering | None]:
    """What a clean-up gives before anything is scored, and the analysis of what it leaves.

    The last is where the channels of that come from; it and the first are None where nothing goes.
    """
    from .clean import first_pass

    traced = trace(model, **part(settings, TraceSettings))
    first = first_pass(traced) if clean and not _numbered(settings) else None
    if first is None:
        return None, traced, None
    cleaned = trace(first.model, **part(settings, TraceSettings))
    removed = first.plan.removed(first.trace)
    return first, cleaned, Numbering(traced, first.trace, removed, cleaned)


def _data(traced: Trace, settings: Settings, *, whole: bool) -> dict[str, Any]:
    """What the result is checked on: given data, or the first batch of them."""
    data = settings.get("data")
    if data is None:
        return {"data": None, "seed": settings.get("seed", DEFAULTS["seed"])}
    options: Any = {"profile": settings.get("profile"), "samples": settings.get("samples")}
    if whole:
        return {"data": data, "seed": settings.get("seed", DEFAULTS["seed"]), **options}
    first = open_data(traced, data, labels=False, **options).first.feeds
    return {"data": first, "seed": settings.get("seed", DEFAULTS["seed"])}


def _numbered(settings: Settings) -> bool:
    """Whether channels are called by their number in the file, so that none may go before."""
    criterion = settings.get("criterion")
    scores = isinstance(criterion, (Mapping, os.PathLike)) or str(criterion).endswith(".npz")
    return scores or settings.get("remove") is not None
