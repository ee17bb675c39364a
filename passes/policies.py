"""Policies: one score for a channel that several layers produce.

Scores have the shape (layers, channels) and are NaN where a layer does not produce the channel;
every channel has at least one.
"""

from __future__ import annotations

import numpy as np

from onnxprune.errors import UsageError
from onnxprune.scoring.registry import Scores, policy


@policy("arithmetic_mean")
@policy("average")
def average(scores: Scores) -> Scores:
    """Mean over the layers."""
    return scores[0] if len(scores) == 1 else np.asarray(np.nanmean(scores, axis=0))


@policy("sum")
def total(scores: Scores) -> Scores:
    """Sum over the layers."""
    return np.asarray(np.nansum(scores, axis=0))


@policy("backward", raw=True)
def backward(scores: Scores) -> Scores:
    """Sum of the raw scores, normalized afterwards (NetsPresso's backward).

    It stands for the score of the tensor in which the layers are added. With calibration data that
    tensor itself is measured, behind the last join of the group, and there is nothing to merge.
    """
    return np.asarray(np.nansum(scores, axis=0))


@policy("union")
def union(scores: Scores) -> Scores:
    """Largest over the layers: a channel stays if any layer wants it (NVIDIA TAO's default)."""
    return np.asarray(np.nanmax(scores, axis=0))


@policy("intersection")
def intersection(scores: Scores) -> Scores:
    """Smallest over the layers: a channel stays if every layer wants it."""
    return np.asarray(np.nanmin(scores, axis=0))


@policy("geometric_mean")
def geometric_mean(scores: Scores) -> Scores:
    """Geometric mean over the layers; 0 where any of them is 0."""
    if np.nanmin(scores) < 0:
        raise UsageError(
            "policy 'geometric_mean': found scores below 0, expected none",
            "Use a normalizer without negative results, such as 'max'.",
        )
    logarithms = np.log(scores, out=np.full_like(scores, -np.inf), where=scores != 0)
    return np.asarray(np.exp(np.nanmean(logarithms, axis=0)))
