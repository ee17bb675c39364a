"""Constants that are rows of entries, or several entries side by side: q, k and v, split or joined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from .recipes import Gathered, Moved, Piece

MOST = 16
"""Pieces that a constant is made of at most: three for q, k and v, more for the gates of recurrent layers."""


class Rows:
    """Entries by their rows, for finding runs of them in a constant."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self._state = state
        self._firsts: dict[tuple[str, int], dict[bytes, list[tuple[str, int]]]] = {}

    def find(self, value: np.ndarray) -> tuple[list[Moved], bool]:
        """The ways in which a constant is made of runs of rows, and whether a run fits several entries."""
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
        for along in range(min(value.ndim, 2) if value.ndim <= 2 else 1):
            pieces, several = self._runs(value if not along else value.T)
            doubtful |= several
            if pieces:
                made = [_piece(p, value.shape, along) for p in pieces]
                if shape:
                    made = [_widened(piece, axes, shape) for piece in made]
                found.append(Moved(tuple(made), axes[along]))
        return found, doubtful

    def gathered(self, value: np.ndarray) -> Iterator[Gathered]:
        """Tables of which a constant holds rows, in any order."""
        for name, table in self._state.items():
            if table.ndim != 2 or table.size >= value.size:
                continue
            for axis, size in enumerate(value.shape):
                if size != table.shape[1] or size < 2:
                    continue
                number = {row.tobytes(): k for k, row in enumerate(table.astype(value.dtype))}
                wanted = np.ascontiguousarray(np.moveaxis(value, axis, -1)).reshape(-1, size)
                rows = tuple(number.get(row.tobytes(), -1) for row in wanted)
                if min(rows) >= 0 and len(number) == len(table):
                    yield Gathered(name, rows, axis)

    def _table(self, like: np.ndarray) -> dict[bytes, list[tuple[str, int]]]:
        """First bytes of every row of the entries with rows of that shape -> entry and row."""
        key = str(like.shape[1:]), like.ndim
        if key not in self._firsts:
            table: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
            for name, array in self._state.items():
                if array.ndim == like.ndim and array.shape[1:] == like.shape[1:]:
                    for row, start in enumerate(array.reshape(len(array), -1)[:, :8].astype(like.dtype)):
                        table[start.tobytes()].append((name, row))
            self._firsts[key] = table
        return self._firsts[key]

    def _runs(self, value: np.ndarray) -> tuple[list[tuple[str, int, int]], bool]:
        """Entry, start and stop of each run, in order; empty where some row is nobody's."""
        if not len(value) or not value[0].size:
            return [], False
        table, done = self._table(value), 0
        found: list[tuple[str, int, int]] = []
        while done < len(value) and len(found) < MOST:
            start = value[done].reshape(-1)[:8].tobytes()
            runs = [
                (self._length(value[done:], self._state[name][row:]), name, row)
                for name, row in table.get(start, ())[:64]
            ]
            if not runs:
                return [], False
            runs.sort(key=lambda run: -run[0])
            longest, name, row = runs[0]
            if not longest:
                return [], False
            if len(runs) > 1 and runs[1][0] == longest:
                return [], True
            found.append((name, row, row + longest))
            done += longest
        return (found, False) if done == len(value) else ([], False)

    @staticmethod
    def _length(value: np.ndarray, array: np.ndarray) -> int:
        """How many rows agree from the start."""
        count = min(len(value), len(array))
        same = (value[:count] == array[:count]).reshape(count, -1).all(1)
        return count if same.all() else int(np.argmin(same))


def _piece(run: tuple[str, int, int], shape: tuple[int, ...], along: int) -> Piece:
    """A run of rows as part of a constant; with ``along`` a matrix that is transposed."""
    name, start, stop = run
    sizes = tuple(stop - start if axis == along else size for axis, size in enumerate(shape))
    own = sizes[::-1] if along else sizes
    axes = sorted((1, 0) if along else range(len(own)), key=lambda axis: own[axis] == 1)
    return Piece(name, own, tuple(axes), start, stop, sizes)


def _widened(piece: Piece, axes: Sequence[int], shape: tuple[int, ...]) -> Piece:
    """A piece as part of a constant that has axes of size 1, too."""
    sizes = [1] * len(shape)
    for axis, size in zip(axes, piece.sizes, strict=True):
        sizes[axis] = size
    return replace(piece, sizes=tuple(sizes))
