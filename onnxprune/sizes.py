"""One primitive, ``alive[label] -> bool``, and the views of it.

Everything after selection derives from here: the rewriter's slices and shape inputs, the masks of
the oracle, parameters, MACs and bytes. The original model is the view in which all labels live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .graph import Node
from .labels import NONE, Labels
from .shapes import Shapes


class Sizes:
    """Sizes of all tensors for one choice of living labels.

    Parameters
    ----------
    shapes : Shapes
    axes : mapping
        Tensor -> label vectors, as left by the walk.
    alive : bool array, shape (labels,)
    """

    def __init__(
        self,
        shapes: Shapes,
        axes: Mapping[str, Sequence[Labels | None]],
        alive: npt.NDArray[np.bool_],
    ) -> None:
        self._shapes = shapes
        self._axes = axes
        self._alive = alive
        # Many axes share one vector, so what is derived from a vector is kept by its identity.
        self._indices: dict[int, npt.NDArray[np.int64] | None] = {}

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

    def size(self, name: str, axis: int) -> int:
        """Size of an axis; of a dynamic one, at the first sample setting."""
        index = self.index(name, axis)
        return (self._shapes.get(name) or ())[axis] if index is None else len(index)

    def index(self, name: str, axis: int) -> npt.NDArray[np.int64] | None:
        """Kept indices of an axis, None where all are kept."""
        labels = self.labels(name, axis)
        if labels is NONE:
            return None
        if id(labels) not in self._indices:
            mask = self._alive[labels]
            self._indices[id(labels)] = None if mask.all() else np.flatnonzero(mask)
        return self._indices[id(labels)]

    def indices(self, name: str) -> tuple[npt.NDArray[np.int64] | None, ...]:
        """Kept indices of every axis."""
        return tuple(self.index(name, k) for k in range(len(self._axes.get(name, ()))))

    def cut(self, name: str) -> bool:
        """Whether any axis of a tensor shrinks."""
        return any(index is not None for index in self.indices(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of all axes."""
        return tuple(self.size(name, k) for k in range(len(self._shapes.get(name) or ())))

    def original(self, name: str) -> tuple[int, ...]:
        """Sizes before pruning."""
        return self._shapes.get(name) or ()

    def numel(self, name: str) -> int:
        """Number of elements."""
        return int(np.prod(self.shape(name), dtype=np.int64))

    def kernel(self, name: str) -> int:
        """Elements of a convolution kernel per (input, output) channel: axes from 2 on."""
        return int(np.prod(self.shape(name)[2:], dtype=np.int64))

    def output(self, node: Node) -> int:
        """Elements of a node's first output."""
        return self.numel(node.output)
