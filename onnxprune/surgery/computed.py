"""Constants that the network computes for itself, and what is stored for them alone.

One that shrinks is stored in place of what it is computed from, unless that would make the file
larger (an Expand of a row, integers of which only the network makes floats): then it is computed as
before, and what is removed is left out behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..coupling.trace import Trace
from ..labels.vector import carried
from ..model.cut import payload
from ..model.graph import Graph
from ..model.node import Constant

OTHERS = ""
"""What leads to several computed constants, or to anything else."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A computed constant with axes of channels.

    Attributes
    ----------
    dtype : int
    size : int
        Number of elements.
    roots : tuple of Constant
        What is stored for it alone.
    """

    name: str
    dtype: int
    size: int
    roots: tuple[Constant, ...]

    @property
    def replaces(self) -> bool:
        """Whether it takes the place of its roots once it shrinks."""
        return payload(self.dtype, self.size) <= sum(payload(c.dtype, c.size) for c in self.roots)


def find_computed(traced: Trace) -> dict[str, Computed]:
    """Computed constants that may shrink, by name."""
    graph, axes, shapes = traced.graph, traced.walk.axes, traced.shapes
    names = [n for n in graph.folded if any(map(carried, axes.get(n, ())))]
    if not names:
        return {}
    roots: dict[str, list[Constant]] = {name: [] for name in names}
    for constant, name in _for_one(graph, set(roots)):
        roots[name].append(constant)
    sizes, dtypes = traced.sizes(), shapes.shown.dtypes
    return {n: Computed(n, dtypes[n], sizes.numel(n), tuple(found)) for n, found in roots.items()}


def _for_one(graph: Graph, names: set[str]) -> Iterator[tuple[Constant, str]]:
    """Stored tensors that lead to one of some computed constants, and nowhere else."""
    leads: dict[str, str] = dict.fromkeys(graph.returned, OTHERS)
    for node in reversed(graph.nodes):
        if graph.passed_through(node):
            continue  # its readers read the constant itself
        made = {name if name in names else leads.get(name) for name in node.outputs if name}
        made.discard(None)
        only = made.pop() if len(made) == 1 and node.output in graph.derived else None
        goal = only or OTHERS
        for name in graph.reads(node):
            stored = graph.constants.get(name)
            source = stored.name if stored is not None else name
            leads[source] = goal if leads.get(source, goal) == goal else OTHERS
    for constant in {c.name: c for c in graph.constants.values()}.values():
        goal = leads.get(constant.name, OTHERS)
        if goal:
            yield constant, goal


def origin(graph: Graph, name: str) -> list[str]:
    """Stored tensors that a computed constant is computed from."""
    found: dict[str, None] = {}
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        if current in graph.constants:
            found[graph.constants[current].name] = None
            continue
        new = [n for n in graph.derived[current].inputs if n and n not in seen]
        seen.update(new)
        pending += new
    return sorted(found)
