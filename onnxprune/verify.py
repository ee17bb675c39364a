"""Three different questions, three checks; they are never mixed up.

1. Is the surgery right? Slim against the *masked* original: they must agree to rounding.
2. How much does the model change? Slim against the *original*: numbers to report and to gate on.
3. Is it still accurate? Needs labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from onnx import ModelProto

from .compare import Difference, difference, rounding
from .data import check_inputs, load_data
from .errors import ModelError, SurgeryError, UsageError
from .layers import compare_layers
from .masked import masked
from .model import Model, load
from .plan import Plan
from .runtime import Arrays, choose_provider, open_session, run, synthetic_inputs
from .trace import Trace, retrace, trace

if TYPE_CHECKING:
    from .model import ModelLike


@dataclass(frozen=True, slots=True)
class Report:
    """Result of verification; true if no check failed.

    Attributes
    ----------
    surgery : tuple of Difference
        Slim against masked original, of every output or of every inner tensor; empty where no plan
        was given.
    method : str
        How the surgery was checked: ``end to end`` or ``layer by layer``.
    change : tuple of Difference
        Slim against original.
    provider : str
        Where both ran: ``cuda`` or ``cpu``.
    problem : str
        Why a check could not be made; empty where all were.
    """

    surgery: tuple[Difference, ...]
    change: tuple[Difference, ...]
    provider: str
    problem: str = ""
    method: str = ""

    def __bool__(self) -> bool:
        return all(self.surgery) and all(self.change)

    @property
    def exact(self) -> bool | None:
        """Whether the surgery check passed; None where it was not made."""
        return all(self.surgery) if self.surgery else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "surgery": [asdict(d) for d in self.surgery],
            "change": [asdict(d) for d in self.change],
            "exact": self.exact,
            "method": self.method,
            "passed": bool(self),
            "provider": self.provider,
            "problem": self.problem,
        }

    def __str__(self) -> str:
        lines = []
        if self.surgery:
            worst = max(self.surgery, key=lambda d: d.relative - (d.tolerance or 0))
            verdict = "exact" if self.exact else "WRONG"
            lines.append(
                f"surgery {verdict}, {self.method}: '{worst.output}' differs by {worst.relative:.1e} "
                f"from the masked original (accepted {worst.tolerance:.1e})"
            )
        lines += [
            f"change of '{d.output}': cosine {d.cosine:.6f}, relative L2 {d.relative:.4f}, max-abs {d.max_abs:.4g}"
            for d in self.change
        ]
        if self.problem:
            lines.append(f"not verified: {self.problem}")
        return "\n".join(lines)


def verify(
    dense: ModelLike,
    slim: ModelLike,
    *,
    plan: Plan | None = None,
    data: str | os.PathLike[str] | Arrays | None = None,
    provider: str = "auto",
    seed: int = 0,
    traced: Trace | None = None,
) -> Report:
    """Compare a slim model with its original.

    Parameters
    ----------
    dense, slim : path, bytes, ModelProto, gs.Graph or Model
    plan : Plan, optional
        What was removed. With it the surgery is checked, too.
    data : path of an .npz file, or mapping, optional
        Inputs by name; synthetic ones are made up otherwise.
    provider : {"auto", "cuda", "cpu"}
    seed : int
        Of synthetic inputs.
    traced : Trace, optional
        Analysis of ``dense`` where it was made already.

    Raises
    ------
    ModelError
        If a model cannot be loaded, or does not run on the given data.
    """
    original, result = load(dense), load(slim)
    chosen = choose_provider(provider)
    if traced is None:
        traced = trace(original, **(plan.trace_options if plan is not None else {}))
    if data is not None:
        feeds = load_data(data)
        check_inputs(original.proto, feeds)
    else:
        feeds = synthetic_inputs(traced.graph, seed, sizes=traced.shapes.first.sizes)
    with open_session(original, chosen, "the original") as session:
        try:
            before = run(session, feeds, "the original")
        except ModelError as error:
            if data is not None:
                raise
            return Report((), (), chosen, f"{error.message}; they are synthetic")
    with _ours(), open_session(result, chosen, "the slim model") as session:
        after = run(session, feeds, "the slim model")
    _same_outputs(before, after)
    surgery: tuple[Difference, ...] = ()
    method = ""
    if plan is not None:
        with _ours():
            surgery, method = check_surgery(traced, plan, result, feeds, after, chosen)
    change = tuple(difference(name, before[name], after[name]) for name in before)
    return Report(surgery, change, chosen, method=method)


@contextmanager
def _ours() -> Iterator[None]:
    """What onnxruntime refuses here was made by us: it fails the check, the input is not at fault."""
    try:
        yield
    except ModelError as error:
        raise SurgeryError(error.message, "onnxruntime runs the original.") from None


def _same_outputs(before: Arrays, after: Arrays) -> None:
    for name, array in before.items():
        if name not in after:
            found = ", ".join(f"'{n}'" for n in after)
            raise UsageError(f"the slim model has no output '{name}': found {found}", "It was not made from this original.")  # fmt: skip
        if array.shape != after[name].shape:
            raise SurgeryError(f"output '{name}': found shape {list(after[name].shape)}, expected {list(array.shape)}")  # fmt: skip


def check_surgery(traced: Trace, plan: Plan, slim: Model, feeds: Arrays, after: Arrays, provider: str) -> tuple[tuple[Difference, ...], str]:  # fmt: skip
    """Compare the slim model with the masked original, and say how.

    First the outputs. Where they differ by more than rounding, the network may only have amplified
    it (a recurrent network, a saturated sigmoid): then every node is compared alone, on the masked
    original's own tensors, where nothing adds up. What a lossless plan removes changes nothing:
    then the reference is the original itself.
    """
    traced = retrace(traced, {name: array.shape for name, array in feeds.items()})
    sizes = traced.sizes(plan.removed(traced))
    lossless = plan.options.get("lossless", False)
    oracle: Model | ModelProto = traced.model if lossless else masked(traced, sizes, slim.proto)
    if traced.walk.facts.zeros and provider != "cpu":
        # Elsewhere onnxruntime rounds floats where it computes with integers on the CPU.
        provider = "cpu"
        with open_session(slim, provider, "the slim model") as session:
            after = run(session, feeds, "the slim model")
    with open_session(oracle, provider, "the masked original") as session:
        reference = run(session, feeds, "the masked original")
    found = tuple(difference(n, v, after[n], rounding(v)) for n, v in reference.items())
    if all(found):
        return found, "end to end"
    layers = compare_layers(traced, sizes, oracle, slim, feeds, provider)
    alone = tuple(layer.single for layer in layers if layer.single is not None)
    return alone or found, "layer by layer"


def summary(differences: Sequence[Difference]) -> Difference:
    """The output that differs most."""
    return max(differences, key=lambda d: d.relative)
