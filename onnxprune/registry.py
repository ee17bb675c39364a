"""Names of passes; see :mod:`onnxprune.scoring.registry`."""

from .scoring.registry import (
    Criterion,
    Normalizer,
    Policy,
    Scores,
    criterion,
    metric,
    names,
    normalizer,
    policy,
    recovery,
)

__all__ = [
    "Criterion",
    "Normalizer",
    "Policy",
    "Scores",
    "criterion",
    "metric",
    "names",
    "normalizer",
    "policy",
    "recovery",
]
