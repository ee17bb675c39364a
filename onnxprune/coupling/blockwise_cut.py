"""What is left where blocks keep inner channels of their own (see ``block_policy.py``): masks and indices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..labels.vector import Bools, Ints, Labels, carried
from ..labels.walk import Walk
from .incidence import ByUnit
from .resolve import Components


class BlockwiseCut:
    """Where every label stands in a product whose blocks keep inner channels of their own.

    Attributes
    ----------
    number, column : int array, shape (labels,)
        Of an inner channel: the last product that it is a column of, and which one; -1 elsewhere.
    tables : dict
        (stored tensor, axis) that is cut block by block -> number of its product.
    mine : list of int array
        Labels of the columns of each product.
    """

    def __init__(self, walk: Walk, components: Components) -> None:
        self.products = components.independent
        self.unit, self.atom = components.unit, components.atom
        number, column = np.full((2, int(self.atom.max()) + 1), -1)
        for k, product in enumerate(self.products):
            number[self.atom[product.columns]] = k
            column[self.atom[product.columns]] = np.arange(len(product.columns))
        self.number, self.column = number[self.atom], column[self.atom]
        order = np.argsort(self.number, kind="stable")
        bounds = np.searchsorted(self.number[order], np.arange(len(self.products) + 1))
        self.mine = [order[a:b] for a, b in pairwise(bounds.tolist())]
        self._carrying = ByUnit([product.labels for product in self.products], self.unit)
        self.tables: dict[tuple[str, int], int] = {}
        for name, axis in walk.facts.ragged:
            labels = walk.axes[name][axis]
            if carried(labels) and self.number[labels[0]] >= 0:
                self.tables[name, axis] = int(self.number[labels[0]])

    def _place(self, factor: Labels, labels: Ints) -> Ints:
        """Position in a factor of the channel that each label is."""
        order = np.argsort(self.atom[factor])
        return order[np.searchsorted(self.atom[factor], self.atom[labels], sorter=order)]

    def block_of(self, units: Ints) -> Ints | None:
        """Block of each unit of a group, None where its blocks keep the same inner channels."""
        for number in self._carrying.of(int(units[0])):
            product = self.products[number]
            mine = self.unit[product.labels]
            if np.isin(units, mine).all():
                order = np.argsort(mine)
                place = order[np.searchsorted(mine, units, sorter=order)]
                return np.asarray(place // len(product.columns))
        return None

    def mark(self, alive: Bools) -> None:
        """Let as many of the first columns live as every block keeps."""
        for number in range(len(self.products)):
            self.mark_one(number, alive)

    def mark_one(self, number: int, alive: Bools) -> None:
        """The same for the columns of one product; no other product has them among its labels."""
        product, mine = self.products[number], self.mine[number]
        kept = alive[product.labels].reshape(len(product.rows), -1).sum(axis=1).max()
        alive[mine] = self.column[mine] < kept

    def kept(self, number: int, alive: Bools) -> Ints | None:
        """Kept inner channels of every block, shape (blocks, kept); None where all are."""
        product = self.products[number]
        table = alive[product.labels].reshape(len(product.rows), -1)
        return None if table.all() else np.stack([np.flatnonzero(block) for block in table])

    def mask(self, axes: Sequence[Labels], axis: int, alive: Bools) -> Bools:
        """Mask of an axis of inner channels together with that of the blocks, as a full grid."""
        product = self.products[int(self.number[axes[axis][0]])]
        row = self._rows(axes, axis)
        column = self.column[axes[axis]].reshape([-1 if k == axis else 1 for k in range(len(axes))])
        return np.asarray(alive[product.labels[row * len(product.columns) + column]])

    def places(self, axes: Sequence[Labels], axis: int, alive: Bools) -> Ints:
        """Kept inner channels of every block, as indices for ``numpy.take_along_axis``."""
        table = self.kept(int(self.number[axes[axis][0]]), alive)
        assert table is not None
        row = self._rows(axes, axis)
        return np.moveaxis(table[np.take(row, 0, axis)], -1, axis)

    def _rows(self, axes: Sequence[Labels], axis: int) -> Ints:
        """Block of every entry, shaped to broadcast over a tensor with these axes."""
        rows = self.products[int(self.number[axes[axis][0]])].rows
        found = (k for k, v in enumerate(axes) if k != axis and np.isin(self.atom[v], self.atom[rows]).all())
        other = next(found)
        place = self._place(rows, axes[other])
        return place.reshape([-1 if k == other else 1 for k in range(len(axes))])
