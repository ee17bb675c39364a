"""Rows in which constants are computed from what the file stores."""

from __future__ import annotations

from .building import Case, net, positive

CASES = [
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
        scale=positive(30, 1), last=[1]), groups=(16,), slim={"W": (8, 5)}, zero=False),
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
