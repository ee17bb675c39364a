"""Nodes and constants that the slim model has beside those of the original."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import gcd

import numpy as np
import numpy.typing as npt
import onnx

from ..model.names import Names
from ..model.node import Node
from ..model.protos import UNLISTED, bodies, copied, stored


class Insertions:
    """New nodes in front of those of a model and behind them, and new constants.

    Parameters
    ----------
    protos : sequence of NodeProto
        Those of the slim model, by the index of the node; outputs are renamed in place.
    names : Names
    dtypes : mapping
        Tensor -> element type.
    """

    def __init__(self, protos: Sequence[onnx.NodeProto], names: Names, dtypes: Mapping[str, int]) -> None:
        self._protos, self._names, self._dtypes = protos, names, dtypes
        self._before: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._behind: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self._constants: list[onnx.TensorProto] = []
        self._scaled: dict[tuple[str, tuple[int, ...], tuple[int, ...]], str] = {}

    @cached_property
    def _titles(self) -> set[str]:
        """Names of nodes, of which no two may be the same."""
        return {proto.name for proto in self._protos}

    def store(self, name: str, value: np.ndarray) -> None:
        """Store a constant under a name that nothing else has."""
        self._constants.append(stored(value, name))

    def constant(self, base: str, value: np.ndarray) -> str:
        """Store a constant, and return its name."""
        name = self._names.fresh(f"{base}_pruned")
        self.store(name, value)
        return name

    def behind(self, index: int, made: onnx.NodeProto) -> None:
        """Insert a node behind another one."""
        self._behind[index].append(made)

    def made_behind(self, index: int, name: str, value: np.ndarray) -> None:
        """Let a Constant node behind another node make a tensor, as what a graph returns has to be made."""
        title = self._names.fresh(f"{name}_pruned")
        self.behind(index, onnx.helper.make_node("Constant", [], [name], title, value=stored(value, name)))

    def scaled(self, name: str, before: Sequence[int], after: Sequence[int], node: Node) -> str:
        """Insert ``name * after / before`` in front of a node; exact on multiples of ``before``.

        Nodes of the main graph that read the same share it: fixes come in the order of the nodes.
        """
        key = (name, tuple(before), tuple(after))
        if key in self._scaled:
            return self._scaled[key]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self._dtypes[name])
        source = name
        for op, factors in _steps(before, after):
            base = f"{name}_{op.lower()}"
            constant = self.constant(base, np.array(factors, dtype))
            result = self._names.fresh(f"{base}_pruned")
            self._before[node.index].append(onnx.helper.make_node(op, [source, constant], [result], result))
            source = result
        if node.outermost:
            self._scaled[key] = source
        return source

    def scale_output(self, node: Node, before: Sequence[int], after: Sequence[int]) -> None:
        """Insert ``output * after / before`` behind a node, under the old name of the output."""
        name, old = self.renamed(node, 0, "live")
        steps = _steps(before, after)
        for number, (op, factors) in enumerate(steps):
            base = f"{old}_{op.lower()}"
            result = old if number == len(steps) - 1 else self._names.fresh(f"{base}_pruned")
            value = np.array(factors[0] if node.op == "Size" else factors, np.int64)
            constant = self.constant(base, value)
            made = onnx.helper.make_node(op, [name, constant], [result], self._names.fresh(base))
            self.behind(node.index, made)
            name = result

    def gather_behind(self, node: Node, axis: int, index: npt.NDArray[np.int64], output: int = 0) -> None:
        """Insert a Gather along one axis behind a node, under the old name of its output."""
        name, old = self.renamed(node, output, "whole")
        inputs = [name, self.constant(f"{old}_index", index)]
        made = onnx.helper.make_node("Gather", inputs, [old], self._names.fresh(f"{old}_gather"), axis=axis)
        self._behind[node.index].insert(0, made)

    def renamed(self, node: Node, output: int, suffix: str) -> tuple[str, str]:
        """A new name for an output of a node, and the old one; the node is called as before."""
        proto = self._protos[node.index]
        old = proto.output[output]
        if not proto.name and node.name not in self._titles:  # it is called by an output
            proto.name = node.name
        proto.output[output] = self._names.fresh(f"{old}_{suffix}")
        return proto.output[output], old

    def into(self, proto: onnx.ModelProto) -> None:
        """Put new nodes into their graphs and new constants into the main one."""
        proto.graph.initializer.extend(self._constants)
        if proto.ir_version < UNLISTED:  # then every initializer is listed as an input
            proto.graph.input.extend(
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in self._constants
            )
        if self._before or self._behind:
            self._into(proto.graph, iter(range(len(self._protos))))

    def _into(self, graph: onnx.GraphProto, numbers: Iterator[int]) -> None:
        ordered = []
        for proto in graph.node:
            for _, body in bodies(proto):
                self._into(body, numbers)
            index = next(numbers)
            for new in (*self._before[index], proto, *self._behind[index]):
                copy = copied(new)
                ordered.append(copy)
        if len(ordered) != len(graph.node):
            del graph.node[:]
            graph.node.extend(ordered)


def _steps(before: Sequence[int], after: Sequence[int]) -> list[tuple[str, list[int]]]:
    """A product and a quotient that make ``after`` of ``before``, entry by entry; no step by ones alone."""
    common = [gcd(a, b) or 1 for a, b in zip(after, before, strict=True)]
    reduced = [[f // g if f > 0 else 1 for f, g in zip(way, common, strict=True)] for way in (after, before)]
    return [(op, way) for op, way in zip(("Mul", "Div"), reduced, strict=True) if set(way) != {1}]
