"""Normalizations."""

from __future__ import annotations

from functools import partial
from typing import Any

import onnx

from .building import Case, between, positive, tokens
from .building_nodes import BATCH, STEPS, Graph, enter, sequence

BN = {"s": positive(8), "b": (8,), "m": (8,), "v": positive(8)}

CASES = [
    Case("BatchNormalization", "opset 7", between("r = BatchNormalization (h, s, b, m, v)", opset=7, **BN),
        groups=(8,), slim={"s": (4,), "b": (4,), "m": (4,), "v": (4,)}),
    Case("BatchNormalization", "opset 9", between("r = BatchNormalization (h, s, b, m, v)", opset=9, **BN),
        groups=(8,), slim={"s": (4,), "b": (4,), "m": (4,), "v": (4,)}),
    Case("BatchNormalization", "opset 15", between("""
        r = BatchNormalization <epsilon=0.001> (h, s, b, m, v)""", opset=15, **BN), groups=(8,)),
    Case("BatchNormalization", "in training", between("""
        r, n, d = BatchNormalization <training_mode=1> (h, s, b, m, v)""", opset=15, **BN), groups=(8,),
        slim={"s": (4,), "m": (4,), "v": (4,)}, reference=True),
    Case("BatchNormalization", "in training, statistics used", between("""
        a, n, d = BatchNormalization <training_mode=1> (h, s, b, m, v)
        e = Unsqueeze (n, i)
        r = Add (a, e)""", opset=15, i=[1, 2], **BN), groups=(8,), slim={"m": (4,)}, reference=True),
    Case("BatchNormalization", "after concat", between("""
        a = Conv <pads=[1,1,1,1]> (x, W3)
        c = Concat <axis=1> (h, a)
        n = BatchNormalization (c, s, b, m, v)
        r = Relu (n)""", W3=(4, 3, 3, 3), W2=(4, 12, 1, 1), s=positive(12), b=(12,), m=(12,),
        v=positive(12)), groups=(8, 4), slim={"s": (6,), "W2": (4, 6, 1, 1)}),
    Case("BatchNormalization", "of rank 2", tokens("""
        n = BatchNormalization (h, s, b, m, v)
        r = Relu (n)""", inputs="float[N,5] x", **BN), groups=(8,)),
    Case("BatchNormalization", "one vector in all places", between("""
        r = BatchNormalization (h, s, s, s, s)""", s=positive(8)), groups=(8,), slim={"s": (4,)},
        zero=False),
    Case("InstanceNormalization", "opset 6", between("""
        r = InstanceNormalization (h, s, b)""", opset=7, s=positive(8), b=(8,)), groups=(8,),
        slim={"s": (4,), "b": (4,)}),
    Case("InstanceNormalization", "opset 22", between("""
        r = InstanceNormalization (h, s, b)""", opset=22, ir_version=10, s=positive(8), b=(8,)),
        groups=(8,)),
    Case("InstanceNormalization", "as group norm", between("""
        a = Reshape (h, i)
        n = InstanceNormalization (a, s, b)
        d = Shape (h)
        e = Reshape (n, d)
        g = Mul (e, c)
        r = Add (g, c)""", i=[0, 2, -1], s=positive(2), b=(2,), c=positive(8, 1, 1)),
        groups=(2,), slim={"s": (1,), "c": (4, 1, 1), "W1": (4, 3, 3, 3)}),
    Case("InstanceNormalization", "as layer norm over everything", between("""
        a = Reshape (h, i)
        n = InstanceNormalization (a, s, b)
        d = Shape (h)
        e = Reshape (n, d)
        r = Mul (e, c)""", i=[0, 1, -1], s=positive(1), b=(1,), c=positive(8, 1, 1)),
        groups=(8,), slim={"s": (1,)}, zero=False),
    Case("LayerNormalization", "last axis", tokens("r = LayerNormalization (h, s, b)",
        s=positive(8), b=(8,)), groups=(8,), slim={"s": (4,), "b": (4,)}, zero=False),
    Case("LayerNormalization", "without bias", tokens("r = LayerNormalization <axis=2> (h, s)",
        s=positive(8)), groups=(8,), zero=False),
    Case("LayerNormalization", "last two axes", tokens("""
        r = LayerNormalization <axis=-2> (h, s, b)""", s=positive(6, 8), b=(6, 8)), groups=(8,),
        slim={"s": (6, 4), "b": (6, 4)}, zero=False),
    Case("LayerNormalization", "over pixels", between("""
        r = LayerNormalization <axis=2> (h, s)""", s=positive(8, 8)), groups=(8,)),
    Case("LayerNormalization", "its statistics", tokens("""
        n, m, d = LayerNormalization (h, s)
        a = Mul (n, d)
        r = Add (a, m)""", s=positive(8)), groups=(8,), zero=False),
    Case("GroupNormalization", "opset 18", between("""
        r = GroupNormalization <num_groups=2> (h, s, b)""", opset=18, outputs="float[N,4,8,8] y",
        s=positive(2), b=(2,)), groups=(2,), slim={"s": (1,), "b": (1,), "W1": (4, 3, 3, 3)}),
    Case("GroupNormalization", "opset 20, one group", between("""
        r = GroupNormalization <num_groups=1> (h, s, b)""", opset=20, outputs="float[N,4,8,8] y",
        s=positive(1), b=(1,)), groups=(8,), slim={"s": (1,), "W1": (4, 3, 3, 3)}, zero=False),
    Case("GroupNormalization", "opset 18, channels as groups", between("""
        r = GroupNormalization <num_groups=8> (h, s, b)""", opset=18, outputs="float[N,4,8,8] y",
        s=positive(8), b=(8,)), groups=(8,), slim={"s": (4,), "b": (4,), "W1": (4, 3, 3, 3)}),
    Case("GroupNormalization", "opset 21", between("""
        r = GroupNormalization <num_groups=2> (h, s, b)""", opset=21, ir_version=10,
        outputs="float[N,4,8,8] y", s=positive(8), b=(8,)),
        groups=(2,), slim={"s": (4,), "W1": (4, 3, 3, 3)}),
    Case("GroupNormalization", "one group", between("""
        r = GroupNormalization <num_groups=1> (h, s, b)""", opset=21, ir_version=10, outputs="float[N,4,8,8] y",
        s=positive(8), b=(8,)), groups=(8,), slim={"s": (4,)}, zero=False),
    Case("LpNormalization", "over channels", between("r = LpNormalization <axis=1> (h)"),
        groups=(8,)),
    Case("LpNormalization", "opset 22, over pixels", between("""
        r = LpNormalization <axis=-1, p=1> (h)""", opset=22, ir_version=10), groups=(8,)),
    Case("LRN", "neighbours", between("r = LRN <size=3> (h)"), groups=(8,), zero=False),
    Case("LRN", "opset 7", between("r = LRN <size=5, alpha=0.1> (h)", opset=7), groups=(8,), zero=False),
    Case("MeanVarianceNormalization", "over pixels", between("""
        r = MeanVarianceNormalization <axes=[0,2,3]> (h)""", outputs="float[N,4,8,8] y"),
        groups=(8,), zero=False),
    Case("MeanVarianceNormalization", "over channels", between("""
        r = MeanVarianceNormalization <axes=[1]> (h)""", opset=9), groups=(8,), zero=False),
]  # fmt: skip

case = partial(enter, CASES)


def norm(
    op: str, skip: bool = True, bias: bool = True, total: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """A normalization of onnxruntime with a residual, and its sum as a second output."""
    net = Graph(attributes.pop("opset", 22))
    x = sequence(net, "a", 8)
    inputs = [x, sequence(net, "skip", 8)] if skip else [x]
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
