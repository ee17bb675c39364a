"""Costs that are brought up to date where channels change.

A group stands on some label vectors, a cost term reads some. When a group keeps more or fewer
channels, only the terms are counted anew that read one of its vectors, so that a search may change
group after group at a total cost linear in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from ..coupling.groups import Group
from ..coupling.incidence import ByUnit, Incidence
from ..coupling.trace import Trace
from ..labels.sizes import Original, SizeView, Term
from ..labels.vector import NONE, Ints, Labels, carried
from .living import Living, entangled


class Whole(Original):
    """The original sizes, and which label vectors were asked for."""

    def __init__(self, traced: Trace) -> None:
        super().__init__(traced.shapes, traced.walk.axes)
        self.vectors: dict[int, Labels] = {}
        self.asked: set[int] = set()
        self._known: dict[str, tuple[tuple[int, ...], list[int]]] = {}

    def count(self, labels: Labels) -> int:
        """Number of labels."""
        if labels is not NONE:
            self.vectors[id(labels)] = labels
            self.asked.add(id(labels))
        return super().count(labels)

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of all axes."""
        known = self._known.get(name)
        if known is None:
            mine = [labels for labels in self._axes.get(name, ()) if carried(labels)]
            self.vectors.update((id(labels), labels) for labels in mine)
            known = self._known[name] = super().shape(name), [id(labels) for labels in mine]
        self.asked.update(known[1])
        return known[0]

    def version(self, name: str) -> None:
        """All is kept."""
        self.shape(name)


class LivingSizes(SizeView):
    """Sizes that follow the numbers of living labels on some vectors.

    Attributes
    ----------
    counts : list of int
        Living labels on each vector, then sizes that never change.
    number : dict
        Identity of a vector -> its position in ``counts``.
    """

    def __init__(self, traced: Trace, vectors: Mapping[int, Labels]) -> None:
        self._shapes, self._axes = traced.shapes, traced.walk.axes
        self.number = {identity: k for k, identity in enumerate(vectors)}
        self.counts = [len(labels) for labels in vectors.values()]
        self._fixed: dict[int, int] = {}
        self._places: dict[str, list[int]] = {}
        self._reads: dict[str, Callable[[Any], Any]] = {}

    def count(self, labels: Labels) -> int:
        """Number of living labels."""
        return 1 if labels is NONE else self.counts[self.number[id(labels)]]

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of all axes."""
        read = self._reads.get(name)
        if read is None:
            read = self._reads[name] = self._reader(name)
        found: tuple[int, ...] = read(self.counts)
        return found

    def size(self, name: str, axis: int) -> int:
        """Size of an axis."""
        places = self._places.get(name)
        if places is None:
            places = self._places[name] = self._found(name)
        return self.counts[places[axis]] if -len(places) <= axis < len(places) else 1

    def version(self, name: str) -> str | None:
        """The name itself: which channels stay of others is not known, so that none are the same."""
        return None if self.shape(name) == (self._shapes.get(name) or ()) else name

    def each(self, terms: Sequence[Term], lives: Mapping[int, Ints], many: int) -> Ints:
        """Sum of terms for each of several numbers of living labels on some vectors.

        A term is counted once, of sizes that are arrays, unless it asks something of them that arrays do
        not answer, as which is larger.
        """
        total, one_by_one = np.zeros(many, np.int64), list(terms) if many == 1 else []
        before = {vector: self.counts[vector] for vector in lives}
        self.set(lives)
        for term in terms if many > 1 else ():
            try:
                total = total + term(self)
            except (TypeError, ValueError, OverflowError):
                one_by_one.append(term)
        for place in range(many if one_by_one else 0):
            self.set({vector: int(counts[place]) for vector, counts in lives.items()})
            total[place] += sum(term(self) for term in one_by_one)
        self.set(before)
        return total

    def set(self, counts: Mapping[int, Any]) -> None:
        """Set the numbers of living labels on some vectors."""
        for vector, count in counts.items():
            self.counts[vector] = count

    def _reader(self, name: str) -> Callable[[Any], Any]:
        """Function that picks the sizes of a tensor from ``counts``."""
        places = self._found(name)
        if len(places) > 1:
            return itemgetter(*places)
        return (lambda counts: (counts[places[0]],)) if places else (lambda _: ())

    def _found(self, name: str) -> list[int]:
        """Places in ``counts`` of the sizes of a tensor; what never changes is added there."""
        shape = self._shapes.get(name)
        if shape is None:
            return []
        axes = self._axes.get(name) or [None] * len(shape)
        places = []
        for size, labels in zip(shape, axes, strict=True):
            if not carried(labels):
                if size not in self._fixed:
                    self._fixed[size] = len(self.counts)
                    self.counts.append(size)
                places.append(self._fixed[size])
            else:
                places.append(self.number[id(labels)])
        return places


class Meter:
    """Totals of some costs while groups keep more or fewer of their channels.

    Parameters
    ----------
    traced : Trace
    groups : sequence of Group
        Those that change.
    orders : sequence of int array
        Positions of the channels of each group in the order in which they go.
    costs : mapping
        Name of a cost -> its terms.

    Attributes
    ----------
    totals : dict
        Name of a cost -> its value.
    counts : list of int
        Channels that each group keeps.
    evaluated : int
        How often a term was counted, the first time included.
    """

    def __init__(
        self,
        traced: Trace,
        groups: Sequence[Group],
        orders: Sequence[Ints],
        costs: Mapping[str, Sequence[Term]],
    ) -> None:
        self.traced, self.groups, self.orders = traced, groups, orders
        self.counts = [len(group) for group in groups]
        self.totals = dict.fromkeys(costs, 0)
        self._terms: list[tuple[str, Term]] = [(name, t) for name, terms in costs.items() for t in terms]
        self._count_all()
        self._effects: list[list[tuple[int, int]] | None] = [[] for _ in groups]
        self._find_effects()
        loose = [k for k, found in enumerate(self._effects) if found is None]
        self._place = {number: k for k, number in enumerate(loose)}
        if loose:
            self._living = Living(traced, [groups[k] for k in loose], [orders[k] for k in loose])
            self._by_label = ByUnit(self._vectors, np.arange(traced.walk.count))

    def _count_all(self) -> None:
        """Count every term of the whole model, and note which vectors of labels it asks for."""
        whole = Whole(self.traced)
        self._values: list[int] = []
        asked: list[set[int]] = []
        for name, term in self._terms:
            whole.asked = set()
            self._values.append(term(whole))
            self.totals[name] += self._values[-1]
            asked.append(whole.asked)
        self.evaluated = len(self._terms)
        self._view = LivingSizes(self.traced, whole.vectors)
        self._readers: list[list[int]] = [[] for _ in whole.vectors]
        for number, vectors in enumerate(asked):
            for identity in vectors:
                self._readers[self._view.number[identity]].append(number)
        self._vectors = list(whole.vectors.values())

    def _find_effects(self) -> None:
        """Set how many entries a channel of each group has on each vector.

        It is None for groups of which this is no number: the life of other labels depends on
        theirs, or their channels have different numbers of entries.
        """
        unit, effects = self.traced.components.unit, self._effects
        if self.traced.inside is not None:  # a label lives if both of its units do
            effects[:] = [None] * len(effects)
            return
        owner = np.full(int(unit.max()) + 1, -1)
        for number, group in enumerate(self.groups):
            owner[group.units] = number
        incidence = Incidence(self._vectors, unit)
        mine = owner[incidence.unit]
        loose = np.zeros(len(self.groups) + 1, np.bool_)  # the last is for units of no group
        loose[owner[unit[entangled(self.traced)]]] = True
        runs = list(_runs(incidence.vector, mine, incidence.count))
        loose[[number for _, number, width in runs if not width]] = True
        for number in np.flatnonzero(loose[:-1]).tolist():
            effects[number] = None
        for vector, number, width in runs:
            found = effects[number]
            if found is not None:
                found.append((vector, width))

    def keep(self, changes: Iterable[tuple[int, int]]) -> None:
        """Let groups keep other numbers of channels: pairs of (group, channels)."""
        values, view, totals = self._values, self._view, self.totals
        moved = self._move(changes)
        for vector, more in moved.items():
            view.counts[vector] += more
        touched = self._touched(moved)
        self.evaluated += len(touched)
        for number in touched:
            name, term = self._terms[number]
            value = term(view)
            totals[name] += value - values[number]
            values[number] = value

    def along(self, name: str, number: int, counts: Ints) -> Ints:
        """What one total would be if one group alone kept each of some numbers of channels."""
        lives = self._lives(number, counts)
        touched = [k for k in self._touched(lives) if self._terms[k][0] == name]
        self.evaluated += len(touched)
        stays = self.totals[name] - sum(self._values[k] for k in touched)
        return stays + self._view.each([self._terms[k][1] for k in touched], lives, len(counts))

    def forget(self, name: str) -> None:
        """Follow a cost no longer."""
        del self.totals[name]
        self._readers = [[k for k in terms if self._terms[k][0] != name] for terms in self._readers]

    def _lives(self, number: int, counts: Ints) -> dict[int, Ints]:
        """Vector -> how many of its labels live for each number of channels of a group, where that changes."""
        stands, before, effects = self._view.counts, self.counts[number], self._effects[number]
        if effects is not None:
            return {vector: stands[vector] + width * (counts - before) for vector, width in effects}
        lives: dict[int, Ints] = {}
        for place, count in enumerate(counts.tolist()):
            for vector, more in self._move([(number, count)]).items():
                lives.setdefault(vector, np.full(len(counts), stands[vector]))[place:] += more
        self._move([(number, before)])
        return lives

    def _move(self, changes: Iterable[tuple[int, int]]) -> dict[int, int]:
        """Vector -> how many more of its labels live once groups keep other numbers of channels."""
        moved: dict[int, int] = {}
        loose = []
        for number, count in changes:
            before, self.counts[number] = self.counts[number], count
            effects = self._effects[number]
            if effects is None:
                loose.append((self._place[number], before, count))
                continue
            for vector, width in effects:
                moved[vector] = moved.get(vector, 0) + width * (count - before)
        if loose:
            labels, signs = self._living.keep(loose)
            touched, which = self._by_label.entries(labels)
            for vector, sign in zip(touched.tolist(), signs[which].tolist(), strict=True):
                moved[vector] = moved.get(vector, 0) + sign
        return moved

    def _touched(self, vectors: Iterable[int]) -> set[int]:
        """The terms that read some vectors."""
        return {number for vector in vectors for number in self._readers[vector]}

    def removed(self) -> Ints:
        """Units that are gone."""
        units = [
            group.units[order[: len(group) - count]]
            for group, order, count in zip(self.groups, self.orders, self.counts, strict=True)
            if count < len(group)
        ]
        return np.concatenate([*units, np.zeros(0, np.int64)])


def hanging(traced: Trace, costs: Mapping[str, Sequence[Term]]) -> Iterator[dict[str, int]]:
    """What would vanish of each cost with all channels of a group, group by group."""
    meter = Meter(traced, traced.groups, [np.arange(len(group)) for group in traced], costs)
    whole = dict(meter.totals)
    for number, group in enumerate(traced):
        meter.keep([(number, 0)])
        yield {name: whole[name] - left for name, left in meter.totals.items()}
        meter.keep([(number, len(group))])


def _runs(vectors: Ints, groups: Ints, counts: Ints) -> Iterable[tuple[int, int, int]]:
    """(vector, group, entries of every unit on it); 0 entries where units have different numbers."""
    mine = np.flatnonzero(groups >= 0)
    order = mine[np.lexsort((groups[mine], vectors[mine]))]
    vectors, groups, counts = vectors[order], groups[order], counts[order]
    new = (vectors[1:] != vectors[:-1]) | (groups[1:] != groups[:-1])
    start = np.flatnonzero(np.append(True, new)[: len(order)])
    if not len(start):
        return []
    least, most = np.minimum.reduceat(counts, start), np.maximum.reduceat(counts, start)
    widths = np.where(least == most, least, 0)
    return zip(vectors[start].tolist(), groups[start].tolist(), widths.tolist(), strict=True)
