"""The whole job in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from ..checks.report import Report
from ..coupling.numbering import Numbering
from ..coupling.trace import Trace, trace
from ..data.dataset import open_data
from ..model.file import Model, ModelLike, collector_paused
from ..model.loading import load
from ..recovery import job
from ..reports.result import Result
from ..selection.cost import Cost, cost
from ..selection.decide import select
from ..selection.plan import Plan
from ..selection.recovered import Recovery, opened_recovery
from ..selection.settings import SelectSettings, Settings, TraceSettings, merge, part
from ..settings.described import described
from ..settings.table import DEFAULTS
from ..surgery.surgeon import rewrite_trace
from .growth import fitting, never_larger
from .replay import prepared, staged
from .verify import check_on_failure, require
from .verify import verify as compare

if TYPE_CHECKING:
    from ..timing.achieved import Achieved


@np.errstate(all="ignore")  # what overflows is asked for in the results
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
    recovery = opened_recovery(recovery, plan)
    with collector_paused():
        progress = progress or job.unheard
        progress("load")
        run = _Run(load(source), merged(preset, config, settings), provider, verify, on_failure, progress)
        how = job.chosen(run.settings, plan is not None)
        planned = run.replayed(plan) if plan is not None else run.planned(clean)
        made = run.rewritten(planned)
    made = run.checked(planned.traced, made)
    if recovery is not None:
        job.check_recorded(made.plan.options, recovery)
        made = made._replace(recovery=fitting(recovery, run.model, made.slim))
    elif how != job.NONE and (made.report is None or not made.report.failed):
        made = run.fitted(planned.traced, made, how)
    if made.recovery is not None and made.recovery.weights:
        made = made._replace(slim=made.recovery.apply(made.slim))
        made = run.checked(planned.traced, made)
    return planned.result(run.model, made)


class _Made(NamedTuple):
    """A slim model with the plan that led to it, the checks, and the weights that were recovered."""

    plan: Plan
    slim: Model
    report: Report | None = None
    recovery: Recovery | None = None


class _Planned(NamedTuple):
    """The clean-up, the analysis of what it leaves, what goes of that, and where all that comes from.

    ``achieved`` is how long the slim model takes, where that was measured.
    """

    first: Result | None
    traced: Trace
    plan: Plan
    numbering: Numbering | None = None
    achieved: Achieved | None = None

    def result(self, original: Model, made: _Made) -> Result:
        """What was made, with a plan for the input file."""
        first, traced, (plan, slim, report, recovery) = self.first, self.traced, made
        removed = plan.removed(traced)
        if first is not None and self.numbering is not None:
            plan = staged(first.plan, plan, self.numbering)

        def count() -> tuple[Cost, Cost]:
            before = cost(traced, traced.sizes(), original) if first is None else first.before
            return before, cost(traced, traced.sizes(removed), slim)

        log = first.log if first else None
        return Result(slim, plan, report, traced, count, log, recovery, self.achieved)


@dataclass(frozen=True, eq=False)
class _Run:
    """What all stages of one pruning share."""

    model: Model
    settings: Settings
    provider: str
    verify: bool
    on_failure: str
    progress: Callable[[str], None]

    def replayed(self, plan: Plan) -> _Planned:
        """A plan that is given, for what its first stage leaves."""
        self.progress("trace")
        return _Planned(None, *prepared(self.model, plan))

    def planned(self, clean: bool) -> _Planned:
        """What goes by the settings."""
        self.progress("trace")
        first, traced, numbering = opened(self.model, self.settings, clean)
        self.progress("score")
        settings = job.with_data(self.settings)
        scores = job.priced(traced, settings, self.provider, self.progress)
        options = part(settings, SelectSettings)
        if "keep_latency" in options:
            from ..data.one_run import inputs_of
            from ..timing.machine import Machine, MachineSettings
            from .aim import aim

            machine, data = Machine.of(self.provider, **part(settings, MachineSettings)), inputs_of(settings)
            plan, achieved = aim(self.model, traced, scores, options, machine, data, self.progress)
            return _Planned(first, traced, plan, numbering, achieved)
        self.progress("select")
        return _Planned(first, traced, select(traced, scores, **options), numbering)

    def rewritten(self, planned: _Planned) -> _Made:
        """The slim model; nothing goes where the file would grow."""
        from ..cleanup.cleanup import replay

        self.progress("rewrite")
        traced, plan = planned.traced, planned.plan
        ready = replay(traced, plan) if plan.options.get("lossless") else traced
        slim = rewrite_trace(ready, plan.removed(traced))
        return _Made(*never_larger(self.model, traced, plan, slim))

    def checked(self, traced: Trace, made: _Made) -> _Made:
        """Compare the slim model with the original, where asked for; raise, or not, where it fails."""
        if not self.verify:
            return made
        self.progress("verify")
        known: Any = {"plan": made.plan, "traced": traced, "recovery": made.recovery}
        known |= _data(traced, self.settings, whole=made.recovery is not None)
        report = compare(self.model, made.slim, provider=self.provider, **known)
        require(report, "slim", self.on_failure)
        return made._replace(report=report)

    def fitted(self, traced: Trace, made: _Made, how: str) -> _Made:
        """Fit what is left to what the original computes; the plan records it."""
        sizes, told = traced.sizes(made.plan.removed(traced)), job.told(self.progress, "recover")
        found = job.recover_model(traced, sizes, made.slim, self.settings, how, self.provider, told)
        recovery = fitting(found, self.model, made.slim)
        record = {**recovery.options, "weights": recovery.sha256()}
        plan = replace(made.plan, options={**made.plan.options, "recovery": record})
        return made._replace(plan=plan, recovery=recovery)


def merged(preset: str | None, config: str | os.PathLike[str] | None, settings: Settings) -> Settings:
    """Settings of a preset, of a configuration file and of the caller; the last come first."""
    file: dict[str, Any] = {}
    if config:
        from ..selection.config import read_config

        file = read_config(config, [*Settings.__annotations__, "preset"])
    named = file.pop("preset", None)
    return merge(preset or named, file, settings)


def opened(model: Model, settings: Settings, clean: bool) -> tuple[Result | None, Trace, Numbering | None]:
    """What a clean-up gives before anything is scored, and the analysis of what it leaves.

    The last is where the channels of that come from; it and the first are None where nothing goes.
    """
    from .clean import first_pass

    traced = trace(model, **part(settings, TraceSettings))
    first = first_pass(traced, part(settings, SelectSettings)) if clean and not _numbered(settings) else None
    if first is None:
        return None, traced, None
    cleaned = replace(trace(first.model, **part(settings, TraceSettings)), uncleaned=traced)
    removed = first.plan.removed(first.trace)
    return first, cleaned, Numbering(traced, first.trace, removed, cleaned)


def _data(traced: Trace, settings: Settings, *, whole: bool) -> dict[str, Any]:
    """What the result is checked on: given data, or the first batch of them."""
    data, seed = settings.get("data"), settings.get("seed", DEFAULTS["seed"])
    options: Any = {"profile": settings.get("profile"), "samples": settings.get("samples")}
    if data is None:
        return {"data": None, "seed": seed}
    if whole:
        return {"data": data, "seed": seed, **options}
    return {"data": open_data(traced, data, labels=False, **options).first.feeds, "seed": seed}


def _numbered(settings: Settings) -> bool:
    """Whether channels are called by their number in the file, so that none may go before."""
    criterion = settings.get("criterion")
    scores = isinstance(criterion, (Mapping, os.PathLike)) or str(criterion).endswith(".npz")
    return scores or settings.get("remove") is not None
