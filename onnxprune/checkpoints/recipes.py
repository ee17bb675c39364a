"""How a constant of an ONNX file comes from entries of a checkpoint, in both directions.

A recipe makes the value of the constant from the entries (``value``), says what of the entries goes when
channels of the constant do (``kept``), and gives a new value of the constant back to them (``put``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..errors import PlanError
from ..labels.refinement import refine
from ..model.cut import Cut, take

State = dict[str, np.ndarray]
"""A checkpoint: arrays by the names of its entries."""

Index = np.ndarray | None


def module_of(entry: str) -> str:
    """Path of the module or layer that an entry belongs to, as PyTorch (``.``) or Keras (``/``) write it."""
    return entry[: max(entry.rfind("."), entry.rfind("/"), 0)]


class KeptRows(NamedTuple):
    """What stays of a part of an entry.

    Attributes
    ----------
    start, stop : int
        The slices along one axis that it is about.
    cut : tuple
        Kept indices of every axis; those of that axis count from ``start``.
    along : int
        That axis.
    """

    entry: str
    start: int
    stop: int
    cut: Cut
    along: int = 0

    def left(self, axis: int) -> Index:
        """Kept indices of one axis."""
        return self.cut[axis] if self.cut else None

    def whole(self, shape: Sequence[int]) -> bool:
        """Whether it is about all of the entry."""
        return not shape or (self.start, self.stop) in ((0, -1), (0, shape[self.along]))

    def rows(self, along: int, shape: Sequence[int]) -> tuple[int, int]:
        """The slices along an axis that it is about."""
        return (0, shape[along]) if self.whole(shape) else (self.start, self.stop)


class Recipe(ABC):
    """Where the value of a constant comes from."""

    @property
    @abstractmethod
    def entries(self) -> tuple[str, ...]:
        """Entries that the value depends on."""

    @abstractmethod
    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The constant, of the given shape."""

    @abstractmethod
    def kept(self, cut: Cut) -> Iterator[KeptRows]:
        """What stays of the entries, if ``cut`` is what stays of the constant."""

    @abstractmethod
    def put(self, state: State, value: np.ndarray) -> None:
        """Change entries so that the constant has this value."""

    def moved(self, cuts: Mapping[str, Cut]) -> Recipe:
        """The same in a checkpoint that was cut."""
        return self

    def __str__(self) -> str:
        return ", ".join(self.entries)


@dataclass(frozen=True)
class Piece:
    """Slices of an entry, with the axes in another order, joined and split as a Reshape does.

    Attributes
    ----------
    shape : tuple of int
        Of those slices.
    order : tuple of int
        Axes in the order of the constant; those of size 1, which come and go, are last.
    start, stop : int
        The slices along one axis.
    sizes : tuple of int
        Shape in the constant.
    along : int
        That axis of the entry.
    """

    entry: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    start: int
    stop: int
    sizes: tuple[int, ...]
    along: int = 0

    def _of(self, array: np.ndarray) -> np.ndarray:
        return array[(slice(None),) * self.along + (slice(self.start, self.stop),)]

    def value(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """The slices, in the order of the constant."""
        return self._of(state[self.entry]).transpose(self.order)

    def blocks(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Axes of the entry, and the axes of the constant that hold the same elements."""
        for block in refine(tuple(self.shape[axis] for axis in self.order), self.sizes):
            yield tuple(self.order[axis] for axis in block.sources), block.targets

    def kept(self, cut: Cut) -> KeptRows:
        """What stays of the entry.

        Raises
        ------
        PlanError
            If that is no whole slices of it.
        """
        found: list[Index] = [None] * len(self.shape)
        for own, axes in self.blocks() if cut else ():
            given = [cut[axis] for axis in axes]
            if len(own) == len(axes) == 1:
                found[own[0]] = given[0]
            elif any(index is not None for index in given):
                left = _across([self.sizes[k] for k in axes], given, [self.shape[k] for k in own])
                if left is None:
                    raise PlanError(
                        f"entry '{self.entry}': what remains is no whole slices of it",
                        "Leave that layer whole with '--exclude'.",
                    )
                for axis, index in zip(own, left, strict=True):
                    found[axis] = index
        return KeptRows(self.entry, self.start, self.stop, tuple(found), self.along)

    def put(self, state: State, value: np.ndarray) -> None:
        """Give the slices a value in the order of the constant."""
        made = state[self.entry].copy()
        own = self._of(made)
        shape = [own.shape[axis] for axis in self.order]
        own[...] = value.reshape(shape).transpose(np.argsort(self.order))
        state[self.entry] = made


def _across(sizes: Sequence[int], kept: Sequence[Index], shape: Sequence[int]) -> list[Index] | None:
    """Kept indices across a reshape; None where what is kept is no product there."""
    mask = np.ones(sizes, np.bool_)
    for axis, index in enumerate(kept):
        if index is not None:
            alive = np.zeros(sizes[axis], np.bool_)
            alive[index] = True
            mask &= alive.reshape([-1 if k == axis else 1 for k in range(len(sizes))])
    mask = mask.reshape(shape)
    axes = range(mask.ndim)
    left = [np.flatnonzero(mask.any(tuple(k for k in axes if k != axis))) for axis in axes]
    if mask.sum() != np.prod([len(index) for index in left]):
        return None
    return [index if len(index) < size else None for index, size in zip(left, shape, strict=True)]


@dataclass(frozen=True)
class Moved(Recipe):
    """The values of entries, moved: pieces side by side along one axis of the constant.

    Attributes
    ----------
    zeros : int
        Number of the pieces before a run of zeros that no entry holds (the bias of keys, where queries and
        values have one); -1 where there is none.
    gap : int
        How many zeros, in the constant before it is cut.
    """

    pieces: tuple[Piece, ...]
    along: int = 0
    zeros: int = -1
    gap: int = 0

    @property
    def entries(self) -> tuple[str, ...]:
        """Entries, in the order of the pieces."""
        return tuple(dict.fromkeys(piece.entry for piece in self.pieces))

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The pieces side by side."""
        if self._whole:
            return self.pieces[0].value(state).reshape(shape)
        parts = []
        size = [*shape]
        for piece in self.pieces:
            size[self.along] = -1
            parts.append(piece.value(state).reshape(size))
        if self.zeros >= 0:
            size[self.along] = shape[self.along] - sum(part.shape[self.along] for part in parts)
            parts.insert(self.zeros, np.zeros(size, parts[0].dtype))
        return np.concatenate(parts, self.along)

    @property
    def _whole(self) -> bool:
        return len(self.pieces) == 1 and self.zeros < 0

    def _bounds(self, gap: int) -> Iterator[tuple[Piece, int, int]]:
        """Where every piece is, with so many zeros."""
        start = 0
        for number, piece in enumerate(self.pieces):
            start += gap if number == self.zeros else 0
            stop = start + piece.sizes[self.along]
            yield piece, start, stop
            start = stop

    def kept(self, cut: Cut) -> Iterator[KeptRows]:
        """What stays of every piece."""
        if self._whole:
            yield self.pieces[0].kept(cut)
            return
        for piece, start, stop in self._bounds(self.gap):
            own, index = list(cut), cut[self.along] if cut else None
            if index is not None:
                own[self.along] = index[(index >= start) & (index < stop)] - start
            yield piece.kept(tuple(own))

    def put(self, state: State, value: np.ndarray) -> None:
        """Give every piece its part."""
        if self._whole:
            self.pieces[0].put(state, value)
            return
        gap = value.shape[self.along] - sum(piece.sizes[self.along] for piece in self.pieces)
        for piece, start, stop in self._bounds(gap):
            piece.put(state, value.take(range(start, stop), self.along))

    def moved(self, cuts: Mapping[str, Cut]) -> Recipe:
        """Pieces of the slices that are left."""
        return replace(self, pieces=tuple(_left(piece, cuts.get(piece.entry)) for piece in self.pieces))

    def __str__(self) -> str:
        if len(self.pieces) == 1 and not self.pieces[0].start:
            return self.pieces[0].entry
        return " + ".join(f"{piece.entry}[{piece.start}:{piece.stop}]" for piece in self.pieces)


def _left(piece: Piece, cut: Cut | None) -> Piece:
    """A piece of an entry of which only some slices are left."""
    index = cut[piece.along] if cut else None
    if index is None:
        return piece
    start, stop = np.searchsorted(index, [piece.start, piece.stop]).tolist()
    shape = tuple(stop - start if axis == piece.along else size for axis, size in enumerate(piece.shape))
    rows = {axes[0] for own, axes in piece.blocks() if own == (piece.along,) and len(axes) == 1}
    sizes = tuple(stop - start if axis in rows else size for axis, size in enumerate(piece.sizes))
    return replace(piece, start=start, stop=stop, shape=shape, sizes=sizes)


@dataclass(frozen=True)
class Negated(Recipe):
    """The values of another recipe with the other sign: slopes that an exporter subtracts."""

    of: Recipe

    @property
    def entries(self) -> tuple[str, ...]:
        """Those of the other."""
        return self.of.entries

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Its value with the other sign."""
        return -self.of.value(state, shape)

    def kept(self, cut: Cut) -> Iterator[KeptRows]:
        """The same."""
        yield from self.of.kept(cut)

    def put(self, state: State, value: np.ndarray) -> None:
        """The same with the other sign."""
        self.of.put(state, -value)

    def moved(self, cuts: Mapping[str, Cut]) -> Recipe:
        """The same of the other."""
        return Negated(self.of.moved(cuts))


@dataclass(frozen=True)
class Stacked(Recipe):
    """Other recipes side by side along the first axis: the directions of a recurrent layer."""

    parts: tuple[Recipe, ...]

    @property
    def entries(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(dict.fromkeys(entry for part in self.parts for entry in part.entries))

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The parts, one after the other."""
        return np.concatenate([part.value(state, (1, *shape[1:])) for part in self.parts])

    def kept(self, cut: Cut) -> Iterator[KeptRows]:
        """What stays of every part; all of them stay."""
        for part in self.parts:
            yield from part.kept((None, *cut[1:]) if cut else cut)

    def put(self, state: State, value: np.ndarray) -> None:
        """Give every part its own."""
        for number, part in enumerate(self.parts):
            part.put(state, value[number : number + 1])

    def moved(self, cuts: Mapping[str, Cut]) -> Recipe:
        """The same of every part."""
        return Stacked(tuple(part.moved(cuts) for part in self.parts))


@dataclass(frozen=True)
class Gathered(Recipe):
    """Rows of a table, or columns, looked up by constant indices: a relative position bias.

    Attributes
    ----------
    rows : tuple of int
        Which one of the table there is for every place.
    axis : int
        Axis of the constant that each of them runs along.
    along : int
        Axis of the table that is looked up: 0 for rows.
    """

    entry: str
    rows: tuple[int, ...]
    axis: int
    along: int = 0

    @property
    def entries(self) -> tuple[str, ...]:
        """The table."""
        return (self.entry,)

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The rows, in their places."""
        places = [size for axis, size in enumerate(shape) if axis != self.axis]
        found = np.moveaxis(state[self.entry], self.along, 0)[list(self.rows)]
        return np.moveaxis(found.reshape(*places, found.shape[-1]), -1, self.axis)

    def kept(self, cut: Cut) -> Iterator[KeptRows]:
        """What runs along the other axis of the table."""
        left = cut[self.axis] if cut else None
        yield KeptRows(self.entry, 0, -1, (left, None) if self.along else (None, left))

    def put(self, state: State, value: np.ndarray) -> None:
        """Change the rows that are looked up."""
        table = state[self.entry].copy()
        turned = np.moveaxis(table, self.along, 0)
        turned[list(self.rows)] = np.moveaxis(value, self.axis, -1).reshape(len(self.rows), -1)
        state[self.entry] = table


def floats_beside(state: Mapping[str, np.ndarray], known: Collection[str]) -> tuple[str, ...]:
    """Entries of floats, but for single numbers and those that are known."""
    return tuple(n for n, a in state.items() if n not in known and a.dtype.kind == "f" and a.size > 1)


def slim(state: Mapping[str, np.ndarray], cuts: Mapping[str, Cut]) -> State:
    """What is left of every entry."""
    return {name: take(array, cuts.get(name, ())) for name, array in state.items()}
