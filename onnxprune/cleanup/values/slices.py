"""What the slices of a stored tensor hold: its numbers are read once, by all cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cores import spread
from ...labels.vector import Bools
from . import bounds as b
from .bounds import Bounds


@dataclass(frozen=True, eq=False, slots=True)
class Slices:
    """Facts of all slices of a tensor along an axis, each of shape (size,).

    Attributes
    ----------
    low, high : array
        Least and greatest number; NaN where a slice holds one.
    sums : array
        Equal for slices that are equal.
    holes : bool array
        Whether a number is zero.
    """

    low: npt.NDArray[Any]
    high: npt.NDArray[Any]
    sums: npt.NDArray[Any]
    holes: Bools

    @property
    def bounds(self) -> Bounds:
        """Bounds of every slice."""
        return b.tidy(self._extremes)

    @property
    def finite(self) -> bool:
        """Whether the tensor holds no infinity and no NaN."""
        return bool(np.isfinite(self._extremes).all())

    @property
    def _extremes(self) -> Bounds:
        return np.array([self.low, self.high], np.float64)


@np.errstate(all="ignore")  # sums may overflow, and then they are equal too often
def slices_of(array: np.ndarray, axis: int) -> Slices:
    """Look at all slices of an array that holds numbers, at least one.

    Parameters
    ----------
    axis : int
        Counted from the first one.
    """
    shape = array.shape
    rows = np.asarray(array).reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    if len(rows) == 1:
        return _by_blocks(rows[0], _of_rows, _appended)
    return _by_blocks(rows, _across_rows, _merged)


def _by_blocks(
    rows: np.ndarray, facts: Callable[[np.ndarray], Slices], join: Callable[[Iterable[Slices]], Slices]
) -> Slices:
    """Facts of all rows, joined from those of some at a time."""

    def look(blocks: Sequence[slice]) -> Slices:
        """Facts of some rows."""
        return join(facts(_plain(rows[block])) for block in blocks)

    return join(spread(look, len(rows), math.prod(rows.shape[1:])))


def _plain(block: np.ndarray) -> np.ndarray:
    """The same in a type that numpy has itself."""
    return block if block.dtype.kind in "biuf" else block.astype(np.float32)


def _of_rows(rows: np.ndarray) -> Slices:
    """Facts of rows that are slices each."""
    return Slices(rows.min(axis=1), rows.max(axis=1), rows.sum(axis=1), (rows == 0).any(axis=1))


def _across_rows(rows: np.ndarray) -> Slices:
    """Facts of slices that go through all rows; along whole rows numpy is faster than along two axes at once."""
    low, high, sums = rows.min(axis=0), rows.max(axis=0), rows.sum(axis=0)
    holes = (rows == 0).any(axis=0)
    return Slices(low.min(axis=1), high.max(axis=1), sums.sum(axis=1), holes.any(axis=1))


def _appended(parts: Iterable[Slices]) -> Slices:
    """Facts of slices that come one after the other."""
    low, high, sums, holes = zip(*((p.low, p.high, p.sums, p.holes) for p in parts), strict=True)
    return Slices(*map(np.concatenate, (low, high, sums, holes)))


def _merged(parts: Iterable[Slices]) -> Slices:
    """Facts of slices of which every block holds a part."""
    return reduce(_both, parts)


def _both(p: Slices, q: Slices) -> Slices:
    low, high = np.minimum(p.low, q.low), np.maximum(p.high, q.high)
    return Slices(low, high, p.sums + q.sums, p.holes | q.holes)
