"""Layer-adaptive magnitudes: scores that say how much of a group goes with a channel."""

from __future__ import annotations

import numpy as np

from onnxprune.scoring.registry import Scores, normalizer


@normalizer("lamp", units=True)
def lamp(scores: Scores) -> Scores:
    """Square of a score over the sum of the squares that are not smaller (arXiv 2010.07611).

    It acts on the merged scores of a group, so it makes groups comparable in a ranking over the
    whole model (``scope="global"``), which is then NetsPresso's recommendation SLAMP. The largest
    of a group gets 1. Of equal scores the lowest index counts as the larger, as in selection.
    """
    energy = scores**2
    order = np.lexsort((-np.arange(len(scores)), energy))
    rest = np.cumsum(energy[order][::-1])[::-1]
    result = np.empty_like(energy)
    result[order] = np.divide(energy[order], rest, out=np.zeros_like(rest), where=rest > 0)
    return result
