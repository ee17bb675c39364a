"""Small graphs of attention: of ONNX, and as onnxruntime's optimizers write it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx

from .building import Case
from .building_nodes import BATCH, STEPS, Graph, enter, heads_first, sequence

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)


def attention(
    q: int = 4,
    kv: int = 4,
    size: int = 6,
    value: int = 6,
    flat: bool = True,
    mask: Sequence[int] = (),
    opset: int = 23,
    past: bool = False,
    free: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """Attention of ONNX between linear layers."""
    net = Graph(opset)
    if free:
        net.input("x", "batch", "steps", 3)
    if flat:
        inputs = [sequence(net, "q", q * size), sequence(net, "k", kv * size), sequence(net, "v", kv * value)]
        attributes |= {"q_num_heads": q, "kv_num_heads": kv}
    else:
        inputs = [
            heads_first(net, "q", q, size),
            heads_first(net, "k", kv, size),
            heads_first(net, "v", kv, value),
        ]
    if mask or past:
        inputs.append(net.bias("mask", *mask) if mask else "")
    if past:
        inputs += [net.bias("past_k", BATCH, kv, 3, size), net.bias("past_v", BATCH, kv, 3, value)]
    outputs = ["y", "pk", "pv"] if past else ["y"]
    y = net.node("Attention", *inputs, name="attention", outputs=outputs, **attributes)
    if not flat:
        y = net.reshape(net.node("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, q * value)
    return net.done(net.linear("head", y, q * value, 4), rank=3)


def spelt_out(op: str) -> onnx.ModelProto:
    """Attention by MatMul or Einsum, with values of another size than keys."""
    net = Graph(17)
    q, k, v = (heads_first(net, name, 4, size) for name, size in (("q", 6), ("k", 6), ("v", 5)))
    if op == "Einsum":
        weights = net.node("Softmax", net.node(op, q, k, equation="bhtd,bhsd->bhts"), axis=-1)
        y = net.node(op, weights, v, equation="bhts,bhsd->bhtd")
    else:
        weights = net.node("Softmax", net.node(op, q, net.node("Transpose", k, perm=[0, 1, 3, 2])))
        y = net.node(op, weights, v)
    y = net.reshape(net.node("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, 20)
    return net.done(net.linear("head", y, 20, 4), rank=3)


case("MatMul", "attention spelt out", spelt_out, op="MatMul", groups=(4,))
case("Einsum", "attention spelt out", spelt_out, op="Einsum", groups=(4,))

WHOLE_HEADS = {f"{name}.matmul": "only whole blocks of a split go" for name in "kv"}

case("Attention", "multi-head", attention, groups=(4,))
case("Attention", "causal, masked per head", attention, mask=(1, 4, STEPS, STEPS), is_causal=1, groups=(4,))
case("Attention", "grouped query", attention, q=6, kv=2, groups=(2,))
case("Attention", "multi-query", attention, q=6, kv=1, groups=(6,), blocked=WHOLE_HEADS)
case("Attention", "values of another size", attention, value=4, groups=(4,))
case("Attention", "four dimensions", attention, flat=False, groups=(4,))
case("Attention", "four dimensions, grouped", attention, q=6, kv=2, flat=False, softcap=2.0, groups=(2,))
case("Attention", "free sizes", attention, q=6, kv=2, free=True, groups=(2,))
case("Attention", "free sizes, four dimensions", attention, flat=False, free=True, groups=(4,))
case("Attention", "single head", attention, q=1, kv=1, groups=(6, 6))
case("Attention", "scale and cache", attention, past=True, scale=0.3, kv=2, groups=(2,))


def linear_attention(
    q: int = 4,
    kv: int = 4,
    rule: str = "linear",
    wide_decay: bool = False,
    contrib: bool = False,
    past: bool = False,
) -> onnx.ModelProto:
    """Linear attention with whatever its update rule needs."""
    net = Graph(22 if contrib else 27)
    inputs = [sequence(net, "q", q * 6), sequence(net, "k", kv * 6), sequence(net, "v", kv * 5)]
    inputs.append(net.bias("past", BATCH, kv, 6, 5) if past else "")
    if "gated" in rule:
        decay = net.node("Softplus", sequence(net, "decay", kv * 6 if wide_decay else kv))
        inputs.append(net.node("Neg", decay))
    if "delta" in rule:
        inputs += [""] * (4 - len(inputs) + 1)
        inputs.append(net.node("Sigmoid", sequence(net, "beta", kv)))
    add = net.ms if contrib else net.node
    y = add(
        "LinearAttention",
        *inputs,
        name="attention",
        outputs=["y", "state"],
        update_rule=rule,
        q_num_heads=q,
        kv_num_heads=kv,
    )
    return net.done(net.linear("head", y, q * 5, 4), rank=3)


case(
    "com.microsoft::LinearAttention",
    "state",
    linear_attention,
    contrib=True,
    past=True,
    rule="delta",
    groups=(4,),
)
reference("LinearAttention", "state", linear_attention, past=True, rule="delta", groups=(4,))
case("com.microsoft::LinearAttention", "linear", linear_attention, contrib=True, groups=(4,))
case(
    "com.microsoft::LinearAttention",
    "gated delta, grouped",
    linear_attention,
    kv=2,
    rule="gated_delta",
    contrib=True,
    groups=(2,),
)
reference("LinearAttention", "linear", linear_attention, groups=(4,))
reference(
    "LinearAttention", "gated per dimension", linear_attention, rule="gated", wide_decay=True, groups=(4,)
)
reference(
    "LinearAttention", "gated delta, grouped", linear_attention, q=4, kv=2, rule="gated_delta", groups=(2,)
)


def causal_conv(contrib: bool = False, last: bool = False) -> onnx.ModelProto:
    """A causal depthwise convolution with a stored state; channels first or last."""
    net = Graph(22 if contrib else 27)
    x = net.conv("a", net.input("x", 2, 3, 7), 3, 8, rank=1)
    W, B = net.weight("W", 8, 1, 3), net.bias("B", 8)
    state = net.bias("state", 2, 2, 8) if last else net.bias("state", 2, 8, 2)
    add = net.ms if contrib else net.node
    extra: dict[str, Any] = {"channels_last": 1} if last else {}
    x = net.node("Transpose", x, perm=[0, 2, 1]) if last else x
    y = add("CausalConvWithState", x, W, B, state, outputs=["y", "next"], activation="silu", **extra)
    y = net.node("Transpose", y, perm=[0, 2, 1]) if last else y
    return net.done(net.conv("b", y, 8, 4, rank=1), rank=3)


case("com.microsoft::CausalConvWithState", "silu", causal_conv, contrib=True, groups=(8,))
case(
    "com.microsoft::CausalConvWithState",
    "channels last",
    causal_conv,
    contrib=True,
    last=True,
    groups=(),
    blocked={"a": "has another layout"},
)
reference("CausalConvWithState", "silu", causal_conv, groups=(8,))


def rotary(
    flat: bool = True, contrib: bool = False, part: int = 0, named: bool = True, **attributes: Any
) -> onnx.ModelProto:
    """Rotary embedding of a query, then its scores against a key, which contract the dimensions."""
    net = Graph(23)
    heads, size = 4, 8
    half = (part or size) // 2
    angles = np.arange(STEPS)[:, None] / 10.0 ** np.arange(half)
    cos, sin = net.initializer("cos", np.cos(angles)), net.initializer("sin", np.sin(angles))
    positions = net.constant("positions", np.tile(np.arange(STEPS), (BATCH, 1)))
    x = sequence(net, "q", heads * size) if flat else heads_first(net, "q", heads, size)
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
    y = net.node("MatMul", y, net.node("Transpose", heads_first(net, "k", heads, size), perm=[0, 1, 3, 2]))
    y = net.node("Transpose", y, perm=[0, 2, 1, 3])
    return net.done(net.linear("head", net.reshape(y, 0, 0, heads * STEPS), heads * STEPS, 4), rank=3)


for _op in ("RotaryEmbedding", "com.microsoft::RotaryEmbedding"):
    _contrib = "::" in _op
    case(_op, "flat", rotary, contrib=_contrib, groups=(4,))
    case(_op, "heads", rotary, flat=False, contrib=_contrib, groups=(4,))
    case(_op, "interleaved", rotary, flat=False, contrib=_contrib, interleaved=1, groups=(4,))
    case(_op, "flat, partial", rotary, contrib=_contrib, part=4, groups=(4,))
    case(_op, "partial", rotary, flat=False, contrib=_contrib, part=4, groups=(4,))
case(_op, "head size from the cache", rotary, contrib=True, named=False, groups=(4,))


def multi_head(
    size: int = 6,
    value: int = 6,
    packing: str = "",
    bias: bool = False,
    past: bool = False,
    scores: bool = False,
    free: bool = False,
) -> onnx.ModelProto:
    """MultiHeadAttention of onnxruntime between linear layers."""
    net, heads = Graph(), 4
    if free:
        net.input("x", "batch", "steps", 3)
    if packing == "qkv":
        inputs = [net.reshape(sequence(net, "qkv", heads * 3 * size), 0, 0, heads, 3, size), "", ""]
    elif packing == "kv":
        kv = net.reshape(sequence(net, "kv", heads * 2 * size), 0, 0, heads, 2, size)
        inputs = [sequence(net, "q", heads * size), kv, ""]
    elif packing == "cross":
        inputs = [
            sequence(net, "q", heads * size),
            heads_first(net, "k", heads, size),
            heads_first(net, "v", heads, size),
        ]
    else:
        inputs = [
            sequence(net, "q", heads * size),
            sequence(net, "k", heads * size),
            sequence(net, "v", heads * value),
        ]
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
case(
    "com.microsoft::MultiHeadAttention",
    "bias, values of another size",
    multi_head,
    bias=True,
    value=4,
    groups=(4,),
)
case("com.microsoft::MultiHeadAttention", "scores per head", multi_head, scores=True, groups=(4,))
reference(
    "com.microsoft::MultiHeadAttention", "packed query, key and value", multi_head, packing="qkv", groups=(4,)
)
reference("com.microsoft::MultiHeadAttention", "packed key and value", multi_head, packing="kv", groups=(4,))
case("com.microsoft::MultiHeadAttention", "cross attention", multi_head, packing="cross", groups=(4,))
case("com.microsoft::MultiHeadAttention", "free sizes", multi_head, free=True, groups=(4,))
case("com.microsoft::MultiHeadAttention", "cache", multi_head, past=True, groups=(4,))


def group_query(
    q: int = 4,
    kv: int = 2,
    size: int = 8,
    packing: bool = False,
    rotate: bool = False,
    sink: bool = False,
    past: int = 0,
    scores: bool = False,
) -> onnx.ModelProto:
    """GroupQueryAttention of onnxruntime."""
    net, batch = Graph(), 1 if past else BATCH
    net.input("x", batch, STEPS, 3)
    if packing:
        inputs = [sequence(net, "qkv", (q + 2 * kv) * size), "", ""]
    else:
        inputs = [sequence(net, "q", q * size), sequence(net, "k", kv * size), sequence(net, "v", kv * size)]
    inputs += [net.bias(f"past_{x}", batch, kv, past, size) if past else "" for x in "kv"]
    total = past + STEPS
    inputs += [
        net.constant("lengths", np.full(batch, total - 1, "i4")),
        net.constant("total", np.array(total, "i4")),
    ]
    angles = np.arange(STEPS)[:, None] / 10.0 ** np.arange(size // 2)
    inputs += [net.initializer(f.__name__, f(angles)) if rotate else "" for f in (np.cos, np.sin)]
    inputs += ["", net.bias("scores", 1, q, STEPS, total) if scores else ""]
    inputs.append(net.bias("sink", q) if sink else "")
    y = net.ms(
        "GroupQueryAttention",
        *inputs,
        name="gqa",
        outputs=["y", "pk", "pv"],
        num_heads=q,
        kv_num_heads=kv,
        do_rotary=int(rotate),
    )
    return net.done(net.linear("head", y, q * size, 4), rank=3)


case("com.microsoft::GroupQueryAttention", "cache", group_query, past=3, groups=(2,))
case("com.microsoft::GroupQueryAttention", "scores per head", group_query, scores=True, groups=(2,))
case("com.microsoft::GroupQueryAttention", "separate", group_query, groups=(2,))
case("com.microsoft::GroupQueryAttention", "packed", group_query, packing=True, groups=(2,))
case("com.microsoft::GroupQueryAttention", "rotary", group_query, size=16, rotate=True, groups=(2,))
case(
    "com.microsoft::GroupQueryAttention",
    "packed, rotary, as many key heads",
    group_query,
    q=4,
    kv=4,
    size=16,
    packing=True,
    rotate=True,
    groups=(4,),
)
case("com.microsoft::GroupQueryAttention", "sink", group_query, sink=True, groups=(2,))


def projected(
    sizes: tuple[int, int, int] = (24, 24, 24),
    declare: bool = False,
    past: bool = False,
    scores: bool = False,
) -> onnx.ModelProto:
    """Attention of onnxruntime, which holds the projection of query, key and value."""
    net = Graph()
    x = sequence(net, "a", 10)
    inputs = [x, net.weight("W", 10, sum(sizes), fan_in=10), net.bias("B", sum(sizes)), ""]
    inputs.append(net.bias("past", 2, BATCH, 4, 3, sizes[0] // 4) if past else "")
    inputs.append(net.bias("scores", 1, 4, STEPS, STEPS) if scores else "")
    extra = {"qkv_hidden_sizes": list(sizes)} if declare else {}
    outputs = ["y", "present"] if past else ["y"]
    y = net.ms("Attention", *inputs, name="attention", outputs=outputs, num_heads=4, **extra)
    return net.done(net.linear("head", y, sizes[2], 4), rank=3)


case("com.microsoft::Attention", "equal sizes", projected, groups=(10, 4))
case(
    "com.microsoft::Attention",
    "values of another size",
    projected,
    sizes=(24, 24, 16),
    declare=True,
    groups=(10, 4),
)
case("com.microsoft::Attention", "cache", projected, past=True, groups=(10, 4))
case("com.microsoft::Attention", "scores per head", projected, scores=True, groups=(10, 4))
