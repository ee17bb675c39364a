"""Three different questions, three checks; they are never mixed up.

1. Is the surgery right? Slim against the *masked* original: they must agree to rounding.
2. How much does the model change? Slim against the *original*: numbers to report and to gate on.
3. Is it still accurate? Needs labels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from .errors import ModelError, UsageError
from .masked import masked
from .model import Model, load
from .model import tensors as model_tensors
from .plan import Plan
from .runtime import Arrays, choose_provider, open_session, run, synthetic_inputs
from .trace import Trace, trace

if TYPE_CHECKING:
    from .model import ModelLike

ROUNDING = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 2e-5}
"""Relative L2 difference that counts as rounding, by the type of the output."""

HALF_ROUNDING = 5e-3
"""The same for 16-bit floats."""

JUDGED = 0.1
"""An output whose measured rounding exceeds this says nothing, and is not judged."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one output of two models differs.

    Attributes
    ----------
    cosine : float
        Of all values as one vector; 1 for two zero vectors, 0 for one.
    relative : float
        L2 norm of the difference over the L2 norm of the reference.
    max_abs : float
        Largest absolute difference.
    tolerance : float or None
        Relative difference that is accepted, where it is a check.
    """

    output: str
    cosine: float
    relative: float
    max_abs: float
    tolerance: float | None = None

    @property
    def judged(self) -> bool:
        """Whether it can be told from rounding."""
        return self.tolerance is not None and self.tolerance <= JUDGED

    def __bool__(self) -> bool:
        return not self.judged or self.relative <= (self.tolerance or 0.0)


@dataclass(frozen=True, slots=True)
class Report:
    """Result of verification; true if no check failed.

    Attributes
    ----------
    surgery : tuple of Difference
        Slim against masked original; empty where no plan was given.
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

    def __bool__(self) -> bool:
        return all(self.surgery) and all(self.change)

    @property
    def exact(self) -> bool | None:
        """Whether the surgery check passed; None where it was not made or judges no output."""
        return all(self.surgery) if any(d.judged for d in self.surgery) else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "surgery": [asdict(d) for d in self.surgery],
            "change": [asdict(d) for d in self.change],
            "exact": self.exact,
            "passed": bool(self),
            "provider": self.provider,
            "problem": self.problem,
        }

    def __str__(self) -> str:
        lines = []
        if self.surgery:
            worst = max(self.surgery, key=lambda d: d.relative / (d.tolerance or 1))
            verdict = {True: "exact", False: "WRONG", None: "not judged (rounding alone moves the outputs)"}[self.exact]  # fmt: skip
            lines.append(f"surgery {verdict}: {worst.relative:.1e} relative to the masked original (accepted {worst.tolerance:.1e})")  # fmt: skip
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
        traced = trace(original, **(_trace_options(plan)))
    feeds = load_data(data) if data is not None else synthetic_inputs(traced.graph, seed)
    with open_session(original, chosen) as session:
        try:
            before = run(session, feeds)
        except ModelError as error:
            if data is not None:
                raise
            return Report(
                (), (), chosen, f"the original fails on synthetic inputs: {error.message}"
            )
    with open_session(result, chosen) as session:
        after = run(session, feeds)
    surgery: tuple[Difference, ...] = ()
    if plan is not None:
        surgery = check_surgery(traced, plan, result, feeds, after, chosen)
    change = tuple(difference(name, before[name], after[name]) for name in before)
    return Report(surgery, change, chosen)


def _trace_options(plan: Plan | None) -> dict[str, Any]:
    options = plan.options if plan is not None else {}
    return {k: options[k] for k in ("norm", "reshape_channel_axis") if k in options}


def check_surgery(traced: Trace, plan: Plan, slim: Model, feeds: Arrays, after: Arrays, provider: str) -> tuple[Difference, ...]:  # fmt: skip
    """Compare the slim model's outputs with those of the masked original.

    Where a network amplifies rounding beyond the usual, what counts as rounding is measured: the
    masked original runs again with inputs and weights that differ in their last bit.
    """
    sizes = traced.sizes(plan.removed(traced))
    oracle = masked(traced, sizes, slim.proto)
    with open_session(oracle, provider) as session:
        reference = run(session, feeds)
    usual = {n: _tolerance(value) for n, value in reference.items()}
    found = tuple(difference(n, reference[n], after[n], usual[n]) for n in reference)
    if all(found):
        return found
    with open_session(_nudged(oracle), provider) as session:
        nudged = run(session, {k: _nudge(v) for k, v in feeds.items()})
    noise = {n: difference(n, reference[n], nudged[n]).relative for n in reference}
    return tuple(
        difference(n, reference[n], after[n], max(usual[n], 10 * noise[n])) for n in reference
    )


def _tolerance(array: np.ndarray) -> float:
    if not np.issubdtype(array.dtype, np.inexact) and array.dtype.kind != "V":
        return 0.0
    return ROUNDING.get(array.dtype, HALF_ROUNDING)


_NUDGED = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def _nudged(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of a model with the last bit of every weight changed, up or down at random.

    Vectors stay: they may hold exact scales.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in model_tensors(copy.graph):
        if len(tensor.dims) > 1 and tensor.data_type in _NUDGED:
            array = _nudge(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return copy


def _nudge(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    up = np.random.default_rng(0).random(array.shape) < 0.5
    toward = np.where(up, np.inf, -np.inf).astype(array.dtype)
    return np.where(array == 0, array, np.nextafter(array, toward))


def difference(name: str, reference: np.ndarray, found: np.ndarray, tolerance: float | None = None) -> Difference:  # fmt: skip
    """Measure how an output differs from its reference.

    Where both are NaN or the same infinity they agree; where one is, the difference is infinite.
    """
    if reference.shape != found.shape:
        return Difference(name, 0.0, np.inf, np.inf, tolerance)
    if reference.dtype.kind in "OSU":
        same = float((reference == found).mean()) if reference.size else 1.0
        return Difference(name, same, 1 - same, 1 - same, tolerance)
    a, b = (np.asarray(v).astype(np.float64).reshape(-1) for v in (reference, found))
    agree = (a == b) | (np.isnan(a) & np.isnan(b))
    a, b = np.where(agree & ~np.isfinite(a), 0, a), np.where(agree & ~np.isfinite(b), 0, b)
    gap = b - a
    if not a.size or not np.isfinite(gap).all():
        bad = 0.0 if not a.size else np.inf
        return Difference(name, 0.0 if bad else 1.0, bad, bad, tolerance)
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if 0.0 in norms:
        cosine = 1.0 if norms == (0.0, 0.0) else 0.0
    else:
        cosine = float(a @ b / (norms[0] * norms[1]))
    distance = float(np.linalg.norm(gap))
    relative = distance / norms[0] if norms[0] else (0.0 if distance == 0 else np.inf)
    return Difference(name, cosine, relative, float(np.abs(gap).max()), tolerance)


def load_data(source: str | os.PathLike[str] | Arrays) -> Mapping[str, np.ndarray]:
    """Inputs by name from an .npz file.

    Raises
    ------
    UsageError
        If the file cannot be read.
    """
    if isinstance(source, Mapping):
        return source
    try:
        with np.load(Path(source), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read data '{source}': {error}", "Expected an .npz file with one array per input.") from None  # fmt: skip


def summary(differences: Sequence[Difference]) -> Difference:
    """The output that differs most."""
    return max(differences, key=lambda d: d.relative)
