"""Reductions, softmax, and what orders or searches along an axis."""

from __future__ import annotations

from functools import partial

import numpy as np

from .building import Case, between, net, positive, tokens
from .building_nodes import enter, signal

SUMS = ("ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare")
STATISTICS = ("ReduceLogSumExp", "ReduceMean")
EXTREMES = ("ReduceMax", "ReduceMin", "ReduceProd")


CASES = [
    # Over pixels: channels are carried
    *[Case(op, "pixels, attribute", between(f"r = {op} <axes=[2,3]> (h)", opset=11), groups=(8,))
        for op in (*SUMS, *STATISTICS, *EXTREMES)],
    *[Case(op, "pixels, input", between(f"r = {op} (h, i)", opset=18, i=[-1, -2]), groups=(8,))
        for op in (*SUMS, *STATISTICS, *EXTREMES)],
    *[Case(op, "pixels, without the axes", net(f"""
        h = Conv (x, W1, B1)
        a = Softplus (h)
        p = {op} <keepdims=0> (a, i)
        y = MatMul (p, W2)""", opset=18,
        W1=(8, 3, 3, 3), B1=(8,), W2=(8, 4), i=[2, 3]), groups=(8,), zero=False)
        for op in (*SUMS, *STATISTICS, *EXTREMES, "ReduceLogSum")],
    Case("ReduceSum", "attribute before 13", between("r = ReduceSum <axes=[2,3]> (h)", opset=7),
        groups=(8,)),
    Case("ReduceSum", "input from 13", between("r = ReduceSum (h, i)", opset=13, i=[2]), groups=(8,)),
    # Over channels
    *[Case(op, "channels", between(f"""
        p = {op} <axes=[1]> (h)
        r = Mul (h, p)"""), groups=(8,)) for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare")],
    Case("ReduceSum", "channels", between("""
        p = ReduceSum (h, i)
        r = Mul (h, p)""", i=[1]), groups=(8,)),
    Case("ReduceSum", "everything but the batch", net("""
        h = Conv (x, W1, B1)
        y = ReduceSum <keepdims=0> (h, i)""", W1=(8, 3, 3, 3), B1=(8,), i=[1, 2, 3]), groups=(8,)),
    Case("ReduceSum", "all axes by default", net("""
        h = Conv (x, W1, B1)
        y = ReduceSum <keepdims=0> (h)""", W1=(8, 3, 3, 3), B1=(8,)), groups=(8,)),
    Case("ReduceSum", "no axes at all", between("""
        r = ReduceSum <noop_with_empty_axes=1> (h)"""), groups=(8,)),
    Case("ReduceMean", "no axes at all", between("""
        r = ReduceMean <noop_with_empty_axes=1> (h, i)""", opset=18, i=[]), groups=(8,)),
    Case("ReduceMax", "all axes, none named", between("""
        p = ReduceMax <noop_with_empty_axes=0> (h, i)
        r = Mul (h, p)""", opset=18, i=[]), groups=(8,), zero=False),
    Case("ReduceLogSum", "channels", between("""
        a = Exp (h)
        p = ReduceLogSum <axes=[1]> (a)
        r = Mul (h, p)"""), groups=(8,), zero=False),
    *[Case(op, "channels", between(f"""
        p = {op} <axes=[1]> (h)
        r = Mul (h, p)"""), groups=(8,), zero=False) for op in STATISTICS],
    Case("ReduceMean", "channels, input", between("""
        p = ReduceMean (h, i)
        r = Sub (h, p)""", opset=18, i=[1]), groups=(8,), zero=False),
    Case("ReduceMean", "channels and pixels", between("""
        p = ReduceMean <axes=[1,2,3], keepdims=1> (h)
        r = Sub (h, p)"""), groups=(8,), zero=False),
    Case("ReduceMean", "as layer norm", tokens("""
        m = ReduceMean <axes=[-1]> (h)
        d = Sub (h, m)
        q = Mul (d, d)
        v = ReduceMean <axes=[-1]> (q)
        e = Add (v, c)
        s = Sqrt (e)
        n = Div (d, s)
        r = Mul (n, w)""", c=1e-5, w=positive(8)), groups=(8,), slim={"w": (4,)}, zero=False),
    Case("ReduceMean", "inside groups", tokens("""
        a = Reshape (h, s1)
        m = ReduceMean <axes=[-1]> (a)
        d = Sub (a, m)
        r = Reshape (d, s2)""", s1=[0, 6, 2, 4], s2=[0, 6, 8]), groups=(2,)),
    Case("ReduceMean", "head", net("""
        h = Conv (x, W1)
        p = ReduceMean <axes=[2,3], keepdims=0> (h)
        y = MatMul (p, W2)""", W1=(8, 3, 3, 3), W2=(8, 4)), groups=(8,)),
    *[Case(op, "channels", between(f"""
        p = {op} <axes=[1]> (h)
        r = Mul (h, p)"""), groups=(8,), zero=False) for op in EXTREMES],
    Case("ReduceMax", "behind a Relu", between("""
        a = Relu (h)
        p = ReduceMax <axes=[1]> (a)
        r = Mul (a, p)"""), groups=(8,)),
    Case("ReduceMin", "behind a Relu and a Neg", between("""
        a = Relu (h)
        b = Neg (a)
        p = ReduceMin <axes=[1]> (b)
        r = Mul (a, p)"""), groups=(8,)),
    Case("ReduceMin", "behind a Relu", between("""
        a = Relu (h)
        p = ReduceMin <axes=[1]> (a)
        r = Mul (a, p)"""), groups=(8,), zero=False),
    Case("ReduceMax", "as attention over places", between("""
        a = Clip (h, zero, six)
        m = ReduceMax <axes=[1]> (a)
        v = ReduceMean <axes=[1]> (a)
        c = Concat <axis=1> (m, v)
        g = Conv <pads=[3,3,3,3]> (c, W3)
        s = Sigmoid (g)
        r = Mul (a, s)""", zero=0.0, six=6.0, W3=(1, 2, 7, 7)), groups=(8,), zero=False),
    Case("ReduceMax", "inside groups", tokens("""
        a = Reshape (h, s1)
        m = ReduceMax <axes=[-1]> (a)
        d = Sub (a, m)
        r = Reshape (d, s2)""", s1=[0, 6, 2, 4], s2=[0, 6, 8]), groups=(2,)),
    Case("ReduceMax", "largest of pieces", between("""
        a = Reshape (h, s)
        m = ReduceMax <axes=[2], keepdims=0> (a)
        r = Relu (m)""", s=[0, 2, 4, 8, 8], W2=(4, 2, 1, 1)), groups=(2,),
        slim={"W1": (4, 3, 3, 3), "W2": (4, 1, 1, 1)}),
    # Softmax
    *[Case(op, "over channels", between(f"r = {op} <axis=1> (h)"), groups=(),
        blocked={"first": "normalizes along it"}) for op in ("Hardmax", "LogSoftmax", "Softmax")],
    *[Case(op, "over pixels", between(f"r = {op} <axis=-1> (h)"), groups=(8,),
        zero=False) for op in ("Hardmax", "LogSoftmax", "Softmax")],
    *[Case(op, "flattened before 13", between(f"r = {op} <axis=2> (h)", opset=11), groups=(8,),
        zero=False) for op in ("Hardmax", "LogSoftmax", "Softmax")],
    Case("Softmax", "default axis before 13", between("r = Softmax (h)", opset=11), groups=(),
        blocked={"first": "normalizes along it"}),
    Case("Softmax", "default axis from 13", between("r = Softmax (h)", opset=13), groups=(8,),
        zero=False),
    # Positions and order
    *[Case(op, "over channels", between(f"""
        p = {op} <axis=1> (h)
        f = Cast <to=1> (p)
        r = Mul (h, f)"""), groups=(), blocked={"first": "returns positions along it"})
        for op in ("ArgMax", "ArgMin")],
    *[Case(op, "over pixels", between(f"""
        p = {op} <axis=-1, keepdims=1> (h)
        f = Cast <to=1> (p)
        r = Mul (h, f)"""), groups=(8,)) for op in ("ArgMax", "ArgMin")],
    Case("ArgMax", "classes", net("""
        h = Gemm <transB=1> (x, W1)
        r = Relu (h)
        l = Gemm <transB=1> (r, W2)
        y = ArgMax <axis=-1, keepdims=0> (l)""", inputs="float[N,5] x", W1=(8, 5), W2=(4, 8)),
        groups=(8,), blocked={"l": "returns positions along it"}),
    Case("TopK", "over channels", between("""
        v, i = TopK <axis=1> (h, k)
        r = Identity (v)""", k=[3], W2=(4, 3, 1, 1)), groups=(), blocked={"first": "orders along it"}),
    Case("TopK", "over pixels", between("r, i = TopK <axis=-1> (h, k)", k=[3]), groups=(8,)),
    Case("TopK", "attribute before 10", between("r, i = TopK <axis=3, k=3> (h)", opset=9), groups=(8,)),
    Case("TopK", "opset 11, smallest", between("r, i = TopK <axis=2, largest=0> (h, k)", opset=11,
        k=[2]), groups=(8,)),
    Case("CumSum", "over pixels", between("r = CumSum (h, i)", i=2), groups=(8,)),
    Case("CumSum", "over channels", between("r = CumSum (h, i)", i=1), groups=(8,)),
    Case("CumSum", "over channels, backwards", between("r = CumSum <exclusive=1, reverse=1> (h, i)",
        i=1), groups=(8,)),
]  # fmt: skip

case = partial(enter, CASES)

case("CumSum", "channels", signal, "CumSum", np.array(1), groups=(6,))
