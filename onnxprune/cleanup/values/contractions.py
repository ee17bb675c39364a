"""Convolutions and matrix products: sums of products over an axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...labels.vector import NONE, Bools, Labels
from ...model.node import Node
from ...rules.einsum import Letter, letters
from . import bounds as b
from .acting import Acting, acting, over_taps, smallest
from .bounds import Bounds
from .registry import values
from .slices import Slices, slices_of
from .state import Values

CHUNK = 1 << 24
"""Elements of a weight that are looked at together."""


@values("Conv")
def conv(v: Values, n: Node) -> None:
    """A sum over kernel and input channels; padding adds zeros at the borders."""
    X, W, B = n.take(3)
    group = n.attr("group", 1)
    padded = any(n.attr("pads", ())) or n.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    kernel = v.array(W)
    if kernel is not None:
        kernel = kernel.reshape(group, len(kernel) // group, kernel.shape[1], -1)
    why = f"{n} pads with zeros, so its borders would differ" if padded else ""
    weight = Weight(W, kernel, inputs=1 if group == 1 else None, outputs=0)
    O = product(v, n, (X, 1), weight, 1, why or _no_bias(v, n, B), padded=padded)
    O = b.plus(O, v.axis(B, 0)) if B else O
    for k in range(2, v.c.rank(X)):
        if v.c.peek(n.output, k) is NONE:  # else entry by entry
            v.mix(n, X, k)
    v.out(n.output, [None, O, *[None] * (v.c.rank(X) - 2)])


@values("ConvTranspose")
def conv_transpose(v: Values, n: Node) -> None:
    """Like Conv; each output sees some of the kernel, which has the same effect as padding."""
    X, W, B = n.take(3)
    group = n.attr("group", 1)
    kernel = v.array(W)
    if kernel is not None:
        kernel = kernel.reshape(group, len(kernel) // group, kernel.shape[1], -1)
        kernel = kernel.transpose(0, 2, 1, 3)
    why = f"every output of {n} sees other parts of the kernel"
    weight = Weight(W, kernel, *((0, 1) if group == 1 else (None, None)))
    O = product(v, n, (X, 1), weight, 1, why, padded=True)
    O = b.plus(O, v.axis(B, 0)) if B else O
    v.out(n.output, [None, O, *[None] * (v.c.rank(X) - 2)])


def _no_bias(v: Values, n: Node, B: str) -> str:
    return "" if not B or B in v.c.graph.constants else f"the bias of {n} is not stored as it is"


@values("Gemm")
def gemm(v: Values, n: Node) -> None:
    """A matrix product, scaled, plus C."""
    A, B, C = n.take(3)
    i, j = (0 if n.attr("transA", 0) else 1), (1 if n.attr("transB", 0) else 0)
    matrix = v.array(B)
    if matrix is None:
        return _free(v, n, (A, i), (B, j), [v.known(A, 1 - i), v.known(B, 1 - j)], C)
    alpha, beta = n.attr("alpha", 1.0), n.attr("beta", 1.0)
    kernel = (matrix if j == 1 else matrix.T)[None, :, :, None]
    kernel = kernel if alpha == 1 else kernel * np.float32(alpha)
    why = _no_bias(v, n, C) or ("" if beta else f"{n} ignores its bias")
    weight = Weight(B, kernel, inputs=j, outputs=1 - j if alpha == 1 else None)
    columns = product(v, n, (A, i), weight, 1, why)
    if C:
        along = v.axis(C, -1) if v.c.rank(C) else v.whole(C)
        columns = b.plus(columns, b.times(along, b.exactly(beta)))
    return v.out(n.output, [None, columns])


@values("MatMul")
def matmul(v: Values, n: Node) -> None:
    """A matrix product; with a stored operand, its free axis makes the channels."""
    A, B = n.inputs
    ranks = v.c.rank(A), v.c.rank(B)
    j = -2 if ranks[1] > 1 else -1
    rows = v.known(A, -2) if ranks[0] > 1 else None
    columns = v.known(B, -1) if ranks[1] > 1 else None
    right, left = v.array(B), v.array(A)
    axes = [*_batch(v, A, B), *([rows] if ranks[0] > 1 else []), *([columns] if ranks[1] > 1 else [])]
    if right is not None and ranks[1] == 2:
        made = product(v, n, (A, -1), Weight(B, right.T[None, :, :, None], 0, 1), -1)
        kept = [None if a is None else b.zero_or_anything(a) for a in axes[:-1]]
        return v.out(n.output, [*kept, made])
    if left is not None and ranks == (2, 2):
        weight = Weight(A, left[None, :, :, None], 1, 0)
        made = product(v, n, (B, -2), weight, -2, f"{n} has its weight on the left")
        return v.out(n.output, [made, None if columns is None else b.zero_or_anything(columns)])
    return _free(v, n, (A, -1), (B, j), axes, "")


def _batch(v: Values, A: str, B: str) -> list[Bounds | None]:
    """Batch axes: a batch that is zero in one operand is zero in the product."""
    count = max(v.c.rank(A), v.c.rank(B)) - 2
    result: list[Bounds | None] = []
    for k in range(-2 - max(count, 0), -2):
        parts = [v.known(x, k) for x in (A, B) if v.c.rank(x) >= -k and v.c.shape(x)[k] > 1]
        known = [b.zero_or_anything(p) for p in parts if p is not None]
        result.append(None if not known else known[0] if len(known) == 1 else b.meet(*known))
    return result


@values("Einsum")
def einsum(v: Values, n: Node) -> None:
    """A letter is zero where it is zero in any operand; those that the output lacks are mixed."""
    terms, result = letters(n.attr("equation"), [v.c.rank(x) for x in n.inputs])
    places = [
        (letter, name, axis)
        for name, term in zip(n.inputs, terms, strict=True)
        for axis, letter in enumerate(term)
        if v.c.shape(name)[axis] != 1
    ]
    bounds: dict[Letter, Bounds] = {}
    for letter, name, axis in places:
        bounds[letter] = b.times(bounds.get(letter, b.exactly(1)), v.axis(name, axis))
    if not v.finite(*n.inputs):
        bounds = dict.fromkeys(bounds, b.ANYTHING)
    for letter, name, axis in places:
        if letter not in result:
            v.mix(n, name, axis, values=bounds[letter])
    axes = [
        b.zero_or_anything(bounds[k]) if k in bounds and v.c.shapes.static(n.output, j) else None
        for j, k in enumerate(result)
    ]
    v.out(n.output, [a if a is not None and a.shape[1] > 1 else None for a in axes])


@values("GRU", "LSTM", "RNN")
def recurrent(v: Values, n: Node) -> None:
    """Every input acts on all hidden channels, and those on each other in the next step."""
    X, W, R = n.take(3)
    for (name, axis), weight in (((X, 2), v.array(W)), ((R, 2), v.array(R))):
        kernel = None if weight is None else weight.reshape(1, -1, weight.shape[2], 1)
        weights = None if kernel is None or not v.finite(X, W, R) else smallest((kernel != 0).any(axis=3))
        values_ = v.axis(name, axis) if name == X else b.ANYTHING
        v.mix(n, name, axis, values=values_, weights=weights, kernel=kernel)
    for name in (*n.inputs[:1], *n.inputs[4:5]):
        for k in range(v.c.rank(name)):
            if (name, k) != (X, 2):
                v.mix(n, name, k, values=b.ANYTHING)
    for name in n.outputs:
        v.out(name)


def _free(
    v: Values, n: Node, left: tuple[str, int], right: tuple[str, int], axes: list[Bounds | None], C: str
) -> None:
    """Product of two tensors of which none is a plain stored matrix."""
    both = b.times(v.axis(*left), v.axis(*right))
    for name, axis in (left, right):
        v.mix(n, name, axis, values=both if v.finite(left[0], right[0]) else b.ANYTHING)
    usable = v.finite(left[0], right[0]) and not C
    v.out(n.output, [None if a is None or not usable else b.zero_or_anything(a) for a in axes])


@dataclass(frozen=True, eq=False, slots=True)
class Weight:
    """A stored weight.

    Attributes
    ----------
    name : str
    kernel : array, shape (groups, outputs, inputs, taps), or None
        None where it is not stored.
    inputs : int or None
        Its axis of inputs, where columns can be added.
    outputs : int or None
        Its axis of outputs, where its slices are those of the kernel.
    """

    name: str
    kernel: np.ndarray | None
    inputs: int | None
    outputs: int | None


def product(
    v: Values,
    n: Node,
    source: tuple[str, int],
    weight: Weight,
    axis: int,
    obstacle: str = "",
    *,
    padded: bool = False,
) -> Bounds:
    """Bounds of a contraction, and how its inputs act on its outputs.

    Parameters
    ----------
    source : (str, int)
        The input, and the axis of its channels.
    axis : int
        Channels of the output.
    obstacle : str
        Why constants cannot move into the bias.
    padded : bool
        Whether a tap may see a zero in place of an input.
    """
    X, along = source
    kernel, axis = weight.kernel, axis % v.c.rank(n.output)
    if kernel is None or not v.finite(X, *n.inputs):
        v.mix(n, X, along)
        return b.wide(b.ANYTHING, v.c.shape(n.output)[axis])
    groups, outputs, inputs, _ = kernel.shape
    x = v.axis(X, along).reshape(2, groups, inputs)
    rows = None if weight.outputs is None else v.slices(weight.name, weight.outputs)
    sums, acts = weigh(kernel, x, padded, rows)
    labels = v.c.peek(n.output, axis)
    targets: Labels | None = None if labels is NONE else labels
    alone = weight.inputs is not None and weight.name in v.c.graph.constants
    stored = (weight.name, weight.inputs) if alone else None
    v.mix(n, X, along, targets=targets, weights=acts, kernel=kernel, stored=stored, obstacle=obstacle)
    return sums.reshape(2, groups * outputs)


def weigh(
    kernel: np.ndarray, x: Bounds, padded: bool, rows: Slices | None = None
) -> tuple[Bounds, Acting | None]:
    """Bounds of weighted sums, and which input acts on which output (None: each on all of its group).

    Parameters
    ----------
    rows : Slices, optional
        What is known of the weights of every output.
    """
    if padded:  # every tap sees an input or a zero
        x = np.array([np.minimum(x[0], 0), np.maximum(x[1], 0)])
    groups, outputs, inputs, _ = kernel.shape
    if (x == x[:, :1, :1]).all() and ((x == 0) | np.isinf(x)).all():
        return _weigh_alike(kernel, x[:, :1, :1], rows or slices_of(kernel.reshape(groups * outputs, -1), 0))
    total = np.empty((2, groups, outputs))
    weights = np.empty((groups, outputs, inputs), np.bool_)
    for part in _chunks(kernel):
        some = kernel[part]
        up: Bools = over_taps(np.any, some > 0)
        down: Bools = over_taps(np.any, some < 0)
        weights[part] = up | down
        total[:, *part] = _weigh(some, up, down, x[:, part[0]])
    return total, None if weights.all() else smallest(weights)


def _weigh_alike(kernel: np.ndarray, x: Bounds, rows: Slices) -> tuple[Bounds, Acting | None]:
    """The same where all inputs have one sign, or any: behind a Relu, or nothing that is known."""
    down, up = (part.reshape(kernel.shape[:2]) for part in (rows.low < 0, rows.high > 0))
    floorless, topless = np.isinf(x)
    floor, top = (up & floorless) | (down & topless), (up & topless) | (down & floorless)
    sums = np.array([np.where(floor, -np.inf, 0.0), np.where(top, np.inf, 0.0)])
    return sums, acting(kernel, rows.holes.reshape(kernel.shape[:2]))


def _chunks(kernel: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Blocks of groups and outputs: many small groups at once, or a part of a large one."""
    groups, outputs, inputs, taps = kernel.shape
    rows = max(1, CHUNK // (inputs * taps))
    several = max(1, rows // outputs)
    for g in range(0, groups, several):
        for start in range(0, outputs, rows):
            yield slice(g, g + several), slice(start, start + rows)


def _weigh(kernel: np.ndarray, up: Bools, down: Bools, x: Bounds) -> Bounds:
    """Bounds of the sums of one block: (groups, outputs, inputs, taps) times (2, groups, inputs)."""
    floorless, topless = np.isinf(x)[:, :, None]
    low, high = np.where(np.isinf(x), 0.0, x)
    heard = ((low != 0) | (high != 0)).any(axis=0)
    part = kernel[:, :, heard].astype(np.float64)
    more, less = (over_taps(np.sum, limit(part, 0)) for limit in (np.maximum, np.minimum))
    low, high = low[:, heard, None], high[:, heard, None]
    sums = (more @ low + less @ high)[..., 0], (more @ high + less @ low)[..., 0]
    floor = ((up & floorless) | (down & topless)).any(axis=2)
    top = ((up & topless) | (down & floorless)).any(axis=2)
    return np.array([np.where(floor, -np.inf, sums[0]), np.where(top, np.inf, sums[1])])
