"""Who reads the channels of a group, and what one removed channel takes away from them.

A node *consumes* channels where they end: it sums over them with a stored weight (a convolution, a
matrix product), or what it returns does not carry them any more. It *passes them on* where an
output carries them as an input does: depthwise convolutions, activations, normalizations, reshapes,
joins and splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..coupling.groups import Group
from ..coupling.incidence import Carriers
from ..coupling.trace import Trace
from ..errors import ModelError
from ..labels.vector import Ints, carried, distinct
from ..model.node import Node
from ..model.operators import Trait, traits_of
from ..printable import plural
from .linear import Linear, linear_of


@dataclass(frozen=True, eq=False)
class Consumer:
    """A node in which channels of a group end.

    Attributes
    ----------
    tensor, axis : str, int
        What it reads, and where the channels lie in it.
    offset : int
        First entry of that axis that belongs to the group.
    entries : int
        Entries of that axis that belong to the group.
    weight : str
        The stored operand that it sums them with; ``""`` where there is none.
    taken : int
        Numbers of the weight that go with one channel.
    layer : Linear or None
        The same node as a linear layer, where it is one whose moments can be collected.
    columns : int array, shape (groups, width)
        Position in the group of the channel that every column of the layer's matrix reads, -1 for
        columns of others.
    problem : str
        Why moments of what it reads cannot be collected; empty where they can.
    """

    node: Node
    tensor: str
    axis: int
    offset: int
    entries: int
    weight: str = ""
    taken: int = 0
    layer: Linear | None = None
    columns: Ints | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "node": self.node.name,
            "op": self.node.kind,
            "tensor": self.tensor,
            "axis": self.axis,
            "offset": self.offset,
            "entries": self.entries,
            "weight": self.weight,
            "taken": self.taken,
            "problem": self.problem,
        }

    def __str__(self) -> str:
        last = self.offset + self.entries - 1
        weight = f"; a channel takes {plural(self.taken, 'number')}" if self.weight else ""
        return f"{self.node} (axis {self.axis}, {self.offset} to {last}){weight}"


@dataclass(frozen=True, eq=False)
class Readers:
    """What becomes of the channels of a group.

    Attributes
    ----------
    consumers : tuple of Consumer
    passes : tuple of Node
        Nodes that pass them on.
    """

    group: Group
    consumers: tuple[Consumer, ...]
    passes: tuple[Node, ...]

    @property
    def layers(self) -> list[Consumer]:
        """Consumers whose moments can be collected."""
        return [c for c in self.consumers if c.layer is not None]

    def __str__(self) -> str:
        counts = Counter(node.kind for node in self.passes)
        carriers = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        ends = [f"read by {consumer}" for consumer in self.consumers]
        return "\n".join([*ends, *([f"passed on by {carriers}"] if carriers else [])])

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {"consumers": [c.to_dict() for c in self.consumers], "passes": [n.name for n in self.passes]}


class Places:
    """Where labels stand in a group.

    Parameters
    ----------
    unit : int array, shape (labels,)
        Unit of each label.
    group : Group
    """

    def __init__(self, unit: Ints, group: Group) -> None:
        self._unit = unit
        self._order = np.argsort(group.units)
        self._units = group.units[self._order]

    def __getitem__(self, labels: Ints) -> Ints:
        """Position in the group of some labels, -1 for those of others."""
        mine = self._unit[labels]
        found = np.searchsorted(self._units, mine).clip(max=len(self._units) - 1)
        return np.where(self._units[found] == mine, self._order[found], -1)


class Reading:
    """Readers of every group of a traced model.

    Parameters
    ----------
    traced : Trace
    """

    def __init__(self, traced: Trace) -> None:
        self.traced = traced
        self._carriers: dict[int, Carriers] = {}
        self.problems: dict[str, str] = {}
        """Node -> why it cannot be taken as a linear layer, where it looks like one."""

    @cached_property
    def layers(self) -> dict[int, Linear]:
        """Node index -> linear layer."""
        found: dict[int, Linear] = {}
        for node in self.traced.graph.main.nodes:
            try:
                layer = linear_of(self.traced.graph, node)
            except ModelError as error:
                self.problems[node.name] = error.message
                continue
            if layer is not None:
                found[node.index] = layer
        return found

    def of(self, group: Group) -> Readers:
        """Readers of one group."""
        places = Places(self.traced.owners(group), group)
        consumers, passes = [], []
        for node in self._touching(group):
            read = [name for name in dict.fromkeys(node.inputs) if self._carried(name, places)]
            if not read or Trait.READS_SIZES in traits_of(node):
                continue
            contracting = [c for name in read for c in self._contracted(node, name, places)]
            onward = any(self._carried(name, places) for name in node.outputs if name)
            if contracting:
                consumers += contracting
            elif onward:
                passes.append(node)
            else:
                consumers += [self._end(node, name, places) for name in read]
        return Readers(group, tuple(consumers), tuple(passes))

    def _touching(self, group: Group) -> list[Node]:
        """Nodes of the main graph that read something with a channel of a group, in their order."""
        consumers, owners = self.traced.graph.consumers, self.traced.owners(group)
        if id(owners) not in self._carriers:
            self._carriers[id(owners)] = Carriers(self.traced.walk.axes, owners)
        names = self._carriers[id(owners)].of(int(group.units[0]))  # the others stand where it does
        found = {n.index: n for name in names for n in consumers.get(name, ()) if n.outermost}
        return [found[index] for index in sorted(found)]

    def _carried(self, name: str, places: Places) -> list[int]:
        """Axes of a computed tensor that carry channels of the group."""
        graph = self.traced.graph
        if not name or graph.has_value(name):
            return []
        axes = self.traced.walk.axes.get(name, ())
        return [k for k, labels in enumerate(axes) if carried(labels) and (places[labels] >= 0).any()]

    def _contracted(self, node: Node, name: str, places: Places) -> Iterator[Consumer]:
        """The node as one that sums over channels with a stored weight."""
        layer = self.layers.get(node.index)
        if layer is None or name != layer.source:
            return
        axes = self.traced.walk.axes[name]
        axis = layer.contracted % len(axes)
        labels = axes[axis]
        if axis not in self._carried(name, places) or labels is None:
            return
        groups, rows, width = layer.shape(self.traced.graph)
        if groups * width % len(labels):
            return  # the model contradicts itself
        columns = places[layer.column_labels(self.traced.graph, labels)]
        alone = (columns == columns[:, :1]).all()
        if layer.groups > 1 and alone and self._carried(node.output, places):
            return  # every block reads one channel, and makes outputs of that channel alone
        mine = np.flatnonzero(places[labels] >= 0)
        taken = int((columns >= 0).sum()) * rows
        taken //= max(1, len(distinct(columns[columns >= 0])))
        yield Consumer(node, name, axis, int(mine[0]), len(mine), layer.weight, taken, layer, columns)

    def _end(self, node: Node, name: str, places: Places) -> Consumer:
        """The node as one whose outputs do not carry the channels."""
        axis = self._carried(name, places)[0]
        labels = self.traced.walk.axes[name][axis]
        assert labels is not None
        mine = np.flatnonzero(places[labels] >= 0)
        weight, taken = self._stored(node, places)
        problem = self.problems.get(node.name) or (f"{node} has no weight in matrix form" if weight else "")
        return Consumer(node, name, axis, int(mine[0]), len(mine), weight, taken, problem=problem)

    def _stored(self, node: Node, places: Places) -> tuple[str, int]:
        """The largest stored operand that carries the channels, and what one of them takes of it."""
        graph, best, taken = self.traced.graph, "", 0
        for name in node.inputs:
            shape = self.traced.shapes.get(name) if name else None
            if not name or shape is None or not graph.has_value(name):
                continue
            for axis, labels in enumerate(self.traced.walk.axes.get(name, ())):
                if not carried(labels):
                    continue
                mine = places[labels][places[labels] >= 0]
                if len(mine):
                    each = int(np.prod(shape)) // shape[axis] * len(mine) // len(distinct(mine))
                    if each > taken:
                        best, taken = name, each
        return best, taken
