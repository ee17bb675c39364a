"""What is known of the factors of products, and how much each deserves to stay free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..labels.facts import Facts, Product
from ..labels.vector import Bools, Ints, Labels

PREFERENCE = {"batch": 3, "norm groups": 2, "conv groups": -1}
"""Higher stays free: whole heads of a batched MatMul and whole groups of a GroupNormalization go,
but the inside of the groups of a grouped convolution."""

OUTER = {0: 1, -2: 1, 1: -1, -1: -1, None: 0}
"""``reshape_channel_axis`` -> preference for the outer factor; the inner one has the opposite."""


class Merit(NamedTuple):
    """How much a factor deserves to stay free: what is greater stays, the first difference decides.

    Attributes
    ----------
    genuine : bool
        It is not made by repetition alone.
    used : bool
        Some computation uses it.
    preferred : int
        What the user or the policy says.
    size : int
    """

    genuine: bool
    used: bool
    preferred: int
    size: int


def first_difference(a: Merit, b: Merit) -> int:
    """Position of the first criterion by which two factors differ."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def matter_of_taste(a: Merit, b: Merit) -> bool:
    """Whether nothing but preference and size tells two factors apart."""
    return first_difference(a, b) >= Merit._fields.index("preferred")


class Standing:
    """What the facts say of channels, which are known as atoms.

    Parameters
    ----------
    facts : Facts
    atom : int array, shape (labels,)
        Component of each label by ``unify`` alone.
    """

    def __init__(self, facts: Facts, atom: Ints) -> None:
        self._atom, self._count = atom, int(atom.max()) + 1
        self._pinned = self._marked(pin.labels for pin in facts.pins)
        self._repeated = self._marked(facts.broadcast)
        self._used = self._marked(labels for labels, _ in facts.roles)
        self._rank = np.zeros(self._count, np.int64)
        for labels, role in facts.roles:
            self._prefer(labels, PREFERENCE.get(role, 0))
        self._spread_pins(facts.products)
        self._spread_heads(facts.products)
        self._spread_use(facts.products)

    def pinned(self, factor: Labels) -> bool:
        """Whether nothing of a factor can go."""
        return bool(self._pinned[self._atom[factor]].all())

    def merits(self, product: Product, axis: int | None) -> tuple[Merit, Merit]:
        """What the rows and the columns of a product deserve."""
        outer = OUTER[axis]
        return self._merit(product.rows, outer), self._merit(product.columns, -outer)

    def _merit(self, factor: Labels, asked: int) -> Merit:
        atoms = self._atom[factor]
        rank = self._rank[atoms]
        return Merit(
            genuine=not self._repeated[atoms].all(),
            used=bool(self._used[atoms].any()),
            preferred=asked or int(rank.max() or rank.min()),
            size=len(factor),
        )

    def _marked(self, vectors: Iterable[Labels]) -> Bools:
        """Mask of the atoms on some label vectors."""
        mask = np.zeros(self._count, np.bool_)
        for labels in vectors:
            mask[self._atom[labels]] = True
        return mask

    def _prefer(self, labels: Labels, preference: int) -> None:
        """The stronger of two preferences holds."""
        atoms = self._atom[labels]
        self._rank[atoms[np.abs(self._rank[atoms]) < abs(preference)]] = preference

    def _spread_pins(self, products: Sequence[Product]) -> None:
        """A product of pinned factors is pinned, and so are the factors of a pinned product."""
        pinned, known = self._pinned, -1
        while (count := int(pinned.sum())) > known:
            known = count
            for product in products:
                r, c = self._atom[product.rows], self._atom[product.columns]
                grid = self._atom[product.labels].reshape(len(r), len(c))
                pinned[grid[pinned[r][:, None] & pinned[c]]] = True
                pinned[r[pinned[grid].any(axis=1)]] = True
                pinned[c[pinned[grid].any(axis=0)]] = True

    def _spread_heads(self, products: Sequence[Product]) -> None:
        """An axis of heads may be merged from several, all of which are heads then."""
        heads = PREFERENCE["batch"]
        for product in reversed(products):
            if int(self._rank[self._atom[product.labels]].max()) == heads:
                for factor in (product.rows, product.columns):
                    self._used[self._atom[factor]], self._rank[self._atom[factor]] = True, heads

    def _spread_use(self, products: Sequence[Product]) -> None:
        """A factor may be split again ([heads, 3, size]): what uses a part of it uses it."""
        for product in reversed(products):
            if any(self._used[self._atom[factor]].any() for factor in (product.rows, product.columns)):
                self._used[self._atom[product.labels]] = True
