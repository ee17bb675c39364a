"""Criteria that ask what the layers behind a channel lose with it, on calibration data.

The error of a consumer ``y = W x`` without some of its inputs is a quadratic form in the second
moment ``G`` of ``x``; it is taken relative to the variance of every output, and summed over the
consumers of the whole group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxprune.labels.vector import Floats, Ints
from onnxprune.moments.removal import Removal
from onnxprune.scoring.registry import criterion

if TYPE_CHECKING:
    from onnxprune.moments.reads import Read

AT_ONCE = 100
"""A hundredth of the channels goes at a time, at least one."""

ORDERED = 0.9
"""Share of the channels whose order is found one by one; no allocation removes more."""


@criterion("wanda", moments=True)
def wanda(reads: Sequence[Read], channels: int) -> Removal:
    """Squared weights times the second moment of what they multiply, summed over consumers.

    This is Wanda (Sun et al., arXiv 2306.11695) on whole channels; what their inputs share, and what
    other weights could take over, is left out.
    """
    costs = np.zeros(channels)
    for read in reads:
        power = np.einsum("gii->gi", read.moments.second)
        lost = np.square(read.scaled).sum(axis=1) * power
        mine = read.columns >= 0
        costs += np.bincount(read.columns[mine], lost[mine], minlength=channels)
    order = np.argsort(costs, kind="stable")
    return Removal(order, costs[order])


@criterion("reconstruction", moments=True)
def reconstruction(reads: Sequence[Read], channels: int) -> Removal:
    """Error of the consumers after their other weights have made up for the channel.

    A channel that owns the columns S of a consumer costs ``tr(W_S [(G^-1)_SS]^-1 W_S^T)``. The
    cheapest goes, and the others are compensated: ``W - W_S [(G^-1)_SS]^-1 (G^-1)_S:``, and
    ``G^-1`` likewise. (Optimal Brain Surgeon, Hassibi and Stork 1993, on structures: Kurtic et al.,
    arXiv 2302.04089; Meng et al., arXiv 2403.12983.)
    """
    blocks = [block for read in reads for block in _blocks(read)]
    left = np.ones(channels, np.bool_)
    order: list[int] = []
    costs: list[float] = []
    step = max(1, channels // AT_ONCE)
    while True:
        found = np.zeros(channels)
        for block in blocks:
            block.add_costs(found, left)
        ranked = np.flatnonzero(left)[np.argsort(found[left], kind="stable")]
        last = len(order) + step >= ORDERED * channels
        gone = ranked if last else ranked[:step]
        order += gone.tolist()
        costs += found[gone].tolist()
        if last:
            return Removal(np.array(order), np.maximum(np.array(costs), 0.0))
        left[gone] = False
        for block in blocks:
            block.remove(gone)


def _blocks(read: Read) -> Iterator[_Block]:
    inverse = np.linalg.inv(read.second)
    for columns, matrix, inner in zip(read.columns, read.scaled, inverse, strict=True):
        if (columns >= 0).any():
            yield _Block(columns, matrix.copy(), inner)


@dataclass(eq=False)
class _Block:
    """One block of one consumer: its columns, its weights so far, and the inverse moment."""

    columns: Ints
    matrix: Floats
    inverse: Floats
    owned: list[tuple[Ints, Ints]] = field(default_factory=list)
    """(channels, columns of each) of channels that own equally many columns."""

    def __post_init__(self) -> None:
        order = np.argsort(self.columns, kind="stable")
        channels, starts, counts = np.unique(self.columns[order], return_index=True, return_counts=True)
        for count in np.unique(counts[channels >= 0]):
            mine = (counts == count) & (channels >= 0)
            places = order[starts[mine][:, None] + np.arange(count)]
            self.owned.append((channels[mine], places))

    def add_costs(self, costs: Floats, left: npt.NDArray[np.bool_]) -> None:
        """Add what every channel that is left costs here."""
        for channels, places in self.owned:
            alive = left[channels]
            S = places[alive]
            inner = self.inverse[S[:, :, None], S[:, None, :]]
            weights = self.matrix.T[S]
            costs[channels[alive]] += np.einsum("mko,mko->m", weights, np.linalg.solve(inner, weights))

    def remove(self, gone: Ints) -> None:
        """Let the other columns make up for those of some channels."""
        S = np.flatnonzero(np.isin(self.columns, gone))
        if not len(S):
            return
        share = np.linalg.solve(self.inverse[np.ix_(S, S)], self.inverse[S])
        self.matrix -= self.matrix[:, S] @ share
        self.inverse -= self.inverse[:, S] @ share
        self.inverse[S, :] = self.inverse[:, S] = 0
        self.inverse[S, S] = 1
        self.matrix[:, S] = 0
