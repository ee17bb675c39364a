"""Fourier transforms, and operators that make tensors of their own."""

from __future__ import annotations

from ..labels.vector import NONE
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .registry import always, rule


@rule("DFT", traits=Trait.SIZED_BY_VALUES)
def dft(c: Walk, n: Node) -> None:
    """Pins the axis of the signal and that of real and imaginary part, carries the others."""
    X = n.inputs[0]
    axis = n.attr("axis", 1)
    if n.opset >= 20:
        given = n.take(3)[2]
        axis = int(c.known(given)) if given else -2
    c.out(n.output, c.fixed(X, [axis, -1], f"{n} transforms the signal along it"))


@rule("STFT", traits=Trait.NONE)
def stft(c: Walk, n: Node) -> None:
    """Carries the batch; the signal is cut into frames and transformed."""
    signal, *others = n.inputs
    c.freeze(others, f"{n} transforms with it")
    batch = c.fixed(signal, range(1, c.rank(signal)), f"{n} transforms the signal along it")[0]
    c.out(n.output, [batch, *[NONE] * (c.rank(n.output) - 1)])


@rule("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", traits=Trait.SIZED_BY_VALUES)
@rule("Range", traits=Trait.SIZED_BY_VALUES | Trait.SIZED_BY_DATA)
@rule("Range", domain="com.microsoft", traits=Trait.SIZED_BY_VALUES)
def series(c: Walk, n: Node) -> None:
    """Makes numbers from scalars; its axes carry no channels."""


@rule("EyeLike", traits=Trait.NONE)
def eye_like(c: Walk, n: Node) -> None:
    """Pins its input, of which it reads the shape; a diagonal carries no channels."""
    c.freeze(n.inputs, f"{n} makes a diagonal of its size")


@rule("Bernoulli", "RandomNormalLike", "RandomUniformLike", random=always, traits=Trait.NONE)
def random_like(c: Walk, n: Node) -> None:
    """Draws one number per entry: carries the labels, unless a seed says which numbers come."""
    if n.attr("seed") is None:
        c.same(n)
    else:
        c.freeze(n.inputs, f"{n} draws numbers from a seed, which would be others for less entries")


@rule("Multinomial", random=always, traits=Trait.NONE)
def multinomial(c: Walk, n: Node) -> None:
    """Pins the axis of the classes that it draws from, carries the batch."""
    batch, _ = c.fixed(n.inputs[0], [1], f"{n} draws positions along it")
    c.out(n.output, [batch, NONE])


@rule("Trilu", traits=Trait.NONE)
@rule("Trilu", domain="com.microsoft", traits=Trait.NONE)
def trilu(c: Walk, n: Node) -> None:
    """Pins the axes of the triangle, carries the others."""
    c.out(n.output, c.fixed(n.inputs[0], [-1, -2], f"{n} cuts a triangle out of it"))


@rule("Det", traits=Trait.NONE)
def determinant(c: Walk, n: Node) -> None:
    """Pins the axes of the matrices, carries the others."""
    c.out(n.output, c.fixed(n.inputs[0], [-1, -2], f"{n} takes a determinant over it")[:-2])


@rule("CumProd", along="statistic", traits=Trait.NONE)
def cumulative_product(c: Walk, n: Node) -> None:
    """Carries the labels: the running product of the kept entries."""
    X, axis = n.inputs
    c.stat(c.axis(X, int(c.known(axis))))
    c.same(n)
