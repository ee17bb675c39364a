"""What a layer reads in the slim model, beside what it should give: the data of one fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..labels.vector import Floats
from ..moments.joint import Floats32, JointMoments, Weights, joint_moments

HELD = 0.2
"""Share of the samples, the last ones, on which a fit is judged."""


class Pile:
    """Rows that come batch by batch, in one array from the start: joining parts would hold all twice."""

    def __init__(self) -> None:
        self._rows = np.empty((0, 0), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Floats32, batches: int) -> None:
        """Add the rows of one batch, of about as many batches of such a size."""
        end = self._count + len(rows)
        if end > len(self._rows):
            room = np.empty((max(end, len(rows) * batches), *rows.shape[1:]), np.float32)
            room[: self._count] = self.whole.reshape(-1, *rows.shape[1:])
            self._rows = room
        self._rows[self._count : end] = rows
        self._count = end

    @property
    def whole(self) -> Floats32:
        """All of them."""
        return self._rows[: self._count]


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows of a layer in the slim model, with their targets.

    Attributes
    ----------
    rows : float32 array, shape (n, groups, width)
        In the order of the samples.
    target : float32 array, shape (n, groups, outputs)
        What the layer should give, up to its activation.
    other : float32 array or None
        What is added to it before the activation, of the shape of the target.
    low, high : float
        Where the activation is cut off.
    known : (mean, second) or None
        Moments of the rows alone, where they are known.
    """

    rows: Floats32
    target: Floats32
    other: Floats32 | None = None
    low: float = -np.inf
    high: float = np.inf
    known: tuple[Floats, Floats] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, end: int) -> Samples:
        """Some of the samples."""
        other = None if self.other is None else self.other[start:end]
        return Samples(self.rows[start:end], self.target[start:end], other, self.low, self.high)

    @cached_property
    def split(self) -> tuple[Samples, Samples]:
        """Those for the fit, and those that are held out."""
        cut = len(self) - max(1, round(len(self) * HELD))
        return self.part(0, cut), self.part(cut, len(self))

    @cached_property
    def moments(self) -> JointMoments:
        """Moments of the rows and targets."""
        return joint_moments(self.rows, self.target, self.known)

    def predict(self, weights: Weights) -> Floats32:
        """What the layer gives with some weights."""
        W = weights.matrix.swapaxes(1, 2).astype(np.float32)
        return (self.rows.swapaxes(0, 1) @ W + weights.offset[:, None].astype(np.float32)).swapaxes(0, 1)

    def aware(self, weights: Weights, moments: JointMoments) -> Samples:
        """The same with targets that ask no more than the activation shows.

        Where the original's value is cut off, being cut off is enough: the target is then the
        prediction itself, as far as it lies beyond the end (compare Zhang et al., arXiv 1505.06798).
        Moments of the rows are those that are given.
        """
        shift = 0 if self.other is None else self.other
        goal, found = self.target + shift, self.predict(weights) + shift
        goal = np.where(goal <= self.low, np.minimum(found, self.low), goal)
        goal = np.where(goal >= self.high, np.maximum(found, self.high), goal)
        known = moments.mean, moments.second
        return replace(self, target=(goal - shift).astype(np.float32), known=known)

    def loss(self, weights: Weights) -> float:
        """Mean squared error behind the activation over the variance of what is meant to be there."""
        shift = 0 if self.other is None else self.other
        goal = np.clip(self.target + shift, self.low, self.high)
        found = np.clip(self.predict(weights) + shift, self.low, self.high)
        scale = float(np.var(goal, axis=0, dtype=np.float64).sum())
        error = float(np.square(found - goal, dtype=np.float64).mean(axis=0).sum())
        return error / scale if scale > 0 else error
