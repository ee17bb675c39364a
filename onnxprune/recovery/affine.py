"""From a linear layer to its activation: BatchNormalization, a bias behind it, a scale.

A layer without a bias of its own, or in front of a BatchNormalization, still has one: whatever is
added per channel before the next node that is no affine function of single channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from ..labels.vector import Floats
from ..model.graph import Graph
from ..model.node import Node
from ..moments.linear import Linear
from ..shapes.setting import Shape


@dataclass(frozen=True, eq=False, slots=True)
class Holder:
    """A stored vector that adds to every channel.

    Attributes
    ----------
    name : str
        As the node that reads it names it.
    factor : float array, shape (outputs,)
        What one unit of it adds at the end.
    """

    name: str
    factor: Floats


@dataclass(eq=False, slots=True)
class Affine:
    """``end = factor * (W x) + shift``, per channel.

    Attributes
    ----------
    end : str
        The last tensor that is such a function of the layer's product.
    holders : list of Holder
        Where the shift can be changed.
    """

    end: str
    factor: Floats
    shift: Floats
    holders: list[Holder] = field(default_factory=list)

    def scale(self, by: Floats) -> None:
        """Multiply everything so far."""
        self.factor = self.factor * by
        self.shift = self.shift * by
        self.holders = [Holder(h.name, h.factor * by) for h in self.holders]

    def add(self, name: str, values: Floats, sign: float = 1.0) -> None:
        """Add a stored vector."""
        self.shift = self.shift + sign * values
        if name:
            self.holders.append(Holder(name, np.full(len(self.shift), sign)))


def affine_after(graph: Graph, layer: Linear) -> Affine:
    """What becomes of a layer's product up to its activation."""
    outputs = prod(layer.shape(graph)[:2])
    found = Affine(layer.output, np.ones(outputs), np.zeros(outputs))
    if layer.inner:
        return found
    form = _form(layer, outputs)
    if layer.bias:
        values = _vector(graph, layer.bias, (outputs,))
        if values is None:  # a matrix: Gemm adds its C to every row as it likes
            return found
        own = np.size(graph.value(layer.bias)) == outputs
        found.add(layer.bias if own else "", values, layer.beta)
    while found.end not in graph.returned:
        readers = graph.consumers.get(found.end, [])
        step = _STEPS.get(readers[0].kind) if len(readers) == 1 else None
        if step is None or not step(graph, readers[0], found, form):
            break
        found.end = readers[0].output
    return found


def _form(layer: Linear, outputs: int) -> Shape:
    """Shape of one number per output beside the layer's result, whose last axes it has."""
    axis = -1 if layer.windows is None else -1 - len(layer.windows.kernel)
    axis = layer.channels if layer.channels < 0 else axis
    inside = (outputs // prod(layer.blocks), *[1] * (-1 - axis))
    return (*layer.blocks, *[1] * (2 - len(inside)), *inside) if layer.blocks else inside


def _vector(graph: Graph, name: str, form: Shape) -> Floats | None:
    """A stored operand as one number per output; None where it is something else."""
    if not name or not graph.has_value(name):
        return None
    value = np.asarray(graph.value(name)).astype(np.float64)
    while value.ndim > len(form) and len(value) == 1:
        value = value[0]
    short = value.ndim <= len(form) and all(
        n in (1, m) for n, m in zip(value.shape[::-1], form[::-1], strict=False)
    )
    return np.broadcast_to(value, form).reshape(-1) if short else None


def _batch_norm(graph: Graph, node: Node, found: Affine, form: Shape) -> bool:
    names = node.inputs[1:5]
    vectors = [_vector(graph, name, (len(found.shift),)) for name in names]
    if node.inputs[0] != found.end or node.attr("training_mode", 0) or any(v is None for v in vectors):
        return False
    scale, bias, mean, variance = (np.asarray(v) for v in vectors)
    by = scale / np.sqrt(variance + node.attr("epsilon", 1e-5))
    found.scale(by)
    found.add(names[1], bias)
    found.shift = found.shift - by * mean
    return True


def _arithmetic(
    apply: Callable[[Affine, str, Floats, bool], bool],
) -> Callable[[Graph, Node, Affine, Shape], bool]:
    def step(graph: Graph, node: Node, found: Affine, form: Shape) -> bool:
        first = node.inputs[0] == found.end
        other = node.inputs[1 if first else 0]
        values = _vector(graph, other, form)
        if values is None:
            return False
        whole = np.size(graph.value(other)) == len(found.shift)
        return apply(found, other if whole else "", values, first)

    return step


def _add(found: Affine, name: str, values: Floats, first: bool) -> bool:
    found.add(name, values)
    return True


def _sub(found: Affine, name: str, values: Floats, first: bool) -> bool:
    if not first:
        found.scale(np.full(len(values), -1.0))
    found.add(name, values, -1.0 if first else 1.0)
    return True


def _mul(found: Affine, name: str, values: Floats, first: bool) -> bool:
    found.scale(values)
    return True


def _div(found: Affine, name: str, values: Floats, first: bool) -> bool:
    if not first or not values.all():
        return False
    found.scale(1 / values)
    return True


_STEPS: dict[str, Callable[[Graph, Node, Affine, Shape], bool]] = {
    "BatchNormalization": _batch_norm,
    "Add": _arithmetic(_add),
    "Sub": _arithmetic(_sub),
    "Mul": _arithmetic(_mul),
    "Div": _arithmetic(_div),
}
