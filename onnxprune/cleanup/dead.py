"""Which channels can go without changing an answer.

Removing units has the effect of masking their entries to zero (the contract of the rewriter). So
it changes nothing that stays exactly if, wherever a removed entry acts on an entry that stays (a
:class:`onnxprune.cleanup.values.state.Mix`), it is zero, its weight is zero, or its constant
contribution moves into the bias. Operators that work entry by entry never mix, and what computes
statistics or cannot be followed is blocked or keeps all that is not zero.

From this, life spreads backwards: units that cannot go live, and so does every unit that acts on a
living one. All others are dead, whole branches and cycles through a residual stream included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from ..coupling.incidence import ByUnit
from ..coupling.trace import Trace
from ..labels.vector import Bools, Ints, distinct
from .duplicates import find_twins
from .values import Mix, Values, analyse_values
from .values.bounds import constants, wide

Ranges = Mapping[str, tuple[float, float]]

KINDS = ("zero", "constant", "unused", "duplicate", "assumed")


@dataclass(frozen=True, eq=False)
class Dead:
    """What can go, and how.

    Attributes
    ----------
    kinds : dict
        Unit that can go -> one of ``KINDS``.
    twins : dict
        Unit that can go -> the equal one that takes over its weights.
    values : Values
    stays : dict
        (group, reason) -> number of constant channels that stay for it.
    spared : int
        Units that could go as well, but for the steps of their groups.
    """

    kinds: dict[int, str]
    twins: dict[int, int]
    values: Values
    stays: Mapping[tuple[str, str], int] = field(default_factory=dict)
    spared: int = 0

    @property
    def units(self) -> npt.NDArray[np.int64]:
        """Units that can go."""
        return np.array(sorted(self.kinds), np.int64)


def find_dead(
    traced: Trace,
    ranges: Ranges | None = None,
    *,
    duplicates: bool = True,
    steps: Mapping[str, int] | None = None,
) -> Dead:
    """Find the units that can go without changing an answer.

    Parameters
    ----------
    traced : Trace
        With ``norm="pin"``: what statistics are taken of cannot go.
    ranges : mapping, optional
        Graph input -> least and greatest value that are assumed. Units that can go only under
        this assumption are of the kind ``assumed``.
    duplicates : bool
        Whether one of two equal channels can go.
    steps : mapping of str to int, optional
        Group -> number of which what stays is to be a multiple: so many units stay that could go.
    """
    values = analyse_values(traced.walk, ranges)
    life = Life(traced, values.mixes)
    twins = find_twins(traced, values, life.kept) if duplicates else {}
    kinds = life.kinds() | dict.fromkeys(twins, "duplicate")
    count = len(kinds)
    while spared := _spared(traced, kinds, steps or {}):
        life.spare(spared)
        for u in spared:
            twins.pop(u, None)
        kinds = life.kinds() | dict.fromkeys(twins, "duplicate")
    if ranges:
        certain = find_dead(traced, duplicates=duplicates).kinds
        kinds = {u: certain.get(u, "assumed") for u in kinds}
    return Dead(kinds, twins, values, life.stays(), count - len(kinds))


def _spared(traced: Trace, kinds: Mapping[int, str], steps: Mapping[str, int]) -> list[int]:
    """Units that have to stay for their groups to keep multiples of their steps."""
    found: list[int] = []
    for group in traced:
        gone = [u for u in group.units.tolist() if u in kinds]
        found += gone[: (len(gone) - len(group)) % steps.get(group.name, 1)]
    return found


class Life:
    """Living units of a traced model.

    Attributes
    ----------
    kept : bool array, shape (units,)
        Units that stay: those that live, and one of every group that is dead as a whole.
    """

    def __init__(self, traced: Trace, mixes: list[Mix]) -> None:
        self._traced, self._mixes = traced, mixes
        self._unit = traced.components.unit
        self._silent = [mix.silent for mix in mixes]
        self._movable = [mix.movable for mix in mixes]
        self.live = np.ones(int(self._unit.max()) + 1, np.bool_)
        for group in traced:
            self.live[group.units] = False
        nothing = self._unit[:0]
        self._readers = ByUnit([nothing if m.targets is None else m.targets for m in mixes], self._unit)
        self._first = {int(group.units[0]): group for group in traced}
        self._unheard = np.zeros(len(self.live), np.bool_)
        self._unheard[list(self._first)] = True
        self._spoken: list[int] = []
        self._spread(range(len(mixes)))
        self.kept = self._one_of_each()

    def _spread(self, numbers: Iterable[int]) -> None:
        """Let every unit live that acts on a living one, beginning with some mixes.

        Those that come last in the graph are looked at first; a mix is looked at again when a unit
        that it acts on has come to life.
        """
        waiting = sorted(-number for number in numbers)
        queued = set(waiting)
        while waiting:
            turn = heappop(waiting)
            queued.discard(turn)
            for number in self._readers.of_all(self._act(-turn)):
                if -number not in queued:
                    queued.add(-number)
                    heappush(waiting, -number)

    def _act(self, number: int) -> Ints:
        """Units that come to life, because in one mix they act on a living one."""
        owners = self._unit[self._mixes[number].labels]
        if self.live[owners].all():
            return owners[:0]
        heard = self._heard(number)
        firsts = owners[heard & self._unheard[owners]]
        self._unheard[firsts] = False
        self._spoken += firsts.tolist()
        acts = heard & ~self._silent[number] & ~self._movable[number]
        woken = owners[acts & ~self.live[owners]]
        self.live[woken] = True
        return woken

    def _heard(self, number: int) -> Bools:
        return self._mixes[number].heard(self.live, self._unit)

    def spare(self, units: list[int]) -> None:
        """Let units live that could go."""
        self.live[units] = True
        self._spread(self._readers.of_all(np.array(units, np.int64)))
        self.kept = self._one_of_each()

    def _one_of_each(self) -> Bools:
        """Keep a unit of every group; one that no living entry hears needs none of its inputs."""
        while self._spoken:
            found, self._spoken = self._spoken, []
            spoken = [u for u in found if not self.live[self._first[u].units].any()]
            self.live[spoken] = True
            self._spread(self._readers.of_all(np.array(spoken, np.int64)))
        kept = self.live.copy()
        kept[[u for u, group in self._first.items() if not kept[group.units].any()]] = True
        return kept

    def _units(self, entries: Callable[[int], Bools]) -> Bools:
        """Units of which some entry of some mix fulfils a condition."""
        found = np.zeros(len(self.live), np.bool_)
        for number, mix in enumerate(self._mixes):
            found[self._unit[mix.labels[entries(number)]]] = True
        return found

    def kinds(self) -> dict[int, str]:
        """Why each unit can go that does not stay."""
        if self.kept.all():
            return {}
        moved = self._units(lambda k: self._heard(k) & self._movable[k])
        silent = self._units(lambda k: self._silent[k])
        loud = self._units(lambda k: ~self._silent[k])
        heard = self._units(self._heard)
        result = {}
        for u in np.flatnonzero(~self.kept).tolist():
            zero = silent[u] and (heard[u] or not loud[u])
            result[u] = "constant" if moved[u] else "zero" if zero else "unused"
        return result

    def stays(self) -> dict[tuple[str, str], int]:
        """Constant channels that live only because their contribution cannot move."""
        constant = [~np.isnan(constants(wide(m.values, len(m.labels)))) for m in self._mixes]
        if not any(known.any() for known in constant):
            return {}
        needed = self._units(lambda k: self._heard(k) & ~constant[k])
        names = {u: group.name for group in self._traced for u in group.units.tolist()}
        counts: Counter[tuple[str, str]] = Counter()
        seen: set[tuple[int, str]] = set()
        for k, mix in enumerate(self._mixes):
            stuck = self._heard(k) & constant[k] & ~self._silent[k] & bool(mix.obstacle)
            for u in distinct(self._unit[mix.labels[stuck]]).tolist():
                if u in names and not needed[u] and (u, mix.obstacle) not in seen:
                    seen.add((u, mix.obstacle))
                    counts[names[u], mix.obstacle] += 1
        return dict(counts)
