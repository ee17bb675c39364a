"""Constants that come from entries by normalization: of batches, folded or not, and of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..model.cut import Cut
from .recipes import Index, KeptRows, Piece, Recipe, State, module_of


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

    def kept(self, cut: Cut) -> Iterator[KeptRows]:
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

    def kept(self, cut: Cut) -> Iterator[KeptRows]:
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

    def kept(self, cut: Cut) -> Iterator[KeptRows]:
        """The channels of all of them."""
        index = cut[self.axis] if cut else None
        yield from _channels(self.norm, index)
        if self.bias:
            yield KeptRows(self.bias, 0, -1, (index,))

    def put(self, state: State, value: np.ndarray) -> None:
        """Change the mean alone, or the bias of the normalization where it has one."""
        more = value.reshape(-1) - self.norm.shift(state, self.bias)
        name = self.norm.bias or self.norm.mean
        added = more if self.norm.bias else -more / self.norm.scale(state)
        state[name] = (state[name] + added).astype(state[name].dtype)

    def __str__(self) -> str:
        bias = f"{self.bias} x " if self.bias else ""
        return f"{bias}{self.norm}"


def _channels(norm: Norm, index: Index) -> Iterator[KeptRows]:
    yield from (KeptRows(entry, 0, -1, (index,)) for entry in norm.entries)


@dataclass(frozen=True)
class Directed(Recipe):
    """A direction times a length for every channel (weight normalization, arXiv 1602.07868).

    Attributes
    ----------
    length, direction : str
        Entries; the first has one number for every index of one axis of the second.
    axis : int
        That axis.
    """

    length: str
    direction: str
    axis: int

    @property
    def entries(self) -> tuple[str, ...]:
        """The direction, and its length."""
        return self.direction, self.length

    def _norm(self, array: np.ndarray) -> np.ndarray:
        others = tuple(k for k in range(array.ndim) if k != self.axis)
        return np.sqrt(np.square(array.astype(np.float64)).sum(others, keepdims=True))

    def value(self, state: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Direction over its norm, times the length."""
        array = state[self.direction]
        return (array * (state[self.length] / self._norm(array))).reshape(shape)

    def kept(self, cut: Cut) -> Iterator[KeptRows]:
        """The slices of the direction, and their lengths."""
        yield KeptRows(self.direction, 0, -1, cut)
        own = [index if axis == self.axis else None for axis, index in enumerate(cut)]
        yield KeptRows(self.length, 0, -1, tuple(own))

    def put(self, state: State, value: np.ndarray) -> None:
        """Change both; the direction keeps its norm, so that it is not the constant itself."""
        old = state[self.direction]
        wanted, norm = self._norm(value), self._norm(old)
        safe = np.where(wanted > 0, wanted, 1)
        state[self.direction] = np.where(wanted > 0, value / safe * norm, old).astype(old.dtype)
        state[self.length] = wanted.astype(state[self.length].dtype)
