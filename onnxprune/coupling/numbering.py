"""Channels of a cleaned model, under the names and numbers that they have in the input file.

A plan, a table or a question speaks of the input file, whatever the clean-up removed before anything
was scored. Both models are analysed with the same settings, and a channel is the same in both where it
has the same place in the same tensor, once the entries that the clean-up removed are left out.

Where a clean-up leaves one head of several, what is inside of it can go, which in the file cannot: such
a group has no like there. Its channels have the numbers of the stored axis that they run along.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..labels.vector import NONE, Ints, distinct
from ..model.names import Names
from .groups import Group, matches
from .trace import Trace


class Overlap(NamedTuple):
    """Channels that a group of the cleaned model shares with one of the input file, or with an axis.

    Attributes
    ----------
    name : str
        Of the group of the input file; made up for an axis.
    here, there : int array
        Positions in the cleaned group, and those of the same channels in the input file. Of an axis
        several may belong to one channel.
    left : bool array
        Which channels of the input file the clean-up left.
    group : Group or None
        Of the input file.
    """

    name: str
    here: Ints
    there: Ints
    left: npt.NDArray[np.bool_]
    group: Group | None


class Numbering:
    """Where the groups of a cleaned model come from.

    Parameters
    ----------
    source : Trace
        Of the input file, with the settings of the selection.
    lossless : Trace
        The same walk with the settings of the clean-up.
    removed : int array
        Units of ``lossless`` that the clean-up removed.
    cleaned : Trace
        Of what it left, with the settings of the selection.

    Attributes
    ----------
    overlaps : dict
        Name of a cleaned group -> its overlaps with groups of the input file.
    """

    def __init__(self, source: Trace, lossless: Trace, removed: Ints, cleaned: Trace) -> None:
        self.source, self.lossless, self.cleaned = source, lossless, cleaned
        self._alive = lossless.alive(removed)
        self._kept = lossless.sizes(removed)
        self.by_name = {group.name: group for group in source.all_groups}
        self._home = _places(source)
        self._place = _places(cleaned)
        self.overlaps = dict(self._find())

    def _find(self) -> Iterator[tuple[str, tuple[Overlap, ...]]]:
        names = Names(self.source.graph.taken, self.by_name)
        found_units = [self._units(number, group) for number, group in enumerate(self.cleaned.all_groups)]
        claimed = self._claimed(found_units)
        for number, (group, units) in enumerate(zip(self.cleaned.all_groups, found_units, strict=True)):
            home, place = self._home[:, units]
            if (units < 0).any() or (claimed[units] != number).any():
                yield group.name, (self._along_axis(number, group, names),)
                continue
            found = [(self.source.all_groups[n], np.flatnonzero(home == n)) for n in distinct(home).tolist()]
            yield (
                group.name,
                tuple(
                    Overlap(there.name, here, place[here], self.stays(there), there) for there, here in found
                ),
            )

    def _claimed(self, found: Sequence[Ints]) -> Ints:
        """Unit of the input file -> number of the one cleaned group that has it, -1 where there is none.

        Layers may come apart once others are gone, or once their weights are no longer the same: what was
        one group is several then, of which the one of its name has its channels.
        """
        claimed = np.full(self._home.shape[1], -1)
        groups = self.cleaned.all_groups
        for number in sorted(range(len(found)), key=lambda k: groups[k].name not in self.by_name):
            units = found[number]
            known = (units >= 0).all() and (self._home[0, units] >= 0).all()
            if known and (claimed[units] < 0).all() and len(distinct(units)) == len(units):
                claimed[units] = number
        return claimed

    def _along_axis(self, number: int, group: Group, names: Names) -> Overlap:
        """Channels of a group that has no like, by their numbers on an axis that the input file has, too."""
        kernel = group.kernels[0]
        name, axis = next(filter(self._stored, _carriers(self.cleaned, group)), (kernel.tensor, kernel.axis))
        labels = self.cleaned.walk.axis(name, axis)
        index = self._kept.index(name, axis)
        index = np.arange(len(labels)) if index is None else index
        size = self.lossless.walk.shape(name)[axis]
        home, here = self._place[:, self.cleaned.owners(group)[labels]]
        mine = home == number
        left = np.zeros(size, np.bool_)
        left[index] = True
        return Overlap(names.fresh(group.name, "#"), here[mine], index[mine], left, None)

    def _stored(self, place: tuple[str, int]) -> bool:
        """Whether an axis of the cleaned model is one of the input file; that of a copy is not."""
        return all(traced.walk.peek(*place) is not NONE for traced in (self.lossless, self.cleaned))

    def _units(self, number: int, group: Group) -> Ints:
        """Unit of the input file for each channel of a cleaned group, -1 where it is not found."""
        units = np.full(len(group), -1)
        new = self.cleaned.owners(group)
        resolution = 0 if new is self.cleaned.components.unit else 1
        if resolution >= len(self.source.resolutions):
            return units
        old = self.source.resolutions[resolution].unit
        for before, after in self._same_axes(group):
            home, place = self._place[:, new[after]]
            mine = home == number
            units[place[mine]] = old[before[mine]]
            if (units >= 0).all():
                break
        return units

    def _same_axes(self, group: Group) -> Iterator[tuple[Ints, Ints]]:
        """Labels in the input file and in the cleaned model, entry for entry, of axes of a group."""
        for name, axis in _carriers(self.cleaned, group):
            before, after = (traced.walk.peek(name, axis) for traced in (self.source, self.cleaned))
            if before is NONE or after is NONE:
                continue
            index = self._kept.index(name, axis)
            if index is not None and index.ndim == 1:
                before = before[index]
            if len(before) == len(after):
                yield before, after

    def named(self, pattern: str) -> set[str]:
        """Names of groups, as they are in the input file, that a pattern names.

        Raises
        ------
        UsageError
            If there is none, with the nearest name that exists.
        """
        alone = (
            (group, overlap)
            for group in self.cleaned.all_groups
            for overlap in self.overlaps[group.name]
            if overlap.group is None
        )
        found = {
            overlap.name
            for group, overlap in alone
            if group.matches(pattern) or matches(overlap.name, pattern)
        }
        found |= {group.name for group in self.source.all_groups if group.matches(pattern)}
        return found or {group.name for group in self.source.find(pattern)}

    def sources(self, names: Collection[str]) -> set[str]:
        """Names of the cleaned groups that some groups of the input file overlap."""
        return {
            name
            for name, overlaps in self.overlaps.items()
            if any(overlap.name in names for overlap in overlaps)
        }

    def stays(self, group: Group) -> npt.NDArray[np.bool_]:
        """Which channels of a group of the input file the clean-up left."""
        return self._living[group.units]

    @cached_property
    def _living(self) -> npt.NDArray[np.bool_]:
        """Units of the input file of which the clean-up left something."""
        living = np.zeros(self._home.shape[1], np.bool_)
        for components in self.source.resolutions:
            living[components.unit[self._alive]] = True
        return living

    def lost(self, group: Group) -> dict[int, int]:
        """Channels of a group of the input file that the clean-up removed -> a unit of ``lossless``."""
        return {int(k): int(self._like[group.units[k]]) for k in np.flatnonzero(~self.stays(group))}

    @cached_property
    def _like(self) -> Ints:
        """A unit of ``lossless`` that has labels in common with each of the input file."""
        like = np.zeros(self._home.shape[1], np.int64)
        for components in self.source.resolutions:
            like[components.unit] = self.lossless.components.unit
        return like


def _places(traced: Trace) -> Ints:
    """Number of the group of every unit, and its position there; -1 for those of no group."""
    places = np.full((2, traced.unit_count), -1)
    for number, group in enumerate(traced.all_groups):
        places[0, group.units] = number
        places[1, group.units] = np.arange(len(group))
    return places


def _carriers(traced: Trace, group: Group) -> Iterator[tuple[str, int]]:
    """Axes that a group runs along: of the weights that make it, of their outputs, and all others."""
    for kernel in group.kernels:
        yield kernel.tensor, kernel.axis
    for kernel in group.kernels:
        for name in kernel.node.outputs:
            yield from ((name, axis) for axis in range(len(traced.walk.axes.get(name, ()))))
    yield from group.members
