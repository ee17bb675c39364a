"""Operators that work entry by entry."""

from __future__ import annotations

from functools import partial

import onnx
from onnx import TensorProto

from .building import Case, between, net, positive, tokens
from .building_nodes import Graph, enter, image

ZERO_KEEPING = (
    "Abs", "Asinh", "Atan", "Ceil", "Celu", "Elu", "Erf", "Floor", "HardSwish", "Identity", "LeakyRelu",
    "Neg", "Relu", "Round", "Selu", "Shrink", "Sign", "Sin", "Sinh", "Softsign", "Tan", "Tanh",
    "ThresholdedRelu",
)  # fmt: skip
"""f(0) = 0: masking weights is enough."""

MOVING = ("Cos", "Cosh", "Exp", "HardSigmoid", "Sigmoid", "Softplus")
"""f(0) is something else: the masked original has to mask behind them."""

BOUNDED = {
    "Acos": False, "Asin": False, "Atanh": False, "Log": True, "Sqrt": True, "Reciprocal": True,
}  # fmt: skip
"""Defined on a part of the line; the value says whether they need positive numbers."""


def bounded(op: str, above_zero: bool) -> str:
    """Values strictly inside (-1, 1) or (0, 1), then the operator."""
    return f"b = {'Sigmoid' if above_zero else 'Softsign'} (h)\nr = {op} (b)"


CASES = [
    *[Case(op, "between convolutions", between(f"r = {op} (h)"), groups=(8,),
        slim={"W1": (4, 3, 3, 3), "W2": (4, 4, 1, 1)}) for op in ZERO_KEEPING],
    *[Case(op, "between convolutions", between(f"r = {op} (h)"), groups=(8,), zero=False,
        slim={"W1": (4, 3, 3, 3), "W2": (4, 4, 1, 1)}) for op in MOVING],
    *[Case(op, "in its domain", between(bounded(op, positive)), groups=(8,), zero=False,
        limit=1e-5) for op, positive in BOUNDED.items()],
    Case("Acosh", "in its domain", between("""
        a = Abs (h)
        b = Add (a, c)
        r = Acosh (b)""", c=1.5), groups=(8,), zero=False),
    Case("Gelu", "opset 20", between("r = Gelu (h)", opset=20, ir_version=9), groups=(8,)),
    Case("Gelu", "tanh", between('r = Gelu <approximate="tanh"> (h)', opset=20, ir_version=9),
        groups=(8,)),
    Case("Swish", "opset 24", between("r = Swish <alpha=1.5> (h)", opset=24, ir_version=11),
        groups=(8,)),
    Case("Mish", "opset 18", between("r = Mish (h)", opset=18, outputs="float[N,4,8,8] y"), groups=(8,)),
    Case("Relu", "opset 7", between("r = Relu (h)", opset=7), groups=(8,)),
    # Types
    Case("Cast", "to half and back", between("""
        a = Cast <to=10> (h)
        r = Cast <to=1> (a)"""), groups=(8,), limit=1e-3),  # onnxruntime drops the pair of casts
    Case("Cast", "to double", net("""
        a = Conv (x, W1)
        b = Cast <to=11> (a)
        c = MatMul (b, d)
        y = Cast <to=1> (c)""", W1=(8, 3, 3, 3), d=positive(6, 4).astype("f8")),
        groups=(), blocked={"a": "graph output"}),
    Case("CastLike", "to the type of another", between("r = CastLike (h, c)", c=1.0), groups=(8,)),
    Case("BitwiseNot", "of integers", between("""
        a = Cast <to=6> (h)
        b = BitwiseNot (a)
        r = Cast <to=1> (b)""", opset=18), groups=(8,), zero=False),
    *[Case(op, "of floats", between(f"""
        a = {op} (h)
        b = Cast <to=1> (a)
        r = Add (b, h)""", opset=20, ir_version=9), groups=(8,)) for op in ("IsNaN", "IsInf")],
    Case("Not", "of a comparison", between("""
        a = Greater (h, c)
        b = Not (a)
        m = Cast <to=1> (b)
        r = Mul (m, h)""", c=0.1), groups=(8,)),
    # Scalars beside the data
    Case("Clip", "attributes before 11", between("r = Clip <min=0.0, max=6.0> (h)", opset=10),
        groups=(8,)),
    Case("Clip", "inputs from 11", between("r = Clip (h, a, b)", a=-0.1, b=0.2), groups=(8,)),
    Case("Clip", "without a lower end", between("r = Clip (h, , b)", b=0.2), groups=(8,)),
    Case("Clip", "above zero", between("r = Clip (h, a, b)", a=0.1, b=0.2), groups=(8,), zero=False),
    Case("Dropout", "attribute before 12", between("r = Dropout <ratio=0.5> (h)", opset=7),
        groups=(8,)),
    Case("Dropout", "input from 12", between("r = Dropout (h, c)", c=0.5), groups=(8,)),
    Case("Dropout", "with its mask", between("""
        d, m = Dropout (h)
        f = Cast <to=1> (m)
        r = Mul (d, f)"""), groups=(8,)),
    # Two operands
    *[Case(op, "of two branches", between(f"""
        a = Conv <pads=[1,1,1,1]> (x, W3)
        r = {op} (h, a)""", W3=(8, 3, 3, 3)), groups=(8,), slim={"W3": (4, 3, 3, 3)})
        for op in ("Add", "Max", "Mean", "Min", "Mul", "Sub", "Sum")],
    *[Case(op, "constant for each channel", between(f"r = {op} (h, c)", c=positive(8, 1, 1)),
        groups=(8,), slim={"c": (4, 1, 1)}) for op in ("Add", "Max", "Mean", "Min", "Mul", "Sub")],
    *[Case(op, "opset 7", between(f"r = {op} (h, c)", opset=7, c=(1, 8, 1, 1)), groups=(8,))
        for op in ("Add", "Mul", "Sub", "PRelu")],
    Case("Sum", "opset 7", between("r = Sum (h, h)", opset=7), groups=(8,)),
    Case("Add", "opset 14", between("r = Add (h, c)", opset=14, c=(8, 1, 1)), groups=(8,)),
    Case("Add", "scalar", between("r = Add (h, c)", c=0.5), groups=(8,), zero=False),
    Case("Add", "graph input", between("r = Add (h, z)", inputs="float[N,3,8,8] x, float[N,8,8,8] z"),
        groups=(), blocked={"first": "carries no channels"}),
    Case("Add", "to itself", between("r = Add (h, h)"), groups=(8,)),
    Case("Add", "constant vector on the last axis", tokens("r = Add (h, c)", c=(8,)), groups=(8,)),
    Case("Add", "column of channels", tokens("""
        t = Transpose <perm=[0,2,1]> (h)
        a = Add (t, c)
        r = Transpose <perm=[0,2,1]> (a)""", c=(8, 1)), groups=(8,), slim={"c": (4, 1)}),
    Case("Add", "broadcast over channels", between("""
        a = Conv <pads=[1,1,1,1]> (x, W3)
        r = Add (h, a)""", W3=(1, 3, 3, 3)), groups=(8,), slim={"W3": (1, 3, 3, 3)}, zero=False),
    Case("Div", "by a constant", between("r = Div (h, c)", c=positive(8, 1, 1)), groups=(8,),
        slim={"c": (4, 1, 1)}, zero=False),
    Case("Div", "of two branches", between("""
        a = Conv <pads=[1,1,1,1]> (x, W3)
        b = Exp (a)
        r = Div (h, b)""", W3=(8, 3, 3, 3)), groups=(8,)),
    Case("Pow", "square", between("r = Pow (h, c)", c=2.0), groups=(8,)),
    Case("Pow", "opset 7", between("r = Pow (h, c)", opset=7, c=2.0), groups=(8,)),
    Case("Mod", "of floats", between("r = Mod <fmod=1> (h, c)", c=positive(8, 1, 1)), groups=(8,),
        zero=False),
    *[Case(op, "of two branches", between(f"""
        a = Conv <pads=[1,1,1,1]> (x, W3)
        b = {op} (h, a)
        m = Cast <to=1> (b)
        r = Mul (m, h)""", W3=(8, 3, 3, 3)), groups=(8,))
        for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")],
    *[Case(op, "of comparisons", between(f"""
        a = Greater (h, c)
        b = Less (h, d)
        e = {op} (a, b)
        m = Cast <to=1> (e)
        r = Mul (m, h)""", c=-0.1, d=positive(8, 1, 1)), groups=(8,), slim={"d": (4, 1, 1)})
        for op in ("And", "Or", "Xor")],
    *[Case(op, "of integers", between(f"""
        a = Cast <to=6> (h)
        b = {op} (a, c)
        r = Cast <to=1> (b)""", opset=18, c=positive(8, 1, 1).astype("i4") + 1), groups=(8,),
        zero=False) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")],
    Case("BitShift", "of integers", between("""
        a = Abs (h)
        b = Cast <to=12> (a)
        d = BitShift <direction="LEFT"> (b, c)
        r = Cast <to=1> (d)""", c=positive(8, 1, 1).astype("u4") + 1), groups=(8,)),
    Case("PRelu", "slope for each channel", between("r = PRelu (h, c)", c=(8, 1, 1)),
        groups=(8,), slim={"c": (4, 1, 1)}),
    Case("PRelu", "one slope", between("r = PRelu (h, c)", c=positive(1)), groups=(8,)),
    Case("Where", "of a comparison", between("""
        a = Greater (h, c)
        r = Where (a, h, d)""", c=0.1, d=(8, 1, 1)), groups=(8,), slim={"d": (4, 1, 1)}),
    Case("Where", "constant mask over pixels", between("""
        r = Where (m, h, c)""", m=positive(8, 8) > 1, c=0.5), groups=(8,), zero=False),
    Case("Sum", "of three", between("""
        a = Conv <pads=[1,1,1,1]> (x, W3)
        r = Sum (h, a, c)""", W3=(8, 3, 3, 3), c=(8, 1, 1)), groups=(8,)),
    Case("Max", "of three, broadcast", between("r = Max (h, c, d)", c=(8, 1, 1), d=0.1),
        groups=(8,), zero=False),
]  # fmt: skip

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)

case("Affine", "entries", image, "Affine", alpha=2.0, beta=0.5, opset=9, groups=(8,))
case("ParametricSoftplus", "entries", image, "ParametricSoftplus", alpha=2.0, beta=0.5, opset=9, groups=(8,))
case("ScaledTanh", "entries", image, "ScaledTanh", alpha=2.0, beta=0.5, opset=9, groups=(8,))
case("ThresholdedRelu", "entries", image, "ThresholdedRelu", alpha=0.1, groups=(8,))
reference("BitCast", "entries", lambda: bits(), groups=(6,))
reference("SwiGLU", "gate and value", lambda: swiglu(), groups=(8,))


def bits() -> onnx.ModelProto:
    """There and back again."""
    net = Graph(26)
    x = net.conv("a", net.input("x", 2, 3, 8, 2), 3, 6)
    y = net.node("BitCast", net.node("BitCast", x, to=TensorProto.INT32), to=TensorProto.FLOAT)
    return net.done(net.conv("b", y, 6, 4, kernel=1))


def swiglu() -> onnx.ModelProto:
    """Two projections, gated."""
    net = Graph(28)
    x = net.input("x", 2, 3)
    y = net.node("SwiGLU", net.linear("a", x, 3, 8), net.linear("b", x, 3, 8))
    return net.done(net.linear("head", y, 8, 4))
