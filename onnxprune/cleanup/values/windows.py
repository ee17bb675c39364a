"""Pools, padding, interpolation, reductions and softmax."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import numpy_helper

from ...model.node import Node
from ...rules.join_and_take import pad_amounts
from ...rules.reduce import reduced_axes
from ...rules.views import left_alone
from . import bounds as b
from .bounds import Bounds
from .registry import values
from .state import Values


@values("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
def pool(v: Values, n: Node) -> None:
    """Within the bounds of the channel; an average that counts padding sees zeros, too."""
    X = n.inputs[0]
    channels, whole = v.axis(X, 1), v.whole(X)
    if n.op == "AveragePool" and n.attr("count_include_pad", 0):
        channels, whole = (b.hull(part, b.exactly(0)) for part in (channels, whole))
    v.out(n.output, [None, channels, *[None] * (v.c.rank(X) - 2)], whole)
    for name in n.outputs[1:]:
        v.out(name)


@values("LpPool", "GlobalLpPool")
def lp_pool(v: Values, n: Node) -> None:
    """Zero stays zero."""
    X = n.inputs[0]
    v.out(n.output, [None, b.zero_or_anything(v.axis(X, 1)), *[None] * (v.c.rank(X) - 2)])


@values("GridSample", "MaxRoiPool", "RoiAlign")
def sampled(v: Values, n: Node) -> None:
    """Zero stays zero; every sample may be read by several results."""
    X = n.inputs[0]
    v.mix(n, X, 0)
    v.out(n.output, [None, b.zero_or_anything(v.axis(X, 1)), *[None] * (v.c.rank(X) - 2)])


@values("Pad")
def pad(v: Values, n: Node) -> None:
    """A channel stays within its bounds and the value that is added to it."""
    X = n.inputs[0]
    known = [v.known(X, k) for k in range(v.c.rank(X))]
    before, after = pad_amounts(v.c, n, v.c.rank(X))
    padded = {k for k, (i, j) in enumerate(zip(before, after, strict=True)) if i or j}
    if n.attr("mode", "constant") != "constant":
        return v.out(n.output, [None if k in padded else part for k, part in enumerate(known)], v.whole(X))
    added = _pad_value(v, n)

    def some_axis(k: int) -> Bounds | None:
        """One axis where it is not known which axes are padded."""
        part = known[k]
        return b.hull(part, added) if part is not None and v.c.shape(n.output)[k] == part.shape[1] else None

    def axis(k: int) -> Bounds | None:
        """One axis where it is known which axes are padded, and by how much."""
        part = v.axis(X, k) if k in padded else known[k]
        if part is None or not v.c.shapes.static(n.output, k):
            return None
        if any(before[j] > 0 or after[j] > 0 for j in padded - {k}):
            part = b.hull(part, added)
        if k not in padded:
            return part
        if min(before[k], after[k]) < 0:
            return None
        return np.concatenate([b.wide(added, before[k]), part, b.wide(added, after[k])], axis=1)

    if n.attr("pads") is None and v.c.value(n.inputs[1]) is None:
        return v.out(n.output, [some_axis(k) for k in range(len(known))], b.hull(v.whole(X), added))
    whole = b.hull(v.whole(X), added) if padded else v.whole(X)
    return v.out(n.output, [axis(k) for k in range(len(known))], whole)


def _pad_value(v: Values, n: Node) -> Bounds:
    if n.opset < 11:
        return b.exactly(n.attr("value", 0.0))
    name = n.take(3)[2]
    return v.whole(name) if name else b.exactly(0)


@values("Resize", "Upsample")
def resize(v: Values, n: Node) -> None:
    """Within the bounds of the channel, unless the interpolation overshoots or looks outside."""
    X = n.inputs[0]
    outside = n.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    axes: list[Bounds | None] = []
    for k, same in enumerate(left_alone(v.c, n)):
        part = v.known(X, k) if same else None
        if part is not None and outside:
            part = b.hull(part, b.exactly(n.attr("extrapolation_value", 0.0)))
        if part is not None and n.attr("mode") == "cubic":
            part = np.where(b.fixed(part), part, b.ANYTHING)
        axes.append(part)
    v.out(n.output, axes)


@values(
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceProd",
)  # fmt: skip
def reduce(v: Values, n: Node) -> None:
    """The other axes keep their slices; the reduced ones are mixed."""
    X = n.inputs[0]
    reduced = reduced_axes(v.c, n)
    shape = v.c.shape(X)
    fixed = all(v.c.shapes.static(X, k) for k in reduced)
    count = float(np.prod([shape[k] for k in reduced])) if fixed else None
    axes: list[Bounds | None] = []
    for k in range(v.c.rank(X)):
        if k in reduced:
            v.mix(n, X, k)
            axes += [None] if n.attr("keepdims", 1) else []
        else:
            part = v.known(X, k)
            axes.append(None if part is None else _reduced(n.op, part, count))
    v.out(n.output, axes, _reduced(n.op, v.whole(X), count))


def _reduced(op: str, part: Bounds, count: float | None) -> Bounds:
    known = _REDUCED.get(op)
    return np.broadcast_to(b.ANYTHING, part.shape) if known is None else known(part, count)


def _among(part: Bounds, count: float | None) -> Bounds:
    return part


def _sum(part: Bounds, count: float | None) -> Bounds:
    return b.times(part, b.between(0, np.inf) if count is None else b.exactly(count))


def _size(part: Bounds, count: float | None) -> Bounds:
    return np.where(b.zeros(part), 0.0, b.between(0, np.inf))


_REDUCED: dict[str, Callable[[Bounds, float | None], Bounds]] = {
    "ReduceMean": _among, "ReduceMax": _among, "ReduceMin": _among, "ReduceSum": _sum,
    "ReduceL1": _size, "ReduceL2": _size, "ReduceSumSquare": _size,
}  # fmt: skip


@values("Softmax", "LogSoftmax", "Hardmax")
def softmax(v: Values, n: Node) -> None:
    """Between 0 and 1; its axis is pinned, for every entry along it acts on all others."""
    v.out(n.output, [], b.ANYTHING if n.op == "LogSoftmax" else b.between(0, 1))


@values("Shape", "Size")
def shape(v: Values, n: Node) -> None:
    """Reads sizes only, which the rewriter mends."""
    v.out(n.output)


@values("ConstantOfShape")
def constant_of_shape(v: Values, n: Node) -> None:
    """One value everywhere."""
    value = n.attr("value")
    fill = b.exactly(0 if value is None else numpy_helper.to_array(value))
    axes = [
        b.wide(fill, s) if v.c.shapes.static(n.output, k) else None for k, s in enumerate(v.c.shape(n.output))
    ]
    v.out(n.output, axes, fill)
