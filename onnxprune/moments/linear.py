"""Layers that multiply what they read by a stored weight, in one form.

Whatever the operator, a layer is ``y = W x + b`` per position: ``x`` is a row of ``groups`` blocks
of ``width`` entries (an unfolded window, a token), ``W`` has the shape (groups, outputs of a block,
width). Moments, criteria and recoveries see this form alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..labels.vector import Floats
from ..model.graph import Graph
from ..model.node import Node
from ..model.operators import Trait, traits_of
from ..shapes.setting import Shape
from .windows import Positions, Windows, windows_of


class Layout(Protocol):
    """How an operator stores the weight of a layer."""

    @property
    def groups(self) -> int:
        """Number of blocks."""

    def shape(self, stored: Shape) -> Shape:
        """(groups, outputs of a block, width) of a weight of some stored shape."""

    def matrix(self, weight: np.ndarray) -> Floats:
        """The weight as (groups, outputs of a block, width)."""

    def weight(self, matrix: Floats, shape: Shape) -> np.ndarray:
        """A matrix as the operator stores it."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Conv [O, C / groups, *kernel], or ConvTranspose [C, O / groups, *kernel], seen flipped."""

    groups: int
    transposed: bool = False

    def shape(self, stored: Shape) -> Shape:
        """That of the matrix of a weight of some stored shape."""
        first, others = stored[0] // self.groups, stored[1:]
        if self.transposed:
            return self.groups, stored[1], first * prod(others[1:])
        return self.groups, first, prod(others)

    def matrix(self, weight: np.ndarray) -> Floats:
        """The weight as (groups, outputs of a block, width)."""
        if not self.transposed:
            return _as_blocks(weight, self.groups)
        parts = weight.reshape(self.groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        flipped = np.flip(parts, tuple(range(3, parts.ndim)))
        return flipped.astype(np.float64).reshape(*flipped.shape[:2], -1)

    def weight(self, matrix: Floats, shape: Shape) -> np.ndarray:
        """A matrix as the operator stores it."""
        if not self.transposed:
            return matrix.reshape(shape)
        parts = matrix.reshape(self.groups, shape[1], shape[0] // self.groups, *shape[2:])
        return np.flip(parts, tuple(range(3, parts.ndim))).swapaxes(1, 2).reshape(shape)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Matrices, one per block, with the outputs along one of two axes, times a factor (``alpha`` of Gemm)."""

    outputs: int
    scale: float = 1.0
    groups: int = 1

    def shape(self, stored: Shape) -> Shape:
        """That of the matrix of a weight of some stored shape."""
        return self.groups, stored[self.outputs - 2], stored[-1 - self.outputs]

    def matrix(self, weight: np.ndarray) -> Floats:
        """The weight as (groups, outputs, width)."""
        tables = weight.astype(np.float64).reshape(self.groups, *weight.shape[-2:])
        return (tables if self.outputs == 0 else tables.swapaxes(1, 2)) * self.scale

    def weight(self, matrix: Floats, shape: Shape) -> np.ndarray:
        """A matrix as the operator stores it."""
        tables = matrix / self.scale
        return (tables if self.outputs == 0 else tables.swapaxes(1, 2)).reshape(shape)


@dataclass(frozen=True, slots=True)
class Gates:
    """Weight of the inputs of an LSTM, GRU or RNN, [directions, gates * hidden, inputs]."""

    groups: ClassVar[int] = 1

    def shape(self, stored: Shape) -> Shape:
        """That of the matrix of a weight of some stored shape."""
        return 1, prod(stored[:-1]), stored[-1]

    def matrix(self, weight: np.ndarray) -> Floats:
        """The weight as (1, directions * gates * hidden, inputs)."""
        return _as_blocks(weight.reshape(-1, weight.shape[-1]), 1)

    def weight(self, matrix: Floats, shape: Shape) -> np.ndarray:
        """A matrix as the operator stores it."""
        return matrix.reshape(shape)


def _as_blocks(weight: np.ndarray, groups: int) -> Floats:
    return weight.astype(np.float64).reshape(groups, weight.shape[0] // groups, -1)


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """A layer that multiplies what it reads by a stored weight.

    Attributes
    ----------
    source : str
        The computed tensor that is read.
    contracted : int
        Axis of ``source`` that is summed over; others are positions.
    channels : int
        Axis of the output that the outputs of the layer lie along.
    weight, bias : str
        Stored operands, as the node names them; bias may be ``""``.
    windows : Windows or None
        Geometry of a convolution.
    beta : float
        Factor of the bias (``beta`` of Gemm).
    inner : bool
        Whether the product stays inside the node, as that of a recurrent layer does.
    blocks : tuple of int
        Axes of batches that the weight of a MatMul has, in front of its matrix: every matrix is a block.
    rank : int
        Axes of the weight of a MatMul. What has fewer was made of a vector, for which it has no axis.
    own : float array or None
        Bias that ``source`` has in it already, where that is what the node gives.
    """

    node: Node
    source: str
    contracted: int
    channels: int
    weight: str
    bias: str
    layout: Layout
    windows: Windows | None = None
    beta: float = 1.0
    inner: bool = False
    blocks: Shape = ()
    rank: int = 2
    own: Floats | None = None

    @property
    def output(self) -> str:
        """The first tensor that the layer makes."""
        return made(self.node)

    @property
    def groups(self) -> int:
        """Number of blocks."""
        return self.layout.groups

    def matrix(self, graph: Graph) -> Floats:
        """The weight as (groups, outputs of a block, width)."""
        return self.layout.matrix(np.asarray(graph.value(self.weight)))

    def shape(self, graph: Graph) -> Shape:
        """That of the matrix, for which no weight is read."""
        return self.layout.shape(_shape(graph, self.weight))

    def positions(self, x: np.ndarray) -> int:
        """How many rows a batch of what the layer reads holds."""
        if self.windows is not None:
            return self.windows.positions(x)
        x = self._source(x)
        return x.size // max(1, self.entries(x.shape, self.contracted))

    def entries(self, shape: Shape, axis: int) -> int:
        """How many entries there are at every position of a tensor, along an axis and those of the blocks."""
        return shape[axis % len(shape)] * prod(shape[len(shape) - 2 - len(self.blocks) : -2])

    def width(self, y: np.ndarray) -> int:
        """How many entries of a tensor of the output's shape there are at every position."""
        return self.entries(_as_matrix(y, self.channels, self.rank).shape, self.channels)

    def _source(self, x: np.ndarray) -> np.ndarray:
        """What is read, repeated for every block where all read the same."""
        x = _as_matrix(x, self.contracted)
        if not self.blocks:
            return x
        return np.broadcast_to(x, (*np.broadcast_shapes(x.shape[:-2], self.blocks), *x.shape[-2:]))

    def _picked(self, x: np.ndarray, axis: int, positions: Positions) -> np.ndarray:
        """Entries at some positions, (rows, entries)."""
        moved, blocks = np.moveaxis(x, axis, -1), len(self.blocks)
        if blocks:
            moved = np.moveaxis(moved, -2, -2 - blocks)
        where = np.unravel_index(positions, moved.shape[: moved.ndim - 1 - blocks])
        return moved[where].reshape(len(positions), -1)

    def rows(self, x: np.ndarray, positions: Positions) -> np.ndarray:
        """Rows at some positions, shape (rows, groups, width), float32."""
        if self.windows is not None:
            picked = self.windows.pick(x, positions)
        else:
            picked = self._picked(self._source(x), self.contracted, positions)
        picked = picked if self.own is None else picked - self.own
        return np.ascontiguousarray(picked, np.float32).reshape(len(positions), self.groups, -1)

    def outputs(self, y: np.ndarray, positions: Positions) -> np.ndarray:
        """Entries of a tensor of the output's shape at the same positions, (rows, outputs)."""
        y = _as_matrix(y, self.channels, self.rank)
        return np.ascontiguousarray(self._picked(y, self.channels, positions), np.float32)

    def column_labels(self, graph: Graph, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Labels of the columns of the matrix, (groups, width), from those of ``contracted``."""
        groups, _, width = self.shape(graph)
        if self.blocks:
            return np.tile(labels, (groups, 1))
        return np.repeat(labels, groups * width // len(labels)).reshape(groups, width)

    def before_pool(self, graph: Graph, rank: Callable[[str], int]) -> Linear | None:
        """The same layer in front of a mean over positions, with which it can be exchanged.

        A mean is linear, so ``W mean(x) + b = mean(W x + b)``: there are as many more rows as the
        mean has terms. None where the layer reads no such mean.
        """
        pointwise = self.windows is None or set(self.windows.reach) == {1}
        if not pointwise or self.groups > 1 or self.inner or self.node.op == "ConvTranspose":
            return None
        found = _averaged(graph, self.source, rank)
        return found and replace(self, source=found[0], contracted=found[1], channels=found[1], windows=None)


def _as_matrix(x: np.ndarray, axis: int, rank: int = 2) -> np.ndarray:
    """What MatMul takes a vector for: on the left a row, where it is summed along -1; else a column."""
    return x if x.ndim >= rank else np.expand_dims(x, -2 if axis == -1 else -1)


def made(node: Node) -> str:
    """The first tensor that a node makes; ``""`` where there is none."""
    return next(filter(None, node.outputs), "")


def linear_of(graph: Graph, node: Node) -> Linear | None:
    """A node as a linear layer; None where it is none.

    Raises
    ------
    ModelError
        If it is one that this form does not hold.
    """
    maker = _MAKERS.get(node.kind)
    return maker(graph, node) if maker is not None and node.outermost else None


def _shape(graph: Graph, name: str) -> Shape:
    constant = graph.constants.get(name)
    return np.shape(graph.value(name)) if constant is None else constant.shape


def _convolution(graph: Graph, node: Node) -> Linear | None:
    X, W, B = node.take(3)
    if not graph.has_value(W) or graph.has_value(X) or (B and not graph.has_value(B)):
        return None
    kernel = _shape(graph, W)[2:]
    layout = Kernels(node.attr("group", 1), node.op == "ConvTranspose")
    return Linear(node, X, 1, 1, W, B, layout, windows_of(node, kernel))


def _gemm(graph: Graph, node: Node) -> Linear | None:
    A, B, C = node.take(3)
    if not graph.has_value(B) or graph.has_value(A) or (C and not graph.has_value(C)):
        return None
    alpha, beta = float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
    layout = Matrix(0 if node.attr("transB", 0) else 1, alpha)
    return Linear(node, A, 0 if node.attr("transA", 0) else 1, 1, B, C, layout, beta=beta)


def _matmul(graph: Graph, node: Node) -> Linear | None:
    A, B = node.inputs
    if graph.has_value(A) == graph.has_value(B):
        return None
    right = graph.has_value(B)
    weight, source = (B, A) if right else (A, B)
    shape = _shape(graph, weight)
    if len(shape) == 1:
        return None
    blocks = shape[next((k for k, size in enumerate(shape[:-2]) if size > 1), len(shape) - 2) : -2]
    if 1 in blocks:
        raise ModelError(f"{node}: its weight is repeated along an axis of batches")
    axis = -1 if right else -2
    layout = Matrix(1 if right else 0, groups=prod(blocks))
    return Linear(node, source, axis, axis, weight, "", layout, blocks=blocks, rank=len(shape))


def _recurrent(graph: Graph, node: Node) -> Linear | None:
    X, W = node.take(2)
    if not graph.has_value(W) or graph.has_value(X):
        return None
    return Linear(node, X, 2, -1, W, "", Gates(), inner=True)


_MAKERS = {
    "Conv": _convolution, "ConvTranspose": _convolution, "Gemm": _gemm, "MatMul": _matmul,
    "GRU": _recurrent, "LSTM": _recurrent, "RNN": _recurrent,
}  # fmt: skip


def _averaged(graph: Graph, name: str, rank: Callable[[str], int]) -> tuple[str, int] | None:
    """What a tensor is the mean of, over all axes but the first and that of the channels."""
    while (maker := graph.producers.get(name)) is not None and Trait.VIEW in traits_of(maker):
        name = maker.inputs[0]
    if maker is None or maker.domain:
        return None
    if maker.op == "GlobalAveragePool":
        return maker.inputs[0], 1
    axes = _axes(graph, maker) if maker.op == "ReduceMean" else None
    if axes is None:
        return None
    count = rank(maker.inputs[0])
    left = sorted(set(range(count)) - {axis % count for axis in axes})
    return (maker.inputs[0], left[1]) if len(left) == 2 and left[0] == 0 else None


def _axes(graph: Graph, node: Node) -> list[int] | None:
    given = node.attr("axes")
    if given is None and len(node.inputs) > 1 and graph.is_constant(node.inputs[1]):
        given = graph.value(node.inputs[1]).tolist()
    return given
