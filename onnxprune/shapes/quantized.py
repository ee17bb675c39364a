"""Shapes behind quantised operators: those of the standard operators that they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto

from ..model.effort import NOT_INFERRED
from ..model.node import Node
from ..model.quantization import MICROSOFT
from .setting import Setting

PLAIN_OPSET = 13
"""Version of the standard operators whose attributes the quantised ones share."""


@dataclass(frozen=True, slots=True)
class Plain:
    """The standard operator that a quantised one computes.

    Attributes
    ----------
    op : str
        Operator of the default domain.
    slots : tuple of int
        Inputs of the quantised operator that stand for the inputs of ``op``.
    like : int or None
        Input of the type of the output: its zero point, where the output is quantised.
    dtype : int
        Type of the output where that input is absent; that of the first input if undefined.
    """

    op: str
    slots: tuple[int, ...]
    like: int | None = None
    dtype: int = TensorProto.UNDEFINED

    def inputs(self, names: Sequence[str]) -> list[str]:
        """Inputs of the standard operator, absent ones as ``""``."""
        if self.op == "Concat":
            return list(names[2::3])
        found = [names[k] if k < len(names) else "" for k in self.slots]
        while found and not found[-1]:
            found.pop()
        return found

    def proto(self, node: Node) -> onnx.NodeProto:
        """The standard operator as a node."""
        known = onnx.defs.get_schema(self.op, PLAIN_OPSET).attributes
        proto = onnx.helper.make_node(self.op, self.inputs(node.inputs), node.outputs, node.name)
        proto.attribute.extend(a for a in node.proto.attribute if a.name in known)
        return proto

    def output_type(self, names: Sequence[str], dtypes: Mapping[str, int]) -> int:
        """Element type of the output."""
        if self.like is not None and self.like < len(names) and names[self.like]:
            return dtypes.get(names[self.like], TensorProto.UNDEFINED)
        return self.dtype or dtypes.get(names[self.slots[0]], TensorProto.UNDEFINED)


PLAIN: dict[tuple[str, str], Plain] = {
    (MICROSOFT, "FusedConv"): Plain("Conv", (0, 1, 2)),
    (MICROSOFT, "FusedGemm"): Plain("Gemm", (0, 1, 2)),
    ("", "QLinearConv"): Plain("Conv", (0, 3, 8), 7),
    ("", "QLinearMatMul"): Plain("MatMul", (0, 3), 7),
    ("", "ConvInteger"): Plain("Conv", (0, 1), dtype=TensorProto.INT32),
    ("", "MatMulInteger"): Plain("MatMul", (0, 1), dtype=TensorProto.INT32),
    (MICROSOFT, "QLinearConv"): Plain("Conv", (0, 3, 8), 7),
    (MICROSOFT, "QuantizeLinear"): Plain("Identity", (0,), 2, TensorProto.UINT8),
    (MICROSOFT, "DequantizeLinear"): Plain("Identity", (0,), 1),
    (MICROSOFT, "MatMulIntegerToFloat"): Plain("MatMul", (0, 1), dtype=TensorProto.FLOAT),
    (MICROSOFT, "DynamicQuantizeMatMul"): Plain("MatMul", (0, 1), dtype=TensorProto.FLOAT),
    (MICROSOFT, "QGemm"): Plain("Gemm", (0, 3, 6), 8, TensorProto.FLOAT),
    (MICROSOFT, "QLinearAdd"): Plain("Add", (0, 3), 7),
    (MICROSOFT, "QLinearMul"): Plain("Mul", (0, 3), 7),
    (MICROSOFT, "QLinearSigmoid"): Plain("Sigmoid", (0,), 4),
    (MICROSOFT, "QLinearLeakyRelu"): Plain("LeakyRelu", (0,), 4),
    (MICROSOFT, "QLinearSoftmax"): Plain("Softmax", (0,), 4),
    (MICROSOFT, "QLinearGlobalAveragePool"): Plain("GlobalAveragePool", (0,), 4),
    (MICROSOFT, "QLinearAveragePool"): Plain("AveragePool", (0,), 4),
    (MICROSOFT, "QLinearReduceMean"): Plain("ReduceMean", (0,), 4),
    (MICROSOFT, "QLinearConcat"): Plain("Concat", (2,), 1),
    (MICROSOFT, "QLinearWhere"): Plain("Where", (0, 1, 4), 8),
}

OTHERS: dict[tuple[str, str], tuple[int, Callable[[Node, Mapping[str, Any]], tuple[int, ...]]]] = {
    (MICROSOFT, "MatMulNBits"): (0, lambda n, s: (*s[n.inputs[0]][:-1], n.attr("N"))),
    (MICROSOFT, "QAttention"): (3, lambda n, s: (*s[n.inputs[0]][:2], s[n.inputs[1]][1] // 3)),
}
"""Input of the type of the output, and the output's shape, where no standard operator is alike."""


def infer_quantized(node: Node, setting: Setting) -> None:
    """Shape and type of the output of a quantised operator, which onnx does not know."""
    kind = node.domain, node.op
    if kind in OTHERS and node.inputs[0] in setting.shapes:
        like, shape = OTHERS[kind]
        setting.shapes[node.output] = shape(node, setting.shapes)
        setting.dtypes[node.output] = setting.dtypes[node.inputs[like]]
    plain = PLAIN.get(kind)
    if plain is None or node.attr("channels_last", 0):
        return
    names = [name for name in plain.inputs(node.inputs) if name]
    if not all(name in setting.shapes for name in names):
        return
    types = {}
    for name in names:
        condition = setting.dtypes.get(name) == TensorProto.BOOL
        dtype = TensorProto.BOOL if condition else TensorProto.FLOAT
        types[name] = onnx.helper.make_tensor_type_proto(dtype, setting.shapes[name])
    proto = plain.proto(node)
    schema = onnx.defs.get_schema(proto.op_type, PLAIN_OPSET)
    opsets = [onnx.helper.make_opsetid("", PLAIN_OPSET)]
    try:
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, opset_imports=opsets)
    except NOT_INFERRED:
        return
    for name, value in found.items():
        setting.shapes[name] = tuple(d.dim_value for d in value.tensor_type.shape.dim)
        setting.dtypes[name] = plain.output_type(node.inputs, setting.dtypes)
