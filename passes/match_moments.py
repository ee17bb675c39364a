"""Recoveries that keep the direction of every filter: mean, or mean and variance, are matched.

What remains of a filter whose inputs lost channels has another mean and another variance than
before. Both can be put right per output channel. This is what recomputing the statistics of a
BatchNormalization does, without needing one (Hoffmann et al., arXiv 2009.10724, call it data-free
or data-driven bias correction; the variance is matched as in Li et al., arXiv 1603.04779).
"""

from __future__ import annotations

import numpy as np

from onnxprune.moments.joint import JointMoments, Weights
from onnxprune.scoring.registry import recovery


@recovery("bias")
def bias(dense: Weights, slim: Weights, moments: JointMoments, held: JointMoments) -> Weights:
    """Match the mean of every output: ``b = E[t] - W E[x]``."""
    return Weights(slim.matrix, moments.offset(slim.matrix))


@recovery("moments")
def moments(dense: Weights, slim: Weights, moments: JointMoments, held: JointMoments) -> Weights:
    """Match the mean and the variance of every output: ``W = W sqrt(var t / var Wx)``."""
    found = moments.output_variance(slim.matrix)
    ratio = np.sqrt(moments.variance / np.where(found > 0, found, 1))
    matrix = slim.matrix * np.where(found > 0, ratio, 1)[:, :, None]
    return Weights(matrix, moments.offset(matrix))
