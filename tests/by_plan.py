"""Masking by plan.json and the input file alone: an oracle that shares no code with the product.

The removed slices of every stored tensor that the plan names are set to what adds nothing: zero, or
the zero point of integers that stand for floats. A channel whose weights are zero stays zero, or a
constant that the reader's zeroed columns do not hear. Three things need more than zeros:

- scales, zero points, divisors and exponents are left alone: what they meet is zero;
- a constant that is computed from stored ones is multiplied behind the node that makes it;
- a LayerNormalization is given the channels that its scale keeps, because its statistics are those of
  the kept ones.

What plan and file cannot judge stands in ``test_by_plan.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

LEFT_ALONE = {
    "Div": (1,), "Pow": (1,), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "Mod": (1,),
    "QLinearConv": (1, 2, 4, 5, 6, 7), "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3), "MatMulInteger": (2, 3), "DynamicQuantizeLSTM": (8, 9, 10, 11),
}  # fmt: skip
"""Operator -> inputs that scale, divide or shift."""

ZERO_POINTS = {
    "DequantizeLinear": {0: 2}, "QLinearConv": {0: 2, 3: 5}, "QLinearMatMul": {0: 2, 3: 5},
    "ConvInteger": {0: 2, 1: 3}, "MatMulInteger": {0: 2, 1: 3}, "DynamicQuantizeLSTM": {1: 9, 2: 11},
}  # fmt: skip
"""Operator -> which input is the zero point of which."""

NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")


def masked_by_plan(model: onnx.ModelProto, plan: Mapping[str, Any]) -> onnx.ModelProto:
    """The input file with the removed slices masked.

    Parameters
    ----------
    model : onnx.ModelProto
        The input file.
    plan : mapping
        plan.json.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {name: entry for name, entry in plan["constants"].items() if "copy_of" not in entry}
    stored = dict(_stored(copy.graph))
    for name in constants.keys() & stored.keys():
        if not _left_alone(copy.graph, name):
            array = numpy_helper.to_array(stored[name])
            alive = _grid(array.shape, list(_keeps(constants[name])))
            made = np.where(alive, array, _zero(copy.graph, name, stored)).astype(array.dtype)
            stored[name].CopyFrom(numpy_helper.from_array(made, stored[name].name))
    for graph in [*_graphs(copy.graph)]:
        _mask_computed(graph, constants, stored)
        _narrow_norms(graph, constants, stored)
    return copy


def _keeps(entry: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    for axis, keep in entry["keep"].items():
        yield int(axis), keep


def _grid(shape: tuple[int, ...], keeps: list[tuple[int, Any]]) -> np.ndarray:
    """Which entries stay; every block of the first axis may keep its own."""
    alive = np.ones(shape, bool)
    for axis, keep in keeps:
        blocks = keep["blocks"] if isinstance(keep, Mapping) else [keep]
        rows = shape[0] // len(blocks)
        for number, kept in enumerate(blocks):
            gone = np.setdiff1d(np.arange(shape[axis]), kept)
            view = alive[number * rows : (number + 1) * rows] if len(blocks) > 1 else alive
            view[(slice(None),) * axis + (gone,)] = False
    return alive


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for one in _graphs(graph):
        yield from one.node


def _stored(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for one in _graphs(graph):
        yield from ((tensor.name, tensor) for tensor in one.initializer)
        for node in one.node:
            if node.op_type == "Constant" and node.attribute[0].type == AttributeProto.TENSOR:
                yield node.output[0], node.attribute[0].t


def _readers(graph: onnx.GraphProto, name: str) -> list[tuple[onnx.NodeProto, int]]:
    return [(node, slot) for node in _nodes(graph) for slot, n in enumerate(node.input) if n == name]


def _left_alone(graph: onnx.GraphProto, name: str) -> bool:
    return any(slot in LEFT_ALONE.get(node.op_type, ()) for node, slot in _readers(graph, name))


def _zero(graph: onnx.GraphProto, name: str, stored: Mapping[str, onnx.TensorProto]) -> Any:
    """What stands for zero, along the channels where there is one for each."""
    for node, slot in _readers(graph, name):
        place = ZERO_POINTS.get(node.op_type, {}).get(slot)
        if place is not None and place < len(node.input) and node.input[place] in stored:
            value = numpy_helper.to_array(stored[node.input[place]])
            if value.size == 1:
                return value.reshape(())
            if node.op_type == "DynamicQuantizeLSTM":  # for each direction, or each of its gates
                return value.reshape(len(value), 1, -1)
            rank, given = len(stored[name].dims), {a.name: a.i for a in node.attribute}
            axis = given.get("axis", 1) % rank
            if given.get("block_size"):
                return value.repeat(given["block_size"], axis)
            axis = axis if node.op_type == "DequantizeLinear" else (0 if "Conv" in node.op_type else rank - 1)
            return value.reshape([-1 if k == axis else 1 for k in range(rank)])
    return 0


def _insert(graph: onnx.GraphProto, around: Mapping[int, tuple[list[Any], list[Any]]]) -> None:
    """Put nodes before and behind some nodes, which are given by their positions."""
    ordered = []
    for place, node in enumerate(graph.node):
        before, behind = around.get(place, ([], []))
        ordered += [*before, node, *behind]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def _constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _mask_computed(graph: onnx.GraphProto, constants: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Multiply constants that nodes compute from stored ones."""
    around: dict[int, tuple[list[Any], list[Any]]] = {}
    for place, node in enumerate(graph.node):
        for slot, name in enumerate(node.output):
            if name in constants and name not in stored:
                entry = constants[name]
                grid = _grid(tuple(entry["shape"]), list(_keeps(entry))).astype(np.float32)
                node.output[slot] = f"{name}/raw"
                mask = _constant(f"{name}/mask", grid)
                product = helper.make_node("Mul", [f"{name}/raw", f"{name}/mask"], [name])
                around[place] = [], [*around.get(place, ([], []))[1], mask, product]
    _insert(graph, around)


def _narrow_norms(graph: onnx.GraphProto, constants: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Let a normalization of the last axis see the channels that its scale keeps."""
    around: dict[int, tuple[list[Any], list[Any]]] = {}
    for place, node in enumerate(graph.node):
        entry = constants.get(node.input[1]) if len(node.input) > 1 else None
        if (
            node.op_type in NORMS
            and entry is not None
            and len(entry["shape"]) == 1
            and node.input[1] in stored
        ):
            around[place] = _narrowed(node, np.array(entry["keep"]["0"], np.int64), entry["shape"][0])
    _insert(graph, around)


def _narrowed(node: onnx.NodeProto, keep: np.ndarray, size: int) -> tuple[list[Any], list[Any]]:
    name = node.output[0]
    alive = np.isin(np.arange(size), keep)
    place = np.where(alive, np.cumsum(alive) - 1, 0)
    before = [_constant(f"{name}/keep", keep)]
    for slot, given in enumerate(node.input):
        if given:
            node.input[slot] = f"{name}/in{slot}"
            before.append(helper.make_node("Gather", [given, f"{name}/keep"], [node.input[slot]], axis=-1))
    node.output[0] = f"{name}/narrow"
    behind = [
        _constant(f"{name}/place", place),
        _constant(f"{name}/alive", alive.astype(np.float32)),
        helper.make_node("Gather", [f"{name}/narrow", f"{name}/place"], [f"{name}/wide"], axis=-1),
        helper.make_node("Mul", [f"{name}/wide", f"{name}/alive"], [name]),
    ]
    return before, behind
