"""Operators that read or write entries by index tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..labels.pen import Pen
from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .registry import rule

Index = npt.NDArray[np.int64]


@rule("GatherElements", traits=Trait.NONE)
def gather_elements(c: Walk, n: Node) -> None:
    """Carries the axes other than its own, where the indices cover them wholly."""
    data, indices = n.inputs
    axis = n.attr("axis", 0) % c.rank(data)
    c.pin_axes(data, [axis], f"{n} picks from it by data")
    result = []
    for k, (size, wide) in enumerate(zip(c.shape(data), c.shape(indices), strict=True)):
        if k == axis:
            result.append(c.axis(indices, k))
        elif size == wide:
            result.append(c.join([(data, k), (indices, k)]))
        else:
            c.pin_axes(data, [k], f"{n} reads a part of it")
            c.pin_axes(indices, [k], f"{n} reads a part of '{data}'")
            result.append(NONE)
    c.out(n.output, result)


@rule("Scatter", "ScatterElements", traits=Trait.NONE)
def scatter_elements(c: Walk, n: Node) -> None:
    """Carries the axes other than its own, where the indices cover them wholly."""
    data, indices, updates = n.inputs
    axis = n.attr("axis", 0) % c.rank(data)
    result = []
    for k, (size, wide) in enumerate(zip(c.shape(data), c.shape(indices), strict=True)):
        if k != axis and size == wide:
            result.append(c.join([(data, k), (indices, k), (updates, k)]))
            continue
        for name in n.inputs:
            c.pin_axes(name, [k], f"{n} writes to a part of it")
        result.append(NONE)
    c.out(n.output, result)


@rule("GatherND", traits=Trait.NONE)
@rule("GatherND", domain="com.microsoft", traits=Trait.NONE)
def gather_nd(c: Walk, n: Node) -> None:
    """Carries the axes that are not indexed, and those with constant indices of their own."""
    data, indices = n.inputs
    batches, depth, free = n.attr("batch_dims", 0), c.shape(indices)[-1], c.rank(indices) - 1
    index = c.value(indices) if batches == 0 else None
    result = [c.join([(data, k), (indices, k)]) for k in range(batches)]
    indexed = range(batches, batches + depth)
    if index is None:
        c.pin_axes(data, indexed, f"{n} picks from it by data")
        along: Mapping[int, Labels] = {}
    else:
        labels = [c.axis(data, k) for k in indexed]
        along = follow(c, n, labels, index)
        c.fix(lambda e: remap(e, 1, index, labels, along))
    result += [along[s] if s in along else c.axis(indices, s) for s in range(batches, free)]
    result += [c.axis(data, k) for k in range(batches + depth, c.rank(data))]
    c.out(n.output, result)


@rule("ScatterND", traits=Trait.NONE)
def scatter_nd(c: Walk, n: Node) -> None:
    """Carries the axes that are not indexed, and those with constant indices of their own."""
    data, indices, updates = n.inputs
    depth, free = c.shape(indices)[-1], c.rank(indices) - 1
    rest = [c.join([(data, k), (updates, free + k - depth)]) for k in range(depth, c.rank(data))]
    index = c.value(indices)
    if index is None:
        c.pin_axes(data, range(depth), f"{n} writes to it by data")
        labels: list[Labels] = [NONE] * depth
        along: Mapping[int, Labels] = {}
    else:
        labels = [c.axis(data, k) for k in range(depth)]
        along = follow(c, n, labels, index)
        c.fix(lambda e: remap(e, 1, index, labels, along))
    for s in range(free):
        if s in along:
            c.meet(updates, s, along[s])
        else:
            c.pin_axes(updates, [s], f"{n} writes it to an axis that carries no channels")
    c.out(n.output, [*labels, *rest])


def follow(c: Walk, n: Node, labels: Sequence[Labels], index: Index) -> dict[int, Labels]:
    """Labels along the axes of a constant index tensor, from the data axes that it indexes.

    ``index[..., k]`` are positions along the data axis with ``labels[k]``. Where they vary along
    one axis of the index tensor, that axis follows the data axis.
    """
    along: dict[int, Labels] = {}
    for k, vector in enumerate(labels):
        if vector is NONE:
            continue
        positions = index[..., k]
        axes = [s for s in range(positions.ndim) if (positions != positions.take([0], s)).any()]
        if len(axes) > 1:
            c.pin(vector, f"{n} indexes it together with another axis")
            continue
        taken = vector[_line(positions, axes)]
        if not axes:
            c.pin(taken, f"{n} addresses this entry alone")
        else:
            c.unify(along.setdefault(axes[0], taken), taken)
    return along


def _line(positions: Index, axes: Sequence[int]) -> Index:
    """The positions along the only axis on which they depend."""
    moved = np.moveaxis(positions, axes[0], 0) if axes else positions[None]
    return moved.reshape(len(moved), -1)[:, 0]


def remap(e: Pen, slot: int, index: Index, labels: Sequence[Labels], along: Mapping[int, Labels]) -> None:
    """Drop the indices of removed entries, and count positions among the kept ones."""
    if all(v is NONE or e.mask(v).all() for v in labels):
        return
    kept = [
        np.flatnonzero(e.mask(along[s])) if s in along else np.arange(size)
        for s, size in enumerate(index.shape[:-1])
    ]
    grid = index[np.ix_(*kept)] if kept else index.copy()
    for k, vector in enumerate(labels):
        if vector is not NONE:
            place = np.cumsum(e.mask(vector)) - 1
            grid[..., k] = place[grid[..., k] % len(vector)]
    e.constant_input(slot, grid)


@rule("TensorScatter", traits=Trait.NONE)
def tensor_scatter(c: Walk, n: Node) -> None:
    """Writes a run of steps into a cache; carries the axes other than that of the steps."""
    past, update, indices = n.take(3)
    axis = n.attr("axis", -2) % c.rank(past)
    for name in (past, update):
        c.pin_axes(name, [axis], f"{n} writes along it")
    result = [NONE if k == axis else c.join([(past, k), (update, k)]) for k in range(c.rank(past))]
    c.meet(indices, 0, result[0])
    c.out(n.output, result)


@rule("OneHot", traits=Trait.SIZED_BY_VALUES)
def one_hot(c: Walk, n: Node) -> None:
    """Carries the axes of the indices; the new axis carries none."""
    indices = n.inputs[0]
    result = c.labels(indices)
    axis = n.attr("axis", -1) % (len(result) + 1)
    c.out(n.output, [*result[:axis], NONE, *result[axis:]])


@rule("Compress", traits=Trait.SIZED_BY_DATA)
def compress(c: Walk, n: Node) -> None:
    """Pins the axis from which a condition selects, carries the others."""
    X, axis = n.inputs[0], n.attr("axis")
    if axis is None:
        c.freeze([X], f"{n} selects entries from the flattened tensor")
        return
    c.out(n.output, c.fixed(X, [axis], f"{n} selects from it by a condition"))


@rule("ReverseSequence", traits=Trait.NONE)
def reverse_sequence(c: Walk, n: Node) -> None:
    """Pins the axis that is reversed, carries the others."""
    X, sequence_lens = n.inputs
    time, batch = n.attr("time_axis", 0), n.attr("batch_axis", 1)
    c.meet(sequence_lens, 0, c.axis(X, batch))
    c.out(n.output, c.fixed(X, [time], f"{n} reverses a part of it"))
