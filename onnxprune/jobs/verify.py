"""Three different questions, three checks; they are never mixed up.

1. Is the surgery right? Slim against the *masked* original: they must agree to rounding.
2. How much does the model change? Slim against the *original*: numbers to report and to gate on.
3. Is it still accurate? Needs labels, or a metric.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Unpack, cast

import numpy as np
from onnx import ModelProto

from ..checks.accuracy import Accuracy, Metric, measure
from ..checks.change import measure_change, ours, same_inputs
from ..checks.exactness import FIRST, ModelPair, check_surgery
from ..checks.finite import not_finite
from ..checks.gates import Limits, check_gates, check_limits
from ..checks.latency import RUNS
from ..checks.nodes import compare_entire
from ..checks.report import Report
from ..checks.sessions import Repeated, measure_sessions, opener
from ..checks.subject import Subject
from ..coupling.trace import Trace, trace
from ..data.batches import Batch, DataSet
from ..data.dataset import DataSettings, runnable
from ..data.one_run import INPUTS, one_run
from ..errors import ModelError, SurgeryError, UsageError, unknown_name
from ..model.file import Model, ModelLike
from ..model.loading import load, load_runnable
from ..model.ort_format import OrtModel
from ..runtime import memory
from ..runtime.conversion import in_ort_format
from ..runtime.custom import without_reference
from ..runtime.providers import choose_provider
from ..runtime.session import Arrays, open_session, precision
from ..selection.plan import Plan
from ..selection.recovered import Recovery, opened_recovery, require_none
from ..settings.described import described
from ..settings.table import DEFAULTS, ORT, PROVIDERS
from ..shapes.made_up import untold
from ..timing.machine import Machine
from .replay import prepared

FORMAT = "ORT"
"""What models are called that are not ONNX."""

ON_FAILURE = ("raise", "return")
"""What happens to a result that fails its checks."""


class VerifySettings(DataSettings, Limits, total=False):
    """Settings of the data, and gates."""


def require(report: Report, kind: str, on_failure: str) -> None:
    """Raise where a result of ours did not pass, unless the caller wants it all the same.

    Parameters
    ----------
    kind : str
        What the result is called.
    on_failure : {"raise", "return"}

    Raises
    ------
    SurgeryError
        If a check failed. One that could not be made is told by the report alone.
    """
    if report.failed and on_failure == "raise":
        raise SurgeryError(
            f"the {kind} model is {report.judgement}: {report.headline}",
            f"{report.cause} on_failure='return' hands the result back.",
        )


def check_on_failure(value: str) -> None:
    """Refuse an unknown value of the setting."""
    if value not in ON_FAILURE:
        raise unknown_name("value of on_failure", value, ON_FAILURE)


@described("data", "job", "pair", "matrix", "gates")
def verify(
    dense: ModelLike,
    slim: ModelLike,
    *,
    plan: Plan | None = None,
    data: Any = None,
    provider: str = DEFAULTS["provider"],
    slim_provider: str | None = DEFAULTS["slim_provider"],
    tf32: bool = DEFAULTS["tf32"],
    also: Sequence[str] = DEFAULTS["also"],
    layers: bool = False,
    metric: str | Metric | None = None,
    traced: Trace | None = None,
    recovery: Recovery | str | os.PathLike[str] | None = None,
    **settings: Unpack[VerifySettings],
) -> Report:
    """Compare a slim model with its original.

    Parameters
    ----------
    dense, slim : path, bytes, ModelProto, gs.Graph or Model
        ``slim`` may be in ORT format: then the surgery is proven end to end, or not at all.
    plan : Plan, optional
        What was removed. With it the surgery is checked, too, on the first batch.
    layers : bool
        Compare layer by layer, too. Takes the plan.
    metric : str or callable, optional
        ``module:function`` or a function, see :data:`onnxprune.checks.accuracy.Metric`.
    traced : Trace, optional
        Analysis of ``dense``, after the first stage of a plan in two, where it was made already.
    recovery : Recovery or path of an .npz file, optional
        Recovered weights of the slim model: the surgery is then checked with them in place.
    **settings
        Those of the stages ``data`` and ``gates`` in ``onnxprune.settings.table``.

    Raises
    ------
    ModelError
        If a model cannot be loaded, or does not run on the given data.
    UsageError
        If the data do not fit, or a gate cannot be checked.
    """
    if layers and plan is None:
        raise UsageError("layers are compared by the plan: found none", "Give it with --plan.")
    recovery = opened_recovery(recovery, plan)
    limits, options = _parted(settings)
    original, result = load(dense), load_runnable(slim)
    if layers and isinstance(result, OrtModel):
        raise UsageError(
            "layers are compared node by node: found a model in ORT format",
            "Without --layers and --plot it is compared end to end.",
        )
    if plan is not None:
        traced, plan, _ = prepared(original, plan, traced)
    elif traced is None:
        traced = trace(original)
    chosen = choose_provider(provider)
    other = choose_provider(slim_provider) if slim_provider else chosen
    unrun = _without_reference(original.proto, plan is None or metric is not None, options)
    given = _Given(data, options, unrun)
    here = _Verification(
        original, result, traced, plan, recovery, given, chosen, other, tf32, layers, metric, limits
    )
    for name in also:
        if name not in (*PROVIDERS, ORT):
            raise unknown_name("provider", name, (*PROVIDERS, ORT))
    return replace(here.judged(), elsewhere=tuple(here.on(name) for name in also))


class _Given(NamedTuple):
    """What the models run on, and operators that have no reference function to run."""

    data: Any
    options: DataSettings
    unrun: tuple[str, ...]


class _DoesNotRun(ModelError):
    """The original is loaded, but does not run on these inputs."""


@dataclass(frozen=True, eq=False)
class _Verification:
    """What the checks of one pair of models share."""

    original: Model
    result: Model
    traced: Trace
    plan: Plan | None
    recovery: Recovery | None
    given: _Given
    provider: str
    slim_provider: str
    tf32: bool
    layers: bool
    metric: str | Metric | None
    limits: Limits

    def judged(self) -> Report:
        """What all checks and gates say; of made-up inputs also that the original does not run on them."""
        self.check_memory()
        try:
            report = self.report()
        except _DoesNotRun as error:
            if self.given.data is not None or any(limit is not None for limit in self.limits.values()):
                raise ModelError(error.message, error.hint) from None
            mended = not untold(self.original.proto)
            problem = f"{error.message}; they are synthetic" if mended else error.message
            return Report((), (), self.provider, problem, takes_data=mended)
        latency = self.latency()
        ratio = None if latency is None else latency.share
        gates = check_gates(self.limits, report.change, report.scores, ratio)
        return replace(report, latency=latency, gates=gates, odd=_odd(self.traced, report))

    def latency(self) -> Repeated | None:
        """How long the models take, in sessions of their own, where a gate asks for it."""
        limit = self.limits.get("max_latency_ratio")
        if limit is None:
            return None
        machine, other = Machine.of(self.provider), Machine.of(self.slim_provider)
        inputs: Any = {name: value for name, value in self.given.options.items() if name in INPUTS}
        return measure_sessions(
            opener(self.original, machine, "the original", tf32=self.tf32),
            opener(self.result, other, "the slim model", tf32=self.tf32),
            one_run(self.traced, self.provider, self.given.data, **inputs).feeds,
            RUNS,
            lambda pair: pair.ratio,
            bounds=[limit],
        )

    def on(self, provider: str) -> Report:
        """The same on another provider; where it cannot run there, a report that says why."""
        name, stored = ("cpu", FORMAT) if provider == ORT else (provider, "")
        try:
            result = in_ort_format(self.result) if stored else self.result
            chosen = choose_provider(name)
            there = replace(self, result=result, provider=chosen, slim_provider=chosen, layers=False)
            return there.judged()
        except (ModelError, UsageError) as error:
            return Report((), (), name, error.message, format=stored)

    def check_memory(self) -> None:
        """Refuse what does not fit: the original, masked, and the slim model are open at the same time."""
        both = self.plan is not None or not self.runs_once
        if self.provider == self.slim_provider == "cpu" and both:
            memory.require("verification", self.original, self.result, in_turns=self.in_turns)

    @cached_property
    def in_turns(self) -> bool:
        """Whether large models run in pieces, one after the other: where they run once, or do not fit.

        What is quantised is fused across all cuts.
        """
        models = self.original, self.result
        whole = self.traced.walk.facts.zeros or self.metric is not None
        return not whole and (self.runs_once or not memory.fit(*models))

    def report(self) -> Report:
        """What all checks say.

        One run takes less time than what onnxruntime needs for the last step of its optimisation, and
        the surgery is checked without it: made-up inputs are tried so first.

        Raises
        ------
        ModelError
            If the original does not run.
        """
        if self.given.data is None:
            with suppress(ModelError):
                return self._report(FIRST, nullcontext)
        return self._report("all", ours)

    def _report(self, level: str, blamed: Callable[[], AbstractContextManager[None]]) -> Report:
        with ExitStack() as stack:
            first = stack.enter_context(ExitStack())
            before = first.enter_context(self._opened(self.original, self.provider, "the original", level))
            try:
                samples = runnable(before.run, self.traced, self.given.data, **self.given.options)
            except ModelError as error:
                raise _DoesNotRun(error.message, error.hint) from None
            if self.runs_once:
                first.close()  # two models take twice the memory of one
            report = self._unchecked(samples)
            with blamed():
                opened = self._opened(self.result, self.slim_provider, "the slim model", level)
                after = stack.enter_context(opened)
                report = self._with_change(report, before, after, samples)
            first.close()
            if self.plan is None:
                return report
            with blamed():
                same = after if level == FIRST and not self.tf32 else None
                report, pair = self._with_surgery(report, self.plan, samples.first.feeds, same)
                return self._with_layers(report, pair, samples.alike()) if self.layers else report

    @property
    def runs_once(self) -> bool:
        """Whether what the original made of the first inputs is all that is asked of it."""
        made_up = self.given.data is None and self.given.options.get("samples") in (None, 1)
        return made_up and self.metric is None

    def _unchecked(self, samples: DataSet) -> Report:
        """What is compared where, before anything is."""
        other, source, unrun = self.slim_provider, samples.source, self.given.unrun
        told = precision(other, self.tf32)
        stored = FORMAT if isinstance(self.result, OrtModel) else ""
        report = Report((), (), self.provider, slim_provider=other, format=stored, precision=told)
        return replace(report, data=source, unrun=unrun)

    @contextmanager
    def _opened(self, model: Model, provider: str, what: str, level: str) -> Iterator[Subject]:
        opened = open_session(model, provider, what, level, tf32=self.tf32, in_turns=self.in_turns)
        with opened as session:
            subject = Subject(session, what)
            try:
                yield subject
            finally:
                subject.close()

    def _with_change(self, report: Report, before: Subject, after: Subject, samples: DataSet) -> Report:
        """Add how much the outputs change, where they are known, and how good both models are."""
        same_inputs(before, after)
        known = () if report.unrun else samples
        change, scores = measure_change(before, after, known, Accuracy(required=self.metric is None))
        if self.metric is not None:
            scores = (*scores, measure(self.metric, samples, before.session, after.session))
        work = before.seconds, after.seconds
        return replace(report, change=change, scores=scores, work=work)

    def _with_surgery(
        self, report: Report, plan: Plan, feeds: Arrays, opened: Subject | None
    ) -> tuple[Report, ModelPair]:
        """Add whether the surgery is right."""
        pair, found = check_surgery(
            self.traced, plan, self.result, feeds, self.slim_provider, self.recovery, opened
        )
        if self.recovery is None and not all(found.found):
            require_none(plan.options)
        report = replace(report, surgery=found.found, method=found.method, left_out=found.left_out)
        return replace(report, problem=found.problem), pair

    def _with_layers(self, report: Report, pair: ModelPair, batches: Iterable[Batch]) -> Report:
        """Add the comparisons layer by layer."""
        providers = self.provider, self.slim_provider
        entire = tuple(compare_entire(pair.traced, pair.sizes, self.result, batches, *providers))
        return replace(report, entire=entire, single=tuple(pair.compare_nodes(batches)))


def _odd(traced: Trace, report: Report) -> tuple[str, ...]:
    """Stored tensors that hold NaN or infinity, looked for where results do."""
    differences = (*report.change, *report.surgery)
    finite = all(np.isfinite(d.max_abs) and "not finite" not in d.remark for d in differences)
    return () if finite and not report.problem else tuple(not_finite(traced.graph))


def _without_reference(original: ModelProto, asked: bool, options: DataSettings) -> tuple[str, ...]:
    """Operators that have no reference function; refused where outputs are asked for."""
    unrun = without_reference(original)
    if unrun and (asked or options.get("labels") is not None):
        raise UsageError(
            f"{unrun[0]} has no reference function, so the outputs are not known",
            "Give its rule one: rule(..., reference=function). Without it the surgery alone is checked, by the plan.",
        )
    return unrun


def _parted(settings: VerifySettings) -> tuple[Limits, DataSettings]:
    """Gates, and settings of the data."""
    limits = {k: v for k, v in settings.items() if k in Limits.__annotations__}
    options = {k: v for k, v in settings.items() if k in DataSettings.__annotations__}
    unknown = settings.keys() - limits.keys() - options.keys()
    if unknown:
        raise unknown_name("setting", min(unknown), VerifySettings.__annotations__)
    check_limits(cast(Limits, limits))
    return cast(Limits, limits), cast(DataSettings, options)
