"""Criteria that ask how large the weights of a channel are."""

from __future__ import annotations

import numpy as np

from onnxprune.layer import Layer
from onnxprune.registry import Scores, criterion


@criterion("l1")
def l1(layer: Layer) -> Scores:
    """Sum of absolute weights of each filter (Li et al., arXiv 1608.08710)."""
    return np.asarray(np.abs(layer.weight).sum(axis=1, dtype=np.float64))


@criterion("l2")
def l2(layer: Layer) -> Scores:
    """Euclidean norm of each filter; bias and normalization are left out, as NVIDIA TAO does."""
    return np.asarray(np.sqrt(np.einsum("oi,oi->o", layer.weight, layer.weight, dtype=np.float64)))
