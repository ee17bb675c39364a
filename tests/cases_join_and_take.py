"""Operators that join tensors or take parts of them."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from .building import Case, between, net, tokens
from .building_nodes import Graph, enter, sequence

BRANCH = "a = Conv <pads=[1,1,1,1]> (x, W3)\n"

CASES = [
    # Concat
    Case("Concat", "two branches", between(BRANCH + "r = Concat <axis=1> (h, a)", W3=(6, 3, 3, 3),
        W2=(4, 14, 1, 1)), groups=(8, 6), slim={"W2": (4, 7, 1, 1), "W3": (3, 3, 3, 3)}),
    Case("Concat", "with itself", between("r = Concat <axis=-3> (h, h)", W2=(4, 16, 1, 1)),
        groups=(8,), slim={"W2": (4, 8, 1, 1)}),
    Case("Concat", "with a graph input", between("r = Concat <axis=1> (x, h)", W2=(4, 11, 1, 1)),
        groups=(8,), slim={"W2": (4, 7, 1, 1)}),
    Case("Concat", "with a graph input, beside a branch", between("""
        a = Concat <axis=1> (h, x)
        b = Conv <pads=[1,1,1,1]> (x, W3)
        r = Add (a, b)""", W3=(11, 3, 3, 3), W2=(4, 11, 1, 1)), groups=(8,), slim={"W3": (7, 3, 3, 3)},
        blocked={"b": "which has no channels there"}),
    Case("Concat", "with a constant", between("r = Concat <axis=1> (h, c)",
        inputs="float[2,3,8,8] x", c=(2, 2, 8, 8), W2=(4, 10, 1, 1)), groups=(8, ),
        slim={"W2": (4, 6, 1, 1)}, zero=False),
    Case("Concat", "along pixels", between("r = Concat <axis=2> (h, h)"), groups=(8,)),
    Case("Concat", "along pixels with a branch", between(BRANCH + "r = Concat <axis=3> (h, a)",
        W3=(8, 3, 3, 3)), groups=(8,), slim={"W3": (4, 3, 3, 3)}),
    Case("Concat", "with nothing of a branch", between(BRANCH + """
        n = Constant <value_ints=[0]> ()
        two = Constant <value_ints=[2]> ()
        e = Slice (a, n, n, two)
        r = Concat <axis=2> (e, h)""", W3=(8, 3, 3, 3)), groups=(8,), slim={"W3": (4, 3, 3, 3)}),
    Case("Concat", "class token", tokens("r = Concat <axis=1> (c, h)", inputs="float[2,6,5] x",
        c=(2, 1, 8)), groups=(8,), slim={"c": (2, 1, 4)}),
    Case("Concat", "dense block", between("""
        a = Conv <pads=[1,1,1,1]> (h, W3)
        b = Concat <axis=1> (h, a)
        c = Conv <pads=[1,1,1,1]> (b, W4)
        r = Concat <axis=1> (h, a, c)""", W3=(4, 8, 3, 3), W4=(6, 12, 3, 3), W2=(4, 18, 1, 1)),
        groups=(8, 4, 6), slim={"W4": (3, 6, 3, 3), "W2": (4, 9, 1, 1)}),
    # Split
    Case("Split", "attribute before 13", between("""
        a, b = Split <axis=1, split=[3,5]> (h)
        r = Concat <axis=1> (b, a)""", opset=11), groups=(3, 5), slim={"W2": (4, 4, 1, 1)}),
    Case("Split", "equal parts, opset 7", between("""
        a, b = Split <axis=1> (h)
        r = Mul (a, b)""", opset=7, W2=(4, 4, 1, 1)), groups=(4,), slim={"W1": (4, 3, 3, 3)}),
    Case("Split", "input from 13", between("""
        a, b = Split <axis=1> (h, s)
        c = Relu (b)
        r = Concat <axis=1> (a, c)""", s=[2, 6]), groups=(2, 6)),
    Case("Split", "equal parts, opset 13", between("""
        a, b = Split <axis=-3> (h)
        r = Concat <axis=1> (b, a)"""), groups=(4, 4)),
    Case("Split", "number of outputs from 18", between("""
        a, b, c = Split <axis=1, num_outputs=3> (h)
        r = Concat <axis=1> (c, a, b)""", opset=18), groups=(3, 3, 2)),
    Case("Split", "gate", between("""
        a, b = Split <axis=1> (h, s)
        g = Sigmoid (b)
        r = Mul (a, g)""", W2=(4, 4, 1, 1), s=[4, 4]), groups=(4,)),
    Case("Split", "along pixels", between("""
        a, b = Split <axis=2> (h, s)
        r = Add (a, b)""", s=[4, 4]), groups=(8,)),
    Case("Split", "part unused", between("""
        r, b = Split <axis=1> (h, s)""", W2=(4, 6, 1, 1), s=[6, 2]), groups=(6, 2)),
    # Slice
    Case("Slice", "attributes before 10", between("r = Slice <axes=[1], starts=[2], ends=[8]> (h)",
        opset=9, W2=(4, 6, 1, 1)), groups=(2, 6), slim={"W2": (4, 3, 1, 1)}),
    Case("Slice", "inputs from 10", between("r = Slice (h, a, b, i)", opset=10, W2=(4, 6, 1, 1),
        a=[1], b=[7], i=[1]), groups=(2, 6)),
    Case("Slice", "negative bounds", between("r = Slice (h, a, b, i)", W2=(4, 5, 1, 1), a=[-6],
        b=[-1], i=[-3]), groups=(3, 5)),
    Case("Slice", "bounds far outside", between("r = Slice (h, a, b, i)", W2=(4, 5, 1, 1),
        a=[3], b=[2**62], i=[1]), groups=(3, 5)),
    Case("Slice", "halves swapped", between("""
        a = Slice (h, zero, four, one)
        b = Slice (h, four, eight, one)
        r = Concat <axis=1> (b, a)""", zero=[0], four=[4], eight=[8], one=[1]), groups=(4, 4)),
    Case("Slice", "stride", between("r = Slice (h, a, b, i, s)", W2=(4, 4, 1, 1), a=[1], b=[8],
        i=[1], s=[2]), groups=(4, 4), slim={"W2": (4, 2, 1, 1)}),
    Case("Slice", "reversed", between("r = Slice (h, a, b, i, s)", a=[-1], b=[-9], i=[1], s=[-1]),
        groups=(8,)),
    Case("Slice", "reversed with stride", between("r = Slice (h, a, b, i, s)", W2=(4, 3, 1, 1),
        a=[6], b=[-9], i=[1], s=[-3]), groups=(3, 5)),
    Case("Slice", "of pixels", between("r = Slice (h, a, b, i)", a=[1, 1], b=[-1, -1], i=[2, 3]),
        groups=(8,)),
    Case("Slice", "of pixels and channels", between("r = Slice (h, a, b)", W2=(4, 6, 1, 1),
        inputs="float[2,3,8,8] x", a=[0, 2, 1], b=[2, 8, 7]), groups=(2, 6)),
    Case("Slice", "computed bounds on pixels", between("""
        s = Shape (x)
        b = Slice (s, two, four)
        r = Slice (h, zero, b, i)""", inputs="float[N,3,H,W] x", two=[2], four=[4], zero=[0, 0],
        i=[2, 3]), groups=(8,)),
    Case("Slice", "computed bounds on channels", between("""
        a = Slice (h, zero, n, one)
        b = ReduceSum (a, one)
        r = Add (h, b)""", inputs="float[N,3,8,8] x, int64[1] n", zero=[0], one=[1]), groups=(),
        blocked={"first": "known only when it runs"}),
    Case("Slice", "by the shape of an Expand", net("""
        [nodes] h0 = Gemm (x, W1)
        h = Relu (h0)
        to = Gather (edges, zero)
        f = Gather (h, to)
        [messages] m0 = Gemm (f, W3)
        m = Relu (m0)
        t = Unsqueeze (to, one)
        s = Shape (m)
        i = Expand (t, s)
        e = Shape (i)
        part = Slice (m, start, e)
        d = Shape (h)
        none = ConstantOfShape (d)
        a = ScatterElements <axis=0, reduction="add"> (none, i, part)
        j = Concat <axis=-1> (h, a)
        [last] y = Gemm (j, W2)""", inputs="float[N,5] x, int64[2,E] edges", zero=0, one=[1], start=[0, 0],
        W1=(5, 8), W3=(8, 8), W2=(16, 4)), groups=(8, 8), slim={"W3": (4, 4), "W2": (8, 4)}),
    Case("Slice", "a part by computed bounds", between("""
        s = Shape (x)
        u = Slice (s, two, four)
        b = Concat <axis=0> (six, u)
        r = Slice (h, zero, b, i)""", inputs="float[N,3,H,W] x", two=[2], four=[4], six=[6],
        zero=[0, 0, 0], i=[1, 2, 3], W2=(4, 6, 1, 1)), groups=(), blocked={"first": "takes a part of it"}),
    Case("Slice", "everything", between("r = Slice (h, a, b, i)", a=[0], b=[8], i=[1]), groups=(8,)),
    # Gather
    Case("Gather", "one token", tokens("""
        t = Gather <axis=1> (h, i)
        r = Relu (t)""", i=0), groups=(8,)),
    Case("Gather", "vector on channels", between("r = Gather <axis=1> (h, i)", W2=(4, 5, 1, 1),
        i=[7, 0, 3, 3, 2]), groups=(4, 4)),
    Case("Gather", "permutation", between("r = Gather <axis=1> (h, i)", i=[7, 6, 5, 4, 3, 2, 1, 0]),
        groups=(8,)),
    Case("Gather", "negative indices", between("r = Gather <axis=1> (h, i)", W2=(4, 4, 1, 1),
        i=[-1, -2, 0, 1]), groups=(4, 4)),
    Case("Gather", "matrix on channels", between("""
        g = Gather <axis=1> (h, i)
        r = Reshape (g, s)""", inputs="float[2,3,6,6] x", i=np.arange(8).reshape(2, 4),
        s=[2, 8, 6, 6]), groups=(4,)),
    Case("Gather", "scalar on channels", between("""
        g = Gather <axis=1> (h, i)
        u = Unsqueeze (g, j)
        r = Mul (h, u)""", i=2, j=[1]), groups=(7,), blocked={"first#2": "picks this entry alone"}),
    Case("Gather", "opset 7 on pixels", between("r = Gather <axis=2> (h, i)", opset=7, i=[0, 2]),
        groups=(8,)),
    Case("Gather", "embedding", net("""
        h = Gather (E, ids)
        r = Relu (h)
        y = MatMul (r, W2)""", inputs="int64[N,6] ids", E=(11, 8), W2=(8, 4)), groups=(8,),
        slim={"E": (11, 4), "W2": (4, 4)}),
    Case("Gather", "embedding tied to the output", net("""
        h = Gather (E, ids)
        r = Relu (h)
        w = Transpose (E)
        y = MatMul (r, w)""", inputs="int64[N,6] ids", E=(11, 8)), groups=(8,),
        slim={"E": (11, 4)}),
    Case("Gather", "by data on channels", between("r = Gather <axis=1> (h, k)",
        inputs="float[N,3,8,8] x, int64[8] k"), groups=(), blocked={"first": "picks from it by data"}),
    # Pad
    Case("Pad", "pixels, attribute before 11", between("r = Pad <pads=[0,0,1,1,0,0,1,1]> (h)", opset=10),
        groups=(8,)),
    Case("Pad", "pixels, input from 11", between("r = Pad (h, p)", opset=11,
        p=[0, 0, 1, 1, 0, 0, 1, 1]), groups=(8,)),
    Case("Pad", "mirrored pixels", between('r = Pad <mode="reflect"> (h, p)',
        p=[0, 0, 1, 1, 0, 0, 1, 1]), groups=(8,)),
    Case("Pad", "channels", between("r = Pad (h, p)", W2=(4, 13, 1, 1), p=[0, 2, 0, 0, 0, 3, 0, 0]),
        groups=(8,), slim={"W2": (4, 9, 1, 1)}),
    Case("Pad", "channels of the skip", between(BRANCH + """
        b = Pad (a, p)
        r = Add (h, b)""", W3=(4, 3, 3, 3), p=[0, 2, 0, 0, 0, 2, 0, 0]), groups=(4, 4)),
    Case("Pad", "with a value", between("r = Pad (h, p, c)", p=[0, 0, 1, 1, 0, 0, 1, 1], c=0.5),
        groups=(8,), zero=False),
    Case("Pad", "axes from 18", between("r = Pad (h, p, , i)", opset=18, p=[1, 1, 1, 1], i=[2, 3]),
        groups=(8,)),
    Case("Pad", "channel axis from 18", between("r = Pad (h, p, , i)", opset=18, p=[0, 2], i=[1],
        W2=(4, 10, 1, 1)), groups=(8,), slim={"W2": (4, 6, 1, 1)}),
    Case("Pad", "mirrored channels", between('r = Pad <mode="reflect"> (h, p)', W2=(4, 10, 1, 1),
        p=[0, 1, 0, 0, 0, 1, 0, 0]), groups=(), blocked={"first": "mirrors or crops"}),
    Case("Pad", "cropped pixels", between("r = Pad (h, p)", p=[0, 0, -1, -1, 0, 0, -1, -1]),
        groups=(8,)),
]  # fmt: skip

case = partial(enter, CASES)


def padded() -> onnx.ModelProto:
    """Zeros beside the channels and steps of a computed tensor."""
    net = Graph()
    y = net.ms("Pad", sequence(net, "a", 8), net.integers(0, 1, 0, 0, 0, 2))
    return net.done(net.linear("head", y, 10, 4), rank=3)


case("com.microsoft::Pad", "moved", padded, groups=(8,))
