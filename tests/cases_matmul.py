"""Matrix products and attention."""

from __future__ import annotations

from functools import partial
from typing import Any

import onnx

from .building import FOUR_HEADS, HEADS, Case, net, positive, tokens
from .building_nodes import STEPS, Graph, enter, sequence

CASES = [
    Case("MatMul", "two layers", tokens("r = Relu (h)"), groups=(8,),
        slim={"W1": (5, 4), "B1": (4,), "W2": (4, 4)}),
    Case("MatMul", "opset 7", tokens("r = Relu (h)", opset=7), groups=(8,)),
    Case("MatMul", "constant left operand", net("""
        h = MatMul (W1, x)
        r = Relu (h)
        y = MatMul (W2, r)""", inputs="float[5,7] x", W1=(8, 5), W2=(4, 8)), groups=(8,),
        slim={"W1": (4, 5), "W2": (4, 4)}),
    Case("MatMul", "vector on the right", net("""
        h = MatMul (x, W1)
        y = MatMul (h, v)""", inputs="float[N,6,5] x", W1=(5, 8), v=(8,)), groups=(8,),
        slim={"v": (4,)}),
    Case("MatMul", "vector on the left", net("""
        h = MatMul (x, W1)
        t = Transpose <perm=[0,2,1]> (h)
        y = MatMul (v, t)""", inputs="float[N,6,5] x", W1=(5, 8), v=(8,)), groups=(8,)),
    Case("MatMul", "vector input", net("""
        h = MatMul (x, W1)
        y = MatMul (h, W2)""", inputs="float[5] x", W1=(5, 8), W2=(8, 4)), groups=(8,)),
    Case("MatMul", "weight for each batch", net("""
        a = MatMul (x, W1)
        h = Relu (a)
        y = MatMul (h, W2)""", inputs="float[3,6,5] x", W1=(3, 5, 8), W2=(3, 8, 4)), groups=(8,),
        slim={"W1": (3, 5, 4), "W2": (3, 4, 4)}),
    Case("MatMul", "batch of experts", net("""
        a = MatMul (x, W1)
        h = Relu (a)
        b = MatMul (h, W2)
        y = ReduceSum <keepdims=0> (b, i)""", inputs="float[1,6,5] x", W1=(4, 5, 8), W2=(4, 8, 3),
        i=[0]), groups=(8,), slim={"W1": (4, 5, 4)}),
    Case("MatMul", "of two activations", net("""
        a = MatMul (x, W1)
        b = MatMul (x, W2)
        t = Transpose <perm=[0,2,1]> (b)
        y = MatMul (a, t)""", inputs="float[N,6,5] x", W1=(5, 8), W2=(5, 8)), groups=(8,),
        slim={"W1": (5, 4), "W2": (5, 4)}),
    Case("MatMul", "outer product", net("""
        a = MatMul (x, W1)
        b = MatMul (x, W2)
        t = Transpose <perm=[0,2,1]> (a)
        c = MatMul (t, b)
        d = MatMul (c, W3)
        y = ReduceSum <keepdims=0> (d, i)""", inputs="float[N,6,5] x", W1=(5, 8), W2=(5, 6),
        W3=(6, 3), i=[1]), groups=(8, 6)),
    # Gemm
    Case("Gemm", "as exported", net("""
        h = Gemm <transB=1> (x, W1, B1)
        r = Relu (h)
        y = Gemm <transB=1> (r, W2, B2)""", inputs="float[N,5] x", W1=(8, 5), B1=(8,), W2=(4, 8),
        B2=(4,)), groups=(8,), slim={"W1": (4, 5), "B1": (4,), "W2": (4, 4), "B2": (4,)}),
    Case("Gemm", "not transposed, scaled", net("""
        h = Gemm <alpha=0.5, beta=2.0> (x, W1, B1)
        r = Relu (h)
        y = Gemm (r, W2)""", inputs="float[N,5] x", W1=(5, 8), B1=(1, 8), W2=(8, 4)), groups=(8,),
        slim={"W1": (5, 4), "B1": (1, 4), "W2": (4, 4)}),
    Case("Gemm", "opset 7", net("""
        h = Gemm (x, W1, B1)
        y = Gemm (h, W2, B2)""", inputs="float[N,5] x", opset=7, W1=(5, 8), B1=(8,), W2=(8, 4),
        B2=(4,)), groups=(8,)),
    Case("Gemm", "both transposed", net("""
        h = Gemm <transA=1, transB=1> (x, W1, B1)
        t = Transpose (h)
        y = Gemm <transA=1> (t, W2)""", inputs="float[5,7] x", W1=(8, 5), B1=(8,), W2=(8, 4)),
        groups=(8,), slim={"W1": (4, 5), "W2": (4, 4)}),
    Case("Gemm", "constant on the left", net("""
        h = Gemm (W1, x, B1)
        r = Relu (h)
        y = Gemm <transA=1> (W2, r)""", inputs="float[5,7] x", W1=(8, 5), B1=(8, 1), W2=(8, 4)),
        groups=(8,), slim={"W1": (4, 5), "B1": (4, 1), "W2": (4, 4)}),
    Case("Gemm", "scalar bias", net("""
        h = Gemm (x, W1, B1)
        y = Gemm (h, W2)""", inputs="float[N,5] x", W1=(5, 8), B1=0.5, W2=(8, 4)), groups=(8,),
        zero=False),
    *[Case("Gemm", f"bias of shape {list(shape)}", net("""
        h = Gemm (x, W1, B1)
        y = Gemm (h, W2)""", inputs="float[7,5] x", W1=(5, 8), B1=positive(*shape), W2=(8, 4)),
        groups=(8,), zero=False) for shape in ((1,), (1, 1), (7, 1))],
    Case("Gemm", "residual as bias", net("""
        h = Gemm (x, W1)
        r = Gemm (h, W2, h)
        y = Gemm (r, W3)""", inputs="float[N,5] x", W1=(5, 8), W2=(8, 8), W3=(8, 3)), groups=(8,),
        slim={"W2": (4, 4)}),
    # Attention
    Case("MatMul", "heads, then a weight folded from heads", net(
        HEADS.format("p = Softmax <axis=-1> (a)\n WO = Reshape (WH, w)"),
        **{k: v for k, v in FOUR_HEADS.items() if k != "WO"}, WH=(4, 6, 12), w=[24, 12]),
        groups=(4,),
        slim={"WH": (2, 6, 12)}),
    Case("MatMul", "heads by Reshape and Transpose", net(HEADS.format("p = Softmax <axis=-1> (a)"),
        **FOUR_HEADS), groups=(4,),
        slim={"WQ": (12, 12), "WK": (12, 12), "WV": (12, 12), "WO": (12, 12)}),
    Case("MatMul", "heads of a fused projection", net("""
        q = MatMul (x, W)
        r = Reshape (q, s)
        t = Transpose <perm=[2,0,3,1,4]> (r)
        q1 = Gather <axis=0> (t, i0)
        k1 = Gather <axis=0> (t, i1)
        v1 = Gather <axis=0> (t, i2)
        k2 = Transpose <perm=[0,1,3,2]> (k1)
        a = MatMul (q1, k2)
        p = Softmax (a)
        o = MatMul (p, v1)
        o1 = Transpose <perm=[0,2,1,3]> (o)
        o2 = Reshape (o1, u)
        y = MatMul (o2, WO)""", inputs="float[N,6,12] x", W=(12, 48), WO=(16, 12),
        s=[-1, 6, 3, 4, 4], u=[-1, 6, 16], i0=0, i1=1, i2=2), groups=(4,),
        slim={"W": (12, 24), "WO": (8, 12)}),
    *[Case(op, "keys shared by four heads", net(f"""
        q = MatMul (x, WQ)
        k = MatMul (x, WK)
        q1 = Reshape (q, s)
        k1 = Reshape (k, t)
        q2 = Transpose <perm=[0,2,1,3]> (q1)
        k2 = Transpose <perm=[0,2,3,1]> (k1)
        k3 = Unsqueeze (k2, i)
        k4 = {op} (k3, e)
        k5 = Reshape (k4, u)
        y0 = MatMul (q2, k5)
        y = ReduceSum <keepdims=0> (y0, j)""", inputs="float[2,6,12] x", WQ=(12, 32), WK=(12, 8),
        s=[2, 6, 8, 4], t=[2, 6, 2, 4], i=[2], e=[1, 1, 4, 1, 1], u=[2, 8, 4, 6], j=[1]),
        groups=(2,), slim={"WQ": (12, 16), "WK": (12, 4)}) for op in ("Expand", "Tile")],
]  # fmt: skip

case = partial(enter, CASES)


def fused_matmul(op: str = "FusedMatMul", stored: bool = False, **attributes: Any) -> onnx.ModelProto:
    """A product of two computed tensors, or of one with a stored weight."""
    net = Graph()
    a = sequence(net, "a", 6)
    if attributes.get("transA") and not attributes.get("transBatchA"):
        a = net.node("Transpose", a, perm=[0, 2, 1])
    if attributes.get("transBatchA"):
        order = [2, 0, 1] if attributes.get("transA") else [1, 0, 2]
        a = net.node("Transpose", a, perm=order)
    if stored:
        W = net.weight("W", 8, 6, fan_in=6) if attributes.get("transB") else net.weight("W", 6, 8)
        y = net.ms(op, a, W, alpha=0.5, **attributes)
    else:
        b = sequence(net, "b", 6)
        b = b if attributes.get("transB") else net.node("Transpose", b, perm=[0, 2, 1])
        y = net.ms(op, a, b, alpha=0.5, **attributes)
    return net.done(net.linear("head", y, 8 if stored else STEPS, 4), rank=3)


case("com.microsoft::FusedMatMul", "scores", fused_matmul, transB=1, groups=(6,))
case("com.microsoft::FusedMatMul", "stored", fused_matmul, stored=True, groups=(6, 8))
case("com.microsoft::FusedMatMul", "stored, transposed", fused_matmul, stored=True, transB=1, groups=(6, 8))
case("com.microsoft::FusedMatMul", "both transposed", fused_matmul, transA=1, transB=1, groups=(6,))
case("com.microsoft::FusedMatMul", "batch transposed", fused_matmul, transBatchA=1, transB=1, groups=(6,))
case(
    "com.microsoft::FusedMatMul",
    "batch and rows transposed",
    fused_matmul,
    transBatchA=1,
    transA=1,
    transB=1,
    groups=(6,),
)
case("com.microsoft::TransposeMatMul", "scores", fused_matmul, op="TransposeMatMul", transB=1, groups=(6,))


def fused_gemm() -> onnx.ModelProto:
    """Gemm with an activation."""
    net = Graph()
    x = net.gemm("a", net.input("x", 2, 3), 3, 8)
    W, B = net.weight("W", 6, 8), net.bias("B", 6)
    y = net.ms("FusedGemm", x, W, B, transB=1, activation="Relu", name="fused")
    return net.done(net.gemm("b", y, 6, 4), rank=2)


case("com.microsoft::FusedGemm", "relu", fused_gemm, groups=(8, 6))
