"""Operators that show the same elements in another shape or order."""

from __future__ import annotations

import numpy as np

from ..labels.facts import Blocked
from ..labels.pen import Pen
from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .registry import always, rule
from .signs import interpolated, kept


def seen_as(c: Walk, n: Node, target: str) -> list[Labels]:
    """Labels of the first input regrouped to the shape of ``target``."""
    X = n.inputs[0]
    samples = []
    for setting in (c.shapes.first, c.shapes.second):
        if X not in setting.shapes or target not in setting.shapes:
            raise Blocked(f"the shape of '{target}' is known only at some sizes")
        samples.append((setting.shapes[X], setting.shapes[target]))
    if c.graph.is_constant(X) and not any(size > 1 for size in c.shape(X)):
        return [NONE] * c.rank(target)
    return c.regroup(c.labels(X), c.shape(X), c.shape(target), samples)


@rule("Flatten", "Squeeze", "Unsqueeze", sign=kept, traits=Trait.VIEW)
def refold(c: Walk, n: Node) -> None:
    """Splits and merges axes, with no sizes to mend."""
    c.out(n.output, seen_as(c, n, n.output))


@rule("Reshape", sign=kept, traits=Trait.VIEW)
def reshape(c: Walk, n: Node) -> None:
    """Splits and merges axes; the target shape follows the kept sizes."""
    if c.rank(n.output) == 0 or c.shape(n.inputs[0]) == c.shape(n.output):
        c.same(n)
    else:
        c.out(n.output, seen_as(c, n, n.output))
    if len(n.inputs) > 1:
        _follow_shape(c, n, 1)
    else:  # the target is an attribute before opset 5, which is not supported
        c.freeze(n.inputs, f"{n} holds its shape in an attribute")


@rule("Transpose", sign=kept, traits=Trait.MOVES | Trait.COPIES | Trait.IN_ORDER | Trait.BLOCKWISE)
def transpose(c: Walk, n: Node) -> None:
    """Permutes the axes."""
    labels = c.labels(n.inputs[0])
    perm = n.attr("perm", list(reversed(range(len(labels)))))
    c.out(n.output, [labels[k] for k in perm])


@rule("Expand", sign=kept, traits=Trait.COPIES | Trait.SIZED_BY_VALUES)
def expand(c: Walk, n: Node) -> None:
    """Repeats axes of size 1; the new ones are free to shrink."""
    X = n.inputs[0]
    c.out(n.output, repeated(c, X, n.output))
    _follow_shape(c, n, 1)


def repeated(c: Walk, X: str, output: str) -> list[Labels]:
    """Labels of an output whose axes are those of X or repetitions of an axis of size 1."""
    lead = c.rank(output) - c.rank(X)
    again = c.broadcast if any(v is not NONE for v in c.labels(X)) else c.fresh
    result = []
    for k, size in enumerate(c.shape(output)):
        if k >= lead and c.shape(X)[k - lead] == size:
            result.append(c.axis(X, k - lead))
        elif c.shapes.static(output, k):
            result.append(again(size))
        else:
            result.append(NONE)
    return result


@rule("Tile", sign=kept, traits=Trait.COPIES | Trait.SIZED_BY_VALUES)
def tile(c: Walk, n: Node) -> None:
    """Repeats every axis as a whole."""
    X = n.inputs[0]
    result = []
    for k, (size, wide) in enumerate(zip(c.shape(X), c.shape(n.output), strict=True)):
        labels = c.axis(X, k)
        if size == wide:
            result.append(labels)
        elif labels is not NONE and size > 1:
            result.append(np.tile(labels, wide // size))
        elif size == 1 and c.shapes.static(n.output, k):
            result.append(c.broadcast(wide))
        else:
            result.append(NONE)
    c.out(n.output, result)

    def mend(e: Pen) -> None:
        counts = [o // max(i, 1) for o, i in zip(e.shape(n.output), e.shape(X), strict=True)]
        before = [o // max(i, 1) for o, i in zip(e.original(n.output), e.original(X), strict=True)]
        e.scale_input(1, before, counts)

    c.fix(mend)


@rule("Constant", traits=Trait.NONE)
def constant(c: Walk, n: Node) -> None:
    """Holds a tensor, whose axes are labelled where a rule meets them."""


@rule("ConstantOfShape", traits=Trait.SIZED_BY_VALUES)
def constant_of_shape(c: Walk, n: Node) -> None:
    """Makes a tensor whose static axes are free to shrink."""
    c.out(n.output, _free(c, n))
    _follow_shape(c, n, 0)


def _follow_shape(c: Walk, n: Node, slot: int) -> None:
    """Let an input that says the shape of the output say the kept one.

    Where it is computed from data, a declared shape of the output does not tell what to compute instead.
    """
    name = n.inputs[slot]
    if name in c.shapes.first.values:
        c.fix(lambda e: e.shape_input(slot, n.output))
    else:
        c.freeze([*n.inputs, n.output], f"{n} takes its shape from '{name}', which is computed from data")


@rule("RandomNormal", "RandomUniform", random=always, traits=Trait.NONE)
def random(c: Walk, n: Node) -> None:
    """Draws one number per entry: free to shrink, unless a seed says which numbers come."""
    if n.attr("seed") is None:
        c.out(n.output, _free(c, n))
        c.fix(lambda e: e.set("shape", list(e.shape(n.output))))


def _free(c: Walk, n: Node) -> list[Labels]:
    """Labels of a tensor that is made from nothing but its shape."""
    return [
        c.fresh(size) if c.shapes.static(n.output, k) else NONE for k, size in enumerate(c.shape(n.output))
    ]


@rule("Shape", "Size", traits=Trait.BLOCKWISE | Trait.READS_SIZES)
def shape(c: Walk, n: Node) -> None:
    """Keeps telling the original sizes, so that shape arithmetic stays as it was."""
    X = n.inputs[0]
    if c.shapes.get(X) is None:
        return
    start, end = n.attr("start", 0), n.attr("end")

    def mend(e: Pen) -> None:
        before, after = list(e.original(X)), list(e.shape(X))
        if n.op == "Size":
            e.scale_output([int(np.prod(after))], [int(np.prod(before))])
        else:
            e.scale_output(after[start:end], before[start:end])

    c.fix(mend)


@rule("DepthToSpace", sign=kept, traits=Trait.NONE)
def depth_to_space(c: Walk, n: Node) -> None:
    """A block of channels becomes a patch of pixels, so it lives as a whole."""
    X, b = n.inputs[0], n.attr("blocksize")
    batch, channels = c.labels(X)[:2]
    c.pin_axes(X, (2, 3), f"{n} interleaves pixels along it")
    kept = NONE
    if channels is not NONE:
        kept = c.fresh(len(channels) // (b * b))
        if kept is NONE:
            c.pin(channels, f"{n} makes a single channel of them")
        else:
            order = np.tile(kept, b * b) if n.attr("mode", "DCR") == "DCR" else np.repeat(kept, b * b)
            c.unify(channels, order)
    c.out(n.output, [batch, kept, NONE, NONE])


@rule("SpaceToDepth", sign=kept, traits=Trait.NONE)
def space_to_depth(c: Walk, n: Node) -> None:
    """Every channel becomes a channel per pixel of a patch."""
    X, b = n.inputs[0], n.attr("blocksize")
    batch, channels = c.labels(X)[:2]
    c.pin_axes(X, (2, 3), f"{n} interleaves pixels along it")
    c.out(n.output, [batch, c.tiled(channels, b * b), NONE, NONE])


@rule("Resize", "Upsample", sign=interpolated, traits=Trait.SIZED_BY_VALUES)
def resize(c: Walk, n: Node) -> None:
    """Carries the axes that stay as they are; others are interpolated."""
    X = n.inputs[0]
    changed = [k for k, same in enumerate(left_alone(c, n)) if not same]
    c.pin_axes(X, changed, f"{n} interpolates along it")
    c.out(n.output, [NONE if k in changed else v for k, v in enumerate(c.labels(X))])
    if len(n.inputs) > 3 and n.inputs[3] and n.attr("axes") is None:
        _follow_shape(c, n, 3)


def left_alone(c: Walk, n: Node) -> list[bool]:
    """Which axes a Resize leaves as they are: of the same size, and not by rounding.

    A scale of 1.00001 (one that was quantised) keeps the size and moves the entries.
    """
    before, after = c.shape(n.inputs[0]), c.shape(n.output)
    axes = [k % len(before) for k in n.attr("axes", range(len(before)))]
    same = [a == b for a, b in zip(before, after, strict=True)]
    roi, scales = n.take(3)[1:] if n.op == "Resize" and n.opset > 10 else ("", n.take(2)[1])
    for factors in _at_both_settings(c, scales) if scales else [n.attr("scales", ())]:
        for k, factor in zip(axes, factors, strict=False):  # there are none where sizes are given
            same[k] &= bool(factor == 1)
    if n.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        for k, start, end in zip(axes, *c.known(roi).reshape(2, -1), strict=True):
            same[k] &= bool(start == 0 and end == 1)
    if n.attr("keep_aspect_ratio_policy", "stretch") != "stretch":  # one scale for all of them
        every = all(same[k] for k in axes)
        same = [alone and (every or k not in axes) for k, alone in enumerate(same)]
    return same


def _at_both_settings(c: Walk, name: str) -> list[np.ndarray]:
    """Values of a tensor at the two sample settings; one where they are the same."""
    value = c.value(name)
    if value is not None:
        return [value]
    found = [setting.values.get(name) for setting in (c.shapes.first, c.shapes.second)]
    known = [v for v in found if v is not None]
    if len(known) < len(found):
        raise Blocked(f"'{name}' is computed from data")
    return known
