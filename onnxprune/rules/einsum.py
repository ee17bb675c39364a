"""Einsum: one vector of labels per letter of the equation."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ..labels.sizes import SizeView
from ..labels.vector import NONE
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .registry import rule
from .signs import product

Letter = str | int
"""A letter, or the position from the right (from 1) of an axis behind the ellipsis."""


@rule("Einsum", sign=product, traits=Trait.NONE)
def einsum(c: Walk, n: Node) -> None:
    """Axes of one letter are one axis; a letter that the output lacks is summed over."""
    terms, result = letters(n.attr("equation"), [c.rank(x) for x in n.inputs])
    places: dict[Letter, list[tuple[str, int]]] = {}
    for name, term in zip(n.inputs, terms, strict=True):
        for axis, letter in enumerate(term):
            if c.shape(name)[axis] != 1:  # broadcast
                places.setdefault(letter, []).append((name, axis))
    labels = {letter: c.join(axes) for letter, axes in places.items()}
    if any(letter not in result for letter in places):  # a product
        for letter, axes in places.items():
            shared = "batch" if letter in result else "contraction"
            c.role(labels[letter], shared if len({name for name, _ in axes}) > 1 else "free")
    for name, term in zip(n.inputs, terms, strict=True):
        for axis, letter in enumerate(term if c.stored(name) and len(term) > 1 else ()):
            alone = all(other == name for other, _ in places.get(letter, ()))
            if alone and letter in result:
                c.kernel(n, name, axis)
    c.out(n.output, [labels.get(letter, NONE) for letter in result])
    c.macs(lambda z: _macs(z, places))


def letters(equation: str, ranks: list[int]) -> tuple[list[list[Letter]], list[Letter]]:
    """Letters of the axes of every operand, and of the output.

    Examples
    --------
    >>> letters("...ij,jk", [3, 2])
    ([[1, 'i', 'j'], ['j', 'k']], [1, 'i', 'k'])
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = [_term(text, rank) for text, rank in zip(left.split(","), ranks, strict=True)]
    wide = max((sum(isinstance(v, int) for v in term) for term in terms), default=0)
    if arrow:
        kept = len(right.replace("...", ""))
        return terms, _term(right, kept + (wide if "..." in right else 0))
    everything = [v for term in terms for v in term if isinstance(v, str)]
    once: list[Letter] = sorted(v for v in everything if everything.count(v) == 1)
    return terms, [*range(wide, 0, -1), *once]


def _term(text: str, rank: int) -> list[Letter]:
    before, dots, after = text.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    return [*before, *range(hidden, 0, -1), *after]


def _macs(z: SizeView, places: Mapping[Letter, list[tuple[str, int]]]) -> int:
    """One multiplication per combination of letters."""
    return prod(z.size(*axes[0]) for axes in places.values())
