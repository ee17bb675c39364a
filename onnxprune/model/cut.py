"""The kept part of a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

Cut = tuple[npt.NDArray[np.int64] | None, ...]
"""Kept indices per axis, None where all are kept."""


def take(array: np.ndarray, cut: Iterable[npt.NDArray[np.int64] | None]) -> np.ndarray:
    """Take the kept indices along every axis.

    Parameters
    ----------
    array : numpy.ndarray
    cut : iterable of index arrays
        Kept indices per axis, None where all are kept; of shape (blocks, kept) where each of the
        equal blocks of the first axis keeps its own.
    """
    given = [(axis, index) for axis, index in enumerate(cut) if index is not None]
    # Blocks first, as they count whole blocks of the first axis.
    for axis, index in sorted(given, key=lambda part: -part[1].ndim):
        if index.ndim == 2:
            parts = zip(np.split(array, len(index)), index, strict=True)
            array = np.concatenate([part.take(i, axis) for part, i in parts])
        else:
            array = array.take(index, axis)
    return array


def compose(first: Cut, second: Cut) -> Cut | None:
    """One cut that takes what two take one after the other; None where blocks keep their own."""
    given = [index for index in (*first, *second) if index is not None]
    if any(index.ndim > 1 for index in given):
        return None
    return tuple(
        then if base is None else base if then is None else base[then]
        for base, then in zip_longest(first, second)
    )
