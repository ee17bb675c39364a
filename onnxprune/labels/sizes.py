"""One primitive, ``alive[label] -> bool``, and the views of it.

Everything after selection derives from here: the rewriter's slices and shape inputs, the masks of
the oracle, parameters, MACs and bytes. The original model is the view in which all labels live.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from math import prod
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..model.cut import take
from ..model.node import Node
from ..shapes.setting import Shapes
from .vector import NONE, Labels, carried

Index: TypeAlias = npt.NDArray[np.int64] | None


class BlockwiseKept(Protocol):
    """Blocks of channels that keep inner channels of their own; see ``blockwise_cut.py``."""

    @property
    def tables(self) -> Mapping[tuple[str, int], int]:
        """(stored tensor, axis) that is cut block by block -> number of its product."""

    @property
    def number(self) -> npt.NDArray[np.int64]:
        """Of every label that is an inner channel: its product; -1 elsewhere."""

    def kept(self, number: int, alive: npt.NDArray[np.bool_]) -> Index:
        """Kept inner channels of every block, shape (blocks, kept); None where all are."""

    def mask(self, axes: Sequence[Labels], axis: int, alive: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Mask of an axis of inner channels together with that of the blocks."""

    def places(
        self, axes: Sequence[Labels], axis: int, alive: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """Kept inner channels of every block, as indices for ``numpy.take_along_axis``."""


class SizeView(ABC):
    """Sizes of tensors and numbers of channels: all that a cost may depend on."""

    @abstractmethod
    def count(self, labels: Labels) -> int:
        """Number of living labels; 1 for ``NONE``."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of all axes; of dynamic ones, at the first sample setting."""

    @abstractmethod
    def version(self, name: str) -> Hashable:
        """What tells what is kept of a stored tensor, read by this name, from what others read of it.

        It is None where all is kept.
        """

    def size(self, name: str, axis: int) -> int:
        """Size of an axis; of a dynamic one, at the first sample setting; 1 where there is none."""
        shape = self.shape(name)
        return shape[axis] if -len(shape) <= axis < len(shape) else 1

    def numel(self, name: str) -> int:
        """Number of elements."""
        return prod(self.shape(name))

    def kernel(self, name: str) -> int:
        """Elements of a convolution kernel per (input, output) channel: axes from 2 on."""
        return prod(self.shape(name)[2:])

    def output(self, node: Node) -> int:
        """Elements of a node's first output."""
        return self.numel(node.output)


Term = Callable[[SizeView], int]
"""A summand of a cost: in operations, bytes, or picoseconds.

A view may give arrays in place of sizes: then that of arithmetic alone is an array, too.
"""


class Original(SizeView):
    """The sizes of the original model."""

    def __init__(self, shapes: Shapes, axes: Mapping[str, Sequence[Labels | None]]) -> None:
        self._shapes, self._axes = shapes, axes

    def count(self, labels: Labels) -> int:
        """Number of labels."""
        return 1 if labels is NONE else len(labels)

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of all axes."""
        return self._shapes.get(name) or ()

    def version(self, name: str) -> None:
        """All is kept."""


class Sizes(SizeView):
    """Sizes of all tensors for one choice of living labels.

    Parameters
    ----------
    shapes : Shapes
    axes : mapping
        Tensor -> label vectors, as left by the walk.
    alive : bool array, shape (labels,)
    apart : BlockwiseKept, optional
        Blocks that keep inner channels of their own.
    """

    def __init__(
        self,
        shapes: Shapes,
        axes: Mapping[str, Sequence[Labels | None]],
        alive: npt.NDArray[np.bool_],
        apart: BlockwiseKept | None = None,
    ) -> None:
        self._shapes = shapes
        self._axes = axes
        self._alive = alive
        # Many axes share one vector, so what is derived from a vector is kept by its identity.
        self._indices: dict[int, Index] = {}
        self._cuts: dict[str, tuple[Index, ...]] = {}
        self._shown: dict[str, tuple[int, ...]] = {}
        self._apart = apart

    def labels(self, name: str, axis: int) -> Labels:
        """Labels of an axis, ``NONE`` where it carries none."""
        known = self._axes.get(name)
        found = known[axis] if known is not None else None
        return NONE if found is None else found

    def count(self, labels: Labels) -> int:
        """Number of living labels; 1 for ``NONE``."""
        return 1 if labels is NONE else int(np.count_nonzero(self._alive[labels]))

    def mask(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Which labels live."""
        return self._alive[labels]

    def index(self, name: str, axis: int) -> Index:
        """Kept indices of an axis, None where all are kept.

        They have the shape (blocks, kept) where every block of the first axis keeps its own.
        """
        found = self.indices(name)
        return found[axis] if -len(found) <= axis < len(found) else None

    def indices(self, name: str) -> tuple[Index, ...]:
        """Kept indices of every axis; empty for a tensor without labels."""
        found = self._cuts.get(name)
        if found is None:
            axes = self._axes.get(name, ())
            found = tuple([self._index(name, k, labels) for k, labels in enumerate(axes)])
            self._cuts[name] = found
        return found

    def _index(self, name: str, axis: int, labels: Labels | None) -> Index:
        if self._apart is not None and (name, axis) in self._apart.tables:
            return self._apart.kept(self._apart.tables[name, axis], self._alive)
        if not carried(labels):
            return None
        if id(labels) not in self._indices:
            mask = self._alive[labels]
            self._indices[id(labels)] = None if mask.all() else np.flatnonzero(mask)
        return self._indices[id(labels)]

    def grid(self, name: str, axes: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Which entries of a tensor live, as far as some of its axes say; it broadcasts."""
        labels = [self.labels(name, k) for k in range(len(self._shapes.get(name) or ()))]
        alive = np.ones((1,) * len(labels), np.bool_)
        for axis in axes:
            if self._apart is not None and self._apart.number[labels[axis][0]] >= 0:
                alive = alive & self._apart.mask(labels, axis, self._alive)
            else:
                shape = [-1 if k == axis else 1 for k in range(len(labels))]
                alive = alive & self.mask(labels[axis]).reshape(shape)
        return alive

    def compact(self, name: str, array: np.ndarray) -> np.ndarray:
        """The living entries of a tensor of the original."""
        cut = list(self.indices(name))
        for axis, index in enumerate(cut):
            labels = self.labels(name, axis)
            if index is not None and self._apart is not None and self._apart.number[labels[0]] >= 0:
                every = [self.labels(name, k) for k in range(len(cut))]
                places = self._apart.places(every, axis, self._alive)
                array, cut[axis] = np.take_along_axis(array, places, axis), None
        return take(array, cut)

    def cut(self, name: str) -> bool:
        """Whether any axis of a tensor shrinks."""
        return any(index is not None for index in self.indices(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of all axes; of dynamic ones, at the first sample setting."""
        found = self._shown.get(name)
        if found is None:
            found, cut = self.original(name), self.indices(name)
            if found and cut:
                found = tuple([n if i is None else i.shape[-1] for n, i in zip(found, cut, strict=True)])
            self._shown[name] = found
        return found

    def version(self, name: str) -> Hashable:
        """The kept indices."""
        cut = self.indices(name)
        whole = all(index is None for index in cut)
        return None if whole else tuple([None if i is None else i.tobytes() for i in cut])

    def original(self, name: str) -> tuple[int, ...]:
        """Sizes before pruning."""
        return self._shapes.get(name) or ()
