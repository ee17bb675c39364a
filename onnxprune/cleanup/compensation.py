"""Changes of stored numbers that let a channel go without a trace.

A constant contribution moves into the bias of the layer that reads it; the columns of an equal
channel are added to those of its twin. Shapes stay as they are, so an edited model has the groups
of the original, and the rewriter slices it as any other.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import onnx

from ..coupling.trace import Trace
from ..labels.vector import Floats
from ..model.file import Model
from ..model.names import Names
from ..model.node import Node
from ..model.protos import node_protos, refill, skeleton, stored
from ..surgery.insertions import Insertions
from .dead import Dead
from .duplicates import count_uses
from .values import Mix
from .values.bounds import constants, wide


def edit(traced: Trace, dead: Dead, removed: npt.NDArray[np.int64]) -> Model:
    """Make the contributions of removed units part of what stays.

    Parameters
    ----------
    removed : int array
        Units that will be removed.

    Returns
    -------
    Model
        The model itself where there is nothing to move.
    """
    biases = moved_constants(traced, dead, removed)
    columns = merged_columns(traced, dead, removed)
    if not biases and not columns:
        return traced.model
    editor = _Editor(traced)
    for (name, axis), pairs in columns.items():
        editor.add_columns(name, axis, pairs)
    for index, delta in biases.items():
        editor.add_bias(traced.graph.nodes[index], delta)
    return editor.build()


def moved_constants(traced: Trace, dead: Dead, removed: npt.NDArray[np.int64]) -> dict[int, Floats]:
    """Node -> what the removed constants add to each of its outputs."""
    unit = traced.components.unit
    lost = np.zeros(int(unit.max()) + 1, np.bool_)
    lost[removed] = True
    lost[list(dead.twins)] = False  # their twins do their work
    deltas: dict[int, Floats] = {}
    for mix in dead.values.mixes:
        gone = lost[unit[mix.labels]] & mix.movable
        if mix.kernel is not None and gone.any():
            delta = _contribution(mix, gone)
            if delta.any():
                deltas[mix.node.index] = deltas.get(mix.node.index, 0) + delta
    return deltas


def _contribution(mix: Mix, gone: npt.NDArray[np.bool_]) -> Floats:
    assert mix.kernel is not None
    groups, outputs, inputs, _ = mix.kernel.shape
    value = np.where(gone, constants(wide(mix.values, len(mix.labels))), 0.0).reshape(groups, inputs)
    delta = np.zeros((groups, outputs))
    for g in range(groups):
        heard = np.flatnonzero(value[g])
        delta[g] = mix.kernel[g][:, heard].astype(np.float64).sum(axis=2) @ value[g, heard]
    return delta.reshape(-1)


def merged_columns(
    traced: Trace, dead: Dead, removed: npt.NDArray[np.int64]
) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """(Weight, axis) -> pairs of columns: the one that goes, and the one that it is added to."""
    wanted = set(removed.tolist())
    twins = {u: kept for u, kept in dead.twins.items() if u in wanted}
    order = {u: number for number, u in enumerate(twins)}
    columns: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for mix in dead.values.mixes:
        if mix.stored is None or mix.stored in columns or not twins:
            continue
        places: dict[int, list[int]] = defaultdict(list)
        for position, u in enumerate(traced.components.unit[mix.labels].tolist()):
            places[u].append(position)
        pairs = [
            pair
            for u in sorted(twins.keys() & places.keys(), key=order.__getitem__)
            for pair in zip(places[u], places[twins[u]], strict=True)
        ]
        if pairs:
            columns[mix.stored] = pairs
    return columns


class _Editor:
    """A copy of a model in which some stored tensors have new values."""

    def __init__(self, traced: Trace) -> None:
        self.graph = traced.graph
        self.source = traced.model
        self.proto = skeleton(traced.model.proto)
        self.protos = list(node_protos(self.proto.graph))
        self.arrays: dict[str, np.ndarray] = {}
        self.uses = count_uses(self.graph)
        self.names = Names(self.graph.taken)
        self.insertions = Insertions(self.protos, self.names, traced.shapes.first.dtypes)

    def build(self) -> Model:
        """The edited model."""
        for tensor in self.source.proto.graph.initializer:
            array = self.arrays.get(tensor.name)
            if array is None:
                self.proto.graph.initializer.append(tensor)
            else:
                refill(self.proto.graph.initializer.add(), tensor, array)
        for proto in self.protos:
            if proto.op_type == "Constant" and proto.output[0] in self.arrays:
                value = stored(self.arrays[proto.output[0]], proto.output[0])
                del proto.attribute[:]
                proto.attribute.append(onnx.helper.make_attribute("value", value))
        self.insertions.into(self.proto)
        return self.source.derived(self.proto)

    def add_columns(self, name: str, axis: int, pairs: list[tuple[int, int]]) -> None:
        """Add slices of a stored tensor to others."""
        root = self.graph.constants[name].name
        array = np.array(self.arrays.get(root, self.graph.value(name)))
        columns = np.moveaxis(array, axis, 0)
        for gone, kept in pairs:
            columns[kept] += columns[gone]
        self.arrays[root] = array

    def add_bias(self, node: Node, delta: Floats) -> None:
        """Add to the outputs of a layer."""
        if node.op == "MatMul":
            self._add_behind(node, delta)
            return
        name = node.take(3)[2]
        if name:
            self._replace(node, 2, delta / node.attr("beta", 1.0))
        else:
            dtype = self.graph.value(node.inputs[1]).dtype
            proto = self.protos[node.index]
            proto.input.extend([""] * (3 - len(proto.input)))
            proto.input[2] = self._new(f"{node.name}.bias", delta.astype(dtype))

    def _replace(self, node: Node, slot: int, delta: Floats) -> None:
        """Add to a stored input, in its place where nothing else reads it."""
        name = node.inputs[slot]
        root = self.graph.constants[name].name
        old = self.graph.value(name)
        value = (old.astype(np.float64) + delta).astype(old.dtype)
        if self.uses[root] == 1:
            self.arrays[root] = value
        else:
            self.protos[node.index].input[slot] = self._new(f"{root}_{node.name}", value)

    def _add_behind(self, node: Node, delta: Floats) -> None:
        """Add to the vector of the Add that follows, or put one there."""
        readers = self.graph.consumers.get(node.output, [])
        for slot in (0, 1):
            if len(readers) == 1 and readers[0].op == "Add" and node.output not in self.graph.main.outputs:
                vector = self.graph.constants.get(readers[0].inputs[slot])
                if vector is not None and vector.shape[-1:] == delta.shape == (vector.size,):
                    self._replace(readers[0], slot, delta)
                    return
        product, old = self.insertions.renamed(node, 0, "product")
        constant = self._new(f"{old}_constant", delta.astype(self.graph.value(node.inputs[1]).dtype))
        title = self.names.fresh(f"{node.name}_constant")
        added = onnx.helper.make_node("Add", [product, constant], [old], title)
        self.insertions.behind(node.index, added)

    def _new(self, base: str, value: np.ndarray) -> str:
        name = self.names.fresh(base)
        self.insertions.store(name, value)
        return name
