"""Label vectors, and the arrays that go with them."""

from __future__ import annotations

from typing import Any, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", bound=np.number[Any])

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

Labels = Ints
"""One label per index of an axis."""


def distinct(numbers: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Numbers that occur, ascending; ``np.unique`` imports masked arrays for it: more work than a trace."""
    ordered = np.sort(numbers, axis=None)
    return ordered[np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])]


NONE: Labels = np.zeros(1, np.int64)
"""Marks an axis that carries no channels; always this very object."""
NONE.flags.writeable = False


def carried(labels: Labels | None) -> TypeGuard[Labels]:
    """Whether an axis carries channels."""
    return labels is not None and labels is not NONE
