"""Equal parts of a tensor, which the code of a module divides by their number: ``x.chunk(2, 1)``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from ..labels.vector import Ints, carried
from ..labels.walk import Walk
from ..model.graph import Graph
from ..model.node import Node
from ..model.operators import Trait, traits_of


def equal_parts(graph: Graph, shape: Callable[[str], tuple[int, ...]]) -> Iterator[tuple[Node, list[str]]]:
    """Tensors of one shape that the same operator takes out of one tensor, and the first such node."""
    found: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.inputs and Trait.COPIES in traits_of(node):
            found[node.inputs[0], node.op].append(node)
    for (source, _), nodes in found.items():
        names = [name for node in nodes for name in node.outputs if name]
        shapes = {shape(name) for name in names}
        if len(names) > 1 and len(shapes) == 1 and prod(shapes.pop()) < prod(shape(source)):
            yield nodes[0], names


def pairs(walk: Walk) -> Iterator[tuple[Ints, Ints, int]]:
    """What lives and dies together, so that equal parts stay equal; parts that overlap are left alone."""
    shapes = walk.shapes.shown.shapes
    for node, names in equal_parts(walk.graph, lambda name: shapes.get(name, ())):
        first, *others = (walk.axes.get(name, ()) for name in names)
        for other in others:
            for a, b in zip(first, other, strict=False):
                if carried(a) and carried(b) and len(a) == len(b) and not np.isin(a, b).any():
                    yield a, b, node.index
