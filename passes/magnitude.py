"""Criteria that ask how large the weights of a channel are."""

from __future__ import annotations

import numpy as np

from onnxprune.scoring.layer import Layer
from onnxprune.scoring.registry import Scores, criterion

BLOCK = 2**17
"""Elements that are held in float64 at a time: as many as stay in the cache of a processor."""


@criterion("l1")
def l1(layer: Layer) -> Scores:
    """Sum of absolute weights of each filter (Li et al., arXiv 1608.08710)."""
    return np.asarray(np.abs(layer.weight).sum(axis=1, dtype=np.float64))


@criterion("l2")
def l2(layer: Layer) -> Scores:
    """Euclidean norm of each filter; bias and normalization are left out, as NVIDIA TAO does."""
    stored = layer.stored
    before, channels, behind = stored.shape
    squares = np.zeros(channels)
    if before == 1:
        filters = max(1, BLOCK // max(1, behind))
        for start in range(0, channels, filters):
            block = stored[0, start : start + filters].astype(np.float64)
            squares[start : start + filters] = np.vecdot(block, block)
    else:
        rows = max(1, BLOCK // max(1, channels * behind))
        for start in range(0, before, rows):
            block = stored[start : start + rows].astype(np.float64)
            squares += np.einsum("rcx,rcx->c", block, block)
    return np.sqrt(squares)
