"""Small graphs of the other operators that onnxruntime's optimizers write."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx

from .building import Case
from .cases_attention import BATCH, STEPS, heads_first, tokens
from .cases_operators import Graph, enter

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)


def bias_op(op: str, *extra: str, width: int = 8, **attributes: Any) -> onnx.ModelProto:
    """An operator on a computed [batch, steps, 8], a bias and what else it takes."""
    net = Graph()
    x = tokens(net, "a", 8)
    more = {"bias": lambda: net.bias("bias", 8), "skip": lambda: tokens(net, "skip", 8)}
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


def norm(
    op: str, skip: bool = True, bias: bool = True, total: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """A normalization of onnxruntime with a residual, and its sum as a second output."""
    net = Graph(attributes.pop("opset", 22))
    x = tokens(net, "a", 8)
    inputs = [x, tokens(net, "skip", 8)] if skip else [x]
    inputs.append(net.gain("gamma", 8))
    if op == "SkipLayerNormalization":
        inputs.append(net.bias("beta", 8))
    if skip and bias:
        inputs.append(net.bias("bias", 8))
    outputs = ["y", "", "", "sum"] if total else ["y"]
    add = net.ms if skip else net.node
    y = add(op, *inputs, outputs=outputs, **attributes)
    if total:
        y = net.node("Add", y, "sum")
    return net.done(net.linear("head", y, 8, 4), rank=3)


for _op in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"):
    case(f"com.microsoft::{_op}", "bias and sum", norm, _op, total=True, groups=(8,))
    case(f"com.microsoft::{_op}", "no bias", norm, _op, bias=False, groups=(8,))
case(
    "SimplifiedLayerNormalization",
    "last axis",
    norm,
    "SimplifiedLayerNormalization",
    skip=False,
    axis=-1,
    groups=(8,),
)
case("RMSNormalization", "last axis", norm, "RMSNormalization", skip=False, axis=-1, opset=23, groups=(8,))


def embedding() -> onnx.ModelProto:
    """EmbedLayerNormalization with word, position and segment tables."""
    net = Graph()
    ids = net.feed("ids", onnx.TensorProto.INT32, BATCH, STEPS)
    segments = net.feed("segments", onnx.TensorProto.INT32, BATCH, STEPS)
    tables = [net.weight(name, rows, 8) for name, rows in (("word", 20), ("position", 6), ("segment", 2))]
    y = net.ms(
        "EmbedLayerNormalization",
        ids,
        segments,
        *tables,
        net.gain("gamma", 8),
        net.bias("beta", 8),
        outputs=["y", "mask"],
    )
    return net.done(net.linear("head", y, 8, 4), rank=3)


case("com.microsoft::EmbedLayerNormalization", "three tables", embedding, groups=(8,))


def table() -> onnx.ModelProto:
    """An embedding of PyTorch."""
    net = Graph()
    ids = net.feed("ids", onnx.TensorProto.INT64, BATCH, STEPS)
    y = net.known(net.ms("TorchEmbedding", net.weight("table", 20, 8), ids), BATCH, STEPS, 8)
    return net.done(net.linear("head", y, 8, 4))


reference("com.microsoft::TorchEmbedding", "table", table, groups=(8,))


def fused_matmul(op: str = "FusedMatMul", stored: bool = False, **attributes: Any) -> onnx.ModelProto:
    """A product of two computed tensors, or of one with a stored weight."""
    net = Graph()
    a = tokens(net, "a", 6)
    if attributes.get("transA") and not attributes.get("transBatchA"):
        a = net.node("Transpose", a, perm=[0, 2, 1])
    if attributes.get("transBatchA"):
        order = [2, 0, 1] if attributes.get("transA") else [1, 0, 2]
        a = net.node("Transpose", a, perm=order)
    if stored:
        W = net.weight("W", 8, 6, fan_in=6) if attributes.get("transB") else net.weight("W", 6, 8)
        y = net.ms(op, a, W, alpha=0.5, **attributes)
    else:
        b = tokens(net, "b", 6)
        b = b if attributes.get("transB") else net.node("Transpose", b, perm=[0, 2, 1])
        y = net.ms(op, a, b, alpha=0.5, **attributes)
    return net.done(net.linear("head", y, 8 if stored else STEPS, 4), rank=3)


case("com.microsoft::FusedMatMul", "scores", fused_matmul, transB=1, groups=(6,))
case("com.microsoft::FusedMatMul", "stored", fused_matmul, stored=True, groups=(6, 8))
case("com.microsoft::FusedMatMul", "stored, transposed", fused_matmul, stored=True, transB=1, groups=(6, 8))
case("com.microsoft::FusedMatMul", "both transposed", fused_matmul, transA=1, transB=1, groups=(6,))
case("com.microsoft::FusedMatMul", "batch transposed", fused_matmul, transBatchA=1, transB=1, groups=(6,))
case(
    "com.microsoft::FusedMatMul",
    "batch and rows transposed",
    fused_matmul,
    transBatchA=1,
    transA=1,
    transB=1,
    groups=(6,),
)
case("com.microsoft::TransposeMatMul", "scores", fused_matmul, op="TransposeMatMul", transB=1, groups=(6,))


def fused_gemm() -> onnx.ModelProto:
    """Gemm with an activation."""
    net = Graph()
    x = net.gemm("a", net.input("x", 2, 3), 3, 8)
    W, B = net.weight("W", 6, 8), net.bias("B", 6)
    y = net.ms("FusedGemm", x, W, B, transB=1, activation="Relu", name="fused")
    return net.done(net.gemm("b", y, 6, 4), rank=2)


case("com.microsoft::FusedGemm", "relu", fused_gemm, groups=(8, 6))


def gelu_gemm() -> onnx.ModelProto:
    """A linear layer with its activation."""
    net = Graph()
    W, B = net.weight("W", 8, 6, fan_in=8), net.bias("B", 6)
    y = net.known(net.ms("GemmFastGelu", tokens(net, "a", 8), W, B), BATCH, STEPS, 6)
    return net.done(net.linear("head", y, 6, 4))


reference("com.microsoft::GemmFastGelu", "linear", gelu_gemm, groups=(8, 6))


def fused_conv(group: int = 1, residual: bool = True) -> onnx.ModelProto:
    """Convolution with a residual and an activation."""
    net = Graph()
    x = net.conv("a", net.input("x", 2, 3, 5, 5), 3, 8)
    inputs = [x, net.weight("W", 12, 8 // group, 3, 3), net.bias("B", 12)]
    if residual:
        inputs.append(net.conv("r", "x", 3, 12))
    y = net.ms(
        "FusedConv", *inputs, name="fused", group=group, pads=[1] * 4, kernel_shape=[3, 3], activation="Relu"
    )
    return net.done(net.conv("b", y, 12, 4), rank=4)


case("com.microsoft::FusedConv", "residual", fused_conv, groups=(8, 12))
case("com.microsoft::FusedConv", "groups", fused_conv, group=2, residual=False, groups=(4, 6))


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


def expanded(op: str) -> onnx.ModelProto:
    """Operators of com.microsoft that move entries."""
    net = Graph()
    x = tokens(net, "a", 8)
    if op == "ExpandDims":
        y = net.node("Squeeze", net.ms(op, x, net.constant("axis", np.array(1, "i4"))), net.integers(1))
    elif op == "GatedAdd":
        y = net.ms(op, x, tokens(net, "b", 8), net.node("Sigmoid", tokens(net, "gate", 1)))
    elif op == "Pad":
        y = net.ms(op, x, net.integers(0, 1, 0, 0, 0, 2))
        return net.done(net.linear("head", y, 10, 4), rank=3)
    else:
        square = net.reshape(net.linear("m", "x", 3, 18), BATCH * STEPS, 9, 2)
        square = net.node("MatMul", square, net.node("Transpose", square, perm=[0, 2, 1]))
        eye = net.initializer("eye", np.eye(9) * 5)
        square = net.ms("Inverse", net.node("Add", square, eye))
        square = net.node("ReduceMean", square, net.integers(1, 2), keepdims=0)
        y = net.node("Mul", x, net.reshape(square, BATCH, STEPS, 1))
    return net.done(net.linear("head", y, 8, 4), rank=3)


for _op in ("ExpandDims", "GatedAdd", "Pad"):
    case(f"com.microsoft::{_op}", "moved", expanded, _op, groups=(8,))
case("com.microsoft::Inverse", "moved", expanded, "Inverse", groups=(8, 2))
