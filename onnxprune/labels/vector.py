"""Label vectors, and the arrays that go with them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

Labels = Ints
"""One label per index of an axis."""


NONE: Labels = np.zeros(1, np.int64)
"""Marks an axis that carries no channels; always this very object."""
NONE.flags.writeable = False
