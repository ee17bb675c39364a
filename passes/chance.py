"""The criterion that knows nothing: a baseline for the others."""

from __future__ import annotations

from onnxprune.scoring.layer import Layer
from onnxprune.scoring.registry import Scores, criterion


@criterion("random")
def random(layer: Layer) -> Scores:
    """Uniform random scores, fixed by the seed and the name of the weight."""
    return layer.rng.random(len(layer.weight))
