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
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import external_data_helper, numpy_helper

from .errors import SurgeryError
from .graph import Graph, Node
from .labels import NONE
from .model import Model, bodies, collector_paused, skeleton
from .selfcheck import graphs, self_check
from .sizes import Sizes
from .slices import Cut, Slice, find_slices

if TYPE_CHECKING:
    from .labels import Labels
    from .model import ModelLike
    from .plan import Plan
    from .trace import Trace


class Editor:
    """What a fix may do to its node (``e`` in the rules): the size view, and a pen.

    The size view's methods (``size``, ``shape``, ``count``, ``mask``, ``original``) are those of
    :class:`onnxprune.sizes.Sizes`.
    """

    def __init__(self, rewriter: Rewriter, node: Node) -> None:
        self._rewriter = rewriter
        self._node = node
        self._proto = rewriter.protos[node.index]
        sizes = rewriter.sizes
        self.size, self.shape, self.count = sizes.size, sizes.shape, sizes.count
        self.mask, self.original = sizes.mask, sizes.original

    def living(self, labels: Labels, size: int) -> npt.NDArray[np.int64]:
        """Kept indices of an axis of ``size``, with its labels or ``NONE``."""
        return np.arange(size) if labels is NONE else np.flatnonzero(self.mask(labels))

    def set(self, name: str, value: Any) -> None:
        """Set an attribute, unless it has that value already."""
        if self._node.attr(name) == value:
            return
        kept = [a for a in self._proto.attribute if a.name != name]
        del self._proto.attribute[:]
        self._proto.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    def constant_input(self, slot: int, value: np.ndarray) -> None:
        """Make an input this constant, unless it has that value already."""
        name = self._node.inputs[slot]
        known = self._rewriter.shapes.value(name)
        if known is None and self._rewriter.graph.is_constant(name):
            known = self._rewriter.graph.value(name)
        if known is None or not np.array_equal(known, value):
            self._rewriter.replace_input(self._node, slot, value)

    def shape_input(self, slot: int, output: str) -> None:
        """Let a shape-like input say the kept sizes of ``output``; 0 and -1 stay."""
        before, after = self.original(output), self.shape(output)
        if before == after:
            return
        given = self._rewriter.shapes.first.values.get(self._node.inputs[slot])
        if given is None:
            raise SurgeryError(f"{self._node}: the target shape is computed from data")
        # Entries are aligned with the last axes: Expand may name fewer than the output has.
        lead = len(before) - len(given)
        wanted = [
            int(v) if v in (0, -1) or v == 1 < before[lead + k] else after[lead + k]
            for k, v in enumerate(given.tolist())
        ]
        if self._rewriter.shapes.value(self._node.inputs[slot]) is not None:
            self.constant_input(slot, np.array(wanted, given.dtype))
        else:
            self.scale_input(slot, given.tolist(), wanted)

    def scale_input(self, slot: int, before: Sequence[int], after: Sequence[int]) -> None:
        """Scale an integer input entry by entry by ``after / before``."""
        if list(before) == list(after):
            return
        name = self._node.inputs[slot]
        known = self._rewriter.shapes.value(name)
        if known is not None:
            scaled = [v * a // b for v, a, b in zip(known.tolist(), after, before, strict=True)]
            self.constant_input(slot, np.array(scaled, known.dtype))
        else:
            self._proto.input[slot] = self._rewriter.scaled(name, before, after, self._node)

    def scale_output(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Scale the output entry by entry by ``after / before``, for whoever reads it."""
        if list(before) != list(after):
            self._rewriter.scale_output(self._node, before, after)

    def split_sizes(self, sizes: Sequence[int]) -> None:
        """Set the sizes of a Split, as attribute or input, whichever the opset has."""
        given = self._node.attr("split")
        if given is None and len(self._node.inputs) > 1 and self._node.inputs[1]:
            given = self._rewriter.shapes.value(self._node.inputs[1])
        if given is not None and list(given) == list(sizes):
            return
        if given is None and len(set(sizes)) == 1:
            return
        if self._node.opset < 13:
            self.set("split", list(sizes))
            return
        self._drop("num_outputs")
        self._rewriter.replace_input(self._node, 1, np.array(sizes, np.int64))

    def slice_bounds(self, X: str, bounds: tuple[Any, ...], windows: Mapping[int, slice]) -> None:
        """Follow the kept entries of sliced axes; a stride becomes a Gather."""
        starts, ends, axes, steps = (list(b) for b in bounds)
        for position, axis in enumerate(axes):
            if axis not in windows:
                continue
            alive = self.mask(self._rewriter.sizes.labels(X, axis))
            if alive.all():
                continue
            taken = np.arange(len(alive))[windows[axis]]
            if steps[position] != 1:
                place = np.cumsum(alive) - 1
                self._rewriter.gather_after(self._node, axis, place[taken[alive[taken]]])
                starts[position], ends[position] = 0, np.iinfo(np.int32).max
                steps[position] = 1
            elif len(taken):
                starts[position] = int(alive[: taken[0]].sum())
                ends[position] = starts[position] + int(alive[taken].sum())
        if self._node.attr("starts") is not None:
            self.set("starts", starts)
            self.set("ends", ends)
            return
        for slot, value in ((1, starts), (2, ends), (4, steps)):
            if slot < len(self._node.inputs) and self._node.inputs[slot]:
                given = self._rewriter.shapes.value(self._node.inputs[slot])
                dtype = np.int64 if given is None else given.dtype
                self.constant_input(slot, np.array(value, dtype))

    def pads(self, amounts: Sequence[int]) -> None:
        """Set the amounts of a Pad, as attribute or input; given for all axes."""
        if self._node.attr("pads") is not None:
            self.set("pads", list(amounts))
            return
        self._rewriter.replace_input(self._node, 1, np.array(amounts, np.int64))
        if len(self._proto.input) > 3:
            del self._proto.input[3:]

    def omit_input(self, slot: int) -> None:
        """Leave out an optional input."""
        self._rewriter.omit_input(self._node, slot)

    def _drop(self, name: str) -> None:
        kept = [a for a in self._proto.attribute if a.name != name]
        del self._proto.attribute[:]
        self._proto.attribute.extend(kept)


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
        self.cuts: dict[str, Cut] = {}
        self._before: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._after: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._added: list[onnx.TensorProto] = []
        self._names = {name for node in self.protos for name in (*node.input, *node.output)}
        self._names.update(self.graph.constants)
        self._orphans: list[str] = []

    def run(self, fixes: Sequence[tuple[Node, Callable[[Editor], None]]]) -> Model:
        """Apply everything and return the slim model."""
        self._slice_constants()
        for node, fix in fixes:
            if any(self.sizes.cut(name) for name in (*node.inputs, *node.outputs)):
                fix(Editor(self, node))
        self._insert()
        self._drop_dead()
        self._update_declared_shapes()
        return Model(self.proto, self.source.folder, None, self.cuts)

    # Constants ----------------------------------------------------------------------------

    def _slice_constants(self) -> None:
        """Slice what is stored, use by use, and store what is computed from it."""
        kept: dict[str, Slice] = {}
        for part in self.slices:
            if part.root in self.graph.folded:
                self._store_computed(part)
                continue
            if part.name == part.root:
                kept[part.root] = part
            else:
                array = part.take(self.graph.value(part.root))
                self._added.append(_tensor(array, part.name))
                self._names.add(part.name)
            for index, slot in part.uses:
                self._read(index, slot, part.name)
        for tensor in self.source.proto.graph.initializer:
            self.proto.graph.initializer.append(self._sliced(tensor, kept.get(tensor.name)))
        for proto in self.protos:
            self._slice_in_node(proto, kept)

    def _read(self, index: int, slot: int, name: str) -> None:
        """Let an input of a node read another tensor."""
        old = self.protos[index].input[slot]
        if old != name:
            self.protos[index].input[slot] = name
            self._orphans.append(old)

    def _sliced(self, tensor: onnx.TensorProto, part: Slice | None) -> onnx.TensorProto:
        if part is None or part.whole:
            return tensor
        if external_data_helper.uses_external_data(tensor):
            self.cuts[tensor.name] = part.cut
            return tensor
        slim = _tensor(part.take(self.source.array(tensor)), tensor.name)
        if tensor.HasField("doc_string"):
            slim.doc_string = tensor.doc_string
        slim.metadata_props.extend(tensor.metadata_props)
        return slim

    def _slice_in_node(self, proto: onnx.NodeProto, kept: Mapping[str, Slice]) -> None:
        """Slice the payload of a Constant node, and initializers of nested graphs."""
        for _, body in bodies(proto):
            for tensor in body.initializer:
                tensor.CopyFrom(self._sliced(tensor, kept.get(tensor.name)))
        part = kept.get(proto.output[0]) if proto.op_type == "Constant" else None
        if part is None or part.whole:
            return
        array = part.take(self.graph.value(part.root))
        label = proto.attribute[0].t.name
        del proto.attribute[:]
        proto.attribute.append(onnx.helper.make_attribute("value", _tensor(array, label)))

    def _store_computed(self, part: Slice) -> None:
        """Store a computed constant under its name; the node that computed it becomes dead.

        A graph may not return a tensor from outside, so there a Constant node makes it.
        """
        name, value = part.name, part.take(self.graph.value(part.root))
        index = self.graph.producers[part.root].index
        if name in self.graph.returned:
            made = onnx.helper.make_node("Constant", [], [name], name, value=_tensor(value, name))
            self._after[index].append(made)
        else:
            self._added.append(_tensor(value, name))
        proto = self.protos[index]
        position = list(proto.output).index(part.root)
        proto.output[position] = self.unique(f"{part.root}_unused")
        self._orphans.append(proto.output[position])

    def unique(self, base: str) -> str:
        """A name that nothing else has."""
        name, number = base, 1
        while name in self._names:
            number += 1
            name = f"{base}_{number}"
        self._names.add(name)
        return name

    def add_constant(self, base: str, value: np.ndarray) -> str:
        """Store a new tensor and return its name."""
        name = self.unique(f"{base}_pruned")
        self._added.append(_tensor(value, name))
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
        """Insert ``name * after / before`` in front of a node; exact on multiples of ``before``."""
        common = [gcd(a, b) or 1 for a, b in zip(after, before, strict=True)]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.shapes.first.dtypes[name])
        for op, factors in (("Mul", after), ("Div", before)):
            reduced = np.array([f // g if f > 0 else 1 for f, g in zip(factors, common, strict=True)], dtype)  # fmt: skip
            constant = self.add_constant(f"{name}_{op.lower()}", reduced)
            result = self.unique(f"{name}_{op.lower()}_pruned")
            self._before[node.index].append(onnx.helper.make_node(op, [name, constant], [result], result))  # fmt: skip
            name = result
        return name

    def scale_output(self, node: Node, before: Sequence[int], after: Sequence[int]) -> None:
        """Insert ``output * after / before`` behind a node, under the old name of the output."""
        proto = self.protos[node.index]
        old = proto.output[0]
        proto.output[0] = self.unique(f"{old}_live")
        common = [gcd(a, b) or 1 for a, b in zip(after, before, strict=True)]
        scalar = node.op == "Size"
        name = proto.output[0]
        for op, factors, result in (
            ("Mul", after, self.unique(f"{old}_mul_pruned")),
            ("Div", before, old),
        ):
            reduced = np.array([f // g for f, g in zip(factors, common, strict=True)], np.int64)
            constant = self.add_constant(f"{old}_{op.lower()}", reduced[0] if scalar else reduced)
            self._after[node.index].append(onnx.helper.make_node(op, [name, constant], [result], f"{result}_{op.lower()}"))  # fmt: skip
            name = result

    def gather_after(self, node: Node, axis: int, index: npt.NDArray[np.int64]) -> None:
        """Insert a Gather along one axis behind a node, under the old name of its output."""
        proto = self.protos[node.index]
        old = proto.output[0]
        proto.output[0] = self.unique(f"{old}_whole")
        constant = self.add_constant(f"{old}_index", index)
        self._after[node.index].insert(0, onnx.helper.make_node("Gather", [proto.output[0], constant], [old], f"{old}_gather", axis=axis))  # fmt: skip

    def _insert(self) -> None:
        """Put new nodes into their graphs and new constants into the main one."""
        self.proto.graph.initializer.extend(self._added)
        if self.proto.ir_version < 4:  # until then an initializer has to be an input, too
            self.proto.graph.input.extend(
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in self._added
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
            _keep(graph.initializer, [
                t.name in listed or t.name not in names or uses[t.name] > 0
                for t in graph.initializer
            ])  # fmt: skip

    def _update_declared_shapes(self) -> None:
        """Mend recorded shapes: value_info, and initializers that are listed as inputs."""
        dims = {t.name: t.dims for t in self.proto.graph.initializer if t.name not in self.cuts}
        for graph in graphs(self.proto.graph):
            for value in (*graph.value_info, *graph.input, *graph.output):
                declared = _declared(value.type)
                slim = dims.get(value.name)
                for axis, dim in enumerate(declared):
                    if slim is not None and len(slim) == len(declared):
                        dim.dim_value = slim[axis]
                    elif self.sizes.index(value.name, axis) is not None and dim.HasField("dim_value"):  # fmt: skip
                        dim.dim_value = self.sizes.size(value.name, axis)


def _declared(kind: onnx.TypeProto) -> Any:
    """Dimensions of a tensor type, or of the elements of a sequence or optional type."""
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    return kind.tensor_type.shape.dim


def node_protos(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes in the order of the view: nested ones before the node that holds them."""
    for node in graph.node:
        for _, body in bodies(node):
            yield from node_protos(body)
        yield node


def _keep(field: Any, wanted: Sequence[bool]) -> None:
    """Delete the entries of a repeated field that are not wanted."""
    for position in reversed([k for k, keep in enumerate(wanted) if not keep]):
        del field[position]


def _tensor(array: np.ndarray, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def rewrite(source: ModelLike, plan: Plan) -> Model:
    """Apply a plan to a model.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
        The model that the plan was made for, or a retrained or differently typed copy of it.
    plan : Plan

    Raises
    ------
    PlanError
        If the plan belongs to another model.
    SurgeryError
        If the slim model's shapes contradict the analysis.
    """
    from .staged import prepared
    from .trace import trace

    model, plan = prepared(source, plan)
    traced = trace(model, **plan.trace_options)
    if plan.options.get("lossless"):
        from .cleaning import replay

        traced = replay(traced, plan)
    return rewrite_trace(traced, plan.removed(traced))


@collector_paused()
def rewrite_trace(traced: Trace, removed: npt.ArrayLike) -> Model:
    """Remove units from a traced model, and check the shapes of the result.

    Raises
    ------
    SurgeryError
        If the slim model's shapes contradict the analysis.
    """
    sizes = traced.sizes(removed)
    slim = Rewriter(traced, sizes).run(traced.walk.facts.fixes)
    self_check(slim, traced, sizes)
    return slim
