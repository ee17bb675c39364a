"""Operators that join tensors or take parts of them."""

from __future__ import annotations

import numpy as np

from ..labels.facts import Blocked
from ..labels.pen import Pen
from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.evaluation import python_slice, slice_bounds
from ..model.node import Node
from ..model.operators import Trait
from ..shapes.setting import Setting
from .registry import rule
from .signs import kept, padded, shared


@rule("Concat", sign=shared, traits=Trait.MOVES | Trait.KEEPS_BOUNDS | Trait.BLOCKWISE_WHERE_KEPT)
def concat(c: Walk, n: Node) -> None:
    """Joins the labels along its axis and couples the other axes."""
    whole = c.shape(n.output)
    rank = len(whole)
    axis = n.attr("axis") % rank
    names = [x for x in n.inputs if (*(s := c.shape(x))[:axis], whole[axis], *s[axis + 1 :]) == whole]
    result: list[Labels] = [c.broadcast_axis(names, k - rank) if k != axis else NONE for k in range(rank)]
    moving = [x for x in names if not c.graph.is_constant(x)]
    if any(c.axis(x, axis) is not NONE for x in moving or names):
        result[axis] = np.concatenate([c.real(x, axis) for x in names])
    c.out(n.output, result)


@rule("Split", sign=kept, traits=Trait.MOVES | Trait.COPIES | Trait.BLOCKWISE_WHERE_KEPT)
def split(c: Walk, n: Node) -> None:
    """Gives every output its part of the labels; the sizes follow."""
    X = n.inputs[0]
    axis = n.attr("axis", 0) % c.rank(X)
    labels = c.labels(X)
    start = 0
    for name in n.outputs:
        width = c.shape(name)[axis] if name else 0
        part = NONE if labels[axis] is NONE else labels[axis][start : start + width]
        c.out(name, [part if k == axis else v for k, v in enumerate(labels)])
        start += width
    if labels[axis] is not NONE:
        if start != len(labels[axis]):
            raise Blocked("an unused output hides its sizes")
        c.fix(lambda e: e.split_sizes([e.size(name, axis) for name in n.outputs]))


@rule(
    "Slice", sign=kept, traits=Trait.MOVES | Trait.COPIES | Trait.BLOCKWISE_WHERE_KEPT | Trait.SIZED_BY_DATA
)
def slice_(c: Walk, n: Node) -> None:
    """Takes a range of the labels; bounds follow, a stride becomes a Gather."""
    X = n.inputs[0]
    labels = c.labels(X)
    if all(v is NONE for v in labels):
        return None
    given = [_bound(c, name) for name in n.inputs[1:]]
    if any(v is None and name for v, name in zip(given, n.inputs[1:], strict=True)):
        return _dynamic_slice(c, n, labels)
    bounds = slice_bounds(n, len(labels), given)
    windows: dict[int, slice] = {}
    for start, end, axis, step in zip(*bounds, strict=True):
        if labels[axis] is NONE:
            continue
        windows[axis] = python_slice(start, end, step, len(labels[axis]))
        taken = labels[axis][windows[axis]]
        if step == 1 and len(taken) == len(labels[axis]):
            del windows[axis]
        labels[axis] = taken
    c.out(n.output, labels)
    if windows:
        c.fix(lambda e: e.slice_bounds(X, bounds, windows))
    return None


def _bound(c: Walk, name: str) -> np.ndarray | None:
    return c.value(name) if name else None


def _dynamic_slice(c: Walk, n: Node, labels: list[Labels]) -> None:
    """Bounds that depend on sizes: an axis is taken whole at any size, or carries no labels."""
    X = n.inputs[0]
    windows = [_windows(c, n, setting) for setting in (c.shapes.first, c.shapes.second)]
    if windows[0] is None or windows[1] is None:
        axes = _bound(c, n.inputs[3]) if len(n.inputs) > 3 and n.inputs[3] else None
        if axes is None:
            raise Blocked("its bounds are computed from data")
        sliced = {int(k) % len(labels) for k in np.atleast_1d(axes)}
        why = "takes a range of it that is known only when it runs"
    else:
        # Shapes keep telling the original sizes, so what covers all entries covers the kept ones.
        sliced = {
            axis
            for axis, one in windows[0].items()
            if one != windows[1].get(axis) or one.indices(c.shape(X)[axis]) != (0, c.shape(X)[axis], 1)
        }
        why = "takes a part of it, by bounds that are computed from sizes"
    c.pin_axes(X, sorted(sliced), f"{n} {why}")
    c.out(n.output, [NONE if k in sliced else v for k, v in enumerate(labels)])


def _windows(c: Walk, n: Node, setting: Setting) -> dict[int, slice] | None:
    """Range of every sliced axis at one sample setting; None where the sizes do not tell it."""
    given = []
    for name in n.inputs[1:]:
        value = _bound(c, name)
        given.append(setting.values.get(name) if value is None else value)
    if any(v is None and name for v, name in zip(given, n.inputs[1:], strict=True)):
        return None
    bounds = slice_bounds(n, c.rank(n.inputs[0]), given)
    return {axis: slice(start, end, step) for start, end, axis, step in zip(*bounds, strict=True)}


@rule("Gather", sign=kept, traits=Trait.MOVES | Trait.COPIES | Trait.BLOCKWISE_WHERE_KEPT)
def gather(c: Walk, n: Node) -> None:
    """Takes labels by constant indices; an axis that is indexed by data must survive."""
    data, indices = n.inputs
    axis = n.attr("axis", 0) % c.rank(data)
    index = c.value(indices)
    labels = [NONE if index is None and k == axis else c.axis(data, k) for k in range(c.rank(data))]
    if index is None:
        c.pin_axes(data, [axis], f"{n} picks from it by data")
        if c.rank(data) == 2 and axis == 0:
            c.kernel(n, data, 1)
        middle = [NONE] * c.rank(indices)
    elif labels[axis] is NONE:
        middle = [NONE] * index.ndim
    else:
        middle = _taken(c, n, labels[axis], index)
    c.out(n.output, [*labels[:axis], *middle, *labels[axis + 1 :]])


def _taken(c: Walk, n: Node, labels: Labels, index: np.ndarray) -> list[Labels]:
    """Labels picked by a constant index tensor, and the mending of the indices."""
    taken = labels[index]
    if index.ndim == 0:
        c.pin(taken.reshape(1), f"{n} picks this entry alone")
        result: list[Labels] = []
    elif index.size == 1:
        c.pin(taken.reshape(-1), f"{n} picks this entry alone")
        result = [NONE] * index.ndim
    else:
        result = c.split(taken.reshape(-1), index.shape)

    def mend(e: Pen) -> None:
        position = np.cumsum(e.mask(labels)) - 1
        keep = [
            np.arange(size) if v is NONE else np.flatnonzero(e.mask(v))
            for v, size in zip(result, index.shape, strict=True)
        ]
        grid = (index % len(labels))[np.ix_(*keep)] if keep else index % len(labels)
        e.constant_input(1, position[grid].astype(index.dtype))

    c.fix(mend)
    return result


@rule("Pad", sign=padded, traits=Trait.SIZED_BY_VALUES)
def pad(c: Walk, n: Node) -> None:
    """Carries the labels; entries added along a labelled axis are channels of their own."""
    X = n.inputs[0]
    labels = c.labels(X)
    if all(v is NONE for v in labels):
        return
    amounts = pad_amounts(c, n, len(labels))
    for k, (before, after) in enumerate(zip(*amounts, strict=True)):
        if labels[k] is NONE or (before, after) == (0, 0):
            continue
        if n.attr("mode", "constant") != "constant" or before < 0 or after < 0:
            c.pin(labels[k], f"{n} mirrors or crops it")
            labels[k] = NONE
            continue
        added = c.allot(before + after)
        labels[k] = np.concatenate([added[:before], labels[k], added[before:]])
    c.out(n.output, labels)
    final = list(labels)

    def mend(e: Pen) -> None:
        sizes = [list(a) for a in amounts]
        for k, (before, after) in enumerate(zip(*amounts, strict=True)):
            if final[k] is not NONE and (before or after):
                alive = e.mask(final[k])
                sizes[0][k] = int(alive[:before].sum())
                sizes[1][k] = int(alive[len(alive) - after :].sum())
        if sizes != [list(a) for a in amounts]:
            e.pads([*sizes[0], *sizes[1]])

    c.fix(mend)


def pad_amounts(c: Walk, n: Node, rank: int) -> tuple[list[int], list[int]]:
    """Entries added before and after each axis."""
    pads = n.attr("pads")
    if pads is None:
        value = c.value(n.inputs[1])
        if value is None:  # dynamic: compare the two shapes instead
            same = [a == b for a, b in zip(c.shape(n.inputs[0]), c.shape(n.output), strict=True)]
            labelled = [k for k in range(rank) if c.axis(n.inputs[0], k) is not NONE]
            if not all(same[k] for k in labelled):
                raise Blocked("its amounts are computed from data")
            return [0] * rank, [0] * rank
        pads = value.tolist()
    axes = c.value(n.inputs[3]) if len(n.inputs) > 3 and n.inputs[3] else None
    chosen = range(rank) if axes is None else [int(k) % rank for k in axes]
    before, after = [0] * rank, [0] * rank
    for position, k in enumerate(chosen):
        before[k], after[k] = pads[position], pads[position + len(pads) // 2]
    return before, after
