"""Three different questions, three checks; they are never mixed up.

1. Is the surgery right? Slim against the *masked* original: they must agree to rounding.
2. How much does the model change? Slim against the *original*: numbers to report and to gate on.
3. Is it still accurate? Needs labels, or a metric.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np
from onnx import ModelProto

from .accuracy import Accuracy, Metric, Score, measure
from .bench import Latency, measure_latency
from .compare import Comparison, Difference
from .custom import without_reference
from .data import Batch, DataSettings, runnable
from .engine import InferenceSession
from .errors import ModelError, SurgeryError, UsageError, unknown_name
from .exactness import Surgery, check_surgery
from .finite import not_finite
from .gates import Gate, Limits, check_gates
from .layers import compare_entire
from .loading import load
from .plan import Plan
from .printable import page
from .providers import choose_provider
from .recovery.record import Recovery, opened_recovery, require_none
from .runtime import Arrays, open_session, run
from .staged import prepared
from .trace import Trace, trace

if TYPE_CHECKING:
    from .model import ModelLike

ON_FAILURE = ("raise", "return")
"""What happens to a result that fails its checks."""

DIVERGED = 0.99
"""Cosine below which a layer counts as diverged, where no gate says otherwise."""


class Settings(DataSettings, Limits, total=False):
    """Settings of the data, and gates."""


@dataclass(frozen=True, slots=True)
class Report:
    """Result of verification; true if all that was asked for was done, and nothing failed.

    Attributes
    ----------
    surgery : tuple of Difference
        Slim against masked original, of every output or of every inner tensor; empty where no plan
        was given.
    method : str
        How the surgery was checked: ``end to end`` or ``layer by layer``.
    change : tuple of Difference
        Slim against original, of every output.
    provider, slim_provider : str
        Where both ran: ``cuda``, ``tensorrt`` or ``cpu``.
    problem : str
        Why a check could not be made; empty where all were.
    scores : tuple of Score
        Accuracy and metric, where there are labels or a metric.
    gates : tuple of Gate
    entire, single : tuple of Difference
        Layer by layer, where asked for: end to end against the original, and every node alone
        against the masked original.
    latency : Latency or None
        Where a gate asks for it.
    data : str
        Source of the samples; empty where they were made up.
    left_out : tuple of str
        Nodes that could not be compared where the outputs differ and no other node is wrong: then the
        surgery is neither proven right nor wrong.
    odd : tuple of str
        Stored tensors of the original that hold NaN or infinity, where results do, too.
    unrun : tuple of str
        Operators of the user's own without a reference function: random numbers stood in for them, so
        that the surgery is checked of all but them, and no change is measured.
    """

    surgery: tuple[Difference, ...]
    change: tuple[Difference, ...]
    provider: str
    problem: str = ""
    method: str = ""
    slim_provider: str = ""
    scores: tuple[Score, ...] = ()
    gates: tuple[Gate, ...] = ()
    entire: tuple[Difference, ...] = ()
    single: tuple[Difference, ...] = ()
    latency: Latency | None = None
    data: str = ""
    left_out: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    unrun: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.failed and not self.problem and not self.unrun

    @property
    def failed(self) -> bool:
        """Whether a check that was made, or a gate, was not passed."""
        return not all((*self.surgery, *self.single, *self.change, *self.gates))

    @property
    def exact(self) -> bool | None:
        """Whether the surgery was proven right; None where that was not checked."""
        right = all((*self.surgery, *self.single))
        return None if not self.surgery or (right and self.unrun) else right

    @property
    def verdict(self) -> str:
        """Whether the surgery is right, in a word or two; empty where that was not checked."""
        open_ = self.left_out or (self.unrun and self.surgery and not self.failed)
        return "not proven" if open_ else {None: "", True: "exact", False: "WRONG"}[self.exact]

    @property
    def judgement(self) -> str:
        """What to call a model that failed."""
        return "not proven right" if self.left_out else "wrong"

    @property
    def headline(self) -> str:
        """Surgery and change in one line."""
        if self.problem:
            return f"not verified: {self.problem}"
        parts = []
        if self.surgery:
            worst = self._worst
            how = "" if self.method == "end to end" else f" {self.method}"
            parts.append(
                f"surgery {self.verdict}{how} ({worst.relative:.1e}, accepted {worst.tolerance:.0e}{self._unknown})"
            )
        if self.change:
            change = summary(self.change)
            parts.append(f"change: cosine {change.cosine:.4f}, rel. L2 {change.relative:.3g}")
        else:
            parts.append("change not measured")
        if self.odd:
            parts.append(self._origin)
        return f"{self.provider}: {'; '.join(parts)}"

    @property
    def _unknown(self) -> str:
        """Which nodes were left out, for the end of a sentence."""
        if self.unrun:
            return f"; {', '.join(self.unrun)} has no reference function, all else was compared"
        if not self.left_out:
            return ""
        more = f" and {len(self.left_out) - 1} more" if len(self.left_out) > 1 else ""
        return f"; {self.left_out[0]}{more} cannot be compared alone"

    @property
    def _origin(self) -> str:
        """Where numbers that are not finite come from."""
        more = f" and {len(self.odd) - 1} more" if len(self.odd) > 1 else ""
        return f"the original stores NaN or infinity in '{self.odd[0]}'{more}"

    @property
    def _worst(self) -> Difference:
        """What is furthest from what is accepted, or closest to it."""
        return max((*self.surgery, *self.single), key=lambda d: d.relative - (d.tolerance or 0))

    @property
    def samples(self) -> int:
        """How many samples were compared."""
        return max((d.samples for d in self.change), default=0)

    @property
    def wrong(self) -> Difference | None:
        """The first layer, or else output, that was cut wrongly."""
        if self.left_out:
            return None
        return next((d for d in (*self.single, *self.surgery) if not d), None)

    @property
    def diverged(self) -> Difference | None:
        """The first layer that pruning takes below the cosine that is asked for."""
        limit = next((g.limit for g in self.gates if g.name == "min_cosine"), DIVERGED)
        return next((d for d in self.entire if d.worst < limit), None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        wrong, diverged = self.wrong, self.diverged
        found: dict[str, Any] = {
            "surgery": [asdict(d) for d in self.surgery],
            "change": [asdict(d) for d in self.change],
            "exact": self.exact,
            "verdict": self.verdict,
            "left_out": list(self.left_out),
            "not_finite": list(self.odd),
            "unrun": list(self.unrun),
            "method": self.method,
            "passed": bool(self),
            "provider": self.provider,
            "slim_provider": self.slim_provider,
            "problem": self.problem,
            "data": self.data,
            "samples": self.samples,
            "scores": [{**asdict(s), "drop": s.drop} for s in self.scores],
            "gates": [{**asdict(g), "passed": bool(g), "excess": g.excess} for g in self.gates],
            "entire": [asdict(d) for d in self.entire],
            "single": [asdict(d) for d in self.single],
            "wrong": None if wrong is None else wrong.layer or wrong.output,
            "diverged": None if diverged is None else diverged.layer,
        }
        if self.latency is not None:
            before, after = self.latency.medians
            found["latency"] = {"before": before, "after": after, "ratio": self.latency.ratio}
        return found

    def __str__(self) -> str:
        lines = []
        if self.surgery:
            worst = self._worst
            lines.append(
                f"surgery {self.verdict}, {self.method}: '{worst.output}' differs by {worst.relative:.1e} "
                f"from the masked original (accepted {worst.tolerance:.1e}{self._unknown})"
            )
        if self.wrong is not None and self.wrong.layer:
            lines.append(f"first layer that was cut wrongly: '{self.wrong.layer}'")
        lines += [
            f"change of '{d.output}': cosine {d.cosine:.6f}, relative L2 {d.relative:.4f}, max-abs {d.max_abs:.4g}"
            + (f" ({d.remark})" if d.remark else "")
            for d in self.change
        ]
        lines += [f"{s.name}: {s.before:.4f} before, {s.after:.4f} after" for s in self.scores]
        lines += [f"{'passed' if gate else 'FAILED'}: {gate}" for gate in self.gates]
        if self.odd:
            lines.append(self._origin)
        if self.problem:
            lines.append(f"not verified: {self.problem}")
        return page(lines)


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
        cause = "This is a bug in onnxprune; please report it with the model."
        if report.odd:
            cause = "Of a model with such weights nothing can be proven."
        raise SurgeryError(
            f"the {kind} model is {report.judgement}: {report.headline}",
            f"{cause} on_failure='return' hands the result back.",
        )


def check_on_failure(value: str) -> None:
    """Refuse an unknown value of the setting."""
    if value not in ON_FAILURE:
        raise unknown_name("value of on_failure", value, ON_FAILURE)


def verify(
    dense: ModelLike,
    slim: ModelLike,
    *,
    plan: Plan | None = None,
    data: Any = None,
    provider: str = "auto",
    slim_provider: str | None = None,
    tf32: bool = False,
    layers: bool = False,
    metric: str | Metric | None = None,
    traced: Trace | None = None,
    recovery: Recovery | str | os.PathLike[str] | None = None,
    **settings: Unpack[Settings],
) -> Report:
    """Compare a slim model with its original.

    Parameters
    ----------
    dense, slim : path, bytes, ModelProto, gs.Graph or Model
    plan : Plan, optional
        What was removed. With it the surgery is checked, too, on the first batch.
    data : path of an .npz file or of a folder, mapping or DataSet, optional
        Samples, see :func:`onnxprune.data.open_data`; synthetic ones are made up otherwise.
    provider, slim_provider : {"auto", "cuda", "tensorrt", "cpu"}
        Where the original runs, and where the slim model runs if elsewhere.
    tf32 : bool
        Let GPUs round the factors of float32 products to 10 bits.
    layers : bool
        Compare layer by layer, too. Takes the plan.
    metric : str or callable, optional
        ``module:function`` or a function, see :data:`onnxprune.accuracy.Metric`.
    traced : Trace, optional
        Analysis of ``dense``, after the first stage of a plan in two, where it was made already.
    recovery : Recovery or path of an .npz file, optional
        Recovered weights of the slim model: the surgery is then checked with them in place.
    **settings
        ``labels``, ``samples``, ``profile`` and ``seed``, see :func:`onnxprune.data.open_data`;
        ``min_cosine``, ``max_abs``, ``min_agreement``, ``max_accuracy_drop`` and
        ``max_latency_ratio``, see :class:`onnxprune.gates.Limits`.

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
    original, result = load(dense), load(slim)
    if plan is not None:
        traced, plan, _ = prepared(original, plan, traced)
    chosen = choose_provider(provider)
    both = chosen, choose_provider(slim_provider) if slim_provider else chosen
    if traced is None:
        traced = trace(original)
    unrun = _without_reference(original.proto, plan is None or metric is not None, options)
    with open_session(original, both[0], "the original", tf32=tf32) as before:
        try:
            samples = runnable(before, traced, data, **options)
        except ModelError as error:
            if data is not None or any(limit is not None for limit in limits.values()):
                raise
            return Report((), (), chosen, f"{error.message}; they are synthetic")
        with _ours(), open_session(result, both[1], "the slim model", tf32=tf32) as after:
            _same_inputs(before, after)
            accuracy = Accuracy(required=metric is None)
            change, scores = _change(before, after, () if unrun else samples, accuracy)
            if metric is not None:
                scores = (*scores, measure(metric, samples, before, after))
            timed = limits.get("max_latency_ratio") is not None
            latency = measure_latency(before, after, samples.first.feeds) if timed else None
    entire: tuple[Difference, ...] = ()
    single: tuple[Difference, ...] = ()
    surgery = Surgery()
    if plan is not None:
        with _ours():
            pair, surgery = check_surgery(traced, plan, result, samples.first.feeds, both[1], recovery)
            if recovery is None and not all(surgery.found):
                require_none(plan.options)
            if layers:
                alike = samples.alike()
                entire = tuple(compare_entire(pair.traced, pair.sizes, result, alike, *both))
                single = tuple(pair.compare_nodes(alike))
    gates = check_gates(limits, change, scores, latency.ratio if latency else None)
    return Report(
        surgery.found, change, chosen, "", surgery.method, both[1], scores, gates, entire, single, latency,
        samples.source, surgery.left_out, _odd(traced, (*change, *surgery.found)), unrun,
    )  # fmt: skip


def _odd(traced: Trace, differences: Sequence[Difference]) -> tuple[str, ...]:
    """Stored tensors that hold NaN or infinity, looked for where results do."""
    finite = all(np.isfinite(d.max_abs) and "not finite" not in d.remark for d in differences)
    return () if finite else tuple(not_finite(traced.graph))


def _without_reference(original: ModelProto, asked: bool, options: DataSettings) -> tuple[str, ...]:
    """Operators that have no reference function; refused where outputs are asked for."""
    unrun = without_reference(original)
    if unrun and (asked or options.get("labels") is not None):
        raise UsageError(
            f"{unrun[0]} has no reference function, so the outputs are not known",
            "Give its rule one: rule(..., reference=function). Without it the surgery alone is checked, by the plan.",
        )
    return unrun


def _parted(settings: Settings) -> tuple[Limits, DataSettings]:
    """Gates, and settings of the data."""
    limits = {k: v for k, v in settings.items() if k in Limits.__annotations__}
    options = {k: v for k, v in settings.items() if k in DataSettings.__annotations__}
    unknown = settings.keys() - limits.keys() - options.keys()
    if unknown:
        raise unknown_name("setting", min(unknown), Settings.__annotations__)
    return cast(Limits, limits), cast(DataSettings, options)


def _change(
    before: InferenceSession, after: InferenceSession, data: Iterable[Batch], accuracy: Accuracy
) -> tuple[tuple[Difference, ...], tuple[Score, ...]]:
    """Run both models; how they differ, and how accurate they are."""
    sums: dict[str, Comparison] = {}
    for batch in data:
        old = run(before, batch.feeds, "the original")
        new = run(after, batch.feeds, "the slim model")
        _same_outputs(before, old, new)
        for name, array in old.items():
            sums.setdefault(name, Comparison(name)).add(array, new[name], batch.size)
        accuracy.add(batch, old, new)
    return tuple(s.difference() for s in sums.values()), accuracy.scores()


@contextmanager
def _ours() -> Iterator[None]:
    """What onnxruntime refuses here was made by us: it fails the check, the input is not at fault."""
    try:
        yield
    except ModelError as error:
        raise SurgeryError(error.message, "onnxruntime runs the original.") from None


def _same_inputs(before: InferenceSession, after: InferenceSession) -> None:
    """Refuse inputs of other names."""
    known = [value.name for value in before.get_inputs()]
    for value in after.get_inputs():
        if value.name not in known:
            names = ", ".join(f"'{name}'" for name in known)
            raise UsageError(
                f"the original has no input '{value.name}': found {names}",
                "The slim model was not made from it.",
            )


def _same_outputs(session: InferenceSession, before: Arrays, after: Arrays) -> None:
    """Refuse outputs of other names or sizes; a size that is not declared may depend on data."""
    declared = {output.name: output.shape or [] for output in session.get_outputs()}
    for name, array in before.items():
        if name not in after:
            found = ", ".join(f"'{n}'" for n in after)
            raise UsageError(
                f"the slim model has no output '{name}': found {found}", "It was not made from this original."
            )
        sizes = zip(declared.get(name, ()), array.shape, after[name].shape, strict=False)
        fixed = any(isinstance(size, int) and a != b for size, a, b in sizes)
        if array.ndim != after[name].ndim or fixed:
            raise SurgeryError(
                f"output '{name}': found shape {list(after[name].shape)}, expected {list(array.shape)}"
            )


def summary(differences: Sequence[Difference]) -> Difference:
    """The output that differs most."""
    return max(differences, key=lambda d: d.relative)
