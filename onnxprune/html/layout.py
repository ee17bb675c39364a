"""Where boxes and arrows are drawn: layers from above to below, with networkx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx

Edge = tuple[int, int]

Point = tuple[float, float]

SWEEPS = 4
"""How often every layer is put in order, by turns downwards and upwards."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Positions, in columns to the right and layers down.

    Attributes
    ----------
    boxes : tuple of Point
        Of every box.
    arrows : tuple
        Points of every edge, from box to box, one in every layer on the way.
    width, height : int
        Columns and layers.
    """

    boxes: tuple[Point, ...]
    arrows: tuple[tuple[Point, ...], ...]
    width: int
    height: int


def draw(count: int, edges: Sequence[Edge]) -> Drawing:
    """Layers of a graph without circles (Sugiyama, Tagawa and Toda, 1981).

    A box lies one layer below the lowest that it reads; an edge over several layers passes a place of its
    own in each; inside a layer everything stands near the mean of its neighbours.
    """
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(edges)
    layer = {box: k for k, boxes in enumerate(nx.topological_generations(graph)) for box in boxes}
    paths = [_steps(one, other, layer, graph) for one, other in edges]
    rows: dict[int, list[object]] = {}
    for node, number in layer.items():
        rows.setdefault(number, []).append(node)
    layers = [rows[k] for k in sorted(rows)]
    _order(layers, graph)
    widest = max(map(len, layers), default=0)
    places = {
        node: (k + (widest - len(row)) / 2, float(number))
        for number, row in enumerate(layers)
        for k, node in enumerate(row)
    }
    return Drawing(
        tuple(places[box] for box in range(count)),
        tuple(tuple(places[node] for node in path) for path in paths),
        widest,
        len(layers),
    )


def _steps(one: int, other: int, layer: dict[object, int], graph: nx.DiGraph[Any]) -> list[object]:
    """Nodes of an edge's path; those between its ends are new, one a layer."""
    between: list[object] = [(one, other, k) for k in range(layer[one] + 1, layer[other])]
    for number, node in enumerate(between, layer[one] + 1):
        layer[node] = number
    path = [one, *between, other]
    if between:
        graph.remove_edge(one, other)
        nx.add_path(graph, path)
    return path


def _order(layers: list[list[object]], graph: nx.DiGraph[Any]) -> None:
    """Sort every layer by the mean place of what its nodes read, or are read by."""
    for sweep in range(SWEEPS):
        near = graph.pred if sweep % 2 == 0 else graph.succ
        place = {node: k - len(row) / 2 for row in layers for k, node in enumerate(row)}
        for row in layers if sweep % 2 == 0 else reversed(layers):
            row.sort(key=lambda node: _mean([place[other] for other in near[node]], place[node]))
            place |= {node: k - len(row) / 2 for k, node in enumerate(row)}


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise
