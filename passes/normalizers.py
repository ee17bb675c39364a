"""Normalizers: make the scores of different layers comparable.

All of them keep the order of the channels inside a layer, so they matter only where scores of
different layers meet: in a policy, or in a ranking over the whole model.
"""

from __future__ import annotations

import numpy as np

from onnxprune.scoring.registry import Scores, normalizer


@normalizer("none")
def none(scores: Scores) -> Scores:
    """Scores as they are."""
    return scores


@normalizer("max")
def maximum(scores: Scores) -> Scores:
    """Divide by the largest magnitude: it becomes 1. All-zero scores stay zero."""
    return _divide(scores, np.abs(scores).max())


@normalizer("l2")
def l2(scores: Scores) -> Scores:
    """Divide by the Euclidean norm of all scores. All-zero scores stay zero."""
    return _divide(scores, np.linalg.norm(scores))


@normalizer("tao_l2")
def tao_l2(scores: Scores) -> Scores:
    """Divide by the Euclidean norm and multiply by the number of channels, as NVIDIA TAO does."""
    return _divide(scores, np.linalg.norm(scores)) * len(scores)


@normalizer("standard_score")
def standard_score(scores: Scores) -> Scores:
    """Subtract the mean and divide by the population's standard deviation; equal scores give 0."""
    return _divide(scores - scores.mean(), scores.std())


@normalizer("tss")
def total_sum(scores: Scores) -> Scores:
    """Divide by the sum of all scores; where that is zero every channel gets 1 / n."""
    total = abs(scores.sum())  # a negative divisor would turn the order round
    return scores / total if total > 0 else np.full(len(scores), 1 / len(scores))


@normalizer("linear_scaling")
def linear_scaling(scores: Scores) -> Scores:
    """Map the smallest to 0 and the largest to 1; equal scores give 0."""
    return _divide(scores - scores.min(), np.ptp(scores))


@normalizer("softmax")
def softmax(scores: Scores) -> Scores:
    """Exponentials divided by their sum. It saturates on the norms of large layers."""
    grown = np.exp(scores - scores.max())
    return np.asarray(grown / grown.sum())


def _divide(scores: Scores, by: np.floating) -> Scores:
    """Quotient, or zeros where the divisor is not positive."""
    return scores / by if by > 0 else np.zeros_like(scores)
