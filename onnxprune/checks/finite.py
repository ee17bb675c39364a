"""Stored numbers that are not finite: they make of a zero a NaN, so that nothing can be masked."""

from __future__ import annotations

import numpy as np

from ..cores import spread
from ..model.graph import Graph
from ..shapes.inference import FLOATS


def not_finite(graph: Graph) -> list[str]:
    """Stored tensors of more than one number that hold NaN or infinity, by their names in the file."""
    stored = {c.name: c for c in graph.constants.values() if c.dtype in FLOATS and c.size > 1}
    return [name for name in stored if not _finite(graph.value(name))]


def _finite(array: np.ndarray) -> bool:
    """Whether all numbers are; in 64 bits no sum of finite ones is infinite."""
    numbers = np.asarray(array).reshape(-1)
    with np.errstate(invalid="ignore"):
        sums = spread(lambda blocks: sum(numbers[b].sum(dtype=np.float64) for b in blocks), numbers.size, 1)
    return bool(np.isfinite(sums).all())


def reached(graph: Graph) -> set[str]:
    """Names, in the view, of those tensors, and of constants that come from them."""
    roots = set(not_finite(graph))
    names = {name for name, constant in graph.constants.items() if constant.name in roots}
    for node in graph.nodes if names else ():
        if not names.isdisjoint(node.inputs):
            names.update(graph.derived.keys() & node.outputs)
    return names
