"""Sizes of free dimensions that stored tensors tell: a layer takes as many channels as its weight has.

An axis of an input is followed through nodes that leave it as it is, up to one that reads a stored
tensor along it. Whatever else an axis may be is a guess, see :mod:`.dimensions`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..model.graph import Graph
from ..model.node import Node
from ..model.operators import Trait, traits_of
from .dimensions import FreeDimensions, free_dimensions

Axes = tuple[int | None, ...]
"""For each axis of a tensor the axis of the input that it is; None for others."""

SAME = Trait.UNARY | Trait.HANDS_ON | Trait.LIKE_FIRST


def told_sizes(graph: Graph) -> FreeDimensions:
    """Sizes of those free dimensions that stored tensors tell."""
    proto = graph.model.proto
    free = free_dimensions(proto)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in proto.graph.input}
    found: dict[tuple[str, int], int] = {}
    for name in dict.fromkeys(name for name, _ in free):
        for axis, size in _followed(graph, name, ranks[name]):
            if (name, axis) in free:
                found.setdefault((name, axis), size)
    return found


def _followed(graph: Graph, start: str, rank: int) -> Iterator[tuple[int, int]]:
    """Axes of an input, and what a stored tensor says of them."""
    pending: list[tuple[str, Axes]] = [(start, tuple(range(rank)))]
    seen = {start}
    while pending:
        name, axes = pending.pop()
        for node in graph.consumers.get(name, ()):
            for axis, size in _told(graph, node, name, axes):
                origin = axes[axis] if 0 <= axis < len(axes) else None
                if origin is not None:
                    yield origin, size
            made = _made(graph, node, name, axes)
            if made and node.output not in seen:
                seen.add(node.output)
                pending.append((node.output, made))


def _told(graph: Graph, node: Node, name: str, axes: Axes) -> Iterator[tuple[int, int]]:
    """Axes of a tensor that a node reads, and their sizes as stored tensors beside it tell them."""
    traits, rank = traits_of(node), len(axes)
    shapes = [shape for n in node.inputs if (shape := stored_shape(graph, n)) is not None]
    weight = next((shape for shape in shapes if len(shape) == rank), None)
    if Trait.COMBINES in traits:
        for shape in shapes:
            yield from ((rank - k, shape[-k]) for k in range(1, min(rank, len(shape)) + 1) if shape[-k] > 1)
    elif Trait.CONVOLUTION in traits and name == node.inputs[0] and weight is not None:
        yield 1, weight[0] if node.op == "ConvTranspose" else weight[1] * node.attr("group", 1)
    elif Trait.RECURRENT in traits and name == node.inputs[0] and weight is not None:
        yield 2, weight[1 if node.domain else 2]  # onnxruntime's own has its gates as columns
    elif Trait.MATRIX in traits and name == node.inputs[0]:
        matrix = next((shape for shape in shapes if len(shape) == 2), None)
        if matrix is not None:
            yield (0 if node.attr("transA", 0) else rank - 1), matrix[1 if node.attr("transB", 0) else 0]
    elif node.kind == "BatchNormalization" and shapes and rank > 1:
        yield 1, shapes[0][0]


def _made(graph: Graph, node: Node, name: str, axes: Axes) -> Axes:
    """The axes of what a node makes of a tensor; none where they are lost."""
    traits = traits_of(node)
    if node.kind == "Transpose":
        perm = node.attr("perm", None) or range(len(axes))[::-1]
        return tuple(axes[k] for k in perm) if sorted(perm) == list(range(len(axes))) else ()
    if name == node.inputs[0] and (traits & SAME or node.kind == "BatchNormalization"):
        return axes
    others = [stored_shape(graph, n) for n in node.inputs if n != name]
    small = all(shape is not None and len(shape) <= len(axes) for shape in others)
    return axes if Trait.COMBINES in traits and small else ()


def stored_shape(graph: Graph, name: str) -> tuple[int, ...] | None:
    """Shape of a stored tensor, or of numbers that are decoded from one."""
    while (node := graph.derived.get(name)) is not None and (
        node.kind == "DequantizeLinear" or traits_of(node) & (SAME | Trait.DECODES)
    ):
        name = node.inputs[0]
    return graph.constants[name].shape if name in graph.constants else None
