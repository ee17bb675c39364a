"""Small graphs of attention and of the operators that onnxruntime's optimizers write."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx

from .building import Case
from .cases_operators import Graph, enter

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)

BATCH, STEPS = 2, 4


def tokens(net: Graph, name: str, width: int) -> str:
    """A computed [batch, steps, width]."""
    if not net.inputs:
        net.input("x", BATCH, STEPS, 3)
    return net.linear(name, "x", 3, width)


def heads_first(net: Graph, name: str, heads: int, size: int) -> str:
    """A computed [batch, heads, steps, size]."""
    y = net.reshape(tokens(net, name, heads * size), 0, 0, heads, size)
    return net.node("Transpose", y, perm=[0, 2, 1, 3])


def attention(q: int = 4, kv: int = 4, size: int = 6, value: int = 6, flat: bool = True, mask: Sequence[int] = (), opset: int = 23, past: bool = False, free: bool = False, **attributes: Any) -> onnx.ModelProto:  # fmt: skip
    """Attention of ONNX between linear layers."""
    net = Graph(opset)
    if free:
        net.input("x", "batch", "steps", 3)
    if flat:
        inputs = [tokens(net, "q", q * size), tokens(net, "k", kv * size), tokens(net, "v", kv * value)]  # fmt: skip
        attributes |= {"q_num_heads": q, "kv_num_heads": kv}
    else:
        inputs = [heads_first(net, "q", q, size), heads_first(net, "k", kv, size), heads_first(net, "v", kv, value)]  # fmt: skip
    if mask or past:
        inputs.append(net.bias("mask", *mask) if mask else "")
    if past:
        inputs += [net.bias("past_k", BATCH, kv, 3, size), net.bias("past_v", BATCH, kv, 3, value)]
    outputs = ["y", "pk", "pv"] if past else ["y"]
    y = net.node("Attention", *inputs, name="attention", outputs=outputs, **attributes)
    if not flat:
        y = net.reshape(net.node("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, q * value)
    return net.done(net.linear("head", y, q * value, 4), rank=3)


WHOLE_HEADS = {f"{name}.matmul": "only whole blocks of a split go" for name in "kv"}

case("Attention", "multi-head", attention, groups=(4,))
case("Attention", "causal, masked per head", attention, mask=(1, 4, STEPS, STEPS), is_causal=1, groups=(4,))  # fmt: skip
case("Attention", "grouped query", attention, q=6, kv=2, groups=(2,))
case("Attention", "multi-query", attention, q=6, kv=1, groups=(6,), blocked=WHOLE_HEADS)
case("Attention", "values of another size", attention, value=4, groups=(4,))
case("Attention", "four dimensions", attention, flat=False, groups=(4,))
case("Attention", "four dimensions, grouped", attention, q=6, kv=2, flat=False, softcap=2.0, groups=(2,))  # fmt: skip
case("Attention", "free sizes", attention, q=6, kv=2, free=True, groups=(2,))
case("Attention", "free sizes, four dimensions", attention, flat=False, free=True, groups=(4,))
case("Attention", "single head", attention, q=1, kv=1, groups=(6, 6))
case("Attention", "scale and cache", attention, past=True, scale=0.3, kv=2, groups=(2,))


def linear_attention(q: int = 4, kv: int = 4, rule: str = "linear", wide_decay: bool = False, contrib: bool = False) -> onnx.ModelProto:  # fmt: skip
    """Linear attention with whatever its update rule needs."""
    net = Graph(22 if contrib else 27)
    inputs = [tokens(net, "q", q * 6), tokens(net, "k", kv * 6), tokens(net, "v", kv * 5), ""]
    if "gated" in rule:
        decay = net.node("Softplus", tokens(net, "decay", kv * 6 if wide_decay else kv))
        inputs.append(net.node("Neg", decay))
    if "delta" in rule:
        inputs.append(net.node("Sigmoid", tokens(net, "beta", kv)))
    add = net.ms if contrib else net.node
    y = add("LinearAttention", *inputs, name="attention", outputs=["y", "state"], update_rule=rule, q_num_heads=q, kv_num_heads=kv)  # fmt: skip
    return net.done(net.linear("head", y, q * 5, 4), rank=3)


case("com.microsoft::LinearAttention", "linear", linear_attention, contrib=True, groups=(4,))
case("com.microsoft::LinearAttention", "gated delta, grouped", linear_attention, kv=2, rule="gated_delta", contrib=True, groups=(2,))  # fmt: skip
reference("LinearAttention", "linear", linear_attention, groups=(4,))
reference("LinearAttention", "gated per dimension", linear_attention, rule="gated", wide_decay=True, groups=(4,))  # fmt: skip
reference("LinearAttention", "gated delta, grouped", linear_attention, q=4, kv=2, rule="gated_delta", groups=(2,))  # fmt: skip


def causal_conv(contrib: bool = False) -> onnx.ModelProto:
    """A causal depthwise convolution with a stored state."""
    net = Graph(22 if contrib else 27)
    x = net.conv("a", net.input("x", 2, 3, 7), 3, 8, rank=1)
    W, B = net.weight("W", 8, 1, 3), net.bias("B", 8)
    state = net.bias("state", 2, 8, 2)
    add = net.ms if contrib else net.node
    y = add("CausalConvWithState", x, W, B, state, outputs=["y", "next"], activation="silu")
    return net.done(net.conv("b", y, 8, 4, rank=1), rank=3)


case("com.microsoft::CausalConvWithState", "silu", causal_conv, contrib=True, groups=(8,))
reference("CausalConvWithState", "silu", causal_conv, groups=(8,))


def rotary(flat: bool = True, contrib: bool = False, part: int = 0, named: bool = True, **attributes: Any) -> onnx.ModelProto:  # fmt: skip
    """Rotary embedding of a query, then its scores against a key, which contract the dimensions."""
    net = Graph(23)
    heads, size = 4, 8
    half = (part or size) // 2
    angles = np.arange(STEPS)[:, None] / 10.0 ** np.arange(half)
    cos, sin = net.initializer("cos", np.cos(angles)), net.initializer("sin", np.sin(angles))
    positions = net.constant("positions", np.tile(np.arange(STEPS), (BATCH, 1)))
    x = tokens(net, "q", heads * size) if flat else heads_first(net, "q", heads, size)
    if part:
        attributes["rotary_embedding_dim"] = part
    if (flat and named) or (part and contrib):
        attributes["num_heads"] = heads
    if contrib:
        y = net.ms("RotaryEmbedding", x, positions, cos, sin, **attributes)
    else:
        y = net.node("RotaryEmbedding", x, cos, sin, positions, **attributes)
    if flat:
        return net.done(net.linear("head", y, heads * size, 4), rank=3)
    y = net.node("MatMul", y, net.node("Transpose", heads_first(net, "k", heads, size), perm=[0, 1, 3, 2]))  # fmt: skip
    y = net.node("Transpose", y, perm=[0, 2, 1, 3])
    return net.done(net.linear("head", net.reshape(y, 0, 0, heads * STEPS), heads * STEPS, 4), rank=3)  # fmt: skip


for _op in ("RotaryEmbedding", "com.microsoft::RotaryEmbedding"):
    _contrib = "::" in _op
    case(_op, "flat", rotary, contrib=_contrib, groups=(4,))
    case(_op, "heads", rotary, flat=False, contrib=_contrib, groups=(4,))
    case(_op, "interleaved", rotary, flat=False, contrib=_contrib, interleaved=1, groups=(4,))
    case(_op, "partial", rotary, flat=False, contrib=_contrib, part=4, groups=(4,))
case(_op, "head size from the cache", rotary, contrib=True, named=False, groups=(4,))


def multi_head(size: int = 6, value: int = 6, packing: str = "", bias: bool = False, past: bool = False, scores: bool = False, free: bool = False) -> onnx.ModelProto:  # fmt: skip
    """MultiHeadAttention of onnxruntime between linear layers."""
    net, heads = Graph(), 4
    if free:
        net.input("x", "batch", "steps", 3)
    if packing == "qkv":
        inputs = [net.reshape(tokens(net, "qkv", heads * 3 * size), 0, 0, heads, 3, size), "", ""]
    elif packing == "kv":
        kv = net.reshape(tokens(net, "kv", heads * 2 * size), 0, 0, heads, 2, size)
        inputs = [tokens(net, "q", heads * size), kv, ""]
    elif packing == "cross":
        inputs = [tokens(net, "q", heads * size), heads_first(net, "k", heads, size), heads_first(net, "v", heads, size)]  # fmt: skip
    else:
        inputs = [tokens(net, "q", heads * size), tokens(net, "k", heads * size), tokens(net, "v", heads * value)]  # fmt: skip
    inputs.append(net.bias("bias", heads * (2 * size + value)) if bias else "")
    inputs += ["", net.bias("scores", 1, heads, STEPS, STEPS) if scores else ""]
    if past:
        inputs += [net.bias(f"past_{x}", BATCH, heads, 3, size) for x in "kv"]
    outputs = ["y", "pk", "pv"] if past else ["y"]
    y = net.ms("MultiHeadAttention", *inputs, name="mha", outputs=outputs, num_heads=heads)
    if packing in ("qkv", "kv"):
        net.known(y, BATCH, STEPS, heads * size)
    return net.done(net.linear("head", y, heads * value, 4), rank=3)


case("com.microsoft::MultiHeadAttention", "separate", multi_head, groups=(4,))
case("com.microsoft::MultiHeadAttention", "bias, values of another size", multi_head, bias=True, value=4, groups=(4,))  # fmt: skip
case("com.microsoft::MultiHeadAttention", "scores per head", multi_head, scores=True, groups=(4,))
reference("com.microsoft::MultiHeadAttention", "packed query, key and value", multi_head, packing="qkv", groups=(4,))  # fmt: skip
reference("com.microsoft::MultiHeadAttention", "packed key and value", multi_head, packing="kv", groups=(4,))  # fmt: skip
case("com.microsoft::MultiHeadAttention", "cross attention", multi_head, packing="cross", groups=(4,))  # fmt: skip
case("com.microsoft::MultiHeadAttention", "free sizes", multi_head, free=True, groups=(4,))
case("com.microsoft::MultiHeadAttention", "cache", multi_head, past=True, groups=(4,))


def group_query(q: int = 4, kv: int = 2, size: int = 8, packing: bool = False, rotate: bool = False, sink: bool = False) -> onnx.ModelProto:  # fmt: skip
    """GroupQueryAttention of onnxruntime without a past."""
    net = Graph()
    if packing:
        inputs = [tokens(net, "qkv", (q + 2 * kv) * size), "", ""]
    else:
        inputs = [tokens(net, "q", q * size), tokens(net, "k", kv * size), tokens(net, "v", kv * size)]  # fmt: skip
    inputs += ["", "", net.constant("lengths", np.full(BATCH, STEPS - 1, "i4")), net.constant("total", np.array(STEPS, "i4"))]  # fmt: skip
    if rotate:
        angles = np.arange(STEPS)[:, None] / 10.0 ** np.arange(size // 2)
        inputs += [net.initializer("cos", np.cos(angles)), net.initializer("sin", np.sin(angles))]
    elif sink:
        inputs += ["", ""]
    if sink:
        inputs += ["", "", net.bias("sink", q)]
    y = net.ms("GroupQueryAttention", *inputs, name="gqa", outputs=["y", "pk", "pv"], num_heads=q, kv_num_heads=kv, do_rotary=int(rotate))  # fmt: skip
    return net.done(net.linear("head", y, q * size, 4), rank=3)


case("com.microsoft::GroupQueryAttention", "separate", group_query, groups=(2,))
case("com.microsoft::GroupQueryAttention", "packed", group_query, packing=True, groups=(2,))
case("com.microsoft::GroupQueryAttention", "rotary", group_query, size=16, rotate=True, groups=(2,))
case("com.microsoft::GroupQueryAttention", "packed, rotary, as many key heads", group_query, q=4, kv=4, size=16, packing=True, rotate=True, groups=(4,))  # fmt: skip
case("com.microsoft::GroupQueryAttention", "sink", group_query, sink=True, groups=(2,))


def projected(sizes: tuple[int, int, int] = (24, 24, 24), declare: bool = False, past: bool = False, scores: bool = False) -> onnx.ModelProto:  # fmt: skip
    """Attention of onnxruntime, which holds the projection of query, key and value."""
    net = Graph()
    x = tokens(net, "a", 10)
    inputs = [x, net.weight("W", 10, sum(sizes), fan_in=10), net.bias("B", sum(sizes)), ""]
    inputs.append(net.bias("past", 2, BATCH, 4, 3, sizes[0] // 4) if past else "")
    inputs.append(net.bias("scores", 1, 4, STEPS, STEPS) if scores else "")
    extra = {"qkv_hidden_sizes": list(sizes)} if declare else {}
    outputs = ["y", "present"] if past else ["y"]
    y = net.ms("Attention", *inputs, name="attention", outputs=outputs, num_heads=4, **extra)
    return net.done(net.linear("head", y, sizes[2], 4), rank=3)


case("com.microsoft::Attention", "equal sizes", projected, groups=(10, 4))
case("com.microsoft::Attention", "values of another size", projected, sizes=(24, 24, 16), declare=True, groups=(10, 4))  # fmt: skip
case("com.microsoft::Attention", "cache", projected, past=True, groups=(10, 4))
case("com.microsoft::Attention", "scores per head", projected, scores=True, groups=(10, 4))


# Other operators of onnxruntime's optimizers.


def bias_op(op: str, *extra: str, width: int = 8, **attributes: Any) -> onnx.ModelProto:
    """An operator on a computed [batch, steps, 8], a bias and what else it takes."""
    net = Graph()
    x = tokens(net, "a", 8)
    more = {"bias": lambda: net.bias("bias", 8), "skip": lambda: tokens(net, "skip", 8)}
    y = net.known(
        net.ms(op, x, *(more[name]() for name in extra), **attributes), BATCH, STEPS, width
    )
    return net.done(net.linear("head", y, width, 4))


for _op in ("Gelu", "QuickGelu", "ScaledSiLU"):
    case(f"com.microsoft::{_op}", "entries", bias_op, _op, groups=(8,))
case("com.microsoft::BiasGelu", "bias", bias_op, "BiasGelu", "bias", groups=(8,))
case("com.microsoft::FastGelu", "bias", bias_op, "FastGelu", "bias", groups=(8,))
case("com.microsoft::FastGelu", "no bias", bias_op, "FastGelu", groups=(8,))
reference("com.microsoft::BiasAdd", "skip", bias_op, "BiasAdd", "bias", "skip", groups=(8,))
reference("com.microsoft::BiasDropout", "skip", bias_op, "BiasDropout", "bias", "skip", groups=(8,))
reference("com.microsoft::BiasSplitGelu", "halves", bias_op, "BiasSplitGelu", "bias", width=4, groups=(4,))  # fmt: skip


def norm(op: str, skip: bool = True, bias: bool = True, total: bool = False, **attributes: Any) -> onnx.ModelProto:  # fmt: skip
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
case("SimplifiedLayerNormalization", "last axis", norm, "SimplifiedLayerNormalization", skip=False, axis=-1, groups=(8,))  # fmt: skip
case("RMSNormalization", "last axis", norm, "RMSNormalization", skip=False, axis=-1, opset=23, groups=(8,))  # fmt: skip


def embedding() -> onnx.ModelProto:
    """EmbedLayerNormalization with word, position and segment tables."""
    net = Graph()
    ids = net.feed("ids", onnx.TensorProto.INT32, BATCH, STEPS)
    segments = net.feed("segments", onnx.TensorProto.INT32, BATCH, STEPS)
    tables = [net.weight(name, rows, 8) for name, rows in (("word", 20), ("position", 6), ("segment", 2))]  # fmt: skip
    y = net.ms("EmbedLayerNormalization", ids, segments, *tables, net.gain("gamma", 8), net.bias("beta", 8), outputs=["y", "mask"])  # fmt: skip
    return net.done(net.linear("head", y, 8, 4), rank=3)


case("com.microsoft::EmbedLayerNormalization", "three tables", embedding, groups=(8,))


def table() -> onnx.ModelProto:
    """An embedding of PyTorch."""
    net = Graph()
    ids = net.feed("ids", onnx.TensorProto.INT64, BATCH, STEPS)
    y = net.known(net.ms("TorchEmbedding", net.weight("table", 20, 8), ids), BATCH, STEPS, 8)
    return net.done(net.linear("head", y, 8, 4))


reference("com.microsoft::TorchEmbedding", "table", table, groups=(8,))


def fused_matmul(op: str = "FusedMatMul", stored: bool = False, **attributes: Any) -> onnx.ModelProto:  # fmt: skip
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
case("com.microsoft::FusedMatMul", "stored, transposed", fused_matmul, stored=True, transB=1, groups=(6, 8))  # fmt: skip
case("com.microsoft::FusedMatMul", "both transposed", fused_matmul, transA=1, transB=1, groups=(6,))
case("com.microsoft::FusedMatMul", "batch transposed", fused_matmul, transBatchA=1, transB=1, groups=(6,))  # fmt: skip
case("com.microsoft::FusedMatMul", "batch and rows transposed", fused_matmul, transBatchA=1, transA=1, transB=1, groups=(6,))  # fmt: skip
case("com.microsoft::TransposeMatMul", "scores", fused_matmul, op="TransposeMatMul", transB=1, groups=(6,))  # fmt: skip


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
    y = net.ms("FusedConv", *inputs, name="fused", group=group, pads=[1] * 4, kernel_shape=[3, 3], activation="Relu")  # fmt: skip
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
        y = net.ms("SkipGroupNorm", x, *vectors, step, net.bias("bias", 12), outputs=["y", "s"], groups=4, activation=0)  # fmt: skip
        y = net.node("Add", net.known("y", 2, 4, 4, 12), net.known("s", 2, 4, 4, 12))
    return net.done(net.linear("head", net.known(y, 2, 4, 4, 12), 12, 4))


reference("com.microsoft::GroupNorm", "channels last", group_norm, groups=(4,))
reference("com.microsoft::SkipGroupNorm", "channels last", group_norm, skip=True, groups=(4,))


def relative_position_bias() -> onnx.ModelProto:
    """A bias of heads on scores."""
    net = Graph()
    length = net.constant("length", np.array(STEPS))
    bias = net.ms(
        "RelativePositionBias", net.weight("buckets", 8, 4), length, length, max_distance=8
    )
    net.known(bias, 1, 4, STEPS, STEPS)
    q, k, v = (heads_first(net, name, 4, 6) for name in "qkv")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = net.node("Softmax", net.node("Add", scores, bias), axis=-1)
    y = net.node("Transpose", net.node("MatMul", scores, v), perm=[0, 2, 1, 3])
    return net.done(net.linear("head", net.reshape(y, 0, 0, 24), 24, 4), rank=3)


reference("com.microsoft::RelativePositionBias", "heads", relative_position_bias, groups=(4,))


def bias_softmax() -> onnx.ModelProto:
    """Masked scores of computed heads."""
    net = Graph()
    q, k = (heads_first(net, name, 4, 6) for name in "qk")
    scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 1, 3, 2]))
    mask = net.bias("mask", BATCH, 1, 1, STEPS)
    y = net.ms("BiasSoftmax", scores, mask, axis=3, is_inner_broadcast=0)
    y = net.node("MatMul", net.known(y, BATCH, 4, STEPS, STEPS), heads_first(net, "v", 4, 6))
    y = net.reshape(net.node("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, 24)
    return net.done(net.linear("head", y, 24, 4))


reference("com.microsoft::BiasSoftmax", "heads", bias_softmax, groups=(4,))


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
        y = net.node(
            "Squeeze", net.ms(op, x, net.constant("axis", np.array(1, "i4"))), net.integers(1)
        )
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
