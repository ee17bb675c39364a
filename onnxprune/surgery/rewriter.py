"""From kept channels to the slim model: a copy of the file's own structures is edited.

Weights are sliced, attributes and shape inputs are mended by the rules' fixes from one view of the
sizes, and everything else is left as it stands. What comes of it is checked in ``selfcheck.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import external_data_helper

from ..coupling.trace import Trace
from ..labels.pen import Pen
from ..labels.sizes import Sizes
from ..model.cut import Cut, compose, kept_dims
from ..model.file import Model
from ..model.graph import Graph
from ..model.names import Names
from ..model.node import Node
from ..model.protos import UNLISTED, bodies, copied, node_protos, refill, skeleton, stored
from ..shapes.dimensions import graph_inputs
from .computed import find_computed
from .declared import update_declared
from .insertions import Insertions
from .slices import Slice, find_slices
from .unused import drop_unused


class Rewriter:
    """One rewriting: a copy of the model under edit."""

    def __init__(self, traced: Trace, sizes: Sizes) -> None:
        self.graph: Graph = traced.graph
        self.shapes = traced.shapes
        self.sizes = sizes
        self.source = traced.model
        self.proto = skeleton(traced.model.proto)
        self.protos = list(node_protos(self.proto.graph))
        self.slices = find_slices(traced.graph, sizes)
        self.computed = find_computed(traced)
        self.names = Names(traced.graph.taken, (part.name for part in self.slices))
        self.insertions = Insertions(self.protos, self.names, traced.shapes.first.dtypes)
        self.cuts: dict[str, Cut] = {}
        self._walk = traced.walk
        self._orphans: list[str] = []

    def run(self, pen: Callable[[Rewriter, Node], Pen]) -> Model:
        """Apply everything and return the slim model."""
        self._slice_constants()
        for node, fix in self._walk.facts.fixes:
            if any(self.sizes.cut(name) for name in (*node.inputs, *node.outputs)):
                fix(pen(self, node))
        self.insertions.into(self.proto)
        if self._orphans:
            drop_unused(self.proto.graph, self._orphans)
        self._unlist()
        dims = {t.name: kept_dims(t, self.cuts.get(t.name)) for t in self.proto.graph.initializer}
        update_declared(self.proto.graph, self.sizes, self._walk.sequences, dims)
        return self.source.derived(self.proto, self.cuts)

    def _slice_constants(self) -> None:
        """Slice what is stored, use by use, and store what is computed from it."""
        kept: dict[str, Slice] = {}
        for part in self.slices:
            if part.root in self.graph.folded:
                self._follow_computed(part)
                continue
            if part.name == part.root:
                kept[part.root] = part
            else:
                self.insertions.store(part.name, part.take(self.graph.value(part.root)))
            for index, slot in part.uses:
                self._read(index, slot, part.name)
        for tensor in self.source.proto.graph.initializer:
            self._copy(tensor, kept.get(tensor.name), self.proto.graph.initializer.add())
        for node, proto in zip(self.graph.nodes, self.protos, strict=True):
            if node.bodies or node.op == "Constant":
                self._slice_in_node(proto, kept)

    def _read(self, index: int, slot: int, name: str) -> None:
        """Let an input of a node read another tensor."""
        old = self.protos[index].input[slot]
        if old != name:
            self.protos[index].input[slot] = name
            self._orphans.append(old)

    def _copy(self, tensor: onnx.TensorProto, part: Slice | None, slim: onnx.TensorProto) -> None:
        """Copy what is kept of a stored tensor to an empty one that has its place by now.

        (A tensor that is made first and then put into its place is copied once more.)
        """
        external = external_data_helper.uses_external_data(tensor)
        before = self.source.cuts.get(tensor.name)
        if part is None or part.whole:
            slim.CopyFrom(tensor)
            if before is not None:
                self.cuts[tensor.name] = before
            return
        cut = compose(before or (), part.cut) if external else None
        if cut is not None:
            slim.CopyFrom(tensor)
            self.cuts[tensor.name] = cut
            return
        refill(slim, tensor, part.take(self.source.array(tensor)))

    def _slice_in_node(self, proto: onnx.NodeProto, kept: Mapping[str, Slice]) -> None:
        """Slice the payload of a Constant node, and initializers of nested graphs."""
        for _, body in bodies(proto):
            for tensor in body.initializer:
                whole = copied(tensor)
                tensor.Clear()
                self._copy(whole, kept.get(whole.name), tensor)
        part = kept.get(proto.output[0]) if proto.op_type == "Constant" else None
        if part is None or part.whole:
            return
        array = part.take(self.graph.value(part.root))
        label = proto.attribute[0].t.name
        del proto.attribute[:]
        proto.attribute.append(onnx.helper.make_attribute("value", stored(array, label)))

    def _follow_computed(self, part: Slice) -> None:
        """Store what is left of a computed constant, or take it from what the model computes."""
        if self._replaces(part):
            self._store_computed(part)
        else:
            self._gather_computed(part)

    def _replaces(self, part: Slice) -> bool:
        """Whether a computed constant is stored."""
        found = self.computed.get(part.root)
        ragged = any(index is not None and index.ndim > 1 for index in part.cut)
        return found is None or found.replaces or ragged

    def _gather_computed(self, part: Slice) -> None:
        """Leave out what is removed of a computed constant behind the node that computes it."""
        node = self.graph.producers[part.root]
        for axis, index in enumerate(part.cut):
            if index is not None:
                self.insertions.gather_behind(node, axis, index, node.outputs.index(part.root))

    def _store_computed(self, part: Slice) -> None:
        """Store a computed constant under its name; the node that computed it becomes dead.

        A graph may not return a tensor from outside, so there a Constant node makes it.
        """
        name, value = part.name, part.take(self.graph.value(part.root))
        index = self.graph.producers[part.root].index
        if name in self.graph.returned:
            self.insertions.made_behind(index, name, value)
        else:
            self.insertions.store(name, value)
        proto = self.protos[index]
        position = list(proto.output).index(part.root)
        proto.output[position] = self.names.fresh(f"{part.root}_unused")
        self._orphans.append(proto.output[position])

    def replace_input(self, node: Node, slot: int, value: np.ndarray) -> None:
        """Point an input of a node to a new constant."""
        proto = self.protos[node.index]
        while len(proto.input) <= slot:
            proto.input.append("")
        old = proto.input[slot]
        proto.input[slot] = self.insertions.constant(old or f"{node.name}_{slot}", value)
        if old:
            self._orphans.append(old)

    def omit_input(self, node: Node, slot: int) -> None:
        """Leave out an optional input of a node."""
        proto = self.protos[node.index]
        self._orphans.append(proto.input[slot])
        proto.input[slot] = ""

    def _unlist(self) -> None:
        """Take stored tensors off the inputs, where they need not be.

        Whoever calls the model may replace one that is listed, so that onnxruntime neither fuses nor lays
        out what reads it. Where some are cut, all are constants: others would have other channels to go.
        """
        if self.slices and self.proto.ir_version >= UNLISTED:
            inputs = graph_inputs(self.proto)
            if len(inputs) < len(self.proto.graph.input):
                del self.proto.graph.input[:]
                self.proto.graph.input.extend(inputs)
