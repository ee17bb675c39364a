"""Convolutions and pools."""

from __future__ import annotations

import numpy as np

from ..labels.facts import Blocked
from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .reduce import extreme, statistic
from .registry import rule
from .signs import kept, positive


def spatial(c: Walk, n: Node, X: str) -> list[Labels]:
    """Axes from 2 on: windows slide along them, so their labels must survive."""
    axes = range(2, c.rank(X))
    c.pin_axes(X, axes, f"{n} slides a window along it")
    return [NONE for _ in axes]


def windows(c: Walk, n: Node, X: str, W: str) -> list[Labels]:
    """Axes from 2 on, by the size of the kernel.

    One of size 1 works entry by entry. One as long as the axis is a sum of products over it (text
    convolutions). Others slide, so labels must survive.
    """
    count = c.rank(X) - 2
    if all(c.axis(X, k + 2) is NONE for k in range(count)):
        return [NONE] * count
    strides, dilations = (n.attr(name, [1] * count) for name in ("strides", "dilations"))
    pads = n.attr("pads", [0] * 2 * count)
    loose = n.attr("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if n.attr("kernel_shape", [*c.shape(W)[2:]]) != [*c.shape(W)[2:]]:
        raise Blocked("its kernel_shape contradicts its weight")
    result: list[Labels] = []
    for k in range(count):
        labels, length = c.axis(X, k + 2), c.shape(W)[k + 2]
        fits = loose and not pads[k] and not pads[k + count]
        if fits and length == strides[k] == 1:
            result.append(labels)
            continue
        result.append(NONE)
        if fits and length == c.shape(X)[k + 2] and dilations[k] == 1 and labels is not NONE:
            c.meet(W, k + 2, labels)
            c.role(labels, "contraction")
        else:
            c.pin_axes(X, [k + 2], f"{n} slides a window along it")
    if n.attr("kernel_shape") is not None:
        c.fix(lambda e: e.set("kernel_shape", [e.size(W, k + 2) for k in range(count)]))
    return result


@rule("Conv", traits=Trait.CONVOLUTION)
@rule("FusedConv", domain="com.microsoft", traits=Trait.SATURATES)
def conv(c: Walk, n: Node) -> None:
    """One kernel makes one output channel; with groups, kernels see their own block of the input."""
    X, W, B, Z = n.take(4)
    O = kernels(c, n, c.axis(X, 1), W, B)
    c.meet(Z, 1, O)  # a residual that onnxruntime fused
    c.out(n.output, [c.axis(X, 0), O, *windows(c, n, X, W)])


@rule("ConvTranspose", traits=Trait.CONVOLUTION | Trait.SIZED_BY_VALUES)
def conv_transpose(c: Walk, n: Node) -> None:
    """Like Conv, with the input channels on the first axis of the weight."""
    X, W, B = n.take(3)
    C, group = c.axis(X, 1), n.attr("group", 1)
    if group == 1:
        c.meet(W, 0, C)
        O = c.axis(W, 1)
        c.kernel(n, W, 1)
    else:
        O = grouped(c, n, C, W, None, 1)
        c.meet(W, 0, C)
        # Outputs that follow their input channel have no axis of their own in [C, O / group].
        c.kernel(n, W, 0 if c.peek(W, 1) is NONE else 1)
    c.role(C, "contraction")
    c.meet(B, 0, O)
    c.out(n.output, [c.axis(X, 0), O, *spatial(c, n, X)])
    c.macs(lambda z: z.numel(X) * z.size(W, 1) * z.kernel(W))


def kernels(c: Walk, n: Node, C: Labels, W: str, B: str) -> Labels:
    """Output channels of a convolution of channels ``C`` with kernels [O, C / group, ...]."""
    if n.attr("group", 1) == 1:
        c.meet(W, 1, C)
        O = c.axis(W, 0)
    else:
        O = grouped(c, n, C, W, 0, 1)
    c.role(C, "contraction")
    c.kernel(n, W, 0)
    c.meet(B, 0, O)
    c.macs(lambda z: z.output(n) * z.size(W, 1) * z.kernel(W))
    return O


def grouped(c: Walk, n: Node, C: Labels, W: str, outer: int | None, inner: int) -> Labels:
    """Output channels of a grouped convolution, and the number of groups.

    Conv stores [group * out, in] (``outer`` is the axis of the output channels), ConvTranspose
    stores [group * in, out] (``outer`` is None). Input and output are ``group`` blocks; a block
    lives as a whole, and all blocks keep the same inner channels.
    """
    group = n.attr("group")
    out = c.shape(W)[0] if outer is not None else group * c.shape(W)[1]
    O = c.axis(W, outer) if outer is not None else c.fresh(out)
    if C is NONE:
        c.pin(O, f"{n} reads input channels that cannot go")
        return O
    width = len(C)
    if width == group:  # depthwise, with any multiplier: each input channel makes its own outputs
        c.unify(O, np.repeat(C, out // group) if out > group else C)
        c.fix(lambda e: e.set("group", e.count(C)))
        return O
    if out == group:  # one output per block
        c.unify(C, np.repeat(O, width // group))
        c.fix(lambda e: e.set("group", e.count(O)))
        return O
    r, ci, co = c.fresh(group), c.fresh(width // group), c.fresh(out // group)
    c.product(r, ci, C)
    c.product(r, co, O)
    c.role(r, "conv groups")
    c.role(ci, "contraction")
    c.role(co, "contraction")
    c.meet(W, inner, ci if outer is not None else co)
    if outer is not None:
        c.ragged(W, inner, r)
    c.fix(lambda e: e.set("group", e.count(r)))
    return O


@rule("LpPool", sign=positive, traits=Trait.NONE)
@rule("AveragePool", "MaxPool", sign=kept, traits=Trait.NONE)
def pool(c: Walk, n: Node) -> None:
    """Carries batch and channels; windows slide along the other axes."""
    X = n.inputs[0]
    axes = [c.axis(X, 0), c.axis(X, 1), *spatial(c, n, X)]
    if len(n.outputs) > 1 and n.outputs[1]:
        c.pin(axes[1], f"{n} returns indices that count channels")
        axes[1] = NONE
    c.out(n.output, axes)


@rule("GlobalAveragePool", along="statistic", sign=kept, traits=Trait.NONE)
def global_average_pool(c: Walk, n: Node) -> None:
    """Carries batch and channels; a statistic of the kept entries of all axes after them."""
    statistic(c, n.inputs[0], range(2, c.rank(n.inputs[0])))
    _pooled(c, n)


@rule("GlobalLpPool", along="exact", sign=positive, traits=Trait.NONE)
def global_lp_pool(c: Walk, n: Node) -> None:
    """Carries batch and channels; a sum, to which removed entries add nothing."""
    _pooled(c, n)


@rule("GlobalMaxPool", along="exact or statistic", sign=kept, traits=Trait.NONE)
def global_max_pool(c: Walk, n: Node) -> None:
    """Carries batch and channels; the largest kept entry of the other axes, as ReduceMax."""
    X = n.inputs[0]
    extreme(c, X, range(2, c.rank(X)), 1)
    _pooled(c, n)


def _pooled(c: Walk, n: Node) -> None:
    """All axes from 2 on have size 1."""
    batch, channels, *inside = c.labels(n.inputs[0])
    c.out(n.output, [batch, channels, *(NONE for _ in inside)])
