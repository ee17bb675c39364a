"""A network as pictures: the whole, and what is inside of every folded block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..coupling.trace import Trace
from ..model.graph import Graph
from ..model.node import Node
from ..printable import plural, printable
from .coupled import Carried, short
from .folding import Box, fold
from .layout import draw


class Network:
    """The nodes of the main graph that depend on an input, and their pictures.

    Parameters
    ----------
    similarity : mapping
        Name of a node -> cosine of what it computes to what it computed before.

    Attributes
    ----------
    nodes : list of Node
    left_out : int
        Nodes that compute constants: they are not drawn.
    """

    def __init__(self, traced: Trace, similarity: Mapping[str, float] | None = None) -> None:
        graph = traced.graph
        every = graph.main.nodes
        constant = graph.derived.keys() | graph.constants.keys()
        self.nodes = [n for n in every if not constant.issuperset(filter(None, n.outputs))]
        self.left_out = len(every) - len(self.nodes)
        self._carried = Carried(traced)
        self._similarity = similarity or {}
        self._edges = np.array([*_edges(graph, self.nodes)], np.int64).reshape(-1, 2)
        self._levels: list[dict[str, Any]] = []
        self._drawings: dict[object, int] = {}
        self._drawn: list[dict[str, Any]] = []

    def to_dict(self) -> dict[str, Any]:
        """As the page's script takes it.

        ``nodes`` holds operator, name, numbers of groups and cosine; ``levels`` what is seen of which
        nodes, ``drawings`` where, which equal blocks share.
        """
        if not self._levels:
            self._level(fold([node.kind for node in self.nodes]), plural(len(self.nodes), "node"), -1)
        nodes = [
            [printable(n.kind), printable(n.name), self._carried.by(n), self._cosine(n)] for n in self.nodes
        ]
        return {"nodes": nodes, "levels": self._levels, "drawings": self._drawn}

    def _cosine(self, node: Node) -> float | None:
        found = self._similarity.get(node.name)
        return None if found is None else short(found)

    def _level(self, boxes: Sequence[Box], title: str, above: int) -> int:
        """Number of a new level, with those inside of its boxes."""
        number = len(self._levels)
        start = boxes[0].start if boxes else 0
        level: dict[str, Any] = {"title": title, "above": above, "start": start, "inside": []}
        self._levels.append(level)
        level["drawing"] = self._drawing(boxes, start)
        for box in boxes:
            level["inside"].append(self._level(box.inside, named(box), number) if box.inside else -1)
        return number

    def _drawing(self, boxes: Sequence[Box], start: int) -> int:
        """Number of the picture of some boxes; equal ones have one."""
        edges = self._between(boxes)
        sizes = [(box.start - start, len(box), box.number, box.copies) for box in boxes]
        key = tuple(sizes), tuple(edges)
        if key not in self._drawings:
            drawn = draw(len(boxes), edges)
            self._drawings[key] = len(self._drawn)
            self._drawn.append(
                {
                    "columns": drawn.width,
                    "layers": drawn.height,
                    "boxes": [[*place, *size] for place, size in zip(drawn.boxes, sizes, strict=True)],
                    "arrows": drawn.arrows,
                }
            )
        return self._drawings[key]

    def _between(self, boxes: Sequence[Box]) -> list[tuple[int, int]]:
        """Edges between boxes, each once."""
        if not boxes:
            return []
        first, last = boxes[0].start, boxes[-1].stop
        inside = self._edges[((self._edges >= first) & (self._edges < last)).all(axis=1)]
        starts = np.array([box.start for box in boxes])
        ends: npt.NDArray[np.int64] = np.searchsorted(starts, inside, side="right") - 1
        return [(int(one), int(other)) for one, other in np.unique(ends, axis=0) if one != other]


def named(box: Box) -> str:
    """What a box that can be opened is called."""
    if not box.copies:
        first, last = box.inside[0], box.inside[-1]
        if first.number and first.copies == last.copies > 1:
            return f"blocks {first.number} to {last.number} of {first.copies}"
        return f"nodes {box.start + 1:,} to {box.stop:,}"
    if not box.number:
        return f"{plural(box.copies, 'block')} of {plural(len(box) // box.copies, 'node')}"
    return f"block {box.number} of {box.copies}: {plural(len(box), 'node')}"


def _edges(graph: Graph, nodes: Sequence[Node]) -> Iterator[tuple[int, int]]:
    """Pairs of places: who makes a tensor, who reads it."""
    maker = {name: place for place, node in enumerate(nodes) for name in node.outputs if name}
    for place, node in enumerate(nodes):
        read = dict.fromkeys(graph.reads(node))
        yield from ((maker[name], place) for name in read if name in maker)
