"""Which inputs of a product act on which outputs, in as little memory as it takes.

Weights of a large model are let go as soon as they were looked at, so what is known of them has to be far
smaller: a bit for each, or the places of the few that are zero, or of the few that are not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...labels.vector import Bools, Ints

SHARE = 2 * 64
"""Of so many weights one may be an exception: its place takes two numbers of 64 bits."""


class Acting(ABC):
    """Which input acts on which output."""

    @abstractmethod
    def heard(self, rows: Bools) -> Bools:
        """Inputs that act on one of some outputs.

        Parameters
        ----------
        rows : bool array, shape (groups, outputs)

        Returns
        -------
        bool array, shape (groups, inputs)
        """


def acting(kernel: np.ndarray, holes: Bools) -> Acting | None:
    """Which input acts on which output by a stored weight; None where each acts on all of its group.

    Parameters
    ----------
    kernel : array, shape (groups, outputs, inputs, taps)
    holes : bool array, shape (groups, outputs)
        Outputs with a weight that is zero; where they are few, no others are looked at.
    """
    rows, (outputs, inputs) = np.flatnonzero(holes), kernel.shape[1:3]
    if 2 * len(rows) <= holes.size:
        row, number = np.nonzero(~over_taps(np.any, kernel[holes] != 0))
        if SHARE * len(row) <= holes.size * inputs:
            places = rows[row]
            shape = len(kernel), inputs
            return Few(places, places // outputs * inputs + number, shape, act=False) if len(row) else None
    weights: Bools = over_taps(np.any, kernel != 0)
    return None if weights.all() else smallest(weights)


def over_taps(reduction: Callable[..., Any], kernel: np.ndarray) -> Any:
    """Reduce the last axis; of a pointwise kernel that is one entry, and takes numpy as long as eight."""
    return kernel[..., 0] if kernel.shape[-1] == 1 else reduction(kernel, axis=-1)


def smallest(weights: Bools) -> Acting:
    """The smallest form of what is known by which weights are not zero, shape (groups, outputs, inputs)."""
    act = int(np.count_nonzero(weights.ravel(order="K")))
    rest = weights.size - act
    if SHARE * min(act, rest) > weights.size:
        return Bits(_packed(weights), weights.shape[2])
    return _few(weights, act=True) if act <= rest else _few(~weights, act=False)


@dataclass(frozen=True, eq=False, slots=True)
class Bits(Acting):
    """Eight inputs a byte, shape (groups, outputs, bytes)."""

    bits: npt.NDArray[np.uint8]
    inputs: int

    def heard(self, rows: Bools) -> Bools:
        """See there."""
        found = np.bitwise_or.reduce(self.bits * rows[:, :, None], axis=1)
        return np.unpackbits(found, axis=1, count=self.inputs).astype(np.bool_)


@dataclass(frozen=True, eq=False, slots=True)
class Few(Acting):
    """Places of those that act, or of those that do not: numbers of their outputs and inputs in all groups."""

    outputs: Ints
    inputs: Ints
    shape: tuple[int, int]
    act: bool

    def heard(self, rows: Bools) -> Bools:
        """See there."""
        asked = self.inputs[rows.reshape(-1)[self.outputs]]
        groups, inputs = self.shape
        counts = np.bincount(asked, minlength=groups * inputs).reshape(self.shape)
        return counts > 0 if self.act else counts < rows.sum(axis=1)[:, None]


def _few(places: Bools, act: bool) -> Few:
    """From a mask of those places, which is read in the order of its memory."""
    order = np.argsort([-stride for stride in places.strides], kind="stable")
    stored = places.transpose(order)
    found = np.unravel_index(np.flatnonzero(stored), stored.shape)
    group, output, number = (found[int(np.flatnonzero(order == axis)[0])] for axis in range(3))
    groups, outputs, inputs = places.shape
    return Few(group * outputs + output, group * inputs + number, (groups, inputs), act)


def _packed(weights: Bools) -> npt.NDArray[np.uint8]:
    """Eight inputs a byte.

    Numpy packs an axis one entry after the other: where those lie apart, as in a matrix that is read along its
    columns, it takes nine times as long as to shift and add whole rows.
    """
    if weights.flags.c_contiguous:
        return np.packbits(weights, axis=-1)
    found = np.zeros_like(weights[..., ::8], np.uint8)
    for bit in range(8):
        part = weights[..., bit::8].view(np.uint8)
        found[..., : part.shape[-1]] |= part << np.uint8(7 - bit)
    return found
