"""What a fit of a layer sees: weights, and moments of what it reads with what it should give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..labels.vector import Floats

Floats32 = npt.NDArray[np.float32]

AT_ONCE = 16
"""Blocks that are centred at the same time."""


@dataclass(frozen=True, eq=False, slots=True)
class Weights:
    """``matrix`` (groups, outputs of a block, width) and ``offset`` (groups, outputs of a block).

    Attributes
    ----------
    penalty : float or None
        Strength of the ridge that a fit chose, where it chose one.
    """

    matrix: Floats
    offset: Floats
    penalty: float | None = None


@dataclass(frozen=True, eq=False)
class JointMoments:
    """Moments of what a layer reads and of what it should give, by blocks.

    Attributes
    ----------
    count : int
        Number of rows.
    mean, second : float arrays, shapes (groups, width) and (groups, width, width)
        Of the rows; the second moment is centred.
    target, variance : float arrays, shape (groups, outputs)
        Mean and variance of the target.
    cross : float array, shape (groups, width, outputs)
        Centred cross moment.
    """

    count: int
    mean: Floats
    second: Floats
    target: Floats
    variance: Floats
    cross: Floats

    def error(self, weights: Weights) -> Floats:
        """Mean squared error of every output, (groups, outputs); it follows from the moments."""
        W = weights.matrix
        spread = np.einsum("goi,gio->go", W @ self.second, W.swapaxes(1, 2))
        met = np.einsum("goi,gio->go", W, self.cross)
        gap = self.target - weights.offset - np.einsum("goi,gi->go", W, self.mean)
        return self.variance - 2 * met + spread + gap**2

    def joined(self, other: JointMoments) -> JointMoments:
        """Moments of the rows of both (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        share = other.count / count
        apart, goals = other.mean - self.mean, other.target - self.target

        def mean(one: Floats, two: Floats, between: Floats) -> Floats:
            return one + share * (two - one) + share * (1 - share) * between

        return JointMoments(
            count,
            self.mean + share * apart,
            mean(self.second, other.second, apart[:, :, None] * apart[:, None, :]),
            self.target + share * goals,
            mean(self.variance, other.variance, goals**2),
            mean(self.cross, other.cross, apart[:, :, None] * goals[:, None, :]),
        )

    def offset(self, matrix: Floats) -> Floats:
        """The best offset beside a matrix: it makes the means agree."""
        return self.target - np.einsum("goi,gi->go", matrix, self.mean)

    def output_variance(self, matrix: Floats) -> Floats:
        """Variance of every output."""
        return np.einsum("goi,gio->go", matrix @ self.second, matrix.swapaxes(1, 2))


def row_moments(rows: Floats32) -> tuple[Floats, Floats]:
    """Mean and centred second moment of rows (n, groups, width), by blocks.

    Products are taken in float32 of centred values: what follows from them is no more exact. Some
    blocks are centred at a time, so that no copy of all rows is made.
    """
    blocks = rows.swapaxes(0, 1)
    mean = blocks.mean(axis=1, dtype=np.float64)
    groups, width = mean.shape
    second = np.empty((groups, width, width))
    for some in range(0, groups, AT_ONCE):
        part = slice(some, some + AT_ONCE)
        centred = np.subtract(blocks[part], mean[part, None].astype(np.float32), order="C")
        second[part] = centred.swapaxes(1, 2) @ centred
    second /= len(rows)
    return mean, second


def joint_moments(
    rows: Floats32, target: Floats32, known: tuple[Floats, Floats] | None = None
) -> JointMoments:
    """Moments of rows (n, groups, width) and targets (n, groups, outputs).

    Parameters
    ----------
    known : (mean, second), optional
        Those of the rows alone, where they are known.
    """
    mean, second = row_moments(rows) if known is None else known
    goals = np.ascontiguousarray(target.swapaxes(0, 1))
    goal = goals.mean(axis=1, dtype=np.float64)
    goals = goals - goal[:, None].astype(np.float32)
    # One centred factor is enough: the other's mean is multiplied by a sum that is zero.
    cross = (rows.transpose(1, 2, 0) @ goals).astype(np.float64) / len(rows)
    cross -= mean[:, :, None] * goals.mean(axis=1, dtype=np.float64)[:, None, :]
    variance = np.square(goals, dtype=np.float64).mean(axis=1)
    return JointMoments(len(rows), mean, second, goal, variance, cross)


Recover = Callable[[Weights, Weights, JointMoments, JointMoments], Weights]
"""``(dense layer, slim layer, moments, held-out moments) -> new weights``: what passes register."""
