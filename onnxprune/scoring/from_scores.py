"""Scores that somebody else computed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, blamed
from .layer import Layer
from .registry import Scores


class FromScores:
    """A criterion that looks scores up by the name of a weight or of a node.

    Layers that are not named are not measured. This criterion has no registered name: give a
    mapping, or the path of an .npz file, where the name of a criterion is expected.

    Parameters
    ----------
    scores : mapping of str to array
        One score per channel of the layer; higher stays.
    """

    __name__ = "given"

    def __init__(self, scores: Mapping[str, npt.ArrayLike]) -> None:
        self.scores: dict[str, Scores] = {}
        for name, values in scores.items():
            with blamed(f"scores of '{name}'"):
                self.scores[name] = np.asarray(values, np.float64)

    def __call__(self, layer: Layer) -> Scores:
        """Scores of one layer."""
        for name in (layer.kernel.tensor, layer.kernel.node.name):
            found = self.scores.get(name)
            if found is None:
                continue
            if found.shape != (layer.channels,):
                raise UsageError(
                    f"scores of '{name}': found shape {list(found.shape)}, expected [{layer.channels}]"
                )
            return found
        return np.full(layer.channels, np.nan)
