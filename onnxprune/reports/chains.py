"""The way from a layer that cannot shrink to what pins it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from functools import cached_property

from ..coupling.groups import Group
from ..coupling.incidence import ByUnit, Carriers
from ..coupling.trace import Trace
from ..model.node import Node


class Chains:
    """Chains of nodes through one model; what is looked up is found once for all groups."""

    def __init__(self, traced: Trace) -> None:
        self._traced = traced
        self._unit = traced.components.unit

    @cached_property
    def _touched(self) -> list[list[str]]:
        """Tensors that each node makes, reads or captures."""
        graph = self._traced.graph
        return [[*n.outputs, *graph.reads(n)] for n in graph.nodes]

    @cached_property
    def _touching(self) -> dict[str, list[Node]]:
        """Nodes that make, read or capture each tensor, in their order."""
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self._traced.graph.nodes:
            for name in dict.fromkeys(self._touched[node.index]):
                found[name].append(node)
        return found

    @cached_property
    def _carriers(self) -> Carriers:
        return Carriers(self._traced.walk.axes, self._unit)

    @cached_property
    def _pins(self) -> ByUnit:
        return ByUnit([pin.labels for pin in self._traced.walk.facts.pins], self._unit)

    @cached_property
    def _factors(self) -> ByUnit:
        """Rows and columns of all products, in turns."""
        products = self._traced.walk.facts.products
        return ByUnit([v for p in products for v in (p.rows, p.columns)], self._unit)

    @cached_property
    def _outputs(self) -> set[str]:
        return set(self._traced.graph.main.outputs)

    def of(self, group: Group, start: Node) -> list[str]:
        """Shortest way along the tensors that carry a blocked channel, to what blocks it."""
        channel = int(group.units[0])
        carriers = self._carriers.of(channel)
        goals, outputs = self._goals(group, channel, carriers)
        previous: dict[int, Node | None] = {start.index: None}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            touched = self._touched[node.index]
            ends = sorted(outputs.intersection(touched))
            if ends or node.index in goals:
                path = list(_back(node, previous))[::-1]
                return [*map(str, path), *(f"graph output '{name}'" for name in ends[:1])]
            for name in (n for n in touched if n in carriers):
                for other in self._touching[name]:
                    if other.index not in previous:
                        previous[other.index] = node
                        queue.append(other)
        return [str(start)]

    def _goals(self, group: Group, channel: int, carriers: set[str]) -> tuple[set[int], set[str]]:
        """Nodes, and graph outputs, that hold a channel for the reason that its group gives."""
        facts = self._traced.walk.facts
        touching = [facts.pins[k] for k in self._pins.of(channel)]
        pins = [pin for pin in touching if pin.reason == group.reason]
        nodes = {pin.node for pin in pins if pin.node >= 0}
        outputs: set[str] = set()
        if any(pin.node < 0 for pin in pins):
            outputs = carriers & self._outputs
        if not pins:  # the held factor of a product
            nodes = {facts.products[k // 2].node for k in self._factors.of(channel)}
        return nodes, outputs


def _back(node: Node | None, previous: dict[int, Node | None]) -> Iterator[Node]:
    while node is not None:
        yield node
        node = previous[node.index]
