"""The oracle: the original model with removed entries masked to zero.

Behind every node whose output has removed entries a ``Where`` sets them to zero, so that they add
nothing to any sum. Constants stay as they are, for whatever they meet is masked; only where they
meet nothing but constants they are masked themselves, as the file stores them, whatever the
rewriter made of that computation; so are those that hold NaN or infinity. All this needs no
knowledge of operators, hence shares no mistake with their rules. A node that computes statistics
along a removed axis (``stat`` in the facts) is given the kept entries alone, by a Gather before and
behind it. The slim model must agree with this one to rounding.

Removed entries of a quantised tensor are its zero point. In a quantised model masks are left out
where they would change nothing but hide a pattern (DequantizeLinear, Conv, Relu, QuantizeLinear)
that onnxruntime fuses into integer arithmetic: both models must be fused alike, because a float
that is rounded otherwise can tip over to the next integer, whereas integers are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..coupling.trace import Trace
from ..labels.sizes import Sizes
from ..model.file import Model, borrow
from ..model.graph import Graph
from ..model.names import Names
from ..model.node import Node
from ..model.operators import Trait, traits_of
from ..model.protos import UNLISTED, bodies, copied, node_protos
from .finite import reached


def masked_model(traced: Trace, sizes: Sizes, slim: onnx.ModelProto) -> Model:
    """Original model in which removed entries are zero; it reads the original's weights in their place.

    Parameters
    ----------
    traced : Trace
    sizes : Sizes
        View of the kept entries.
    slim : onnx.ModelProto
        Its nodes stand in for those that compute statistics (their ``num_groups`` may differ).
    """
    return _Masker(traced, sizes, slim).build()


SELECTABLE = {
    TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32,
    TensorProto.INT64, TensorProto.STRING, TensorProto.UINT8,
}  # fmt: skip
"""Types for which onnxruntime has a Where."""


class _Masker:
    def __init__(self, traced: Trace, sizes: Sizes, slim: onnx.ModelProto) -> None:
        self.traced, self.sizes = traced, sizes
        self.model = borrow(traced.model)
        self.proto = self.model.proto
        self.proto.ir_version = max(self.proto.ir_version, UNLISTED)  # new constants are no inputs
        self.slim = {name: p for p in node_protos(slim.graph) for name in p.output}
        self.zeros = traced.walk.facts.zeros
        self.outputs = traced.graph.returned
        self.stats = {node.index for node, _ in traced.walk.facts.stats}
        self.inner = traced.walk.facts.inner
        self.odd = reached(traced.graph)
        self.apart = set(_among_constants(traced.graph))
        self.constants: dict[tuple[bytes, tuple[int, ...], np.dtype], str] = {}
        self.stored: list[onnx.NodeProto] = []
        self.names = Names(traced.graph.taken)

    def build(self) -> Model:
        self._graph(self.proto.graph, iter(self.traced.graph.nodes), [])
        nodes = [*self.stored, *self.proto.graph.node]
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(nodes)
        return self.model

    def _graph(self, graph: onnx.GraphProto, nodes: Iterator[Node], ordered: list[onnx.NodeProto]) -> None:
        """Mask one graph; ``nodes`` is the view in its own order, nested graphs first."""
        for proto in graph.node:
            for _, body in bodies(proto):
                self._graph(body, nodes, self._mask_inputs(body))
            node = next(nodes)
            copy = copied(proto)
            inside = any(node.index in found for found in (self.stats, self.inner, self.apart))
            touched = [*node.outputs, *(n for n in node.inputs if inside or n in self.odd)]
            if not self._settled(node) and any(self._cut(name) for name in touched):
                ordered += self._mask_node(node, copy)
            else:
                ordered.append(copy)
        del graph.node[:]
        graph.node.extend(ordered)

    def _mask_inputs(self, body: onnx.GraphProto) -> list[onnx.NodeProto]:
        """Mask what enters a nested graph: it may come from a constant."""
        found: list[onnx.NodeProto] = []
        for value in body.input:
            axes = self._cut(value.name)
            if axes:
                name, value.name = value.name, self._unique(value.name)
                found += self._where(name, value.name, axes, name)
        return found

    def _cut(self, name: str) -> list[int]:
        """Axes with removed entries; those that data decides follow from the tensors before."""
        shapes = self.traced.shapes
        if shapes.get(name) is None:
            return []  # a sequence: its elements are masked where they are made
        return [
            k
            for k, index in enumerate(self.sizes.indices(name))
            if index is not None and (not shapes.shown.sampled or shapes.static(name, k))
        ]

    def _settled(self, node: Node) -> bool:
        """Whether the outputs of a node need no mask of their own."""
        if node.op == "Constant" or node.output in self.traced.graph.derived:
            return node.index not in self.apart  # constants are not masked: what they meet is
        if not self.zeros or node.index in self.stats or node.index in self.inner:
            return False
        if node.op == "DynamicQuantizeLinear":
            return True  # of zeros that are masked in front of it
        if node.op == "DequantizeLinear" and node.inputs[0] in self.zeros:
            return self._same(node.take(3)[2], self.zeros[node.inputs[0]])
        return all(map(self._waits, filter(None, node.outputs)))

    def _waits(self, name: str) -> bool:
        """Whether all that read a tensor keep its removed entries apart until they are masked."""
        readers = self.traced.graph.consumers.get(name, [])
        held = name in self.outputs
        return bool(readers) and not held and all(Trait.FUSED in traits_of(reader) for reader in readers)

    def _same(self, a: str, b: str) -> bool:
        """Whether two zero points are the same number."""
        value = self.traced.walk.value
        x, y = (value(name) if name else np.zeros(1) for name in (a, b))
        return a == b or (x is not None and y is not None and x.size == 1 and x.item() == y.item())

    def _mask_node(self, node: Node, proto: onnx.NodeProto) -> list[onnx.NodeProto]:
        """A node with what stands before it, and what masks its outputs behind it."""
        statistic = node.index in self.stats
        before = self._like_slim(node, proto) if statistic else self._mask_read(node, proto)
        after: list[onnx.NodeProto] = []
        for slot, name in enumerate(proto.output):
            axes = self._cut(name)
            if axes and name not in self.traced.graph.folded:
                proto.output[slot] = self._unique(name)
                raw = proto.output[slot]
                if statistic:
                    raw = self._spread(name, raw, axes, after)
                after += self._where(name, raw, axes, name)
        return [*before, proto, *after]

    def _like_slim(self, node: Node, proto: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Let a node that computes statistics read the kept entries alone, with the slim one's attributes."""
        before: list[onnx.NodeProto] = []
        del proto.attribute[:]
        proto.attribute.extend(self.slim[node.output].attribute)
        for slot, name in enumerate(node.inputs):
            if name:
                proto.input[slot] = self._compact(name, proto.input[slot], before)
        return before

    def _mask_read(self, node: Node, proto: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Mask what a node reads where nothing before it does."""
        before: list[onnx.NodeProto] = []
        inside = node.index in self.inner or node.index in self.apart
        for slot, name in enumerate(node.inputs):
            wanted = name in self.odd or (inside and self.traced.walk.stored(name))
            if wanted and self._cut(name):
                masked = self._unique(name)
                before += self._where(name, proto.input[slot], self._cut(name), masked)
                proto.input[slot] = masked
        return before

    def _compact(self, name: str, current: str, nodes: list[onnx.NodeProto]) -> str:
        """Gather the kept entries of every cut axis."""
        for axis, index in enumerate(self.sizes.indices(name)):
            if index is not None:
                current = self._gather(current, index, axis, nodes)
        return current

    def _spread(self, name: str, current: str, axes: Sequence[int], nodes: list[onnx.NodeProto]) -> str:
        """Put kept entries back to their places; what lies between is masked afterwards."""
        for axis in axes:
            alive = self.sizes.mask(self.sizes.labels(name, axis))
            place = np.where(alive, np.cumsum(alive) - 1, 0)
            current = self._gather(current, place, axis, nodes)
        return current

    def _gather(self, name: str, index: np.ndarray, axis: int, nodes: list[onnx.NodeProto]) -> str:
        result = self._unique(name)
        inputs = [name, self._constant(index.astype(np.int64))]
        nodes.append(onnx.helper.make_node("Gather", inputs, [result], result, axis=axis))
        return result

    def _where(self, name: str, raw: str, axes: Sequence[int], result: str) -> list[onnx.NodeProto]:
        """Mask ``raw``, which holds the value of ``name``, along some axes."""
        alive = self._constant(self.sizes.grid(name, axes))
        dtype = self.traced.shapes.first.dtypes.get(name, TensorProto.FLOAT)
        if dtype == TensorProto.BOOL:
            return [onnx.helper.make_node("And", [raw, alive], [result], self._unique(name))]
        numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
        if self.traced.model.opset < 9:  # before Where
            mask = self._constant(self.sizes.grid(name, axes).astype(numpy_dtype))
            return [onnx.helper.make_node("Mul", [raw, mask], [result], self._unique(name))]
        point = self.zeros.get(name, "")
        constant = self.traced.graph.constants.get(point)
        zero = constant.name if constant else point or self._constant(np.zeros((), numpy_dtype))
        if dtype in SELECTABLE:
            return [onnx.helper.make_node("Where", [alive, raw, zero], [result], self._unique(name))]
        wide = TensorProto.INT32 if numpy_dtype.kind in "iu" else TensorProto.FLOAT
        x, y, z = (self._unique(name) for _ in range(3))
        return [
            onnx.helper.make_node("Cast", [raw], [x], x, to=wide),
            onnx.helper.make_node("Cast", [zero], [y], y, to=wide),
            onnx.helper.make_node("Where", [alive, x, y], [z], z),
            onnx.helper.make_node("Cast", [z], [result], self._unique(name), to=dtype),
        ]

    def _constant(self, value: np.ndarray) -> str:
        key = value.tobytes(), value.shape, value.dtype
        if key not in self.constants:
            self.constants[key] = self._unique("constant")
            tensor = numpy_helper.from_array(value, self.constants[key])
            # A node, because before IR version 4 an initializer has to be an input, too.
            self.stored.append(onnx.helper.make_node("Constant", [], [self.constants[key]], value=tensor))
        return self.constants[key]

    def _unique(self, base: str) -> str:
        return self.names.fresh(f"{base}__masked")


def _among_constants(graph: Graph) -> Iterator[int]:
    """Nodes that compute something from constants alone, or move what such nodes read."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        made = graph.derived.keys() & node.outputs
        if made and (Trait.MOVES not in traits_of(node) or not found.isdisjoint(made)):
            found.update(node.inputs)
            yield node.index
