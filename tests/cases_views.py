"""Operators that show the same elements in another shape or order."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from .building import Case, between, net, positive, tokens
from .building_nodes import Graph, enter, sequence

IMAGE = "float[2,3,6,6] x"

CASES = [
    # Flatten, Squeeze, Unsqueeze
    Case("Flatten", "with spatial extent", net("""
        h = Conv (x, W1, B1)
        f = Flatten (h)
        y = Gemm <transB=1> (f, W2)""", W1=(8, 3, 5, 5), B1=(8,), W2=(4, 128)), groups=(8,),
        slim={"W1": (4, 3, 5, 5), "W2": (4, 64)}),
    Case("Flatten", "two layers deep", net("""
        h = Conv (x, W1)
        f = Flatten <axis=1> (h)
        g = Gemm <transB=1> (f, W2, B2)
        r = Relu (g)
        y = Gemm <transB=1> (r, W3, B3)""", opset=9, B3=(3,), W1=(8, 3, 5, 5), W2=(6, 128), B2=(6,), W3=(3, 6)),
        groups=(8, 6), slim={"W2": (3, 64), "W3": (3, 3)}),
    Case("Flatten", "negative axis", net("""
        h = Conv (x, W1)
        f = Flatten <axis=-3> (h)
        y = MatMul (f, W2)""", inputs=IMAGE, W1=(8, 3, 3, 3), W2=(128, 4)), groups=(8,),
        slim={"W2": (64, 4)}),
    Case("Squeeze", "attribute before 13", net("""
        h = Conv (x, W1)
        p = GlobalAveragePool (h)
        s = Squeeze <axes=[2,3]> (p)
        y = MatMul (s, W2)""", opset=11, W1=(8, 3, 3, 3), W2=(8, 4)), groups=(8,)),
    Case("Squeeze", "input from 13", net("""
        h = Conv (x, W1)
        p = GlobalAveragePool (h)
        s = Squeeze (p, i)
        y = MatMul (s, W2)""", W1=(8, 3, 3, 3), W2=(8, 4), i=[-1, -2]), groups=(8,)),
    Case("Squeeze", "all axes of size 1", net("""
        h = Conv (x, W1)
        p = GlobalAveragePool (h)
        s = Squeeze (p)
        y = MatMul (s, W2)""", inputs=IMAGE, W1=(8, 3, 3, 3), W2=(8, 4)), groups=(8,)),
    Case("Unsqueeze", "attribute before 13", tokens("""
        a = Unsqueeze <axes=[1]> (h)
        r = Squeeze <axes=[1]> (a)""", opset=11), groups=(8,)),
    Case("Unsqueeze", "input from 13", tokens("""
        a = Unsqueeze (h, i)
        r = Squeeze (a, i)""", i=[0, -1]), groups=(8,)),
    Case("Unsqueeze", "gates for channels", between("""
        p = ReduceMean <axes=[2,3], keepdims=0> (h)
        g = MatMul (p, W3)
        s = Sigmoid (g)
        u = Unsqueeze (s, i)
        r = Mul (h, u)""", W3=(8, 8), i=[2, 3]), groups=(8,), slim={"W3": (4, 4)}),
    # Reshape
    Case("Reshape", "flatten by 0 and -1", net("""
        h = Conv (x, W1)
        f = Reshape (h, s)
        y = MatMul (f, W2)""", W1=(8, 3, 5, 5), W2=(128, 4), s=[0, -1]), groups=(8,),
        slim={"W2": (64, 4), "s": (2,)}),
    Case("Reshape", "flatten by sizes", net("""
        h = Conv (x, W1)
        f = Reshape (h, s)
        y = MatMul (f, W2)""", inputs=IMAGE, W1=(8, 3, 3, 3), W2=(128, 4), s=[2, 128]),
        groups=(8,), slim={"W2": (64, 4)}),
    Case("Reshape", "opset 7", net("""
        h = Conv (x, W1)
        f = Reshape (h, s)
        y = MatMul (f, W2)""", opset=7, inputs=IMAGE, W1=(8, 3, 3, 3), W2=(128, 4), s=[-1, 128]),
        groups=(8,)),
    Case("Reshape", "allow zero", net("""
        h = Conv (x, W1)
        f = Reshape <allowzero=1> (h, s)
        y = MatMul (f, W2)""", inputs=IMAGE, W1=(8, 3, 3, 3), W2=(128, 4), s=[2, 128]),
        groups=(8,)),
    Case("Reshape", "to a vector of features and back", between("""
        a = Reshape (h, s)
        b = Relu (a)
        r = Reshape (b, t)""", inputs=IMAGE, s=[2, 288], t=[2, 8, 6, 6]), groups=(8,)),
    Case("Reshape", "pixels to tokens", net("""
        h = Conv (x, W1)
        a = Reshape (h, s)
        t = Transpose <perm=[0,2,1]> (a)
        y = MatMul (t, W2)""", W1=(8, 3, 5, 5), W2=(8, 4), s=[0, 8, -1]), groups=(8,),
        slim={"W2": (4, 4)}),
    Case("Reshape", "channels into groups and back", between("""
        a = Reshape (h, s)
        b = Relu (a)
        r = Reshape (b, t)""", inputs=IMAGE, s=[2, 2, 4, 6, 6], t=[2, 8, 6, 6]), groups=(4,)),
    Case("Reshape", "channels cut across", between("""
        a = Reshape (h, s)
        b = Relu (a)
        r = Reshape (b, t)""", inputs=IMAGE, W1=(6, 3, 3, 3), B1=(6,), W2=(4, 6, 1, 1),
        s=[2, 4, 9, 6], t=[2, 6, 6, 6]), groups=(), blocked={"first": "mixes it with another axis"}),
    Case("Reshape", "in three steps", net("""
        h = MatMul (x, W1)
        a = Reshape (h, s)
        b = Reshape (a, t)
        c = Reshape (b, u)
        y = MatMul (c, W2)""", inputs="float[6,5] x", W1=(5, 24), W2=(24, 4), s=[6, 2, 12],
        t=[6, 2, 3, 4], u=[6, 24]), groups=(4,)),
    Case("Reshape", "computed target", net("""
        h = Conv (x, W1)
        z = Shape (h)
        n = Gather (z, i)
        u = Unsqueeze (n, j)
        s = Concat <axis=0> (u, k)
        f = Reshape (h, s)
        y = MatMul (f, W2)""", W1=(8, 3, 5, 5), W2=(128, 4), i=0, j=[0], k=[128]), groups=(8,),
        slim={"W2": (64, 4)}),
    Case("Reshape", "target from its own shape", net("""
        h = Conv (x, W1)
        z = Shape (h)
        n = Slice (z, a, b)
        s = Concat <axis=0> (n, k)
        f = Reshape (h, s)
        m = ReduceMean <axes=[2], keepdims=0> (f)
        y = MatMul (m, W2)""", inputs="float[N,3,H,W] x", W1=(8, 3, 5, 5), W2=(8, 4), a=[0], b=[2],
        k=[-1]), groups=(8,)),
    Case("Reshape", "pixel shuffle", net("""
        h = Conv (x, W1, B1)
        a = Reshape (h, s)
        t = Transpose <perm=[0,1,4,2,5,3]> (a)
        r = Reshape (t, u)
        y = Conv (r, W2)""", inputs=IMAGE, W1=(16, 3, 1, 1), B1=(16,), W2=(3, 4, 1, 1),
        s=[2, 4, 2, 2, 6, 6], u=[2, 4, 12, 12]), groups=(4,), slim={"W1": (8, 3, 1, 1)}),
    Case("Reshape", "channel shuffle", between("""
        a = Reshape (h, s)
        t = Transpose <perm=[0,2,1,3,4]> (a)
        r = Reshape (t, u)""", inputs=IMAGE, s=[2, 2, 4, 6, 6], u=[2, 8, 6, 6]), groups=(4,)),
    Case("Reshape", "same shape", between("r = Reshape (h, s)", inputs=IMAGE, s=[2, 8, 6, 6]),
        groups=(8,)),
    Case("Reshape", "weight in another shape", net("""
        w = Reshape (W1, s)
        h = Conv (x, w)
        y = Conv (h, W2)""", W1=(8, 27), W2=(4, 8, 1, 1), s=[8, 3, 3, 3]), groups=(8,),
        slim={"W1": (4, 27)}),
    Case("Reshape", "bias for pixels", between("""
        c = Reshape (b, s)
        r = Add (h, c)""", b=(8,), s=[8, 1, 1]), groups=(8,), slim={"b": (4,)}),
    # Transpose
    Case("Transpose", "channels last", between("""
        a = Transpose <perm=[0,2,3,1]> (h)
        b = Mul (a, c)
        r = Transpose <perm=[0,3,1,2]> (b)""", c=positive(8)), groups=(8,), slim={"c": (4,)}),
    Case("Transpose", "reversed by default", net("""
        h = MatMul (x, W1)
        t = Transpose (h)
        y = MatMul (W2, t)""", inputs="float[6,5] x", W1=(5, 8), W2=(4, 8)), groups=(8,)),
    Case("Transpose", "weight", net("""
        w = Transpose <perm=[1,0]> (W1)
        h = MatMul (x, w)
        y = MatMul (h, W2)""", inputs="float[N,5] x", W1=(8, 5), W2=(8, 4)), groups=(8,),
        slim={"W1": (4, 5)}),
    Case("Transpose", "tied weight", net("""
        h = MatMul (x, W1)
        r = Relu (h)
        w = Transpose <perm=[1,0]> (W1)
        y = MatMul (r, w)""", inputs="float[N,5] x", W1=(5, 8)), groups=(8,),
        slim={"W1": (5, 4)}),
    # Repetition
    Case("Expand", "gate over pixels", between("""
        p = GlobalAveragePool (h)
        e = Expand (p, s)
        r = Mul (h, e)""", inputs=IMAGE, s=[2, 8, 6, 6]), groups=(8,)),
    Case("Expand", "one value to all channels", between("""
        p = ReduceSum (x, i)
        e = Expand (p, s)
        r = Mul (h, e)""", inputs=IMAGE, i=[1], s=[2, 8, 6, 6]), groups=(8,)),
    Case("Expand", "to a computed shape", between("""
        p = ReduceSum (x, i)
        s = Shape (h)
        e = Expand (p, s)
        r = Mul (h, e)""", i=[1]), groups=(8,)),
    Case("Expand", "of lower rank", between("""
        e = Expand (c, s)
        r = Add (h, e)""", inputs=IMAGE, c=(8, 1, 1), s=[2, 8, 6, 6]), groups=(8,), zero=False),
    Case("Tile", "over pixels", between("""
        p = GlobalAveragePool (h)
        e = Tile (p, s)
        r = Mul (h, e)""", inputs=IMAGE, s=[1, 1, 6, 6]), groups=(8,)),
    Case("Tile", "channels twice", between("r = Tile (h, s)", W2=(4, 16, 1, 1), s=[1, 2, 1, 1]),
        groups=(8,), slim={"W2": (4, 8, 1, 1)}),
    Case("Tile", "one value to all channels", between("""
        p = ReduceSum (x, i)
        e = Tile (p, s)
        r = Mul (h, e)""", i=[1], s=[1, 8, 1, 1]), groups=(8,)),
    Case("ConstantOfShape", "beside the data", between("""
        s = Shape (h)
        c = ConstantOfShape <value=float[1]{0.5}> (s)
        r = Add (h, c)"""), groups=(8,), zero=False),
    Case("ConstantOfShape", "constant sizes", between("""
        c = ConstantOfShape (s)
        r = Concat <axis=1> (h, c)""", inputs=IMAGE, W2=(4, 10, 1, 1), s=[2, 2, 6, 6]),
        groups=(8,), slim={"W2": (4, 6, 1, 1)}),
    *[Case(op, "from a seed", between(f"""
        c = {op} <shape=[2,8,6,6], seed=1.0> ()
        r = Mul (h, c)""", inputs=IMAGE), groups=(), blocked={"first": "carries no channels"})
        for op in ("RandomNormal", "RandomUniform")],
    # Sizes
    Case("Shape", "scales by the number of channels", between("""
        s = Shape (h)
        n = Gather (s, i)
        f = Cast <to=1> (n)
        r = Div (h, f)""", i=1), groups=(8,)),
    Case("Shape", "part of it", between("""
        s = Shape <start=1, end=2> (h)
        f = Cast <to=1> (s)
        r = Div (h, f)""", inputs="float[N,3,H,W] x"), groups=(8,)),
    Case("Size", "mean by hand", between("""
        s = Size (h)
        f = Cast <to=1> (s)
        r = Div (h, f)"""), groups=(8,)),
    # Blocks of pixels
    *[Case("DepthToSpace", f"{mode}, opset {opset}", net(f"""
        h = Conv (x, W1, B1)
        r = DepthToSpace <blocksize=2{text}> (h)
        y = Conv (r, W2)""", opset=opset, W1=(16, 3, 3, 3), B1=(16,), W2=(3, 4, 1, 1)),
        groups=(4,), slim={"W1": (8, 3, 3, 3), "W2": (3, 2, 1, 1)})
        for mode, text, opset in (("DCR", "", 10), ("DCR", ', mode="DCR"', 13), ("CRD", ', mode="CRD"', 17))],
    Case("DepthToSpace", "to one channel", net("""
        h = Conv (x, W1)
        y = DepthToSpace <blocksize=2> (h)""", W1=(4, 3, 3, 3)), groups=(),
        blocked={"h": "single channel"}),
    *[Case(op, "channels as batch", between("""
        t = Transpose <perm=[1,0,2,3]> (h)
        s = SpaceToDepth <blocksize=2> (t)
        q = Relu (s)
        d = DepthToSpace <blocksize=2> (q)
        r = Transpose <perm=[1,0,2,3]> (d)""", inputs="float[2,3,8,8] x"), groups=(8,))
        for op in ("SpaceToDepth", "DepthToSpace")],
    Case("SpaceToDepth", "four channels of one", net("""
        h = Conv (x, W1)
        r = SpaceToDepth <blocksize=2> (h)
        y = Conv (r, W2)""", W1=(8, 3, 3, 3), W2=(3, 32, 1, 1)), groups=(8,),
        slim={"W2": (3, 16, 1, 1)}),
    # Resize
    Case("Resize", "scales", between("r = Resize (h, , c)", c=np.array([1, 1, 2, 2], "f4")),
        groups=(8,)),
    Case("Resize", "sizes", between("r = Resize (h, , , s)", inputs=IMAGE, s=[2, 8, 9, 9]),
        groups=(8,)),
    Case("Resize", "linear with a region", between("""
        r = Resize <mode="linear", coordinate_transformation_mode="align_corners"> (h, , c)""",
        c=np.array([1, 1, 1.5, 1.5], "f4")), groups=(8,)),
    Case("Resize", "opset 10", between("r = Resize (h, c)", opset=10, c=np.array([1, 1, 2, 2], "f4")),
        groups=(8,)),
    Case("Resize", "axes, opset 18", between("r = Resize <axes=[2,3]> (h, , , s)", opset=18, s=[9, 9]),
        groups=(8,)),
    Case("Resize", "computed sizes", between("""
        z = Shape (h)
        a = Slice (z, c, d)
        b = Slice (z, d, e)
        f = Mul (b, g)
        s = Concat <axis=0> (a, f)
        r = Resize (h, , , s)""", inputs="float[N,3,H,W] x", c=[0], d=[2], e=[4], g=[2]), groups=(8,)),
    Case("Resize", "a scale that is nearly one", between("r = Resize (h, , c)", c=np.array([1, 1.00001, 2, 2], "f4")),
        groups=(), blocked={"first": "interpolates along it"}),
    Case("Resize", "a region of the image", between("""
        r = Resize <coordinate_transformation_mode="tf_crop_and_resize"> (h, g, , s)""",
        g=np.array([0, 0, 0.1, 0.1, 1, 1, 0.9, 0.9], "f4"), s=[2, 8, 9, 9]), groups=(8,)),
    Case("Resize", "a region of the channels", between("""
        r = Resize <coordinate_transformation_mode="tf_crop_and_resize"> (h, g, , s)""",
        g=np.array([0, 0.2, 0, 0, 1, 1, 1, 1], "f4"), s=[2, 8, 9, 9]),
        groups=(), blocked={"first": "interpolates along it"}),
    Case("Resize", "one scale for all axes", between("""
        r = Resize <keep_aspect_ratio_policy="not_larger"> (h, , , s)""", inputs=IMAGE, opset=18,
        s=[2, 8, 5, 9], W2=(4, 7, 1, 1)),
        groups=(), blocked={"first": "interpolates along it"}),
    Case("Resize", "one scale for the image", between("""
        r = Resize <axes=[2,3], keep_aspect_ratio_policy="not_smaller"> (h, , , s)""", opset=18, s=[5, 9]),
        groups=(8,)),
    Case("Resize", "computed scales", between("""
        z = Shape (h)
        b = Slice (z, d, e)
        t = Div (k, b)
        f = Cast <to=1> (t)
        s = Concat <axis=0> (o, f)
        r = Resize (h, , s)""", inputs="float[N,3,H,W] x", d=[2], e=[4], k=[448, 448],
        o=np.ones(2, "f4")), groups=(8,)),
    Case("Upsample", "opset 7", between("r = Upsample <scales=[1.0,1.0,2.0,2.0]> (h)", opset=7),
        groups=(8,)),
    Case("Upsample", "opset 9", between("r = Upsample (h, c)", opset=9, c=np.array([1, 1, 2, 2], "f4")),
        groups=(8,)),
]  # fmt: skip

case = partial(enter, CASES)


def held() -> onnx.ModelProto:
    """Weights in Constant nodes."""
    net = Graph()
    x = net.node("MatMul", net.input("x", 2, 3), net.node("Constant", value=net.loose("W", 3, 8)), name="a")
    x = net.node("MatMul", net.relu(x), net.node("Constant", value=net.loose("V", 8, 4)), name="b")
    return net.done(x)


case("Constant", "weights", held, groups=(8,))


def with_an_axis() -> onnx.ModelProto:
    """An axis of onnxruntime's ExpandDims, which goes again."""
    net = Graph()
    y = net.ms("ExpandDims", sequence(net, "a", 8), net.constant("axis", np.array(1, "i4")))
    return net.done(net.linear("head", net.node("Squeeze", y, net.integers(1)), 8, 4), rank=3)


case("com.microsoft::ExpandDims", "moved", with_an_axis, groups=(8,))
