"""Topological order of nodes.

The specification asks for it and the ONNX checker insists. onnxruntime sorts what it loads, so
converters get away without: the float16 converter of onnxruntime puts the casts of inputs last.
"""

from __future__ import annotations

import heapq
from graphlib import CycleError, TopologicalSorter

import onnx

from .protos import graphs, reads


def sort_nodes(proto: onnx.ModelProto) -> bool:
    """Put the nodes of every graph behind those that they read, otherwise in the order they have.

    Returns
    -------
    bool
        Whether anything moved. A graph with a cycle is left as it is.
    """
    moved = False
    for graph in [*graphs(proto.graph)][::-1]:  # nested ones first: a node that moves is copied
        order = _order(graph)
        if order != sorted(order):
            nodes = [onnx.NodeProto() for _ in order]
            for copy, k in zip(nodes, order, strict=True):
                copy.CopyFrom(graph.node[k])
            del graph.node[:]
            graph.node.extend(nodes)
            moved = True
    return moved


def _order(graph: onnx.GraphProto) -> list[int]:
    """Positions of the nodes, of those that are possible next the first in the file."""
    producer = {name: k for k, node in enumerate(graph.node) for name in node.output if name}
    sorter = TopologicalSorter(
        {k: {producer[n] for n in reads(node) if n in producer} for k, node in enumerate(graph.node)}
    )
    try:
        sorter.prepare()
    except CycleError:
        return []
    order: list[int] = []
    ready: list[int] = []
    while sorter.is_active():
        for k in sorter.get_ready():
            heapq.heappush(ready, k)
        order.append(heapq.heappop(ready))
        sorter.done(order[-1])
    return order
