"""An order in which channels of a group go, and what each costs when it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..labels.vector import Floats, Ints
from .joint import Weights

if TYPE_CHECKING:
    from .reads import Read


@dataclass(frozen=True, eq=False, slots=True)
class Removal:
    """A choice among the channels of a group.

    Attributes
    ----------
    order : int array, shape (channels,)
        Positions in the group, the first to go first.
    costs : float array, shape (channels,)
        What is lost with each, in this order, when those before it are gone; it adds up.
    """

    order: Ints
    costs: Floats

    @property
    def scores(self) -> Floats:
        """One number per position of the group that sorts as the order does: running maxima."""
        running = np.maximum.accumulate(self.costs)
        step = max(float(running[-1]), 1e-30) * 1e-9
        scores = np.empty(len(self.order))
        scores[self.order] = running + step * np.arange(len(running))
        return scores


Choose = Callable[[Sequence["Read"], int], Removal]
"""``(what the consumers read, number of channels) -> order and costs``: what criteria register."""


def refit(read: Read, gone: Ints) -> Weights:
    """The best weights of a consumer without some channels, and what moves in its offset.

    ``W_K = W G_:K (G_KK)^-1``, of the full width, zero in the columns that are gone; the offset
    takes ``(W - W_K) E[x]``.
    """
    second, matrix = read.second, np.zeros_like(read.matrix)
    for block, columns in enumerate(read.columns):
        kept = np.flatnonzero(~np.isin(columns, gone))
        right = read.matrix[block] @ second[block][:, kept]
        matrix[block][:, kept] = np.linalg.solve(second[block][np.ix_(kept, kept)], right.T).T
    offset = np.einsum("goi,gi->go", read.matrix - matrix, read.moments.mean)
    return Weights(matrix, offset)
