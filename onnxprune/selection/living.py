"""Which labels live, brought up to date where units go and come back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..coupling.groups import Group
from ..coupling.incidence import ByUnit
from ..coupling.trace import Trace
from ..labels.vector import Bools, Ints, distinct


class Living:
    """Living labels while groups keep more or fewer of their channels.

    The same as ``Trace.alive``, for what changes alone: labels by the units that they belong to, in
    one resolution or two; then columns of blocks that keep inner channels of their own, which
    nothing else is decided by; then tables, whose labels nothing else has.

    Parameters
    ----------
    traced : Trace
    groups : sequence of Group
    orders : sequence of int array
        Positions of the channels of each group in the order in which they go.
    """

    def __init__(self, traced: Trace, groups: Sequence[Group], orders: Sequence[Ints]) -> None:
        units = [components.unit for components in traced.resolutions]
        self._sizes = [len(group) for group in groups]
        self._first = np.cumsum([0, *self._sizes]).tolist()
        place = np.full(traced.unit_count, -1)
        for first, group, order in zip(self._first, groups, orders, strict=False):
            place[group.units[order]] = first + np.arange(len(group))
        places = np.concatenate([place[unit] for unit in units])
        labels = np.tile(np.arange(traced.walk.count), len(units))
        order = np.argsort(places, kind="stable")
        self._labels = labels[order]
        self._start = np.searchsorted(places[order], np.arange(self._first[-1] + 1)).tolist()
        self._dead = np.zeros(traced.walk.count, np.int8)
        self.alive = traced.alive()
        self._apart, self._grids = traced.apart, traced.walk.facts.grids
        every = np.arange(traced.walk.count)
        products = self._apart.products if self._apart is not None else ()
        self._in_products = ByUnit([product.labels for product in products], every)
        self._in_grids = ByUnit([np.concatenate([g.rows, g.columns]) for g in self._grids], every)
        self._governed = governed(traced)

    def keep(self, changes: Iterable[tuple[int, int, int]]) -> tuple[Ints, Ints]:
        """Let groups keep other numbers of channels: (group, channels before, channels then).

        Returns
        -------
        (int array, int array), shape (changed labels,)
            The labels that changed, and 1 where one lives then, -1 where not.
        """
        touched = [self._labels[:0]]
        for number, before, then in changes:
            last = self._first[number] + self._sizes[number]
            low, high = last - max(before, then), last - min(before, then)
            mine = self._labels[self._start[low] : self._start[high]]
            np.add.at(self._dead, mine, 1 if then < before else -1)
            touched.append(mine)
        return self._changed(touched)

    def _changed(self, touched: list[Ints]) -> tuple[Ints, Ints]:
        """Follow what units do to their own labels, and those to others."""
        mine = distinct(np.concatenate(touched))
        mine = mine[~self._governed[mine]]
        changed = [self._set(mine, self._dead[mine] == 0)]
        if self._apart is not None:
            for number in self._in_products.of_all(changed[0][0]):
                columns = self._apart.mine[number]
                before = self.alive[columns]
                self._apart.mark_one(number, self.alive)
                changed.append(_difference(columns, before, self.alive[columns]))
        decided = np.concatenate([labels for labels, _ in changed])
        for number in self._in_grids.of_all(decided):
            grid = self._grids[number]
            lives = (self.alive[grid.rows][:, None] & self.alive[grid.columns]).reshape(-1)
            changed.append(self._set(grid.labels, lives))
        labels, signs = zip(*changed, strict=True)
        return np.concatenate(labels), np.concatenate(signs)

    def _set(self, labels: Ints, lives: Bools) -> tuple[Ints, Ints]:
        before = self.alive[labels]
        self.alive[labels] = lives
        return _difference(labels, before, lives)


def _difference(labels: Ints, before: Bools, then: Bools) -> tuple[Ints, Ints]:
    changed = before != then
    return labels[changed], np.where(then[changed], 1, -1)


def governed(traced: Trace) -> Bools:
    """Labels of which others decide whether they live, not the unit that they belong to."""
    found = np.zeros(traced.walk.count, np.bool_)
    for grid in traced.walk.facts.grids:
        found[grid.labels] = True
    if traced.apart is not None:
        found |= traced.apart.number >= 0
    return found


def entangled(traced: Trace) -> Bools:
    """Those, and what they depend on."""
    found = governed(traced)
    for grid in traced.walk.facts.grids:
        found[grid.rows] = found[grid.columns] = True
    for product in traced.apart.products if traced.apart is not None else ():
        found[product.labels] = True
    found[0] = False  # of no axis of channels
    return found
