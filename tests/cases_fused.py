"""Small graphs of the other operators that onnxruntime's optimizers write."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx

from .building import Case
from .building_nodes import BATCH, STEPS, Graph, enter, heads_first, microsoft, sequence

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)


def bias_op(op: str, *extra: str, width: int = 8, **attributes: Any) -> onnx.ModelProto:
    """An operator on a computed [batch, steps, 8], a bias and what else it takes."""
    net = Graph()
    x = sequence(net, "a", 8)
    more = {"bias": lambda: net.bias("bias", 8), "skip": lambda: sequence(net, "skip", 8)}
    y = net.known(net.ms(op, x, *(more[name]() for name in extra), **attributes), BATCH, STEPS, width)
    return net.done(net.linear("head", y, width, 4))


for _op in ("Gelu", "QuickGelu", "ScaledSiLU"):
    case(f"com.microsoft::{_op}", "entries", bias_op, _op, groups=(8,))

case("com.microsoft::BiasGelu", "bias", bias_op, "BiasGelu", "bias", groups=(8,))
case("com.microsoft::FastGelu", "bias", bias_op, "FastGelu", "bias", groups=(8,))
case("com.microsoft::FastGelu", "no bias", bias_op, "FastGelu", groups=(8,))
reference("com.microsoft::BiasAdd", "skip", bias_op, "BiasAdd", "bias", "skip", groups=(8,))
reference("com.microsoft::BiasDropout", "skip", bias_op, "BiasDropout", "bias", "skip", groups=(8,))
reference("com.microsoft::BiasSplitGelu", "halves", bias_op, "BiasSplitGelu", "bias", width=4, groups=(4,))


def table() -> onnx.ModelProto:
    """An embedding of PyTorch."""
    net = Graph()
    ids = net.feed("ids", onnx.TensorProto.INT64, BATCH, STEPS)
    y = net.known(net.ms("TorchEmbedding", net.weight("table", 20, 8), ids), BATCH, STEPS, 8)
    return net.done(net.linear("head", y, 8, 4))


reference("com.microsoft::TorchEmbedding", "table", table, groups=(8,))


def gelu_gemm() -> onnx.ModelProto:
    """A linear layer with its activation."""
    net = Graph()
    W, B = net.weight("W", 8, 6, fan_in=8), net.bias("B", 6)
    y = net.known(net.ms("GemmFastGelu", sequence(net, "a", 8), W, B), BATCH, STEPS, 6)
    return net.done(net.linear("head", y, 6, 4))


reference("com.microsoft::GemmFastGelu", "linear", gelu_gemm, groups=(8, 6))


def nhwc_conv(op: str, group: int = 1) -> onnx.ModelProto:
    """A channels-last convolution between linear layers."""
    net = Graph()
    x = net.linear("a", net.input("x", 2, 4, 4, 3), 3, 8)
    inputs = [x, net.weight("W", 12, 8 // group, 1, 1), net.bias("B", 12)]
    if op == "NhwcFusedConv":
        inputs.append(net.linear("r", "x", 3, 12))
    y = net.known(net.ms(op, *inputs, name="conv", group=group), 2, 4, 4, 12)
    return net.done(net.linear("head", y, 12, 4))


reference("com.microsoft::NhwcConv", "dense", nhwc_conv, "NhwcConv", groups=(8, 12))
reference("com.microsoft::NhwcConv", "groups", nhwc_conv, "NhwcConv", group=2, groups=(4, 6))
reference("com.microsoft::NhwcConv", "many groups", nhwc_conv, "NhwcConv", group=4, groups=(2, 3))
reference("com.microsoft::NhwcFusedConv", "residual", nhwc_conv, "NhwcFusedConv", groups=(8, 12))


def group_norm(skip: bool = False) -> onnx.ModelProto:
    """Group normalization of channels-last images."""
    net = Graph()
    x = net.linear("a", net.input("x", 2, 4, 4, 3), 3, 12)
    vectors = [net.gain("gamma", 12), net.bias("beta", 12)]
    if not skip:
        y = net.ms("GroupNorm", x, *vectors, groups=4, activation=0)
    else:
        step = net.linear("skip", net.input("t", 2, 3), 3, 12)
        y = net.ms(
            "SkipGroupNorm",
            x,
            *vectors,
            step,
            net.bias("bias", 12),
            outputs=["y", "s"],
            groups=4,
            activation=0,
        )
        y = net.node("Add", net.known("y", 2, 4, 4, 12), net.known("s", 2, 4, 4, 12))
    return net.done(net.linear("head", net.known(y, 2, 4, 4, 12), 12, 4))


reference("com.microsoft::GroupNorm", "channels last", group_norm, groups=(4,))
reference("com.microsoft::SkipGroupNorm", "channels last", group_norm, skip=True, groups=(4,))


def relative_position_bias() -> onnx.ModelProto:
    """A bias of heads on scores."""
    net = Graph()
    length = net.constant("length", np.array(STEPS))
    bias = net.ms("RelativePositionBias", net.weight("buckets", 8, 4), length, length, max_distance=8)
    net.known(bias, 1, 4, STEPS, STEPS)
    q, k, v = (heads_first(net, name, 4, 6) for name in "qkv")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = net.node("Softmax", net.node("Add", scores, bias), axis=-1)
    y = net.node("Transpose", net.node("MatMul", scores, v), perm=[0, 2, 1, 3])
    return net.done(net.linear("head", net.reshape(y, 0, 0, 24), 24, 4), rank=3)


reference("com.microsoft::RelativePositionBias", "heads", relative_position_bias, groups=(4,))


def bias_softmax(axis: int = 3) -> onnx.ModelProto:
    """Masked scores of computed heads."""
    net = Graph()
    q, k = (heads_first(net, name, 4, 6) for name in "qk")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    mask = net.bias("mask", BATCH, 1, 1, STEPS)
    y = net.ms("BiasSoftmax", scores, mask, axis=axis, is_inner_broadcast=0)
    y = net.node("MatMul", net.known(y, BATCH, 4, STEPS, STEPS), heads_first(net, "v", 4, 6))
    y = net.reshape(net.node("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, 24)
    return net.done(net.linear("head", y, 24, 4))


reference("com.microsoft::BiasSoftmax", "heads", bias_softmax, groups=(4,))
reference("com.microsoft::BiasSoftmax", "over heads", bias_softmax, axis=1, groups=(6, 6))


def pair(op: str, **attributes: Any) -> onnx.ModelProto:
    """Distances between the rows of two computed matrices."""
    net = Graph()
    a = net.linear("a", net.input("x", 6, 3), 3, 8)
    b = net.linear("b", net.input("y", 5, 3), 3, 8)
    return net.done(net.linear("head", net.ms(op, a, b, **attributes), 5, 4), rank=2)


case("com.microsoft::CDist", "euclidean", pair, "CDist", metric="euclidean", groups=(8,))


def gated() -> onnx.ModelProto:
    """A sum with a gate."""
    net = Graph()
    x = sequence(net, "a", 8)
    y = net.ms("GatedAdd", x, sequence(net, "b", 8), net.node("Sigmoid", sequence(net, "gate", 1)))
    return net.done(net.linear("head", y, 8, 4), rank=3)


def inverted() -> onnx.ModelProto:
    """Inverses of computed matrices weigh the steps."""
    net = Graph()
    x = sequence(net, "a", 8)
    square = net.reshape(net.linear("m", "x", 3, 18), BATCH * STEPS, 9, 2)
    square = net.node("MatMul", square, net.node("Transpose", square, perm=[0, 2, 1]))
    eye = net.initializer("eye", np.eye(9) * 5)
    square = net.ms("Inverse", net.node("Add", square, eye))
    square = net.node("ReduceMean", square, net.integers(1, 2), keepdims=0)
    y = net.node("Mul", x, net.reshape(square, BATCH, STEPS, 1))
    return net.done(net.linear("head", y, 8, 4), rank=3)


case("com.microsoft::GatedAdd", "moved", gated, groups=(8,))
case("com.microsoft::Inverse", "moved", inverted, groups=(8, 2))
case("com.microsoft::SampleOp", "images", microsoft, "SampleOp", groups=(8,))


def pooled() -> onnx.ModelProto:
    """A channels-last pool between linear layers."""
    net = Graph()
    x = net.linear("a", net.input("x", 2, 4, 4, 3), 3, 8)
    y = net.known(net.ms("NhwcMaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 2, 2, 2, 8)
    return net.done(net.linear("head", y, 8, 4))


reference("com.microsoft::NhwcMaxPool", "images", pooled, groups=(8,))
