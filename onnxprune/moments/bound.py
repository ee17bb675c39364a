"""What a bound on memory lets a run take: how many samples at a time."""

from __future__ import annotations

from math import prod

from ..coupling.trace import Trace
from ..data.batches import DataSet, declared_dims, free_batch
from ..model.operators import Trait, traits_of
from ..runtime.session import Arrays

ASIDE = 192 * 2**20
"""Bytes of a bound that fits, statistics and the weights in sessions take of most networks."""

RUNS = 1 / 2
"""Share of the rest that runs may take, of both models at the same time; what is held takes the other."""


def fed(traced: Trace, feeds: Arrays) -> float:
    """How many times as large samples are as those that the shapes of the analysis are of."""
    shown = traced.shapes.shown.shapes
    known = [name for name in feeds if prod(shown.get(name, (0,))) > 0]
    size = sum(prod(shown[name]) for name in known)
    return sum(feeds[name].size for name in known) / size if size else 1.0


def alive(traced: Trace) -> int:
    """Most bytes of computed tensors that wait for their last reader, at the sizes of the analysis.

    What works entry by entry writes where it reads.
    """
    graph, shown = traced.graph, traced.shapes.shown.shapes
    nodes = graph.main.nodes
    last = {name: number for number, node in enumerate(nodes) for name in node.inputs}
    held: dict[str, int] = {}
    now = most = 0
    for number, node in enumerate(nodes):
        gone = [name for name in set(node.inputs) & held.keys() if last[name] == number]
        freed = sum(held.pop(name) for name in gone)
        made = {n: 4 * prod(shown.get(n, ())) for n in node.outputs if n in last and not graph.has_value(n)}
        held |= made
        now += sum(made.values())
        most = max(most, now - (freed if Trait.UNARY in traits_of(node) else 0))
        now -= freed
    return most


def fitting(traced: Trace, data: DataSet, memory: int) -> DataSet:
    """The same samples in batches small enough for runs of two models, where the batch is free."""
    first = next(iter(data), None)
    if first is None or not free_batch(declared_dims(traced.model.proto)):
        return data
    each = 2 * alive(traced) * fed(traced, first.feeds) / max(1, first.size)
    size = max(1, int(RUNS * (memory - ASIDE) / max(1, each)))
    return data.divided(size) if size < first.size else data
