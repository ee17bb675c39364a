"""Label vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    pass


Labels = npt.NDArray[np.int64]
"""One label per index of an axis."""


NONE: Labels = np.zeros(1, np.int64)
"""Marks an axis that carries no channels; always this very object."""
NONE.flags.writeable = False
