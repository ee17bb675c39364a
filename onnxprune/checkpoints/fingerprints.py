"""Which entry holds the values of a constant, in whatever order: looked up by a sum over all elements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate, permutations
from operator import mul

import numpy as np

from .recipes import Piece

STEP = 1 << 22
"""Elements that are looked at together."""


def fingerprint(array: np.ndarray) -> int:
    """A number that depends on the values, and neither on their order nor on the shape."""
    bits = np.dtype(f"u{array.dtype.itemsize}")
    flat, total = np.ascontiguousarray(array).reshape(-1), 0
    for start in range(0, flat.size, STEP):
        part = flat[start : start + STEP]
        mixed = (part + part.dtype.type(0)).view(bits).astype(np.uint64)  # -0 becomes 0
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        total += int(mixed.sum(dtype=np.uint64))
    return total & (2**64 - 1)


class ValueIndex:
    """Entries by their values.

    Parameters
    ----------
    state : mapping
        Arrays of floats by name.
    """

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self._state = state
        self._by_dtype: dict[np.dtype, dict[tuple[int, int], list[str]]] = {}

    def _table(self, dtype: np.dtype) -> dict[tuple[int, int], list[str]]:
        if dtype not in self._by_dtype:
            table: dict[tuple[int, int], list[str]] = defaultdict(list)
            for name, array in self._state.items():
                table[array.size, fingerprint(array.astype(dtype, copy=False))].append(name)
            self._by_dtype[dtype] = table
        return self._by_dtype[dtype]

    def find(self, value: np.ndarray) -> Iterator[Piece]:
        """Entries that hold the values of a constant, whole and with their axes in some order."""
        known = self._table(value.dtype).get((value.size, fingerprint(value)), ())
        for name in known:
            array = self._state[name].astype(value.dtype, copy=False)
            piece = whole(name, array, value)
            if piece is not None:
                yield piece


def whole(name: str, array: np.ndarray, value: np.ndarray) -> Piece | None:
    """An entry as a constant, if both hold the same in some order of the axes."""
    for order in orders(array.shape, value.shape):
        if np.array_equal(array.transpose(order).reshape(value.shape), value):
            return Piece(name, array.shape, order, 0, array.shape[0], value.shape)
    return None


def orders(shape: tuple[int, ...], target: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the axes from which a reshape that joins axes or splits them makes the target.

    Axes of size 1 come last; orders in which every axis stays one come first.
    """
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    wanted = [size for size in target if size != 1]
    cuts = set(accumulate(wanted, mul))
    later = []
    for order in permutations(axes):
        sizes = [shape[axis] for axis in order]
        if sizes == wanted:
            yield (*order, *ones)
        elif len(sizes) != len(wanted) and _nested(cuts, set(accumulate(sizes, mul))):
            later.append((*order, *ones))
    yield from later


def _nested(one: set[int], other: set[int]) -> bool:
    """Whether one of two shapes with these cumulative products is the other with some axes split."""
    return max(one, default=1) == max(other, default=1) and (one <= other or other <= one)
