"""Quantised graphs are built node by node, and enter a table with what is known about them.

Weights use 7 of their 8 bits: with all of them onnxruntime's kernels for older processors add
neighbouring products in 16 bits and saturate, so that sums depend on which channels are neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from .building import TOLERANCE, Case

MS = "com.microsoft"


class Graph:
    """Collects nodes; constants and results are passed around as names."""

    def __init__(self, opset: int = 21) -> None:
        self.opset = opset
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.result = ""

    def input(self, *shape: int | str, dtype: int = TensorProto.FLOAT) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def store(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(value).astype(dtype), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{op.lower()}{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, names[0], **attributes))
        return names[0] if outputs == 1 else names

    def ms(self, op: str, *inputs: str, **attributes: Any) -> str:
        return str(self.node(op, *inputs, domain=MS, **attributes))

    def floats(self, *shape: int, scale: float = 1.0) -> str:
        return self.store(self.random.normal(0, scale, shape))

    def integers(self, *shape: int, dtype: npt.DTypeLike = np.int8) -> str:
        """Weights of 7 bits, around 128 where they are unsigned."""
        middle = 128 if np.dtype(dtype) == np.uint8 else 0
        return self.store(self.random.integers(-60, 61, shape) + middle, dtype)

    def scale(self, *shape: int, size: float = 0.02) -> str:
        return self.store(self.random.uniform(0.5, 1.5, shape) * size)

    def point(self, value: int = 0, dtype: npt.DTypeLike = np.uint8) -> str:
        return self.store(value, dtype)

    def quantized(
        self, x: str, size: float = 0.05, zero: int = 100, dtype: npt.DTypeLike = np.uint8
    ) -> tuple[str, str, str]:
        """A tensor with its scale and zero point."""
        parameters = self.store(size), self.point(zero, dtype)
        return str(self.node("QuantizeLinear", x, *parameters)), *parameters

    def numbers(self, x: tuple[str, str, str]) -> str:
        return str(self.node("DequantizeLinear", *x))

    def qconv(
        self,
        x: tuple[str, str, str],
        inputs: int,
        outputs: int,
        group: int = 1,
        channelwise: bool = True,
        dtype: npt.DTypeLike = np.uint8,
        **attributes: Any,
    ) -> tuple[str, str, str]:
        """QLinearConv 3x3 with a bias."""
        weight = self.integers(outputs, inputs // group, 3, 3)
        shape = (outputs,) if channelwise else ()
        parameters = self.scale(*shape), self.store(np.zeros(shape) if channelwise else 3, np.int8)
        result = self.store(0.1), self.point(90, dtype)
        bias = self.store(self.random.integers(-500, 500, outputs), np.int32)
        attributes |= {"group": group, "pads": [1] * 4}
        y = self.node("QLinearConv", *x, weight, *parameters, *result, bias, **attributes)
        return str(y), *result

    def qmatmul(self, x: tuple[str, str, str], inputs: int, outputs: int) -> tuple[str, str, str]:
        weight = self.integers(inputs, outputs)
        parameters = self.scale(outputs), self.store(np.zeros(outputs), np.int8)
        result = self.store(0.2), self.point(110)
        return str(self.node("QLinearMatMul", *x, weight, *parameters, *result)), *result

    def done(self, result: str) -> Graph:
        self.result = result
        return self

    def model(self) -> onnx.ModelProto:
        output = helper.make_empty_tensor_value_info(self.result)
        graph = helper.make_graph(self.nodes, "case", self.inputs, [output], self.stored)
        domains = sorted({n.domain for n in self.nodes} - {""})
        opsets = [("", self.opset), *((d, 1) for d in domains)]
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=10
        )
        found = onnx.shape_inference.infer_shapes(model).graph.output[0]
        if not found.type.tensor_type.HasField("shape"):  # behind an operator of onnxruntime
            rank = len(self.inputs[0].type.tensor_type.shape.dim)
            found = helper.make_tensor_value_info(self.result, TensorProto.FLOAT, [None] * rank)
        model.graph.output[0].CopyFrom(found)
        return model


def enter(
    table: list[Case],
    op: str,
    name: str,
    groups: tuple[int, ...],
    /,
    *,
    floating: bool = False,
    reference: bool = False,
    blocked: Mapping[str, str] = MappingProxyType({}),
    **options: Any,
) -> Callable[[Callable[..., Graph]], Callable[..., Graph]]:
    """Enter what a function builds into a table, once per use; the function stays what it is.

    Parameters
    ----------
    floating : bool
        Whether its arithmetic is floating: exact to rounding, not bit for bit.
    """

    def decorate(build: Callable[..., Graph]) -> Callable[..., Graph]:
        def model() -> onnx.ModelProto:
            return build(**options).model()

        limit = TOLERANCE if floating else 0.0
        facts: dict[str, Any] = {"blocked": blocked, "zero": False, "limit": limit, "reference": reference}
        table.append(Case(op, name, model, groups, **facts))
        return build

    return decorate
