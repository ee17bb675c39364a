"""Rows of the table whose models are built node by node: what the text format is too short for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.net import Net

from .building import Case

BATCH, STEPS = 2, 4

Build = Callable[..., onnx.ModelProto]


def enter(
    table: list[Case],
    op: str,
    name: str,
    build: Build,
    /,
    *values: Any,
    reference: bool = False,
    blocked: dict[str, str] | None = None,
    groups: tuple[int, ...] | None = None,
    **options: Any,
) -> None:
    """Enter a graph, built from the given values and options, into a table."""
    build = partial(build, *values, **options)
    table.append(Case(op, name, build, groups, blocked=blocked or {}, zero=False, reference=reference))


class Graph(Net):
    """A ``Net`` that may use contributed operators and inputs of any type."""

    def __init__(self, opset: int = 22, seed: int = 0) -> None:
        super().__init__("case", seed, opset, ir_version=10)
        self.recorded: list[onnx.ValueInfoProto] = []

    def feed(self, name: str, dtype: int, *shape: int | str) -> str:
        """Declare an input of another type."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def ms(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of the domain com.microsoft."""
        return self.node(op, *inputs, domain="com.microsoft", **attributes)

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        """Store values in their own type."""
        array = np.asarray(values)
        return self.initializer(name, array, array.dtype)

    def loose(self, name: str, *shape: int) -> TensorProto:
        """A weight that is not stored in the graph."""
        return numpy_helper.from_array(self.random.normal(0, 0.5, shape).astype("f4"), name)

    def known(self, name: str, *shape: int) -> str:
        """Record a shape behind an operator that neither inference nor onnxruntime knows here."""
        self.recorded.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def done(self, *outputs: str, rank: int = 0) -> onnx.ModelProto:
        """The finished model; ``rank`` of outputs behind operators that inference cannot see."""
        graph = helper.make_graph(self.nodes, "case", self.inputs, [], self.initializers)
        domains = sorted({node.domain for node in self.nodes} - {""})
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in domains)]
        graph.value_info.extend(self.recorded)
        values = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph.output.extend(values)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version)
        known = onnx.shape_inference.infer_shapes(model).graph.output
        for value, found in zip(model.graph.output, known, strict=True):
            if rank and not found.type.tensor_type.HasField("shape"):
                found = helper.make_tensor_value_info(found.name, TensorProto.FLOAT, [None] * rank)
            value.CopyFrom(found)
        return model


def image(
    op: str,
    *constants: npt.ArrayLike,
    head: str = "conv",
    opset: int = 22,
    channels: int = 8,
    **attributes: Any,
) -> onnx.ModelProto:
    """An operator between two convolutions, with constants as its other inputs."""
    net = Graph(opset)
    x = net.conv("a", net.input("x", 2, 3, 6, 6), 3, channels)
    values = [net.constant(f"c{k}", v) for k, v in enumerate(constants)]
    y = net.node(op, x, *values, name="op", **attributes)
    if head == "conv":
        y = net.conv("b", y, channels, 4, kernel=1)
    return net.done(y, rank=4)


def microsoft(op: str) -> onnx.ModelProto:
    """Operators of com.microsoft that have a twin in ONNX, on images."""
    net = Graph()
    x = net.conv("a", net.input("x", 2, 3, 6, 6), 3, 8)
    if op == "GridSample":
        grid = np.random.default_rng(0).uniform(-1, 1, (2, 4, 5, 2)).astype("f4")
        y = net.ms(op, x, net.constant("grid", grid))
    elif op == "CropAndResize":
        boxes = np.array([[0, 0, 0.5, 0.6], [0.2, 0.1, 0.9, 1]], "f4")
        owners, size = np.array([0, 1], "i4"), np.array([3, 4], "i4")
        y = net.ms(op, x, *(net.constant(f"c{k}", v) for k, v in enumerate((boxes, owners, size))))
    elif op == "GatherND":
        y = net.ms(op, x, net.constant("at", np.array([[1], [0]])))
    else:
        y = net.ms(op, x)
    return net.done(net.conv("b", y, 8, 4, kernel=1), rank=4)


def sequence(net: Graph, name: str, width: int) -> str:
    """A computed [batch, steps, width]."""
    if not net.inputs:
        net.input("x", BATCH, STEPS, 3)
    return net.linear(name, "x", 3, width)


def heads_first(net: Graph, name: str, heads: int, size: int) -> str:
    """A computed [batch, heads, steps, size]."""
    y = net.reshape(sequence(net, name, heads * size), 0, 0, heads, size)
    return net.node("Transpose", y, perm=[0, 2, 1, 3])


def signal(op: str, *inputs: npt.ArrayLike, opset: int = 22, **attributes: Any) -> onnx.ModelProto:
    """An operator on a computed [batch, channels, 8, 2], then a convolution."""
    net = Graph(opset)
    x = net.conv("a", net.input("x", 2, 3, 8, 2), 3, 6)
    values = [net.constant(f"c{k}", v) if np.size(v) else "" for k, v in enumerate(inputs)]
    y = net.node(op, x, *values, name="op", **attributes)
    return net.done(net.conv("b", y, 6, 4, kernel=1))
