"""Products as pairs, and which factors to hold where one axis is cut in several ways.

Each way to cut an axis of channels asks for a factor to be held (see ``resolve.py``). Two cuts of one
axis act together: of 128 channels, 32 whole groups of a normalization and the same inside of 16 groups
of a convolution leave two units of 64 channels. So here all choices are tried, on the few labels that
take part, and that one wins which leaves the most units on the axis with the fewest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from itertools import product as combinations
from operator import itemgetter

import numpy as np

from ..labels.facts import Product
from ..labels.vector import Ints, Labels, distinct
from .connected import connected
from .factors import Merit, matter_of_taste

Pairs = list[tuple[Labels, Labels]]
Classes = Sequence[tuple[int, int]]

MOST_CUTS = 4
"""Ways to cut one axis of which all choices are tried."""


def components_of(pairs: Sequence[tuple[Labels, Labels]], count: int) -> Ints:
    """Connected components of labels."""
    if not pairs:
        return np.arange(count)
    slim = [_distinct(a, b) for a, b in pairs]
    a = np.concatenate([p[0] for p in slim])
    b = np.concatenate([p[1] for p in slim])
    return connected(count, a, b)


def _distinct(a: Labels, b: Labels) -> tuple[Labels, Labels]:
    """Drop pairs that repeat the one before: merged spatial axes repeat every label."""
    if len(a) < 4096:
        return a, b
    new = np.empty(len(a), np.bool_)
    new[0] = True
    np.logical_or(a[1:] != a[:-1], b[1:] != b[:-1], out=new[1:])
    return a[new], b[new]


def as_pairs(product: Product, columns_held: bool, rows_held: bool) -> Pairs:
    """A product as pairs: held columns leave whole rows, held rows leave whole columns."""
    rows, columns = product.rows, product.columns
    pairs = []
    if columns_held:
        pairs.append((product.labels, np.repeat(rows, len(columns))))
    if rows_held:
        pairs.append((product.labels, np.tile(columns, len(rows))))
    return pairs


def finest(
    products: Sequence[Product],
    classes: Classes,
    merits: Sequence[tuple[Merit, Merit]],
    atom: Ints,
    held: Set[int],
) -> set[int]:
    """Classes of factors to hold where an axis is cut in several ways.

    Parameters
    ----------
    products : sequence of Product
    classes : sequence of (int, int)
        Class of the rows and of the columns of each product.
    merits : sequence of (Merit, Merit)
        How much each factor deserves to stay free.
    atom : int array, shape (labels,)
    held : set of int
        Classes that are held anyway.
    """
    result: set[int] = set()
    users: dict[int, list[int]] = defaultdict(list)
    for position, pair in enumerate(classes):
        for number in {*pair}:
            users[number].append(position)
    for cuts in _cut_in_several_ways(products, atom):
        settled = {*held, *result}
        options = [_options(classes[k], merits[k], settled) for k in cuts]
        if len(cuts) > MOST_CUTS or all(len(option) == 1 for option in options):
            continue
        touched = {number for k in cuts for number in classes[k]}
        near = sorted({k for number in touched for k in users[number]})
        trials: list[tuple[tuple[int, int, int], set[int]]] = []
        for choice in combinations(*options):
            chosen = _consequences(set(choice), near, cuts, classes, settled)
            units = _units([products[k] for k in near], [classes[k] for k in near], chosen, atom)
            liked = sum(number == option[0] for number, option in zip(choice, options, strict=True))
            trials.append(((min(units), sum(units), liked), chosen))
        _, best = max(trials, key=itemgetter(0))
        result |= best - held
    return result


def _cut_in_several_ways(products: Sequence[Product], atom: Ints) -> Iterator[list[int]]:
    """Positions of products with the same labels and different numbers of rows."""
    cuts: dict[bytes, dict[int, int]] = defaultdict(dict)
    for position, product in enumerate(products):
        cuts[atom[product.labels].tobytes()].setdefault(len(product.rows), position)
    yield from (list(found.values()) for found in cuts.values() if len(found) > 1)


def _options(pair: tuple[int, int], merits: tuple[Merit, Merit], held: Set[int]) -> list[int]:
    """Classes that may be held for one product, the one that is preferred first."""
    rows, columns = pair
    known = [number for number in pair if number in held]
    if known:
        return known[:1]
    preferred = [rows, columns] if merits[0] < merits[1] else [columns, rows]
    return preferred if matter_of_taste(*merits) else preferred[:1]


def _consequences(
    chosen: set[int], near: Sequence[int], cuts: Sequence[int], classes: Classes, held: Set[int]
) -> set[int]:
    """What is held with a choice: in products next to it, the partner of a factor that stays free."""
    result = chosen | held
    free = {number for k in cuts for number in classes[k]} - result
    for k in near:
        if not result & {*classes[k]}:
            result |= {number for number in classes[k] if number not in free}
    return result


def _units(products: Sequence[Product], classes: Classes, held: Set[int], atom: Ints) -> list[int]:
    """Number of units on each axis that some products cut."""
    pairs: Pairs = []
    for product, (r, c) in zip(products, classes, strict=True):
        rows, columns, labels = (atom[v] for v in (product.rows, product.columns, product.labels))
        pairs += as_pairs(Product(rows, columns, labels, product.node), c in held, r in held)
    if not pairs:
        return [0]
    known, places = np.unique(np.concatenate([v for pair in pairs for v in pair]), return_inverse=True)
    ends = np.cumsum([len(v) for pair in pairs for v in pair])[:-1]
    parts = np.split(places, ends)
    unit = components_of(list(zip(parts[::2], parts[1::2], strict=True)), len(known))
    axes = {atom[p.labels].tobytes(): np.searchsorted(known, atom[p.labels]) for p in products}
    return [len(distinct(unit[place])) for place in axes.values()]
