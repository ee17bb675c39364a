"""From a plan to the slim model, in place of nothing: the file's own structures are edited.

Weights are sliced, attributes and shape inputs are mended by the rules' fixes from one view of the
sizes, and everything else is left as it stands. Afterwards weight-less shape inference runs over
the slim model and every shape is compared with the size view: that costs milliseconds, needs no
data and is always done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import external_data_helper

from ..coupling.trace import Trace
from ..labels.pen import Pen
from ..labels.sizes import Sizes
from ..labels.vector import NONE
from ..model.cut import Cut, compose
from ..model.file import Model
from ..model.graph import Graph
from ..model.names import Names
from ..model.node import Node
from ..model.protos import UNLISTED, bodies, fill, graphs, node_protos, skeleton, stored
from ..shapes.dimensions import graph_inputs
from .computed import find_computed
from .slices import Slice, find_slices


class Rewriter:
    """One rewriting: a copy of the model under edit."""

    def __init__(self, traced: Trace, sizes: Sizes) -> None:
        self.graph: Graph = traced.graph
        self.shapes = traced.shapes
        self.sizes = sizes
        self.sequences = traced.walk.sequences
        self.source = traced.model
        self.proto = skeleton(traced.model.proto)
        self.protos = list(node_protos(self.proto.graph))
        self.slices = find_slices(traced.graph, sizes)
        self.computed = find_computed(traced)
        self.names = Names(traced.graph.taken, (part.name for part in self.slices))
        self.cuts: dict[str, Cut] = {}
        self._before: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._after: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._added: list[onnx.TensorProto] = []
        self._orphans: list[str] = []
        self._scaled: dict[tuple[str, tuple[int, ...], tuple[int, ...]], str] = {}

    def run(
        self, fixes: Sequence[tuple[Node, Callable[[Pen], None]]], pen: Callable[[Rewriter, Node], Pen]
    ) -> Model:
        """Apply everything and return the slim model."""
        self._slice_constants()
        for node, fix in fixes:
            if any(self.sizes.cut(name) for name in (*node.inputs, *node.outputs)):
                fix(pen(self, node))
        self._insert()
        self._drop_dead()
        self._unlist()
        self._update_declared_shapes()
        return self.source.derived(self.proto, self.cuts)

    # Constants ----------------------------------------------------------------------------

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
                self._added.append(stored(part.take(self.graph.value(part.root)), part.name))
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
        fill(slim, tensor.name, part.take(self.source.array(tensor)))
        if tensor.HasField("doc_string"):
            slim.doc_string = tensor.doc_string
        slim.metadata_props.extend(tensor.metadata_props)

    def _slice_in_node(self, proto: onnx.NodeProto, kept: Mapping[str, Slice]) -> None:
        """Slice the payload of a Constant node, and initializers of nested graphs."""
        for _, body in bodies(proto):
            for tensor in body.initializer:
                whole = onnx.TensorProto()
                whole.CopyFrom(tensor)
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
                self.gather_after(node, axis, index, node.outputs.index(part.root))

    def _store_computed(self, part: Slice) -> None:
        """Store a computed constant under its name; the node that computed it becomes dead.

        A graph may not return a tensor from outside, so there a Constant node makes it.
        """
        name, value = part.name, part.take(self.graph.value(part.root))
        index = self.graph.producers[part.root].index
        if name in self.graph.returned:
            title = self.names.fresh(f"{name}_pruned")
            made = onnx.helper.make_node("Constant", [], [name], title, value=stored(value, name))
            self._after[index].append(made)
        else:
            self._added.append(stored(value, name))
        proto = self.protos[index]
        position = list(proto.output).index(part.root)
        proto.output[position] = self.names.fresh(f"{part.root}_unused")
        self._orphans.append(proto.output[position])

    def add_constant(self, base: str, value: np.ndarray) -> str:
        """Store a new tensor and return its name."""
        name = self.names.fresh(f"{base}_pruned")
        self._added.append(stored(value, name))
        return name

    def replace_input(self, node: Node, slot: int, value: np.ndarray) -> None:
        """Point an input of a node to a new constant."""
        proto = self.protos[node.index]
        while len(proto.input) <= slot:
            proto.input.append("")
        old = proto.input[slot]
        proto.input[slot] = self.add_constant(old or f"{node.name}_{slot}", value)
        if old:
            self._orphans.append(old)

    def omit_input(self, node: Node, slot: int) -> None:
        """Leave out an optional input of a node."""
        proto = self.protos[node.index]
        self._orphans.append(proto.input[slot])
        proto.input[slot] = ""

    # Inserted nodes -----------------------------------------------------------------------

    def scaled(self, name: str, before: Sequence[int], after: Sequence[int], node: Node) -> str:
        """Insert ``name * after / before`` in front of a node; exact on multiples of ``before``.

        Nodes of the main graph that read the same share it: fixes come in the order of the nodes.
        """
        key = (name, tuple(before), tuple(after))
        if key in self._scaled:
            return self._scaled[key]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.shapes.first.dtypes[name])
        source = name
        for op, factors in _steps(before, after):
            base = f"{name}_{op.lower()}"
            constant = self.add_constant(base, np.array(factors, dtype))
            result = self.names.fresh(f"{base}_pruned")
            self._before[node.index].append(onnx.helper.make_node(op, [source, constant], [result], result))
            source = result
        if node.outermost:
            self._scaled[key] = source
        return source

    def scale_output(self, node: Node, before: Sequence[int], after: Sequence[int]) -> None:
        """Insert ``output * after / before`` behind a node, under the old name of the output."""
        proto = self.protos[node.index]
        old = proto.output[0]
        name = proto.output[0] = self.names.fresh(f"{old}_live")
        steps = _steps(before, after)
        for number, (op, factors) in enumerate(steps):
            base = f"{old}_{op.lower()}"
            result = old if number == len(steps) - 1 else self.names.fresh(f"{base}_pruned")
            value = np.array(factors[0] if node.op == "Size" else factors, np.int64)
            constant = self.add_constant(base, value)
            made = onnx.helper.make_node(op, [name, constant], [result], self.names.fresh(base))
            self._after[node.index].append(made)
            name = result

    def gather_after(self, node: Node, axis: int, index: npt.NDArray[np.int64], output: int = 0) -> None:
        """Insert a Gather along one axis behind a node, under the old name of its output."""
        proto = self.protos[node.index]
        old = proto.output[output]
        proto.output[output] = self.names.fresh(f"{old}_whole")
        constant = self.add_constant(f"{old}_index", index)
        self._after[node.index].insert(
            0,
            onnx.helper.make_node(
                "Gather",
                [proto.output[output], constant],
                [old],
                self.names.fresh(f"{old}_gather"),
                axis=axis,
            ),
        )

    def _insert(self) -> None:
        """Put new nodes into their graphs and new constants into the main one."""
        self.proto.graph.initializer.extend(self._added)
        if self.proto.ir_version < UNLISTED:  # then every initializer is listed as an input
            self.proto.graph.input.extend(
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in self._added
            )
        if self._before or self._after:
            self._insert_into(self.proto.graph, iter(range(len(self.protos))))

    def _insert_into(self, graph: onnx.GraphProto, numbers: Iterator[int]) -> None:
        ordered = []
        for proto in graph.node:
            for _, body in bodies(proto):
                self._insert_into(body, numbers)
            index = next(numbers)
            for new in (*self._before[index], proto, *self._after[index]):
                copy = onnx.NodeProto()
                copy.CopyFrom(new)
                ordered.append(copy)
        if len(ordered) != len(graph.node):
            del graph.node[:]
            graph.node.extend(ordered)

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

    def _drop_dead(self) -> None:
        """Remove nodes and constants that only fed what was replaced, and nothing else."""
        if not self._orphans:
            return
        found = list(graphs(self.proto.graph))
        nodes = [proto for graph in found for proto in graph.node]
        uses = Counter(name for proto in nodes for name in proto.input)
        uses.update(value.name for graph in found for value in graph.output)
        producer = {name: k for k, proto in enumerate(nodes) for name in proto.output if name}
        dead: set[int] = set()
        names, pending = set(), list(self._orphans)
        while pending:
            name = pending.pop()
            names.add(name)
            k = producer.get(name)
            if k is None or k in dead or any(uses[o] for o in nodes[k].output if o):
                continue
            dead.add(k)
            for source in nodes[k].input:
                uses[source] -= 1
                if not uses[source]:
                    pending.append(source)
        number = iter(range(len(nodes)))
        for graph in found:
            _keep(graph.node, [next(number) not in dead for _ in graph.node])
            listed = {value.name for value in graph.input}
            _keep(
                graph.initializer,
                [t.name in listed or t.name not in names or uses[t.name] > 0 for t in graph.initializer],
            )

    def _update_declared_shapes(self) -> None:
        """Mend recorded shapes: value_info, and initializers that are listed as inputs."""
        dims = {t.name: t.dims for t in self.proto.graph.initializer if t.name not in self.cuts}
        for graph in graphs(self.proto.graph):
            for value in (*graph.value_info, *graph.input, *graph.output):
                declared = _declared(value.type)
                slim = dims.get(value.name)
                shrunk = self._shrunk(value.name)
                for axis, dim in enumerate(declared):
                    if axis in shrunk:
                        dim.Clear()
                    elif slim is not None and len(slim) == len(declared):
                        dim.dim_value = slim[axis]
                    elif self.sizes.index(value.name, axis) is not None and dim.HasField("dim_value"):
                        dim.dim_value = self.sizes.size(value.name, axis)

    def _shrunk(self, name: str) -> set[int]:
        """Axes of the elements of a sequence that shrink; they need not be of one size any more."""
        return {
            axis
            for element in self.sequences.get(name, ())
            for axis, labels in enumerate(element)
            if labels is not NONE and not self.sizes.mask(labels).all()
        }


def _steps(before: Sequence[int], after: Sequence[int]) -> list[tuple[str, list[int]]]:
    """A product and a quotient that make ``after`` of ``before``, entry by entry; no step by ones alone."""
    common = [gcd(a, b) or 1 for a, b in zip(after, before, strict=True)]
    reduced = [[f // g if f > 0 else 1 for f, g in zip(way, common, strict=True)] for way in (after, before)]
    return [(op, way) for op, way in zip(("Mul", "Div"), reduced, strict=True) if set(way) != {1}]


def _declared(kind: onnx.TypeProto) -> Any:
    """Dimensions of a tensor type, or of the elements of a sequence or optional type."""
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    return kind.tensor_type.shape.dim


def _keep(field: Any, wanted: Sequence[bool]) -> None:
    """Delete the entries of a repeated field that are not wanted."""
    for position in reversed([k for k, keep in enumerate(wanted) if not keep]):
        del field[position]
