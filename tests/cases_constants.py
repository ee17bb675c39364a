"""Rows in which constants are computed from what the file stores."""

from __future__ import annotations

import numpy as np

from .building import Case, net, positive

INTEGERS = np.random.default_rng(0).integers(-127, 128, (8, 6)).astype(np.int8)

CASES = [
    # Weights that are made of what is stored, entry by entry
    Case("Cast", "weights stored as integers", net("""
        a = Cast <to=1> (q)
        w = Mul (a, s)
        h = MatMul (x, w)
        r = Relu (h)
        c = Cast <to=1> (p)
        d = Mul (c, t)
        y = MatMul (r, d)""", inputs="float[N,8] x", q=INTEGERS, s=positive(1, 6) / 100, p=INTEGERS.T.copy(),
        t=positive(8) / 100), groups=(6,), slim={"q": (8, 3), "s": (1, 3), "p": (3, 8), "t": (8,)}),
    Case("Sub", "weights stored as integers with a zero point", net("""
        a = Cast <to=1> (q)
        b = Cast <to=1> (z)
        c = Sub (a, b)
        w = Mul (s, c)
        t = Transpose <perm=[1,0]> (w)
        v = Reshape (t, shape)
        h = Conv (x, v)
        r = Relu (h)
        y = Conv (r, W2)""", inputs="float[N,2,4,4] x", q=INTEGERS, z=np.arange(6, dtype=np.int8),
        s=positive(6) / 100, W2=(4, 6, 1, 1), shape=[6, 2, 2, 2]), groups=(6,),
        slim={"q": (8, 3), "z": (3,), "s": (3,), "W2": (4, 3, 1, 1)}),
    Case("Mul", "weights with a mask of booleans", net("""
        m = Cast <to=1> (keep)
        w = Mul (W1, m)
        h = MatMul (x, w)
        r = Relu (h)
        y = MatMul (r, W2)""", inputs="float[N,8] x", W1=(8, 6), keep=INTEGERS > 0, W2=(6, 4)),
        groups=(6,), slim={"w": (8, 3), "W2": (3, 4)}, zero=False),
    Case("Div", "weights with a mask, a gain and an offset", net("""
        a = Mul (W1, m)
        b = Div (a, g)
        c = Neg (b)
        w = Add (o, c)
        h = MatMul (x, w)
        r = Relu (h)
        y = MatMul (r, W2)""", inputs="float[N,8] x", W1=(8, 6), m=(INTEGERS > 0).astype(np.float32),
        g=positive(8, 1), o=(1, 6), W2=(6, 4)), groups=(6,),
        slim={"W1": (8, 3), "m": (8, 3), "g": (8, 1), "o": (1, 3)}),
    # Constants that are computed from what the network reads, too
    Case("ReduceSum", "lengths of a codebook", net("""
        s = Mul (c, c)
        l = ReduceSum <keepdims=0> (s, last)
        q = Gather <axis=0> (c, i)
        e = Gather <axis=0> (l, i)
        y = MatMul (q, W)""", inputs="int64[N] i", outputs="y, e", c=(30, 16), W=(16, 5), last=[1]),
        groups=(16,), slim={"c": (30, 8), "W": (8, 5)}),
    Case("MatMul", "a codebook with itself", net("""
        t = Transpose <perm=[1,0]> (c)
        g = MatMul (c, t)
        q = Gather <axis=0> (c, i)
        e = Gather <axis=0> (g, i)
        y = MatMul (q, W)""", inputs="int64[N] i", outputs="y, e", c=(30, 16), W=(16, 5)),
        groups=(16,), slim={"c": (30, 8), "W": (8, 5)},
        blocked={"g": "picks from it by data"}),
    Case("ReduceSum", "exponentials of a codebook", net("""
        s = Exp (c)
        l = ReduceSum <keepdims=0> (s, last)
        q = Gather <axis=0> (c, i)
        e = Gather <axis=0> (l, i)
        y = MatMul (q, W)""", inputs="int64[N] i", outputs="y, e", c=(30, 16), W=(16, 5), last=[1]),
        groups=(16,), slim={"c": (30, 8), "W": (8, 5)}, zero=False),
    Case("ReduceMean", "of a codebook", net("""
        l = ReduceMean <axes=[1], keepdims=0> (c)
        q = Gather <axis=0> (c, i)
        e = Gather <axis=0> (l, i)
        y = MatMul (q, W)""", inputs="int64[N] i", outputs="y, e", c=(30, 16), W=(16, 5)),
        groups=(16,), slim={"c": (30, 8), "W": (8, 5)}, zero=False),
    Case("ReduceSum", "lengths of a computed codebook", net("""
        d = Mul (c, scale)
        s = Mul (d, d)
        l = ReduceSum <keepdims=0> (s, last)
        q = Gather <axis=0> (d, i)
        e = Gather <axis=0> (l, i)
        y = MatMul (q, W)""", inputs="int64[N] i", outputs="y, e", c=(30, 16), W=(16, 5),
        scale=positive(30, 1), last=[1]), groups=(16,), slim={"c": (30, 8), "W": (8, 5)}),
    Case("Softmax", "of a codebook", net("""
        p = Softmax (c)
        q = Gather <axis=0> (c, i)
        e = Gather <axis=0> (p, i)
        y = MatMul (q, W)""", inputs="int64[N] i", outputs="y, e", c=(30, 16), W=(16, 5)),
        groups=(), zero=False),
    Case("Sub", "a weight centred for its own layer", net("""
        m = ReduceMean <axes=[0]> (W1)
        n = Sub (W1, m)
        h = MatMul (x, n)
        r = Relu (h)
        y = MatMul (r, W2)""", inputs="float[N,6] x", W1=(6, 8), W2=(8, 5)),
        groups=(8,), slim={"W2": (4, 5)}, zero=False),
]  # fmt: skip
