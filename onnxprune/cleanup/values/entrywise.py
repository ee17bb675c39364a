"""Operators that work entry by entry, and normalizations by stored numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from ...labels.vector import distinct
from ...model.evaluation import evaluate
from ...model.node import Node
from ...model.operators import Trait, traits_of
from ...shapes.inference import FLOATS
from . import bounds as b
from .bounds import Bounds
from .registry import values
from .state import Values


@values(trait=Trait.UNARY)
def unary(v: Values, n: Node) -> None:
    """A constant c becomes f(c)."""
    X = n.inputs[0]
    known = [v.known(X, k) for k in range(v.c.rank(X))]
    parts = [v.whole(X), *(part for part in known if part is not None)]
    joined = function(v, n, np.concatenate(parts, axis=1))
    pieces = iter(np.split(joined, np.cumsum([part.shape[1] for part in parts])[:-1], axis=1))
    whole = next(pieces)
    v.out(n.output, [None if part is None else next(pieces) for part in known], whole)


def function(v: Values, n: Node, x: Bounds) -> Bounds:
    """Bounds of f(x)."""
    traits = traits_of(n)
    if Trait.HANDS_ON in traits:
        return x
    fixed = [_besides(v, name, traits) for name in n.inputs[1:]]
    if any(f is None for f, name in zip(fixed, n.inputs[1:], strict=True) if name):
        return np.broadcast_to(b.ANYTHING, x.shape)
    dtypes = v.c.shapes.first.dtypes
    floats = dtypes.get(n.output) in FLOATS  # an integer has no open bounds
    floats = floats and (dtypes.get(n.inputs[0]) in FLOATS or bool(np.isfinite(x).all()))
    rising = Trait.RISES in traits and n.attr("alpha", 1.0) >= 0 and floats  # bounds go to bounds
    wanted = distinct(x if rising else x[:, b.fixed(x)])
    found = _values_at(v, n, wanted, fixed)
    if found is None:
        return np.broadcast_to(b.ANYTHING, x.shape)
    exact = found[np.minimum(np.searchsorted(wanted, x), len(wanted) - 1)]
    return exact if rising else np.where(b.fixed(x), exact, b.ANYTHING)


def _besides(v: Values, name: str, traits: Trait) -> np.ndarray | None:
    """Value of a further input of f; anything of its type where that is all that counts."""
    dtype = v.c.shapes.first.dtypes.get(name)
    if Trait.READS_TYPE in traits and dtype is not None:
        return np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(dtype))
    return v.array(name)


def _values_at(
    v: Values, n: Node, points: np.ndarray, fixed: Sequence[np.ndarray | None]
) -> np.ndarray | None:
    """Values of f at some points, as the model's type computes it; None where it cannot be evaluated."""
    dtype = v.c.shapes.first.dtypes.get(n.inputs[0])
    if dtype is None or not len(points):
        return None
    with np.errstate(over="ignore"):
        x = points.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
    results = evaluate(n, [x, *fixed])
    return None if results is None else results[0].astype(np.float64)


@values(trait=Trait.COMBINES)
def broadcast(v: Values, n: Node) -> None:
    """The operation on the bounds, slice by slice; zero times anything is zero."""
    rank = v.c.rank(n.output)
    axes: list[Bounds | None] = []
    for k in range(-rank, 0):
        known = any(v.c.rank(x) >= -k and v.known(x, k) is not None for x in n.inputs)
        size = v.c.shape(n.output)[k]
        parts = [b.wide(_along(v, x, k, size), size) for x in n.inputs] if known else []
        axes.append(_combine(v, n, parts) if parts and v.c.shapes.static(n.output, k) else None)
    v.out(n.output, axes, _combine(v, n, [v.whole(x) for x in n.inputs]))


def _along(v: Values, name: str, axis: int, size: int) -> Bounds:
    """Bounds of the slices of an input along an axis of the output."""
    if v.c.rank(name) < -axis or v.c.shape(name)[axis] != size:
        return v.whole(name)
    return v.axis(name, axis)


def _combine(v: Values, n: Node, parts: list[Bounds]) -> Bounds:
    """Bounds of the result of one operation."""
    dtypes = v.c.shapes.first.dtypes
    plain = _PLAIN.get(n.op)
    if plain is not None and dtypes.get(n.output) in FLOATS and v.finite(*n.inputs):
        return plain(*parts)
    result = np.broadcast_to(b.ANYTHING, parts[0].shape).copy()
    exact = np.logical_and.reduce([b.fixed(part) for part in parts])
    if exact.any() and all(name in dtypes for name in n.inputs):
        kinds = [onnx.helper.tensor_dtype_to_np_dtype(dtypes[name]) for name in n.inputs]
        points = [p[0, exact].astype(kind) for p, kind in zip(parts, kinds, strict=True)]
        found = evaluate(n, points)
        if found is not None:
            result[:, exact] = found[0].astype(np.float64)
    return result


def _fold(function: Callable[[Bounds, Bounds], Bounds]) -> Callable[..., Bounds]:
    def run(first: Bounds, *rest: Bounds) -> Bounds:
        for other in rest:
            first = function(first, other)
        return first

    return run


def _mean(*parts: Bounds) -> Bounds:
    return _fold(b.plus)(*parts) / len(parts)


def _prelu(x: Bounds, slope: Bounds) -> Bounds:
    """The positive part, and the negative part scaled."""
    return b.plus(np.maximum(x, 0), b.times(np.minimum(x, 0), slope))


def _where(condition: Bounds, x: Bounds, y: Bounds) -> Bounds:
    either = b.hull(x, y)
    fixed = condition[0] == condition[1]
    return np.where(fixed & (condition[0] != 0), x, np.where(fixed, y, either))


_PLAIN: dict[str, Callable[..., Bounds]] = {
    "Add": b.plus, "Sub": b.minus, "Mul": b.times, "Div": b.divided, "Sum": _fold(b.plus),
    "Mean": _mean, "Max": _fold(np.maximum), "Min": _fold(np.minimum), "PRelu": _prelu,
    "Where": _where,
}  # fmt: skip


@values("QuantizeLinear", "DequantizeLinear")
def quantize(v: Values, n: Node) -> None:
    """Entry by entry; a constant is followed through one scale for the whole tensor."""
    if v.c.rank(n.inputs[1]) == 0 and v.array(n.inputs[1]) is not None:
        unary(v, n)
    else:
        v.out(n.output)


@values("BatchNormalization")
def batch_norm(v: Values, n: Node) -> None:
    """Scale and shift per channel; a scale of zero leaves the shift."""
    X = n.inputs[0]
    vectors = [v.array(name) for name in n.inputs[1:5]]
    if any(vector is None for vector in vectors) or n.attr("training_mode", 0) or v.c.rank(X) < 2:
        return v.out(n.output)
    scale, shift, mean, variance = (np.asarray(vector, np.float64) for vector in vectors)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + n.attr("epsilon", 1e-5))
    centred = b.minus(v.axis(X, 1), b.exactly(mean))
    channels = b.plus(b.times(centred, b.exactly(factor)), b.exactly(shift))
    if not v.finite(X):
        channels = np.broadcast_to(b.ANYTHING, channels.shape)
    return v.out(n.output, [None, channels, *[None] * (v.c.rank(X) - 2)])


@values("InstanceNormalization", "GroupNormalization", "LayerNormalization")
def normalization(v: Values, n: Node) -> None:
    """A scale of zero leaves the shift; so does a channel of zeros under statistics of its own."""
    X, scale, shift = n.take(3)
    axis = 1 if n.op != "LayerNormalization" else v.c.rank(X) - 1
    last = n.attr("axis", -1) % v.c.rank(X) == axis
    width = v.c.shape(X)[axis]
    axes: list[Bounds | None] = [None] * v.c.rank(X)
    fits = all(v.c.shape(name) == (width,) for name in (scale, shift) if name)
    if fits and (last or n.op != "LayerNormalization") and v.finite(X):
        kept = b.zero_or_anything(v.axis(scale, 0))
        if n.op == "InstanceNormalization":
            kept = b.meet(kept, b.zero_or_anything(v.axis(X, 1)))
        axes[axis] = b.plus(kept, v.axis(shift, 0) if shift else b.exactly(0))
    for name in n.outputs:
        v.out(name)
    v.out(n.output, axes)
