"""Operators that work entry by entry."""

from __future__ import annotations

from ..graph import Node
from ..walk import Walk
from .registry import rule


@rule("Affine", "ParametricSoftplus", "ScaledTanh")  # of the first days of ONNX
@rule(
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitCast",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
)
def unary(c: Walk, n: Node) -> None:
    """Carries the labels of its input."""
    c.same(n, n.output)


@rule("Clip", "Dropout", "CastLike")
def parametrised(c: Walk, n: Node) -> None:
    """Carries the labels of its first input; the others are scalars."""
    c.same(n)


@rule(
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "Pow",
    "PRelu",
    "Sub",
    "Sum",
    "SwiGLU",
    "Where",
    "Xor",
)
def broadcast(c: Walk, n: Node) -> None:
    """Couples its inputs entry by entry, with numpy broadcasting."""
    c.out(n.output, c.elementwise(n.inputs))
