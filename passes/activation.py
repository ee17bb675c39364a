"""Criteria that look at what a layer computes on calibration data.

Scores are taken per batch of the model and averaged over the batches.
"""

from __future__ import annotations

import numpy as np

from onnxprune.scoring.layer import Layer
from onnxprune.scoring.registry import Scores, criterion


@criterion("activation", data=True)
def activation(layer: Layer) -> Scores:
    """Mean absolute value of each channel of the output."""
    return np.asarray(np.abs(layer.weight).mean(axis=1, dtype=np.float64))


@criterion("nuclear", data=True)
def nuclear(layer: Layer) -> Scores:
    """Nuclear norm (sum of singular values) of each feature map, averaged over the samples.

    A feature map is the matrix of the last two axes of the output without its channels; a vector
    counts as a matrix of one row.
    """
    maps = layer.activation.astype(np.float64)
    while maps.ndim < 3:
        maps = maps[:, None]
    values = np.linalg.svd(maps, compute_uv=False).sum(axis=-1)
    return np.asarray(values.reshape(len(values), -1).mean(axis=1))
