"""Recovery by ridge regression: the weights that reproduce the original's output best.

``min |W x + b - t|^2 + penalty m |W - W0|^2`` with ``x`` what the slim layer reads, ``t`` what the
layer of the original gives, ``W0`` the sliced weights and ``m`` the mean diagonal of the second
moment of ``x``. Centring frees ``b``. For layers one by one this is the reconstruction of He et al.
(arXiv 1707.06168) and ThiNet (arXiv 1707.06342); the pull towards ``W0`` instead of zero keeps
directions that the samples do not show.
"""

from __future__ import annotations

import numpy as np

from onnxprune.labels.vector import Floats
from onnxprune.moments.joint import JointMoments, Weights
from onnxprune.scoring.registry import recovery

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths that are tried on held-out samples."""


@recovery("lstsq")
def least_squares(dense: Weights, slim: Weights, moments: JointMoments, held: JointMoments) -> Weights:
    """Ridge regression onto the original's outputs; the strength is the best on held-out samples."""
    if slim.penalty is not None:
        return solve(slim, moments, slim.penalty)
    best, least = slim, np.inf
    for penalty in PENALTIES:
        found = solve(slim, moments, penalty)
        error = float(held.error(found).sum())
        if not error <= least:
            break  # it falls with the strength first, and rises from the best one on
        best, least = found, error
    return best


def solve(slim: Weights, moments: JointMoments, penalty: float) -> Weights:
    """Solution for one strength, ``(G + p m I) W^T = C + p m W0^T`` per block."""
    width = moments.second.shape[1]
    scale = penalty * np.trace(moments.second, axis1=1, axis2=2)[:, None, None] / width
    second = moments.second.copy()
    np.einsum("gii->gi", second)[:] += scale[:, 0] + TINY
    right = moments.cross + (scale + TINY) * slim.matrix.swapaxes(1, 2)
    matrix: Floats = np.linalg.solve(second, right).swapaxes(1, 2)
    return Weights(matrix, moments.offset(matrix), penalty)


TINY = 1e-12
"""Added to the ridge, so that a layer that reads constants alone can be solved, too."""
