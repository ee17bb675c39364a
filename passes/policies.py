"""Policies: one score for a channel that several layers produce.

Scores have the shape (layers, channels) and are NaN where a layer does not produce the channel.
"""

from __future__ import annotations

import numpy as np

from onnxprune.registry import Scores, policy


@policy("average")
def average(scores: Scores) -> Scores:
    """Mean over the layers."""
    return np.nanmean(scores, axis=0)


@policy("sum")
def total(scores: Scores) -> Scores:
    """Sum over the layers."""
    return np.nansum(scores, axis=0)
