"""Which units stand on which label vectors: what groups are told apart by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ..labels.vector import NONE, Ints, Labels, carried, distinct


class Incidence:
    """Units on the label vectors of some slots (tensor, axis); many slots share one vector.

    Parameters
    ----------
    slots : sequence of Labels
        Vector of each slot.
    unit : int array, shape (labels,)
        Unit of each label.

    Attributes
    ----------
    vector, unit, count : int array, shape (incidences,)
        Number of a distinct vector, a unit on it, and how many of its entries belong to that unit;
        in ascending order.
    """

    def __init__(self, slots: Sequence[Labels], unit: Ints) -> None:
        self._units = int(unit.max()) + 1
        vectors = {id(labels): labels for labels in slots if labels is not NONE}
        self._number = {identity: k for k, identity in enumerate(vectors)}
        self._slots = [self._number[id(labels)] for labels in slots if labels is not NONE]
        sizes = [len(labels) for labels in vectors.values()]
        owner = np.repeat(np.arange(len(vectors)), sizes)
        every = np.concatenate([unit[:0], *(unit[labels] for labels in vectors.values())])
        pairs = owner * self._units + every
        # Units mostly ascend along a vector, which a stable sort exploits.
        pairs.sort(kind="stable")
        first = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)])
        self.vector = owner[first]
        self.unit = pairs[first] - self.vector * self._units
        self.count = np.diff(first, append=len(pairs))

    def signatures(self) -> Ints:
        """Fingerprint of the slots that each unit covers, equal for units of one group.

        The sum of a random number per slot, whether or not a unit has several entries there.
        """
        randoms = np.random.default_rng(0).integers(1, 2**63, len(self._slots))
        weights = np.zeros(len(self._number), np.int64)
        sums = np.zeros(self._units, np.int64)
        np.add.at(weights, self._slots, randoms)  # modulo 2**64
        np.add.at(sums, self.unit, weights[self.vector])
        return sums

    def widths(self, group: Ints) -> dict[int, dict[int, int]]:
        """Groups on each vector, by its identity, and the most entries that one unit has on it.

        Parameters
        ----------
        group : int array, shape (units,)
            Group of each unit.
        """
        groups = group[self.unit]
        # Runs of one group on one vector; a group may have several.
        new = (self.vector[1:] != self.vector[:-1]) | (groups[1:] != groups[:-1])
        start = np.flatnonzero(np.append(True, new)[: len(groups)])
        if not len(start):
            return {}
        most = np.maximum.reduceat(self.count, start)
        found: dict[int, dict[int, int]] = {identity: {} for identity in self._number}
        tables = list(found.values())
        for vector, key, count in zip(
            self.vector[start].tolist(), groups[start].tolist(), most.tolist(), strict=True
        ):
            tables[vector][key] = max(count, tables[vector].get(key, 1))
        return found


class ByUnit:
    """Some label vectors by the units that they carry.

    Parameters
    ----------
    vectors : sequence of Labels
    unit : int array, shape (labels,)
        Unit of each label.
    """

    def __init__(self, vectors: Sequence[Labels], unit: Ints) -> None:
        owner = np.repeat(np.arange(len(vectors)), [len(labels) for labels in vectors])
        every = unit[np.concatenate([unit[:0], *vectors])]
        order = np.argsort(every, kind="stable")
        self._owner = owner[order]
        self._start = np.searchsorted(every[order], np.arange(int(unit.max()) + 2))

    def of(self, unit: int) -> list[int]:
        """Positions of the vectors with an entry of a unit, ascending."""
        return list(dict.fromkeys(self._owner[self._start[unit] : self._start[unit + 1]].tolist()))

    def entries(self, units: Ints) -> tuple[Ints, Ints]:
        """Position of the vector of every entry of some units, and which of the units it is."""
        start = self._start[units]
        counts = self._start[units + 1] - start
        which = np.repeat(np.arange(len(units)), counts)
        shift = np.repeat(start - (np.cumsum(counts) - counts), counts)
        return self._owner[shift + np.arange(len(which))], which

    def of_all(self, units: Ints) -> list[int]:
        """Positions of the vectors with an entry of any of some units, ascending."""
        return distinct(self.entries(units)[0]).tolist()


class Carriers:
    """Tensors by the units whose channels they carry.

    Parameters
    ----------
    axes : mapping
        Tensor -> label vectors.
    unit : int array, shape (labels,)
        Unit of each label.
    """

    def __init__(self, axes: Mapping[str, Sequence[Labels | None]], unit: Ints) -> None:
        vectors: dict[int, Labels] = {}
        names: dict[int, list[str]] = defaultdict(list)
        for name, found in axes.items():
            for labels in found:
                if carried(labels):
                    vectors[id(labels)] = labels
                    names[id(labels)].append(name)
        self._vectors = ByUnit(list(vectors.values()), unit)
        self._names = [names[identity] for identity in vectors]

    def of(self, unit: int) -> set[str]:
        """Names of the tensors that carry a unit."""
        return {name for vector in self._vectors.of(unit) for name in self._names[vector]}
