"""Normalizers: make the scores of different layers comparable."""

from __future__ import annotations

import numpy as np

from onnxprune.registry import Scores, normalizer


@normalizer("none")
def none(scores: Scores) -> Scores:
    """Scores as they are."""
    return scores


@normalizer("max")
def maximum(scores: Scores) -> Scores:
    """Divide by the largest: it becomes 1. All-zero scores stay zero."""
    top = scores.max()
    return scores / top if top > 0 else scores


@normalizer("l2")
def l2(scores: Scores) -> Scores:
    """Divide by the Euclidean norm of all scores. All-zero scores stay zero."""
    norm = np.linalg.norm(scores)
    return scores / norm if norm > 0 else scores
