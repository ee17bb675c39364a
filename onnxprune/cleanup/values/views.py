"""Operators that move entries without changing them: the bounds move along."""

from __future__ import annotations

import numpy as np

from ...labels.refinement import AxisBlock, refine
from ...model.evaluation import python_slice, slice_bounds
from ...model.node import Node
from . import bounds as b
from .bounds import Bounds
from .registry import values
from .state import Values


@values("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def refold(v: Values, n: Node) -> None:
    """Each block of axes that is cut anew is looked at as a grid."""
    X = n.inputs[0]
    v.out(n.output, _refolded(v, X, v.c.shape(X), n.output), v.whole(X))


def _refolded(v: Values, X: str, shape: tuple[int, ...], output: str) -> list[Bounds | None]:
    target = v.c.shape(output)
    result: list[Bounds | None] = [None] * len(target)
    blocks = refine(shape, target)
    second = [v.c.shapes.second.shapes.get(name) for name in (X, output)]
    others = refine(second[0], second[1]) if second[0] and second[1] else blocks
    for number, block in enumerate(blocks):
        known = {k: v.known(X, k) for k in block.sources}
        same = number < len(others) and block.cuts_like(others[number])
        fixed = all(v.c.shapes.static(X, k) for k in block.sources)
        if 0 in shape or not (fixed and same) or all(part is None for part in known.values()):
            continue
        for k, part in _cut(block, known, shape, target).items():
            result[k] = part
    return result


def _cut(
    block: AxisBlock, known: dict[int, Bounds | None], shape: tuple[int, ...], target: tuple[int, ...]
) -> dict[int, Bounds]:
    """Bounds along the target axes of one block, from those along its source axes."""
    sizes = [shape[k] for k in block.sources]
    grid = np.broadcast_to(b.ANYTHING.reshape(2, *[1] * len(sizes)), (2, *sizes))
    for position, k in enumerate(block.sources):
        part = known[k]
        if part is not None:
            along = [1] * len(sizes)
            along[position] = sizes[position]
            grid = b.meet(grid, part.reshape(2, *along))
    wanted = [target[k] for k in block.targets]
    grid = grid.reshape(2, *wanted)
    result = {}
    for position, k in enumerate(block.targets):
        rest = tuple(p for p in range(len(wanted)) if p != position)
        result[k] = np.stack([grid[0].min(axis=rest), grid[1].max(axis=rest)])
    return result


@values("Transpose")
def transpose(v: Values, n: Node) -> None:
    """Permutes the axes."""
    X = n.inputs[0]
    order = n.attr("perm", list(reversed(range(v.c.rank(X)))))
    v.out(n.output, [v.known(X, k) for k in order], v.whole(X))


@values("Concat")
def concat(v: Values, n: Node) -> None:
    """Joins along its axis; a slice along another axis is within the bounds of all inputs."""
    rank = v.c.rank(n.output)
    axis = n.attr("axis") % rank
    names = [x for x in n.inputs if v.c.shape(x)[axis]]
    axes: list[Bounds | None] = []
    for k in range(rank):
        if k == axis:
            fixed = all(v.c.shapes.static(x, k) for x in names)
            axes.append(np.concatenate([v.axis(x, k) for x in names], axis=1) if fixed else None)
        else:
            known = any(v.known(x, k) is not None for x in names)
            axes.append(b.hull(*(v.axis(x, k) for x in names)) if known else None)
    v.out(n.output, axes, b.hull(*(v.whole(x) for x in names)))


@values("Split")
def split(v: Values, n: Node) -> None:
    """Gives every output its part."""
    X = n.inputs[0]
    axis = n.attr("axis", 0) % v.c.rank(X)
    start = 0
    for name in filter(None, n.outputs):
        stop = start + v.c.shape(name)[axis]
        v.out(name, _taken(v, X, {axis: np.arange(start, stop)}), v.whole(X))
        start = stop


@values("Slice")
def slice_(v: Values, n: Node) -> None:
    """Takes a range; one that is known only at run time tells nothing along its axis."""
    X = n.inputs[0]
    rank = v.c.rank(X)
    given = [v.c.value(name) if name else None for name in n.inputs[1:]]
    if any(value is None and name for value, name in zip(given, n.inputs[1:], strict=True)):
        axes = given[2] if len(given) > 2 else None
        chosen = range(rank) if axes is None else [int(k) % rank for k in np.atleast_1d(axes)]
        return v.out(n.output, [None if k in chosen else v.known(X, k) for k in range(rank)], v.whole(X))
    taken = {}
    for start, end, axis, step in zip(*slice_bounds(n, rank, given), strict=True):
        size = v.c.shape(X)[axis]
        taken[axis] = np.arange(size)[python_slice(start, end, step, size)]
    return v.out(n.output, _taken(v, X, taken), v.whole(X))


def _taken(v: Values, X: str, taken: dict[int, np.ndarray]) -> list[Bounds | None]:
    """Bounds along every axis after some entries are taken."""
    axes: list[Bounds | None] = []
    for k in range(v.c.rank(X)):
        part = v.known(X, k)
        axes.append(part if part is None or k not in taken else part[:, taken[k]])
    return axes


@values("Gather")
def gather(v: Values, n: Node) -> None:
    """Takes entries by constant indices; by data, any entry can be taken."""
    data, indices = n.inputs
    axis = n.attr("axis", 0) % v.c.rank(data)
    axes = [v.known(data, k) for k in range(v.c.rank(data))]
    index, part = v.c.value(indices), axes[axis]
    middle: list[Bounds | None] = [None] * v.c.rank(indices)
    if index is not None and part is not None and index.size:
        grid = part[:, index.reshape(-1)].reshape(2, *index.shape)
        for k in range(index.ndim):
            rest = tuple(j for j in range(index.ndim) if j != k)
            middle[k] = np.stack([grid[0].min(axis=rest), grid[1].max(axis=rest)])
    v.out(n.output, [*axes[:axis], *middle, *axes[axis + 1 :]], v.whole(data))


@values("Expand", "Tile")
def repeat(v: Values, n: Node) -> None:
    """Repeats axes as a whole."""
    X = n.inputs[0]
    lead = v.c.rank(n.output) - v.c.rank(X)
    axes: list[Bounds | None] = [None] * lead
    for k, size in enumerate(v.c.shape(X)):
        wide = v.c.shape(n.output)[lead + k]
        part = v.known(X, k)
        usable = part is not None and size and v.c.shapes.static(n.output, lead + k)
        axes.append(np.tile(part, wide // size) if usable and part is not None else None)
    v.out(n.output, axes, v.whole(X))


@values("DepthToSpace")
def depth_to_space(v: Values, n: Node) -> None:
    """A block of channels becomes a patch of pixels."""
    X, block = n.inputs[0], n.attr("blocksize") ** 2
    part = v.axis(X, 1)
    inner = n.attr("mode", "DCR") != "DCR"
    grid = part.reshape(2, -1, block) if inner else part.reshape(2, block, -1).swapaxes(1, 2)
    channels = np.stack([grid[0].min(axis=1), grid[1].max(axis=1)])
    v.out(n.output, [v.known(X, 0), channels, None, None], v.whole(X))


@values("SpaceToDepth")
def space_to_depth(v: Values, n: Node) -> None:
    """Every channel becomes a channel per pixel of a patch."""
    X, block = n.inputs[0], n.attr("blocksize") ** 2
    v.out(n.output, [v.known(X, 0), np.tile(v.axis(X, 1), block), None, None], v.whole(X))
