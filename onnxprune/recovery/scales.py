"""Scale and shift behind a normalization whose statistics are taken over fewer channels.

What a normalization gives for the channels that are left has another scale and another offset than
before, because mean and variance are those of fewer entries. Per channel that is a line, ``t = a y + b``
with ``y`` what the slim node gives: a layer of as many blocks as there are channels, each of one column,
whose matrix starts as ones. Its fit is written into the stored scale and shift. Where an exporter took
the normalization apart, the scale is that of the Mul behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ..coupling.trace import Trace
from ..labels.sizes import Sizes
from ..labels.vector import Floats
from ..model.graph import Graph
from ..model.node import Node
from ..model.operators import Trait, traits_of
from ..moments.linear import Linear
from ..shapes.setting import Shape


@dataclass(frozen=True, eq=False, slots=True)
class Diagonal:
    """A stored vector, one number per channel, as the factors by which a fit changes it."""

    values: Floats

    @property
    def groups(self) -> int:
        """Every channel is a block."""
        return len(self.values)

    def shape(self, stored: Shape) -> Shape:
        """That of the matrix."""
        return self.groups, 1, 1

    def matrix(self, weight: np.ndarray) -> Floats:
        """Ones, (channels, 1, 1): what the node gives has the stored scale already."""
        return np.ones((self.groups, 1, 1))

    def weight(self, matrix: Floats, shape: Shape) -> np.ndarray:
        """The stored vector times some factors."""
        return (self.values * matrix.reshape(-1)).reshape(shape)


class Scales:
    """Nodes that scale, channel by channel, what depends on statistics over channels that went.

    Parameters
    ----------
    traced : Trace
        Of the original.
    sizes : Sizes
        View of the kept entries.
    """

    def __init__(self, traced: Trace, sizes: Sizes) -> None:
        self._graph, self._walk = traced.graph, traced.walk
        self._cut = {n.index for n, labels in traced.walk.facts.stats if not sizes.mask(labels).all()}

    def of(self, node: Node, graph: Graph, same: Node) -> Linear | None:
        """A node of the original, as it is in a graph, as a layer whose rows are what it gives."""
        places = self._places(node)
        axis = self._axis(node, places[0]) if places else 0
        if not axis:
            return None
        names = [same.inputs[k] for k in places]
        values, *own = (np.asarray(graph.value(name), np.float64).reshape(-1) for name in names)
        scale, shift = (*names, "")[:2]
        return Linear(
            same, same.output, axis, axis, scale, shift, Diagonal(values), own=own[0] if own else None
        )

    def _places(self, node: Node) -> tuple[int, ...]:
        """Which inputs of a node are its scale and its shift, if it has one; empty for other nodes."""
        graph = self._graph
        stored = [k for k, name in enumerate(node.inputs) if graph.has_value(name)]
        if node.index in self._cut:
            places = tuple(k for k in _NORMS.get(node.kind, ()) if node.take(k + 1)[k])
            return places if set(places) <= set(stored) else ()
        return (stored[0],) if node.kind == "Mul" and len(stored) == 1 and self._behind(node) else ()

    def _axis(self, node: Node, place: int) -> int:
        """Axis of the output, from the right, that the scale has an entry for each of; 0 for none."""
        shape, sizes = np.shape(self._graph.value(node.inputs[place])), self._walk.shape(node.output)
        wide = [k - len(shape) for k, size in enumerate(shape) if size > 1]
        axis = 1 - len(sizes) if node.op == "GroupNormalization" else wide[0] if len(wide) == 1 else 0
        return axis if axis and wide and sizes[axis] == prod(shape) else 0

    def _behind(self, node: Node) -> bool:
        """Whether a node reads, through others that work entry by entry, what such statistics are part of."""
        pending, seen = list(node.inputs) if self._cut else [], set[int]()
        while pending:
            maker = self._graph.producers.get(pending.pop())
            if maker is None or maker.index in seen:
                continue
            if maker.index in self._cut:
                return True
            seen.add(maker.index)
            if any(trait in traits_of(maker) for trait in (Trait.VIEW, Trait.UNARY, Trait.COMBINES)):
                pending += maker.inputs
        return False


_NORMS = {
    "LayerNormalization": (1, 2), "RMSNormalization": (1,), "SimplifiedLayerNormalization": (1,),
    "GroupNormalization": (1, 2), "com.microsoft::SkipLayerNormalization": (2, 3),
    "com.microsoft::SkipSimplifiedLayerNormalization": (2,),
}  # fmt: skip
"""Operator -> which inputs are its scale and its shift."""
