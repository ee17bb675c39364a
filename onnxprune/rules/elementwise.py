"""Operators that work entry by entry."""

from __future__ import annotations

from ..labels.walk import Walk
from ..model.node import Node
from .registry import rule
from .signs import above, chosen, clipped, highest, kept, lowest, opposite, positive, power, product, shared


@rule("Affine", "ParametricSoftplus", "ScaledTanh")  # of the first days of ONNX
@rule(
    "Abs",
    "Acos",
    "Acosh",
    "Cosh",
    "Exp",
    "HardSigmoid",
    "Relu",
    "Sigmoid",
    "Softplus",
    "Sqrt",
    sign=positive,
)
@rule(
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cast",
    "Ceil",
    "Erf",
    "Floor",
    "Identity",
    "Round",
    "Sign",
    "Sinh",
    "Softsign",
    "Tanh",
    sign=kept,
)
@rule(
    "Celu",
    "Elu",
    "Gelu",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "Swish",
    "ThresholdedRelu",
    sign=above,
)
@rule(
    "Neg",
    sign=opposite,
)
@rule(
    "BitCast",
    "BitwiseNot",
    "Cos",
    "IsInf",
    "IsNaN",
    "Log",
    "Not",
    "Reciprocal",
    "Selu",
    "Shrink",
    "Sin",
    "Tan",
)
def unary(c: Walk, n: Node) -> None:
    """Carries the labels of its input."""
    c.same(n, n.output)


def training(c: Walk, n: Node) -> bool:
    """Whether a Dropout is told that it may be in training; before operator set 12 it never is."""
    given = c.value(n.take(3)[2])
    return bool(n.take(3)[2]) and (given is None or bool(given.any()))


@rule("Clip", sign=clipped)
@rule("CastLike", sign=kept)
@rule("Dropout", sign=kept, random=training)
def parametrised(c: Walk, n: Node) -> None:
    """Carries the labels of its first input; the others are scalars."""
    c.same(n)


@rule(
    "Add",
    "Mean",
    "Sum",
    sign=shared,
)
@rule(
    "Mul",
    sign=product,
)
@rule(
    "Max",
    sign=highest,
)
@rule(
    "Min",
    sign=lowest,
)
@rule(
    "PRelu",
    sign=above,
)
@rule(
    "Pow",
    sign=power,
)
@rule(
    "Where",
    sign=chosen,
)
@rule(
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
    "Mod",
    "Or",
    "Sub",
    "SwiGLU",
    "Xor",
)
def broadcast(c: Walk, n: Node) -> None:
    """Couples its inputs entry by entry, with numpy broadcasting."""
    c.out(n.output, c.elementwise(n.inputs))
