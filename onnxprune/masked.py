"""The oracle: the original model with removed entries masked to zero.

Behind every node whose output has removed entries a ``Where`` sets them to zero, so that they add
nothing to any sum. Constants stay as they are, for whatever they meet is masked. That needs no
knowledge of operators, hence shares no mistake with their rules. A node that computes statistics
along a removed axis (``stat`` in the facts) is given the kept entries alone, by a Gather before and
behind it. The slim model must agree with this one to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .graph import Node
from .model import bodies
from .rewrite import node_protos
from .sizes import Sizes
from .trace import Trace


def masked(traced: Trace, sizes: Sizes, slim: onnx.ModelProto) -> onnx.ModelProto:
    """Original model in which removed entries are zero.

    Parameters
    ----------
    traced : Trace
    sizes : Sizes
        View of the kept entries.
    slim : onnx.ModelProto
        Its nodes stand in for those that compute statistics (their ``num_groups`` may differ).
    """
    return _Masker(traced, sizes, slim).build()


class _Masker:
    def __init__(self, traced: Trace, sizes: Sizes, slim: onnx.ModelProto) -> None:
        self.traced, self.sizes = traced, sizes
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(traced.model.embedded())
        self.slim = {name: p for p in node_protos(slim.graph) for name in p.output}
        self.stats = {node.index for node, _ in traced.walk.facts.stats}
        self.inner = traced.walk.facts.inner
        self.constants: dict[tuple[bytes, tuple[int, ...], str], str] = {}
        self.count = 0

    def build(self) -> onnx.ModelProto:
        self._graph(self.proto.graph, iter(self.traced.graph.nodes), [])
        return self.proto

    def _graph(self, graph: onnx.GraphProto, nodes: Iterator[Node], ordered: list[onnx.NodeProto]) -> None:  # fmt: skip
        """Mask one graph; ``nodes`` is the view in its own order, nested graphs first."""
        for proto in graph.node:
            for _, body in bodies(proto):
                self._graph(body, nodes, self._mask_inputs(body))
            node = next(nodes)
            copy = onnx.NodeProto()
            copy.CopyFrom(proto)
            inside = node.index in self.stats or node.index in self.inner
            touched = [*node.outputs, *(node.inputs if inside else ())]
            constant = node.op == "Constant" or node.output in self.traced.graph.derived
            if not constant and any(self._cut(name) for name in touched):
                ordered += self._mask_node(node, copy)
            else:
                ordered.append(copy)
        del graph.node[:]
        graph.node.extend(ordered)

    def _mask_inputs(self, body: onnx.GraphProto) -> list[onnx.NodeProto]:
        """Mask what enters a nested graph: it may come from a constant."""
        found = []
        for value in body.input:
            axes = self._cut(value.name)
            if axes:
                name, value.name = value.name, self._unique(value.name)
                found.append(self._where(name, value.name, axes, name))
        return found

    def _cut(self, name: str) -> list[int]:
        """Axes with removed entries; those that data decides follow from the tensors before."""
        shapes = self.traced.shapes
        if shapes.get(name) is None:
            return []  # a sequence: its elements are masked where they are made
        return [
            k for k, index in enumerate(self.sizes.indices(name))
            if index is not None and (not shapes.shown.sampled or shapes.static(name, k))
        ]  # fmt: skip

    def _mask_node(self, node: Node, proto: onnx.NodeProto) -> list[onnx.NodeProto]:
        statistic = node.index in self.stats
        before: list[onnx.NodeProto] = []
        if statistic:
            twin = self.slim[node.output]
            del proto.attribute[:]
            proto.attribute.extend(twin.attribute)
            for slot, name in enumerate(node.inputs):
                if name:
                    proto.input[slot] = self._compact(name, proto.input[slot], before)
        elif node.index in self.inner:
            for slot, name in enumerate(node.inputs):
                if self._cut(name) and self.traced.walk.stored(name):
                    masked = self._unique(name)
                    before.append(self._where(name, proto.input[slot], self._cut(name), masked))
                    proto.input[slot] = masked
        after: list[onnx.NodeProto] = []
        for slot, name in enumerate(proto.output):
            axes = self._cut(name)
            if axes:
                proto.output[slot] = self._unique(name)
                raw = proto.output[slot]
                if statistic:
                    raw = self._spread(name, raw, axes, after)
                after.append(self._where(name, raw, axes, name))
        return [*before, proto, *after]

    def _compact(self, name: str, current: str, nodes: list[onnx.NodeProto]) -> str:
        """Gather the kept entries of every cut axis."""
        for axis, index in enumerate(self.sizes.indices(name)):
            if index is not None:
                current = self._gather(current, index, axis, nodes)
        return current

    def _spread(self, name: str, current: str, axes: Sequence[int], nodes: list[onnx.NodeProto]) -> str:  # fmt: skip
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

    def _where(self, name: str, raw: str, axes: Sequence[int], result: str) -> onnx.NodeProto:
        """Mask ``raw``, which holds the value of ``name``, along some axes."""
        rank = len(self.sizes.original(name))
        alive = np.ones((1,) * rank, np.bool_)
        for axis in axes:
            shape = [1] * rank
            shape[axis] = -1
            alive = alive & self.sizes.mask(self.sizes.labels(name, axis)).reshape(shape)
        dtype = self.traced.shapes.first.dtypes.get(name, TensorProto.FLOAT)
        if dtype == TensorProto.BOOL:
            return onnx.helper.make_node("And", [raw, self._constant(alive)], [result], self._unique(name))  # fmt: skip
        numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
        if self.traced.model.opset < 9:  # before Where
            mask = self._constant(alive.astype(numpy_dtype))
            return onnx.helper.make_node("Mul", [raw, mask], [result], self._unique(name))
        zero = np.zeros((), numpy_dtype)
        inputs = [self._constant(alive), raw, self._constant(zero)]
        return onnx.helper.make_node("Where", inputs, [result], self._unique(name))

    def _constant(self, value: np.ndarray) -> str:
        key = value.tobytes(), value.shape, str(value.dtype)
        if key not in self.constants:
            self.constants[key] = self._unique("constant")
            tensor = numpy_helper.from_array(value, self.constants[key])
            self.proto.graph.initializer.append(tensor)
        return self.constants[key]

    def _unique(self, base: str) -> str:
        self.count += 1
        return f"{base}__masked_{self.count}"
