"""How weights are stored, shared and computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from .building import Case, between, net, positive, weight


def half(name: str, *shape: int) -> np.ndarray:
    """Random float16 weight."""
    return weight(name, shape).astype(np.float16)


def typed(name: str, *shape: int) -> TensorProto:
    """Random weight in the typed field of the proto, not in raw bytes."""
    return helper.make_tensor(name, TensorProto.FLOAT, shape, weight(name, shape).reshape(-1))


TWO = """
    h = Conv (x, W1, b)
    r = Relu (h)
    g = Conv (r, W2, {})
    q = Relu (g)
    y = Conv (q, W3)"""

SHARED: dict[str, Any] = {"W1": (8, 3, 3, 3), "W2": (8, 8, 1, 1), "W3": (4, 8, 1, 1), "b": (8,)}

CASES = [
    Case("Conv", "typed data", between("r = Relu (h)", W1=typed("W1", 8, 3, 3, 3)), groups=(8,)),
    Case("Conv", "initializers listed as inputs", between("r = Relu (h)", opset=8, ir_version=3,
        listed=True), groups=(8,)),
    Case("Conv", "initializers that a caller may replace", between("r = Relu (h)", opset=8, ir_version=8,
        listed=True), groups=(8,)),
    Case("Conv", "shared bias, same initializer", net(TWO.format("b"), **SHARED),
        groups=(8, 8), zero=False),
    Case("Identity", "shared bias by Identity", net("c = Identity (b)" + TWO.format("c"), **SHARED),
        groups=(8, 8), zero=False),
    Case("Identity", "shared bias by Identity, coupled layers", net("""
        h = Conv (x, W1, b)
        c = Identity (b)
        g = Conv (x, W2, c)
        k = Conv (x, W3, c)
        q = Mul (h, g)
        r = Concat <axis=1> (q, k)
        y = Conv (r, W4)""", W1=(8, 3, 3, 3), W2=(8, 3, 3, 3), W3=(8, 3, 3, 3), W4=(4, 16, 1, 1),
        b=(8,)), groups=(8, 8), zero=False),
    Case("Identity", "bias and its copy, coupled layers after another", net("""
        k = Conv (x, W3, b)
        c = Identity (b)
        h = Conv (x, W1, c)
        g = Conv (x, W2, c)
        q = Mul (h, g)
        r = Concat <axis=1> (q, k)
        y = Conv (r, W4)""", W1=(8, 3, 3, 3), W2=(8, 3, 3, 3), W3=(8, 3, 3, 3), W4=(4, 16, 1, 1),
        b=(8,)), groups=(8, 8), zero=False),
    Case("Identity", "shared weight by Identity", net("""
        w = Identity (W1)
        a = Conv (x, W1)
        b = Conv (z, w)
        c = Mul (a, b)
        y = Conv (c, W2)""", inputs="float[N,3,8,8] x, float[N,3,8,8] z", W1=(8, 3, 3, 3),
        W2=(4, 8, 1, 1)), groups=(8,), slim={"W1": (4, 3, 3, 3)}),
    Case("Identity", "of data, twice", between("""
        a = Identity (h)
        r = Identity (a)"""), groups=(8,)),
    Case("Cast", "half weights", net("""
        w = Cast <to=1> (W1)
        v = Cast <to=1> (W2)
        h = Conv (x, w)
        y = Conv (h, v)""", W1=half("W1", 8, 3, 3, 3), W2=half("W2", 4, 8, 1, 1)), groups=(8,),
        slim={"W1": (4, 3, 3, 3), "W2": (4, 4, 1, 1)}),
    Case("Transpose", "convolution weight behind it", net("""
        w = Transpose <perm=[3,2,0,1]> (W1)
        h = Conv (x, w)
        y = Conv (h, W2)""", W1=(3, 3, 3, 8), W2=(4, 8, 1, 1)), groups=(8,),
        slim={"W1": (3, 3, 3, 4)}),
    Case("Sqrt", "weight standardisation", net("""
        m = ReduceMean <axes=[1,2,3]> (W3)
        d = Sub (W3, m)
        q = Mul (d, d)
        v = ReduceMean <axes=[1,2,3]> (q)
        s = Sqrt (v)
        w = Div (d, s)
        h = Conv (x, W1)
        r = Relu (h)
        g = Conv (r, w)
        y = Conv (g, W2)""", W1=(8, 3, 3, 3), W3=(6, 8, 3, 3), W2=(4, 6, 1, 1)), groups=(8, 6),
        slim={"w": (3, 4, 3, 3)}, zero=False),
    Case("Mul", "weight times a gain", net("""
        w = Mul (W1, c)
        h = Conv (x, w)
        y = Conv (h, W2)""", W1=(8, 3, 3, 3), c=positive(8, 1, 1, 1), W2=(4, 8, 1, 1)), groups=(8,),
        slim={"W1": (4, 3, 3, 3), "c": (4, 1, 1, 1)}),
    Case("Concat", "weight in two parts", net("""
        w = Concat <axis=0> (W1, W3)
        h = Conv (x, w)
        y = Conv (h, W2)""", W1=(4, 3, 3, 3), W3=(4, 3, 3, 3), W2=(4, 8, 1, 1)), groups=(4, 4),
        slim={"W1": (2, 3, 3, 3), "W3": (2, 3, 3, 3), "W2": (4, 4, 1, 1)}),
    Case("Slice", "weight of two layers", net("""
        v = Slice (W, zero, eight, zero)
        w = Slice (W, eight, far, zero)
        a = Conv (x, v)
        b = Conv (x, w)
        c = Concat <axis=1> (a, b)
        y = Conv (c, W2)""", W=(14, 3, 3, 3), W2=(4, 14, 1, 1), zero=[0], eight=[8], far=[99]),
        groups=(8, 6), slim={"W": (7, 3, 3, 3)}),
    Case("Add", "Constant nodes", between("""
        c = Constant <value=float[8,1,1]{1,2,3,4,5,6,7,8}> ()
        r = Add (h, c)"""), groups=(8,), slim={"c": (4, 1, 1)}),
    Case("Mul", "Constant nodes with plain values", between("""
        c = Constant <value_float=0.5> ()
        d = Constant <value_floats=[0.5]> ()
        a = Mul (h, c)
        r = Mul (a, d)""", opset=13), groups=(8,)),
    Case("Reshape", "Constant node as target", net("""
        s = Constant <value_ints=[-1,128]> ()
        h = Conv (x, W1)
        f = Reshape (h, s)
        y = MatMul (f, W2)""", inputs="float[2,3,6,6] x", W1=(8, 3, 3, 3), W2=(128, 4)), groups=(8,)),
    Case("Conv", "unused initializer", between("r = Relu (h)", unused=(8, 3)), groups=(8,)),
    Case("Conv", "equal scale in three layers", net("""
        h = Conv (x, W1)
        a = Mul (h, c)
        r = Conv (a, W2)
        b = Mul (r, c)
        y = Conv (b, W3)""", W1=(8, 3, 3, 3), W2=(8, 8, 1, 1), W3=(4, 8, 1, 1), c=positive(8, 1, 1)),
        groups=(8, 8), zero=False),
    Case("Gather", "weight row by row", net("""
        w = Gather <axis=0> (W, i)
        h = MatMul (x, w)
        r = Relu (h)
        y = MatMul (r, W2)""", inputs="float[N,5] x", W=(2, 5, 8), i=1, W2=(8, 4)), groups=(8,)),
    Case("Conv", "two outputs", net("""
        h = Conv (x, W1)
        r = Relu (h)
        y = Conv (r, W2)
        g = Conv (r, W3)
        z = Conv (g, W2)""", outputs="y, z", W1=(8, 3, 3, 3), W3=(8, 8, 1, 1), W2=(4, 8, 1, 1)),
        groups=(8,)),
    Case("Conv", "half precision throughout", net("""
        h = Conv (x, W1)
        r = Relu (h)
        y = Conv (r, W2)""", inputs="float16[N,3,8,8] x", W1=half("W1", 8, 3, 3, 3),
        W2=half("W2", 4, 8, 1, 1)), groups=(8,), limit=1e-3),
    Case("MatMul", "double precision throughout", net("""
        h = MatMul (x, W1)
        r = Relu (h)
        y = MatMul (r, W2)""", inputs="double[N,5] x", W1=weight("W1", (5, 8)).astype("f8"),
        W2=weight("W2", (8, 4)).astype("f8")), groups=(8,), limit=1e-14),
    Case("Conv", "bias stored as one of two names", net("""
        c = Identity (b)
        d = Identity (c)
        h = Conv (x, W1, d)
        y = Conv (h, W2)""", W1=(8, 3, 3, 3), b=(8,), W2=(4, 8, 1, 1)), groups=(8,),
        slim={"b": (4,)}),
]  # fmt: skip
