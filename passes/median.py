"""The criterion that asks how replaceable a filter is."""

from __future__ import annotations

import numpy as np

from onnxprune.scoring.layer import Layer
from onnxprune.scoring.registry import Scores, criterion


@criterion("fpgm")
def fpgm(layer: Layer) -> Scores:
    """Sum of distances to all other filters: those near the geometric median go (arXiv 1811.00250)."""
    filters = layer.weight.astype(np.float64)
    filters -= filters.mean(axis=0)  # distances stay, and their squares lose fewer digits
    squares = np.einsum("oi,oi->o", filters, filters)
    distances = squares[:, None] + squares[None, :] - 2 * (filters @ filters.T)
    np.fill_diagonal(distances, 0)
    return np.asarray(np.sqrt(np.maximum(distances, 0)).sum(axis=1))
