"""From facts to units and groups.

A *unit* is a minimal set of coupled channels across layers: a connected component of all pairs.
Products are first lowered to pairs. ``alive`` must stay rectangular over a split, so one factor of
every product is held: where the columns are held, ``L[i, :] ~ rows[i]`` (whole heads go); where
the rows are, ``L[:, j] ~ columns[j]`` (the inside of every group goes alike). Which factor loses:

1. one that is pinned anyway;
2. one made by repetition (Expand): it follows what it repeats;
3. one that no computation uses, when the other is used (a transit axis of a channel shuffle);
4. the one that the policy names (``PREFERENCE`` of ``factors.py``, or ``reshape_channel_axis``);
5. the smaller one.

Where one axis is cut in two ways (32 groups of a normalization, 16 of the convolution behind it), what
4 and 5 say of each cut by itself may leave very few units together. Then the factors are held that leave
the most (``finest.py``), so that the share that is asked for can go.

Where every block may keep inner channels of its own (``block_policy.py`` says where), neither is written
for the inner channels: ``rows`` are held, ``L`` is left as it is.

Units touching a pin are blocked. Units that cover the same (tensor, axis) slots form a *group*.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from ..labels.facts import Facts, Product
from ..labels.vector import Ints, Labels, distinct
from .connected import connected
from .factors import Standing, first_difference
from .finest import Pairs, as_pairs, components_of, finest


@dataclass(frozen=True, slots=True)
class Components:
    """Labels as connected components.

    Attributes
    ----------
    unit : int array, shape (labels,)
        Component of each label after products are lowered.
    atom : int array, shape (labels,)
        Component by ``unify`` alone: channels that are one and the same channel. Products of the
        same factors are the same channels, too, and so are the factors of the same product.
    reason : dict
        Unit that cannot go -> why: the first pin that it touches, or that it is the held factor of
        a product.
    inner : frozenset of int
        Positions in ``facts.products`` whose rows are held and whose columns are not.
    independent : tuple of Product
        Those of them whose blocks keep inner channels of their own.
    """

    unit: Ints
    atom: Ints
    reason: dict[int, str]
    inner: frozenset[int] = frozenset()
    independent: tuple[Product, ...] = ()


def resolve(
    facts: Facts, count: int, axis: int | None = None, independent: Set[int] = frozenset()
) -> Components:
    """Lower products and find the units.

    Parameters
    ----------
    facts : Facts
    count : int
        Number of labels, label 0 included.
    axis : {0, 1, -1, -2}, optional
        ``reshape_channel_axis``: the factor of a split that is pruned, 0 or -2 for the outer one,
        1 or -1 for the inner one.
    independent : set of int
        Positions of products whose blocks keep inner channels of their own.
    """
    pairs = [(a, b) for a, b, _ in facts.pairs]
    atom = components_of(pairs, count)
    while twins := _twins(facts.products, atom):
        pairs += twins
        atom = components_of(pairs, count)
    lowered, held, inner = _lower(facts, atom, axis, independent)
    unit = components_of(pairs + lowered, count) if lowered else atom
    reason: dict[int, str] = {}
    for labels, why in [*((pin.labels, pin.reason) for pin in facts.pins), *held]:
        for u in distinct(unit[labels]).tolist():
            reason.setdefault(u, why)
    apart = tuple(facts.products[k] for k in sorted(inner & independent))
    return Components(unit, atom, reason, inner, apart)


def _twins(products: Sequence[Product], atom: Ints) -> Pairs:
    """Products whose factors are the same by now, and whose labels are not yet; and vice versa.

    Labels that are cut alike twice (a stored tensor of [heads, size, out] that is folded to meet a
    merged axis) have one pair of factors, of which one decision is made.
    """
    made: dict[tuple[bytes, bytes], Labels] = {}
    cut: dict[tuple[bytes, int], Product] = {}
    pairs = []
    for product in products:
        labels = atom[product.labels]
        factors = atom[product.rows].tobytes(), atom[product.columns].tobytes()
        known = made.setdefault(factors, product.labels)
        twin = cut.setdefault((labels.tobytes(), len(product.rows)), product)
        pairs += [(known, product.labels), (twin.rows, product.rows), (twin.columns, product.columns)]
    return [(a, b) for a, b in pairs if a is not b and (atom[a] != atom[b]).any()]


def _lower(
    facts: Facts, atom: Ints, axis: int | None, independent: Set[int]
) -> tuple[Pairs, list[tuple[Labels, str]], frozenset[int]]:
    """Choose the held factor of every product and write the products as pairs."""
    products = facts.products
    if not products:
        return [], [], frozenset()
    classes = _classes(products, atom)
    held = _choose(facts, atom, classes, axis)
    pairs: Pairs = []
    kept: list[tuple[Labels, str]] = []
    for position, (product, (r, c)) in enumerate(zip(products, classes, strict=True)):
        rows, columns = product.rows, product.columns
        pairs += as_pairs(product, c in held, r in held and position not in independent)
        if r == c:  # a Gram matrix: [channels, channels] as one axis
            kept.append((columns, f"{product.place} takes pairs of these channels, so none goes by itself"))
        elif c in held:
            kept.append((columns, "only whole blocks of a split go"))
        if r in held:
            kept.append((rows, "every block of a split keeps the same inner channels"))
    inner = (k for k, (r, c) in enumerate(classes) if r in held and c not in held)
    return pairs, kept, frozenset(inner)


def _classes(products: Sequence[Product], atom: Ints) -> list[tuple[int, int]]:
    """Class of each product's factors; vectors that share a component are one class."""
    vectors = [v for p in products for v in (p.rows, p.columns)]
    owner = np.repeat(np.arange(len(vectors)), [len(v) for v in vectors])
    touched = atom[np.concatenate(vectors)] + len(vectors)
    size = len(vectors) + int(atom.max()) + 1
    found = connected(size, owner, touched)[: len(vectors)].tolist()
    return list(zip(found[::2], found[1::2], strict=True))


def _choose(facts: Facts, atom: Ints, classes: Sequence[tuple[int, int]], axis: int | None) -> set[int]:
    """Classes to hold so that every product has a held factor."""
    standing = Standing(facts, atom)
    held: set[int] = set()
    for product, pair in zip(facts.products, classes, strict=True):
        factors = zip((product.rows, product.columns), pair, strict=True)
        held |= {number for factor, number in factors if standing.pinned(factor)}
    merits = [standing.merits(product, axis) for product in facts.products]
    if axis is None:
        held |= finest(facts.products, classes, merits, atom, held)
    # Decisions by an early criterion come first, because each may settle other products.
    for k in sorted(range(len(merits)), key=lambda k: first_difference(*merits[k])):
        r, c = classes[k]
        if r not in held and c not in held:
            rows, columns = merits[k]
            held.add(r if rows < columns else c)
    return held
