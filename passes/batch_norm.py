"""Criteria that read the BatchNormalization behind a layer."""

from __future__ import annotations

import numpy as np

from onnxprune.scoring.layer import Layer
from onnxprune.scoring.registry import Scores, criterion


@criterion("bn_scale")
def bn_scale(layer: Layer) -> Scores:
    """Absolute scale of the BatchNormalization that follows (arXiv 1708.06519).

    A layer without one is not measured; a group of such layers is kept whole.
    """
    norm = layer.batch_norm
    return np.full(layer.channels, np.nan) if norm is None else np.abs(norm.scale)


@criterion("l2_folded")
def l2_folded(layer: Layer) -> Scores:
    """Euclidean norm of each filter with the BatchNormalization that follows folded into it."""
    norms: Scores = np.sqrt(np.einsum("oi,oi->o", layer.weight, layer.weight, dtype=np.float64))
    norm = layer.batch_norm
    return norms if norm is None else norms * np.abs(norm.scale / np.sqrt(norm.variance))
