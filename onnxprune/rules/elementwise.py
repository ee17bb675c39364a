"""Operators that work entry by entry."""

from __future__ import annotations

from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .registry import rule
from .signs import above, chosen, clipped, highest, kept, lowest, opposite, positive, power, product, shared


@rule("Affine", "ParametricSoftplus", "ScaledTanh", traits=Trait.UNARY | Trait.UNLISTED)
@rule("Abs", "Acos", "Acosh", "Cosh", sign=positive, traits=Trait.UNARY)
@rule("Exp", "Softplus", "Sqrt", sign=positive, traits=Trait.UNARY | Trait.RISES)
@rule("HardSigmoid", sign=positive, traits=Trait.UNARY | Trait.RISES | Trait.BOUNDED | Trait.SATURATES)
@rule("Relu", sign=positive, traits=Trait.UNARY | Trait.RISES | Trait.FUSED)
@rule(
    "Sigmoid", sign=positive, traits=Trait.UNARY | Trait.RISES | Trait.BOUNDED | Trait.FUSED | Trait.SATURATES
)
@rule("Asin", "Atanh", sign=kept, traits=Trait.UNARY)
@rule(
    "Asinh", "Atan", "Ceil", "Erf", "Floor", "Round", "Sign", "Sinh", "Softsign",
    sign=kept,
    traits=Trait.UNARY | Trait.RISES,
)  # fmt: skip
@rule("Cast", sign=kept, traits=Trait.UNARY | Trait.MOVES | Trait.KEEPS_BOUNDS | Trait.RISES | Trait.FUSED)
@rule("Identity", sign=kept, traits=Trait.VIEW | Trait.UNARY | Trait.HANDS_ON | Trait.RISES)
@rule("Tanh", sign=kept, traits=Trait.UNARY | Trait.RISES | Trait.BOUNDED | Trait.SATURATES)
@rule("LeakyRelu", sign=above, traits=Trait.UNARY | Trait.RISES)
@rule("Celu", "Elu", sign=above, traits=Trait.UNARY | Trait.RISES | Trait.SATURATES)
@rule("Gelu", "HardSwish", "Mish", "Swish", sign=above, traits=Trait.UNARY | Trait.SATURATES)
@rule("ThresholdedRelu", sign=above, traits=Trait.UNARY)
@rule("Neg", sign=opposite, traits=Trait.UNARY | Trait.DECODES)
@rule(
    "BitCast", "BitwiseNot", "Cos", "IsInf", "IsNaN", "Log", "Not", "Reciprocal", "Shrink", "Sin",
    "Tan",
    traits=Trait.UNARY,
)  # fmt: skip
@rule("Selu", traits=Trait.UNARY | Trait.RISES | Trait.SATURATES)
def unary(c: Walk, n: Node) -> None:
    """Carries the labels of its input."""
    c.same(n, n.output)


def training(c: Walk, n: Node) -> bool:
    """Whether a Dropout is told that it may be in training; before operator set 12 it never is."""
    given = c.value(n.take(3)[2])
    return bool(n.take(3)[2]) and (given is None or bool(given.any()))


@rule(
    "Clip", sign=clipped, traits=Trait.UNARY | Trait.KEEPS_BOUNDS | Trait.RISES | Trait.BOUNDED | Trait.FUSED
)
@rule(
    "CastLike",
    sign=kept,
    traits=Trait.UNARY | Trait.MOVES | Trait.KEEPS_BOUNDS | Trait.RISES | Trait.READS_TYPE,
)
@rule("Dropout", sign=kept, random=training, traits=Trait.UNARY | Trait.HANDS_ON | Trait.RISES)
def parametrised(c: Walk, n: Node) -> None:
    """Carries the labels of its first input; the others are scalars."""
    c.same(n)


@rule("Add", sign=shared, traits=Trait.COMBINES | Trait.DECODES | Trait.JOINS | Trait.FUSED)
@rule("Mean", "Sum", sign=shared, traits=Trait.COMBINES | Trait.JOINS)
@rule("Mul", sign=product, traits=Trait.COMBINES | Trait.DECODES | Trait.FUSED)
@rule("Max", sign=highest, traits=Trait.COMBINES)
@rule("Min", sign=lowest, traits=Trait.COMBINES)
@rule("PRelu", sign=above, traits=Trait.COMBINES)
@rule("Pow", sign=power, traits=Trait.COMBINES)
@rule("Where", sign=chosen, traits=Trait.COMBINES | Trait.KEEPS_BOUNDS)
@rule(
    "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Mod", "Or", "SwiGLU", "Xor",
    traits=Trait.COMBINES,
)  # fmt: skip
@rule("Div", traits=Trait.COMBINES | Trait.DECODES)
@rule("Sub", traits=Trait.COMBINES | Trait.DECODES | Trait.JOINS | Trait.FUSED)
def broadcast(c: Walk, n: Node) -> None:
    """Couples its inputs entry by entry, with numpy broadcasting."""
    c.out(n.output, c.elementwise(n.inputs))
