"""Constants that are slices of entries, or several entries side by side: q, k and v, split or joined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from .recipes import Gathered, Moved, Piece

MOST = 16
"""Pieces that a constant is made of at most: three for q, k and v, more for the gates of recurrent layers."""


Slice = tuple[str, int, int]
"""Entry, axis, and which slice along it."""

Run = tuple[str, int, int, int]
"""Entry, axis, and the slices along it from one to another."""


class Rows:
    """Entries by their slices, for finding runs of them in a constant."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self._state = state
        self._firsts: dict[tuple[str, int], dict[bytes, list[Slice]]] = {}

    def find(self, value: np.ndarray) -> tuple[list[Moved], bool]:
        """The ways in which a constant is made of runs of slices, and whether a run fits several entries."""
        found, doubtful = self._ways(value, range(value.ndim))
        wide = [axis for axis, size in enumerate(value.shape) if size > 1]
        if not found and len(wide) < value.ndim:  # a recurrent layer's weights have an axis of directions
            found, also = self._ways(value.reshape([value.shape[axis] for axis in wide]), wide, value.shape)
            doubtful |= also
        return found, doubtful

    def _ways(
        self, value: np.ndarray, axes: Sequence[int], shape: tuple[int, ...] = ()
    ) -> tuple[list[Moved], bool]:
        """The same of a value whose axes are some of those of a constant."""
        found, doubtful = [], False
        for along in range(value.ndim):
            runs, zeros, several = self._runs(np.moveaxis(value, along, 0))
            doubtful |= several
            if runs:
                made = [_piece(run, value.shape, along) for run in runs]
                if shape:
                    made = [_widened(piece, axes, shape) for piece in made]
                gap = value.shape[along] - sum(stop - start for *_, start, stop in runs)
                found.append(Moved(tuple(made), axes[along], zeros, gap))
        return found, doubtful

    def gathered(self, value: np.ndarray) -> Iterator[Gathered]:
        """Tables of which a constant holds rows or columns, in any order."""
        for name, table in self._state.items():
            if table.ndim != 2 or table.size >= value.size:
                continue
            for along, axis in product(range(2), range(value.ndim)):
                size = table.shape[1 - along]
                if size != value.shape[axis] or size < 2:
                    continue
                turned = np.ascontiguousarray(np.moveaxis(table, along, 0).astype(value.dtype))
                number = {row.tobytes(): k for k, row in enumerate(turned)}
                wanted = np.ascontiguousarray(np.moveaxis(value, axis, -1)).reshape(-1, size)
                rows = tuple(number.get(row.tobytes(), -1) for row in wanted)
                if min(rows) >= 0 and len(number) == len(turned):
                    yield Gathered(name, rows, axis, along)

    def _table(self, like: np.ndarray) -> dict[bytes, list[Slice]]:
        """First bytes of every slice of that shape, along any axis -> entry, axis and number."""
        key = str(like.shape[1:]), like.ndim
        if key not in self._firsts:
            table: dict[bytes, list[Slice]] = defaultdict(list)
            for name, array in self._state.items():
                for axis in range(array.ndim if array.ndim == like.ndim else 0):
                    turned = np.moveaxis(array, axis, 0)
                    if turned.shape[1:] == like.shape[1:]:
                        firsts = _starts(turned).astype(like.dtype)
                        for number, start in enumerate(firsts):
                            table[start.tobytes()].append((name, axis, number))
            self._firsts[key] = table
        return self._firsts[key]

    def _runs(self, value: np.ndarray) -> tuple[list[Run], int, bool]:
        """Runs of slices in order, how many of them stand before a run of zeros, and whether one is doubtful.

        There are none where some slice is nobody's.
        """
        if not len(value) or not value[0].size:
            return [], -1, False
        table, firsts, done, zeros = self._table(value), _starts(value), 0, -1
        found: list[Run] = []
        while done < len(value) and len(found) < MOST:
            runs = [
                (self._length(value[done:], np.moveaxis(self._state[name], axis, 0)[row:]), name, axis, row)
                for name, axis, row in table.get(firsts[done].tobytes(), ())[:64]
            ]
            runs.sort(key=lambda run: -run[0])
            longest, name, axis, row = runs[0] if runs else (0, "", 0, 0)
            if not longest and zeros < 0 and not value[done].any():
                zeros = len(found)
                done += self._length(value[done:], np.zeros_like(value[done:]))
                continue
            if not longest:
                return [], -1, False
            if len(runs) > 1 and runs[1][0] == longest:
                return [], -1, True
            found.append((name, axis, row, row + longest))
            done += longest
        return (found, zeros, False) if done == len(value) else ([], -1, False)

    @staticmethod
    def _length(value: np.ndarray, array: np.ndarray) -> int:
        """How many rows agree from the start."""
        count = min(len(value), len(array))
        same = (value[:count] == array[:count]).reshape(count, -1).all(1)
        return count if same.all() else int(np.argmin(same))


def _starts(array: np.ndarray) -> np.ndarray:
    """The first numbers of every slice along the first axis."""
    if array.ndim == 1:
        return array[:, None]
    count = min(8, array[:1].size)
    index: tuple[Any, ...] = (slice(None), *np.unravel_index(np.arange(count), array.shape[1:]))
    return np.ascontiguousarray(array[index])


def _piece(run: Run, shape: tuple[int, ...], along: int) -> Piece:
    """A run of slices of an entry as slices of a constant, each along some axis."""
    name, axis, start, stop = run
    sizes = tuple(stop - start if k == along else size for k, size in enumerate(shape))
    order = [k for k in range(len(shape)) if k != axis]
    order.insert(along, axis)
    own = [0] * len(shape)
    for k, size in zip(order, sizes, strict=True):
        own[k] = size
    order.sort(key=lambda k: own[k] == 1)
    return Piece(name, tuple(own), tuple(order), start, stop, sizes, axis)


def _widened(piece: Piece, axes: Sequence[int], shape: tuple[int, ...]) -> Piece:
    """A piece as part of a constant that has axes of size 1, too."""
    sizes = [1] * len(shape)
    for axis, size in zip(axes, piece.sizes, strict=True):
        sizes[axis] = size
    return replace(piece, sizes=tuple(sizes))
