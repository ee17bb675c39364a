"""Label vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
"""One label per index of an axis."""


NONE: Labels = np.zeros(1, np.int64)
"""Marks an axis that carries no channels; always this very object."""
NONE.flags.writeable = False
