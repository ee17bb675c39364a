"""Convolutions and pools."""

from __future__ import annotations

from functools import partial

import onnx

from .building import Case, between, net, positive, tokens
from .building_nodes import Graph, enter, image

CASES = [
    # Conv
    Case("Conv", "chain", net("""
        h = Conv <pads=[1,1,1,1]> (x, W1, B1)
        r = Relu (h)
        y = Conv (r, W2, B2)""", W1=(8, 3, 3, 3), B1=(8,), W2=(4, 8, 3, 3), B2=(4,)),
        groups=(8,), slim={"W1": (4, 3, 3, 3), "B1": (4,), "W2": (4, 4, 3, 3), "B2": (4,)}),
    Case("Conv", "opset 7", between("r = Relu(h)", opset=7, ir_version=3, listed=True),
        groups=(8,), slim={"W1": (4, 3, 3, 3), "W2": (4, 4, 1, 1)}),
    Case("Conv", "opset 22", between("r = Relu(h)", opset=22, ir_version=10), groups=(8,)),
    Case("Conv", "strided and dilated", net("""
        h = Conv <strides=[2,2], pads=[1,1,1,1]> (x, W1)
        r = Relu (h)
        y = Conv <dilations=[2,2], pads=[2,2,2,2]> (r, W2)""", W1=(8, 3, 3, 3), W2=(4, 8, 3, 3)),
        groups=(8,)),
    Case("Conv", "auto pad", net("""
        h = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, W1)
        y = Conv <auto_pad="VALID"> (h, W2)""", W1=(8, 3, 3, 3), W2=(4, 8, 3, 3)), groups=(8,)),
    Case("Conv", "one dimension", net("""
        h = Conv (x, W1, B1)
        y = Conv (h, W2)""", inputs="float[N,3,16] x", W1=(8, 3, 3), B1=(8,), W2=(4, 8, 1)),
        groups=(8,), slim={"W2": (4, 4, 1)}),
    Case("Conv", "three dimensions", net("""
        h = Conv (x, W1)
        y = Conv (h, W2)""", inputs="float[N,2,5,5,5] x", W1=(6, 2, 3, 3, 3), W2=(4, 6, 1, 1, 1)),
        groups=(6,)),
    Case("Conv", "as wide as the embedding", tokens("""
        u = Unsqueeze (h, one)
        f = Conv <kernel_shape=[3,8]> (u, W3, B3)
        q = Squeeze (f, three)
        r = Transpose <perm=[0,2,1]> (q)""",
        one=[1], three=[3], W3=(6, 1, 3, 8), B3=(6,), W2=(6, 4)),
        groups=(8, 6), slim={"W1": (5, 4), "W3": (3, 1, 3, 4), "W2": (3, 4)}),
    Case("Conv", "as wide as what groups of channels hold", tokens("""
        u = Unsqueeze (h, two)
        f = Conv <group=6> (u, W3)
        a = Squeeze (f, two)
        r = Transpose <perm=[0,2,1]> (a)""", two=[2], W3=(12, 1, 1, 8), W2=(12, 4)),
        groups=(8,), blocked={"f": "reads input channels that cannot go"}),
    Case("Conv", "entry by entry along the channels", tokens("""
        u = Unsqueeze (h, one)
        f = Conv <pads=[1,0,1,0]> (u, W3, B3)
        r = Squeeze (f, one)""", one=[1], W3=(1, 1, 3, 1), B3=(1,)),
        groups=(8,), slim={"W1": (5, 4), "W3": (1, 1, 3, 1), "W2": (4, 4)}),
    Case("Conv", "a window along the channels", tokens("""
        u = Unsqueeze (h, one)
        f = Conv (u, W3)
        r = Squeeze (f, one)""", one=[1], W3=(1, 1, 1, 3), W2=(6, 4)),
        groups=(), blocked={"first": "slides a window along it"}),
    Case("Conv", "as wide as the channels, with borders", tokens("""
        u = Unsqueeze (h, one)
        f = Conv <pads=[0,1,0,1]> (u, W3)
        r = Squeeze (f, one)""", one=[1], W3=(1, 1, 1, 8), W2=(3, 4)),
        groups=(), blocked={"first": "slides a window along it"}),
    Case("Conv", "every other channel", tokens("""
        u = Unsqueeze (h, one)
        f = Conv <strides=[1,2]> (u, W3)
        r = Squeeze (f, one)""", one=[1], W3=(1, 1, 3, 1), W2=(4, 4)),
        groups=(), blocked={"first": "slides a window along it"}),
    Case("Conv", "residual", between("""
        a = Conv <pads=[1,1,1,1]> (h, W3)
        r = Add (a, h)""", W3=(8, 8, 3, 3)), groups=(8,), slim={"W3": (4, 4, 3, 3)}),
    Case("Conv", "depthwise", between("""
        r = Conv <group=8, pads=[1,1,1,1]> (h, W3, B3)""", W3=(8, 1, 3, 3), B3=(8,)),
        groups=(8,), slim={"W3": (4, 1, 3, 3), "B3": (4,)}),
    Case("Conv", "depthwise with multiplier", between("""
        r = Conv <group=8> (h, W3, B3)""", W3=(24, 1, 3, 3), B3=(24,), W2=(4, 24, 1, 1)),
        groups=(8,), slim={"W1": (4, 3, 3, 3), "W3": (12, 1, 3, 3), "W2": (4, 12, 1, 1)}),
    Case("Conv", "depthwise on the input", net("""
        h = Conv <group=3> (x, W1, B1)
        y = Conv (h, W2)""", W1=(12, 1, 3, 3), B1=(12,), W2=(4, 12, 1, 1)),
        groups=(), blocked={"h": "reads input channels that cannot go"}),
    Case("Conv", "grouped", between("""
        r = Conv <group=2, pads=[1,1,1,1]> (h, W3, B3)""",
        W3=(12, 4, 3, 3), B3=(12,), W2=(4, 12, 1, 1)),
        groups=(4, 6), slim={"W1": (4, 3, 3, 3), "W3": (6, 2, 3, 3), "W2": (4, 6, 1, 1)}),
    Case("Conv", "grouped twice with other counts", between("""
        a = Conv <group=4> (h, W3)
        r = Conv <group=2> (a, W4)""", W1=(16, 3, 3, 3), B1=(16,), W3=(16, 4, 1, 1), W4=(8, 8, 1, 1)),
        groups=(4, 4, 4)),
    Case("Conv", "one output for each block", between("""
        r = Conv <group=4> (h, W3)""", W3=(4, 2, 1, 1), W2=(4, 4, 1, 1)), groups=(4,),
        slim={"W1": (4, 3, 3, 3), "W3": (2, 2, 1, 1), "W2": (4, 2, 1, 1)}),
    Case("Conv", "grouped residual", between("""
        a = Conv <group=2> (h, W3)
        r = Add (a, h)""", W3=(8, 4, 1, 1)), groups=(4,), slim={"W3": (4, 2, 1, 1)}),
    Case("Conv", "shared weight", net("""
        a = Conv (x, W1)
        b = Conv (z, W1)
        c = Mul (a, b)
        y = Conv (c, W2)""", inputs="float[N,3,8,8] x, float[N,3,8,8] z", W1=(8, 3, 3, 3),
        W2=(4, 8, 1, 1)), groups=(8,), slim={"W1": (4, 3, 3, 3)}),
    Case("Conv", "weight applied twice", between("""
        a = Conv <pads=[1,1,1,1]> (h, W3, B3)
        b = Relu (a)
        r = Conv <pads=[1,1,1,1]> (b, W3, B3)""", W3=(8, 8, 3, 3), B3=(8,)),
        groups=(8,), slim={"W3": (4, 4, 3, 3), "B3": (4,)}),
    Case("Conv", "weight without labels from outside", net("""
        y = Conv (x, w)""", inputs="float[N,3,8,8] x, float[4,3,1,1] w"), groups=()),
    Case("Conv", "computed kernel", net("""
        h = Conv (x, W1)
        r = Relu (h)
        y = Conv (r, w)""", inputs="float[N,3,8,8] x, float[4,8,1,1] w", W1=(8, 3, 3, 3)),
        groups=(), blocked={"h": "carries no channels"}),
    # ConvTranspose
    Case("ConvTranspose", "between convolutions", between("""
        r = ConvTranspose <strides=[2,2]> (h, W3, B3)""", W3=(8, 6, 2, 2), B3=(6,),
        W2=(4, 6, 1, 1)), groups=(8, 6), slim={"W3": (4, 3, 2, 2), "B3": (3,)}),
    Case("ConvTranspose", "opset 1 in opset 7", between("r = ConvTranspose (h, W3)", opset=7,
        W3=(8, 6, 2, 2), W2=(4, 6, 1, 1)), groups=(8, 6)),
    Case("ConvTranspose", "grouped", between("""
        r = ConvTranspose <group=2, strides=[2,2]> (h, W3, B3)""", W3=(8, 3, 2, 2), B3=(6,),
        W2=(4, 6, 1, 1)), groups=(4, 3), slim={"W1": (4, 3, 3, 3), "W3": (4, 1, 2, 2)}),
    Case("ConvTranspose", "depthwise", between("""
        r = ConvTranspose <group=8, strides=[2,2]> (h, W3, B3)""", W3=(8, 1, 2, 2), B3=(8,)),
        groups=(8,), slim={"W3": (4, 1, 2, 2), "B3": (4,)}),
    Case("ConvTranspose", "depthwise with multiplier", between("""
        r = ConvTranspose <group=8> (h, W3, B3)""", W3=(8, 2, 2, 2), B3=(16,), W2=(4, 16, 1, 1)),
        groups=(8,), slim={"W3": (4, 2, 2, 2), "B3": (8,), "W2": (4, 8, 1, 1)}),
    Case("ConvTranspose", "output shape", between("""
        r = ConvTranspose <strides=[2,2], output_shape=[17,17]> (h, W3)""", W3=(8, 6, 3, 3),
        W2=(4, 6, 1, 1)), groups=(8, 6)),
    # Pools
    *[Case(op, "windows", between(f"r = {op} <kernel_shape=[2,2], strides=[2,2]> (h)"),
        groups=(8,), slim={"W2": (4, 4, 1, 1)}) for op in ("AveragePool", "LpPool", "MaxPool")],
    *[Case(op, "then convolution", between(f"r = {op} (h)"), groups=(8,))
        for op in ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")],
    *[Case(op, "opset 7", between(f"r = {op} <kernel_shape=[2,2]> (h)", opset=7), groups=(8,))
        for op in ("AveragePool", "MaxPool")],
    *[Case(op, "opset 22", between(f"r = {op} <kernel_shape=[2,2]> (h)", opset=22, ir_version=10),
        groups=(8,)) for op in ("AveragePool", "LpPool", "MaxPool")],
    Case("AveragePool", "padded and counted", between("""
        r = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (h)"""),
        groups=(8,)),
    Case("MaxPool", "ceil mode", between("""
        r = MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (h)"""), groups=(8,)),
    Case("MaxPool", "with indices", between("""
        r, i = MaxPool <kernel_shape=[2,2]> (h)""", outputs="y, i"),
        groups=(), blocked={"first": "indices that count channels"}),
    Case("MaxPool", "with indices in use", between("""
        a, i = MaxPool <kernel_shape=[2,2]> (h)
        f = Cast <to=1> (i)
        r = Add (a, f)"""), groups=(), blocked={"first": "indices that count channels"}),
    Case("GlobalAveragePool", "mean of a layer norm", tokens("""
        m = GlobalAveragePool (h)
        d = Sub (h, m)
        q = Mul (d, d)
        v = GlobalAveragePool (q)
        e = Add (v, c)
        s = Sqrt (e)
        n = Div (d, s)
        r = Mul (n, g1)""", c=0.01, g1=positive(1, 1, 8)), groups=(8,),
        slim={"g1": (1, 1, 4)}, zero=False),
    Case("GlobalLpPool", "norm of channels", tokens("""
        p = GlobalLpPool (h)
        r = Div (h, p)"""), groups=(8,)),
    Case("GlobalMaxPool", "channels", tokens("""
        p = GlobalMaxPool (h)
        r = Sub (h, p)"""), groups=(8,), zero=False),
    Case("GlobalMaxPool", "channels behind a Relu", tokens("""
        a = Relu (h)
        p = GlobalMaxPool (a)
        r = Sub (a, p)"""), groups=(8,)),
    Case("GlobalAveragePool", "classifier", net("""
        h = Conv (x, W1, B1)
        b = BatchNormalization (h, s, B2, B3, v)
        r = Relu (b)
        p = GlobalAveragePool (r)
        f = Flatten (p)
        y = Gemm <transB=1> (f, W2, B4)""", W1=(8, 3, 3, 3), B1=(8,), s=positive(8), B2=(8,),
        B3=(8,), v=positive(8), W2=(5, 8), B4=(5,)),
        groups=(8,), slim={"W2": (5, 4), "v": (4,), "B4": (5,)}),
]  # fmt: skip

case = partial(enter, CASES)

case("LpPool", "channels", image, "LpPool", kernel_shape=[2, 2], p=2, groups=(8,))
case("GlobalLpPool", "channels", image, "GlobalLpPool", opset=16, groups=(8,))


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
