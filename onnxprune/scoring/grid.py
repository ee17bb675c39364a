"""Entries of several layers as channels of one group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..labels.facts import Kernel
from ..labels.vector import Ints
from .registry import Scores


class Grid:
    """Where the entries of some layers stand among the channels of a group.

    Parameters
    ----------
    traced : Trace
    group : Group
    kernels : sequence of Kernel
        Each covers every unit of the group.
    """

    def __init__(self, traced: Trace, group: Group, kernels: Sequence[Kernel]) -> None:
        unit, atom = traced.owners(group), traced.components.atom
        labels = [traced.walk.axis(k.tensor, k.axis) for k in kernels]
        places = [_places(unit[v], group.units) for v in labels]
        self.mine = [p >= 0 for p in places]
        kept = [v[mine] for v, mine in zip(labels, self.mine, strict=True)]
        first, inverse = _distinct(atom[np.concatenate(kept)])
        self.count = len(first)
        self.columns = np.split(inverse, np.cumsum([len(v) for v in kept])[:-1])
        self.owner = np.concatenate([p[m] for p, m in zip(places, self.mine, strict=True)])[first]
        self.size = len(group)

    def stack(self, values: Sequence[Scores]) -> Scores:
        """One row per layer, one column per channel; several entries of a channel give their mean."""
        rows = np.full((len(values), self.count), np.nan)
        for row, mine, where, scores in zip(rows, self.mine, self.columns, values, strict=True):
            if len(where) == self.count and _ascends(where):
                row[:] = scores[mine]
                continue
            counts = np.bincount(where, minlength=self.count)
            sums = np.bincount(where, scores[mine], minlength=self.count)
            row[counts > 0] = sums[counts > 0] / counts[counts > 0]
        return rows

    def units(self, channels: Scores, merge: Callable[..., Any] = np.nanmean) -> Scores:
        """One score per unit from one per channel; NaN where no channel of a unit has one."""
        if self.count == self.size:
            result = np.empty(self.size)
            result[self.owner] = channels
            return result
        known = ~np.isnan(channels)
        counts = np.bincount(self.owner[known], minlength=self.size)
        sums = np.bincount(self.owner[known], channels[known], minlength=self.size)
        divisor = np.where(counts, 1 if merge is np.nansum else counts, np.nan)
        return sums / divisor


def _places(owners: Ints, units: Ints) -> Ints:
    """Where entries stand among the units of a group, -1 for those of others."""
    if len(owners) == len(units) and (owners == units).all():  # as they mostly do
        return np.arange(len(units))
    low = int(units.min())
    place = np.full(int(units.max()) - low + 2, -1)  # the last is for all others
    place[units - low] = np.arange(len(units))
    return place[np.clip(owners - low, -1, len(place) - 1)]


def _distinct(values: Ints) -> tuple[Ints, Ints]:
    """First position of every distinct value, and which of them each value is."""
    if _ascends(values):  # the rule for a layer that is coupled with no other
        return (every := np.arange(len(values))), every
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)


def _ascends(values: Ints) -> bool:
    return bool((values[1:] > values[:-1]).all())
