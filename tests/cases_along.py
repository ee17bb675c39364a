"""Channels on an axis that operators index, order or step along, or that is their batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from .building import Case
from .building_nodes import Graph, enter

CASES: list[Case] = []

case = partial(enter, CASES)

INDICES = object()


def along(
    op: str, *inputs: Any, perm: Sequence[int] = (2, 0, 1), first: int = 0, opset: int = 22, **attributes: Any
) -> onnx.ModelProto:
    """An operator on a computed [2, 5, 8] in another order of axes.

    ``inputs`` are its other inputs: arrays are stored, (INDICES, *shape) is an input of the model.
    ``first`` of them stand before the tensor.
    """
    net = Graph(opset)
    x = net.node("Transpose", net.linear("a", net.input("x", 2, 5, 3), 3, 8), perm=perm)
    more = [
        net.feed(f"i{k}", TensorProto.INT64, *value[1:])
        if isinstance(value, tuple)
        else net.constant(f"c{k}", value)
        for k, value in enumerate(inputs)
    ]
    y = net.node(op, *more[:first], x, *more[first:], name="op", **attributes)
    if op != "Compress" or "axis" in attributes:
        y = net.node("ReduceSum", y, net.integers(-1), keepdims=0)
    return net.done(y, rank=2)


def blocked(op: str, name: str, why: str, *values: Any, **options: Any) -> None:
    """A row in which the only layer is blocked for a reason that says why."""
    case(op, name, along, op, *values, groups=(), blocked={"a.matmul": why}, **options)


FLAT = np.array([True] * 40 + [False] * 40)

blocked("GatherND", "channels by data", "picks from it by data", (INDICES, 2, 1))
blocked("ScatterND", "channels by data", "writes to it by data", (INDICES, 2, 1), np.zeros((2, 2, 5), "f4"))
blocked("GatherElements", "channels by data", "picks from it by data", (INDICES, 8, 2, 5), axis=0)
blocked(
    "ScatterElements",
    "channels by data",
    "writes to a part of it",
    (INDICES, 8, 2, 5),
    np.zeros((8, 2, 5), "f4"),
    axis=0,
)
blocked("Compress", "channels", "selects from it by a condition", FLAT[36:44], axis=0)
blocked("Compress", "flattened", "selects entries from the flattened tensor", FLAT)
blocked("ReverseSequence", "channels", "reverses a part of it", np.array([3, 8]), time_axis=0, batch_axis=1)
blocked(
    "TensorScatter",
    "channels",
    "writes along it",
    np.zeros((2, 9, 5), "f4"),
    np.array([0, 1]),
    perm=(0, 2, 1),
    first=1,
    axis=1,
    opset=24,
)
blocked("Trilu", "channels", "cuts a triangle out of it", perm=(0, 1, 2))
blocked(
    "Attention",
    "channels",
    "attends along it",
    np.ones((2, 4, 5), "f4"),
    np.ones((2, 4, 5), "f4"),
    perm=(0, 2, 1),
    q_num_heads=1,
    kv_num_heads=1,
    opset=23,
)

# A pair of indices that varies along both axes of the index tensor.
DIAGONALS = np.stack(np.broadcast_arrays(np.add.outer([0, 1, 2], [0, 3]), 0), -1)
blocked("GatherND", "two axes at once", "indexes it together with another axis", DIAGONALS)


def regions() -> onnx.ModelProto:
    """Regions that a layer computes: that layer is blocked, the image is not."""
    net = Graph(16)
    x = net.conv("a", net.input("x", 2, 3, 6, 6), 3, 8)
    corner = net.node("Sigmoid", net.linear("boxes", net.input("r", 3, 5), 5, 4))
    rois = net.node("Add", corner, net.initializer("size", [0.0, 0.0, 3.0, 3.0]))
    y = net.node("RoiAlign", x, rois, net.constant("owner", np.array([0, 1, 1])))
    return net.done(net.conv("b", y, 8, 4, kernel=1))


case("RoiAlign", "computed regions", regions, groups=(8,), blocked={"boxes.matmul": "reads regions from it"})


def recurrent_over_channels(steps: bool = False) -> onnx.ModelProto:
    """A recurrent layer for which channels are the batch, or the steps."""
    net = Graph()
    x = net.linear("a", net.input("x", 4, 5, 3), 3, 8)
    x = net.node("Transpose", x, perm=[2, 0, 1] if steps else [0, 2, 1])
    W, R = net.weight("W", 1, 24, 5, fan_in=5), net.weight("R", 1, 24, 6, fan_in=6)
    batch = 4 if steps else 8
    lengths = net.constant("lengths", np.arange(batch, dtype="i4") % 4 + 1)
    start = net.bias("start", 1, batch, 6)
    net.node("LSTM", x, W, R, "", lengths, start, name="cell", outputs=["y"], hidden_size=6)
    y = net.node("ReduceSum", "y", net.integers(2), keepdims=0)
    return net.done(net.linear("head", y, 6, 4))


case("LSTM", "channels are the batch", recurrent_over_channels, groups=(8, 6))
case(
    "LSTM",
    "channels are the steps",
    recurrent_over_channels,
    steps=True,
    groups=(6,),
    blocked={"a.matmul": "steps along it"},
)


def reversed_rows() -> onnx.ModelProto:
    """ReverseSequence for which channels are the batch."""
    net = Graph()
    x = net.node("Transpose", net.linear("a", net.input("x", 4, 5, 3), 3, 8), perm=[0, 2, 1])
    y = net.node(
        "ReverseSequence", x, net.constant("lengths", np.arange(8) % 4 + 1), time_axis=0, batch_axis=1
    )
    y = net.node("Transpose", y, perm=[0, 2, 1])
    return net.done(net.linear("head", y, 8, 4))


case("ReverseSequence", "channels are the batch", reversed_rows, groups=(8,))


def cached_rows() -> onnx.ModelProto:
    """TensorScatter for which channels are the batch."""
    net = Graph(24)
    x = net.node("Transpose", net.linear("a", net.input("x", 4, 5, 3), 3, 8), perm=[2, 0, 1])
    y = net.node("TensorScatter", net.bias("past", 8, 6, 5), x, net.constant("at", np.arange(8) % 3), axis=1)
    y = net.node("Transpose", y, perm=[1, 2, 0])
    return net.done(net.linear("head", y, 8, 4))


case("TensorScatter", "channels are the batch", cached_rows, groups=(8,))


def started(op: str = "LSTM") -> onnx.ModelProto:
    """A recurrent layer that starts from an input of the model."""
    net = Graph()
    x = net.linear("a", net.input("x", 4, 2, 3), 3, 8)
    W, R = net.weight("W", 1, 24, 8, fan_in=8), net.weight("R", 1, 24, 6, fan_in=6)
    start = net.input("state", 1, 2, 6)
    net.node(op, x, W, R, "", "", start, name="cell", outputs=["y"], hidden_size=6)
    return net.done(net.linear("head", "y", 6, 4))


case("LSTM", "state is an input", started, groups=(8,), blocked={"cell": "starts from"})


def over_steps(op: str, domain: str = "", opset: int = 22, **attributes: Any) -> onnx.ModelProto:
    """Attention that steps along channels: [2, 16, 8] read as eight steps of width 16."""
    net = Graph(opset)
    x = net.node("Transpose", net.linear("a", net.input("x", 2, 16, 3), 3, 8), perm=[0, 2, 1])
    k, v = net.bias("k", 2, 8, 16), net.bias("v", 2, 8, 16)
    inputs, outputs = [x, k, v], ["y"]
    if op == "GroupQueryAttention":
        lengths = net.constant("lengths", np.full(2, 7, "i4"))
        inputs += ["", "", lengths, net.constant("total", np.array(8, "i4"))]
        outputs = ["y", "pk", "pv"]
    elif op == "RotaryEmbedding":
        cos, sin = net.bias("cos", 8, 8), net.bias("sin", 8, 8)
        at = net.constant("at", np.tile(np.arange(8), (2, 1)))
        inputs = [x, at, cos, sin] if domain else [x, cos, sin, at]
    elif op == "Attention" and domain:
        inputs = [x, net.weight("W", 16, 48, fan_in=16), net.bias("B", 48)]
    elif op == "LinearAttention":
        inputs, outputs = [x, k, v], ["y", "state"]
    y = net.node(op, *inputs, name="op", outputs=outputs, domain=domain, **attributes)
    return net.done(net.node("ReduceSum", y, net.integers(-1), keepdims=0), rank=2)


for _op, _why, _counts in (
    ("MultiHeadAttention", "attends along it", {"num_heads": 1}),
    ("GroupQueryAttention", "attends along it", {"num_heads": 1, "kv_num_heads": 1}),
    ("RotaryEmbedding", "counts positions along it", {"num_heads": 1}),
    ("Attention", "attends along it", {"num_heads": 4}),
    ("LinearAttention", "steps along it", {"q_num_heads": 1, "kv_num_heads": 1, "update_rule": "linear"}),
):
    case(
        f"com.microsoft::{_op}",
        "channels are steps",
        over_steps,
        _op,
        "com.microsoft",
        groups=(4,) if _op == "Attention" else (),
        blocked={"a.matmul": _why},
        **_counts,
    )


def given_query(
    op: str, domain: str = "", opset: int = 22, bias: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """Attention of which the query is an input of the model."""
    net = Graph(opset)
    x = net.input("x", 2, 4, 3)
    k, v = net.linear("k", x, 3, 16), net.linear("v", x, 3, 16)
    inputs = [net.input("q", 2, 4, 32 if op == "Attention" else 16), k, v]
    if bias:
        inputs.append(net.bias("bias", 48))
    y = net.node(op, *inputs, name="op", domain=domain, **attributes)
    return net.done(net.linear("head", y, 32 if op == "Attention" else 16, 4), rank=3)


case(
    "Attention",
    "query is an input",
    given_query,
    "Attention",
    opset=23,
    q_num_heads=4,
    kv_num_heads=2,
    groups=(8,),
    blocked={"k.matmul": "joins it with 'q'"},
)
case(
    "com.microsoft::MultiHeadAttention",
    "query is an input",
    given_query,
    "MultiHeadAttention",
    "com.microsoft",
    bias=True,
    num_heads=2,
    groups=(),
    blocked={"k.matmul": "adds its bias to channels that cannot go"},
)
