"""How a constant of an ONNX file comes from entries of a checkpoint, in both directions.

A recipe makes the value of the constant from the entries (``value``), says what of the entries goes when
channels of the constant do (``kept``), and gives a new value of the constant back to them (``put``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
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


class Kept(NamedTuple):
    """What stays of some rows of an entry.

    Attributes
    ----------
    start, stop : int
        The rows of axis 0 that it is about.
    cut : tuple
        Kept indices of every axis; those of axis 0 count from ``start``.
    """

    entry: str
    start: int
    stop: int
    cut: Cut


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
    def kept(self, cut: Cut) -> Iterator[Kept]:
        """What stays of the entries, if ``cut`` is what stays of the constant."""

    @abstractmethod
    def put(self, state: State, value: np.ndarray) -> None:
        """Change entries so that the constant has this value."""

    def moved(self, rows: Mapping[str, Index]) -> Recipe:
        """The same in a checkpoint of which only some rows of entries are left."""
        return self

    def __str__(self) -> str:
        return ", ".join(self.entries)


@dataclass(frozen=True)
class Piece:
    """Rows of an entry, with the axes in another order, joined and split as a Reshape does.

    Attributes
    ----------
    shape : tuple of int
        Of those rows.
    order : tuple of int
        Axes in the order of the constant; those of size 1, which come and go, are last.
    start, stop : int
        The rows of axis 0.
    sizes : tuple of int
        Shape in the constant.
    """

    entry: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    start: int
    stop: int
    sizes: tuple[int, ...]

    def value(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """The rows, in the order of the constant."""
        return state[self.entry][self.start : self.stop].transpose(self.order)

    def blocks(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Axes of the entry, and the axes of the constant that hold the same elements."""
        for block in refine(tuple(self.shape[axis] for axis in self.order), self.sizes):
            yield tuple(self.order[axis] for axis in block.sources), block.targets

    def kept(self, cut: Cut) -> Kept:
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
        return Kept(self.entry, self.start, self.stop, tuple(found))

    def put(self, state: State, value: np.ndarray) -> None:
        """Give the rows a value in the order of the constant."""
        shape = np.array(state[self.entry][self.start : self.stop].shape)
        array = value.reshape(shape[list(self.order)]).transpose(np.argsort(self.order))
        if (self.start, self.stop) == (0, len(state[self.entry])):
            state[self.entry] = array.astype(state[self.entry].dtype)
        else:
            state[self.entry] = state[self.entry].copy()
            state[self.entry][self.start : self.stop] = array


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
    """The values of entries, moved: pieces side by side along one axis of the constant."""

    pieces: tuple[Piece, ...]
    along: int = 0

    @property
    def entries(self) -> tuple[str, ...]:
        """Entries, in the order of the pieces."""
        return tuple(dict.fromkeys(piece.entry for piece in self.pieces))

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The pieces side by side."""
        if len(self.pieces) == 1:
            return self.pieces[0].value(state).reshape(shape)
        parts = []
        for piece in self.pieces:
            size = [*shape]
            size[self.along] = -1
            parts.append(piece.value(state).reshape(size))
        return np.concatenate(parts, self.along)

    def _bounds(self) -> list[tuple[int, int]]:
        ends = np.cumsum([piece.sizes[self.along] for piece in self.pieces]).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def kept(self, cut: Cut) -> Iterator[Kept]:
        """What stays of every piece."""
        if len(self.pieces) == 1:
            yield self.pieces[0].kept(cut)
            return
        for piece, (start, stop) in zip(self.pieces, self._bounds(), strict=True):
            own, index = list(cut), cut[self.along] if cut else None
            if index is not None:
                own[self.along] = index[(index >= start) & (index < stop)] - start
            yield piece.kept(tuple(own))

    def put(self, state: State, value: np.ndarray) -> None:
        """Give every piece its part."""
        if len(self.pieces) == 1:
            self.pieces[0].put(state, value)
            return
        for piece, (start, stop) in zip(self.pieces, self._bounds(), strict=True):
            piece.put(state, value.take(range(start, stop), self.along))

    def moved(self, rows: Mapping[str, Index]) -> Recipe:
        """Rows, where some are left."""
        return replace(self, pieces=tuple(_left(piece, rows.get(piece.entry)) for piece in self.pieces))

    def __str__(self) -> str:
        if len(self.pieces) == 1 and not self.pieces[0].start:
            return self.pieces[0].entry
        return " + ".join(f"{piece.entry}[{piece.start}:{piece.stop}]" for piece in self.pieces)


def _left(piece: Piece, index: Index) -> Piece:
    """A piece of an entry of which only some rows are left."""
    if index is None:
        return piece
    start, stop = np.searchsorted(index, [piece.start, piece.stop]).tolist()
    shape = (stop - start, *piece.shape[1:])
    rows = {axes[0] for own, axes in piece.blocks() if own == (0,) and len(axes) == 1}
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

    def kept(self, cut: Cut) -> Iterator[Kept]:
        """The same."""
        yield from self.of.kept(cut)

    def put(self, state: State, value: np.ndarray) -> None:
        """The same with the other sign."""
        self.of.put(state, -value)

    def moved(self, rows: Mapping[str, Index]) -> Recipe:
        """The same of the other."""
        return Negated(self.of.moved(rows))


@dataclass(frozen=True)
class Norm:
    """Entries of a batch normalization; the first two are empty where it has none.

    With eps the channels are multiplied by weight / sqrt(var + eps) (Ioffe and Szegedy, arXiv 1502.03167).
    """

    weight: str
    bias: str
    mean: str
    var: str
    eps: float = 0.0

    @property
    def entries(self) -> tuple[str, ...]:
        """All that it has."""
        return tuple(filter(None, (self.weight, self.bias, self.mean, self.var)))

    def __str__(self) -> str:
        return module_of(self.mean) or self.mean

    def scale(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """What every channel is multiplied by."""
        scale = 1 / np.sqrt(state[self.var].astype(np.float64) + self.eps)
        return scale * state[self.weight] if self.weight else scale

    def shift(self, state: Mapping[str, np.ndarray], bias: str = "") -> np.ndarray:
        """What is added to every channel, behind a layer with a bias or without."""
        before = state[bias].astype(np.float64) if bias else 0.0
        added = (before - state[self.mean]) * self.scale(state)
        return added + state[self.bias] if self.bias else added


@dataclass(frozen=True)
class Scale(Recipe):
    """What a batch normalization multiplies by, where an exporter wrote it as a product and a sum.

    Attributes
    ----------
    axis : int
        Axis of the constant that the channels run along.
    """

    norm: Norm
    axis: int

    @property
    def entries(self) -> tuple[str, ...]:
        """Those of the scale."""
        return tuple(filter(None, (self.norm.weight, self.norm.var)))

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The scale of every channel."""
        return self.norm.scale(state).reshape(shape)

    def kept(self, cut: Cut) -> Iterator[Kept]:
        """The channels of the normalization."""
        yield from _channels(self.norm, cut[self.axis] if cut else None)

    def put(self, state: State, value: np.ndarray) -> None:
        """Change its weight, or the variance where it has none."""
        deviation = np.sqrt(state[self.norm.var].astype(np.float64) + self.norm.eps)
        flat = value.reshape(-1)
        name, array = (
            (self.norm.weight, flat * deviation)
            if self.norm.weight
            else (self.norm.var, 1 / flat.astype(np.float64) ** 2 - self.norm.eps)
        )
        state[name] = array.astype(state[name].dtype)

    def __str__(self) -> str:
        return str(self.norm)


@dataclass(frozen=True)
class FoldedWeight(Recipe):
    """The weight of a layer times the scale of the batch normalization behind it."""

    weight: Piece
    norm: Norm
    axis: int

    @property
    def entries(self) -> tuple[str, ...]:
        """The weight, and those of the scale."""
        return tuple(filter(None, (self.weight.entry, self.norm.weight, self.norm.var)))

    def _scale(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        return self.norm.scale(state).reshape([-1 if k == self.axis else 1 for k in range(len(shape))])

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Weight times scale."""
        return self.weight.value(state).reshape(shape) * self._scale(state, shape)

    def kept(self, cut: Cut) -> Iterator[Kept]:
        """The weight's, and the channels of the normalization."""
        yield self.weight.kept(cut)
        yield from _channels(self.norm, cut[self.axis] if cut else None)

    def put(self, state: State, value: np.ndarray) -> None:
        """Change the weight alone."""
        scale = self._scale(state, value.shape)
        safe = np.where(scale == 0, 1, scale)
        self.weight.put(
            state, np.where(scale == 0, self.weight.value(state).reshape(value.shape), value / safe)
        )

    def __str__(self) -> str:
        return f"{self.weight.entry} x {self.norm}"


@dataclass(frozen=True)
class FoldedBias(Recipe):
    """The bias of a layer, if it has one, through the batch normalization behind it.

    Attributes
    ----------
    axis : int
        Axis of the constant that the channels run along.
    """

    norm: Norm
    bias: str = ""
    axis: int = 0

    @property
    def entries(self) -> tuple[str, ...]:
        """Those of the normalization, and the bias."""
        return (*self.norm.entries, *filter(None, [self.bias]))

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """What is added to every channel."""
        return self.norm.shift(state, self.bias).reshape(shape)

    def kept(self, cut: Cut) -> Iterator[Kept]:
        """The channels of all of them."""
        index = cut[self.axis] if cut else None
        yield from _channels(self.norm, index)
        if self.bias:
            yield Kept(self.bias, 0, -1, (index,))

    def put(self, state: State, value: np.ndarray) -> None:
        """Change the mean alone, or the bias of the normalization where it has one."""
        more = value.reshape(-1) - self.norm.shift(state, self.bias)
        name = self.norm.bias or self.norm.mean
        added = more if self.norm.bias else -more / self.norm.scale(state)
        state[name] = (state[name] + added).astype(state[name].dtype)

    def __str__(self) -> str:
        bias = f"{self.bias} x " if self.bias else ""
        return f"{bias}{self.norm}"


def _channels(norm: Norm, index: Index) -> Iterator[Kept]:
    yield from (Kept(entry, 0, -1, (index,)) for entry in norm.entries)


@dataclass(frozen=True)
class Gathered(Recipe):
    """Rows of a table, looked up by constant indices: a relative position bias.

    Attributes
    ----------
    rows : tuple of int
        Row of the table for every place.
    axis : int
        Axis of the constant that the columns run along.
    """

    entry: str
    rows: tuple[int, ...]
    axis: int

    @property
    def entries(self) -> tuple[str, ...]:
        """The table."""
        return (self.entry,)

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The rows, in their places."""
        places = [size for axis, size in enumerate(shape) if axis != self.axis]
        found = state[self.entry][list(self.rows)]
        return np.moveaxis(found.reshape(*places, found.shape[-1]), -1, self.axis)

    def kept(self, cut: Cut) -> Iterator[Kept]:
        """The columns of the table."""
        yield Kept(self.entry, 0, -1, (None, cut[self.axis] if cut else None))

    def put(self, state: State, value: np.ndarray) -> None:
        """Change the rows that are looked up."""
        table = state[self.entry].copy()
        table[list(self.rows)] = np.moveaxis(value, self.axis, -1).reshape(len(self.rows), -1)
        state[self.entry] = table


def slim(state: Mapping[str, np.ndarray], cuts: Mapping[str, Cut]) -> State:
    """What is left of every entry."""
    return {name: take(array, cuts.get(name, ())) for name, array in state.items()}
