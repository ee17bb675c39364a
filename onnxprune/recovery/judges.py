"""Which samples judge a recovery: the last ones to which pruning does harm that tells.

Those at the very end may hold nothing that the network finds anything in. It is not those that are harmed
most: the fit needs them more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..data.batches import Batch
from ..labels.vector import Floats
from ..model.file import Model
from ..moments.held import Held
from ..runtime.session import open_session, owned, run
from .harm import Harm, probabilities

LEAST = 0.1
"""Share of the mean harm below which a batch says nothing of what recovery gains."""


def apart(samples: Held, share: float, original: Model, slim: Model, provider: str) -> tuple[Held, Held]:
    """Samples for the fit, and those that judge it: two parts, unless there is one batch only.

    Parameters
    ----------
    share : float
        Of the batches, which judge; at least one does.
    """
    if samples.count == 1:
        return samples, samples
    harm = harm_of_batches(samples, original, slim, provider)
    chosen = representative(harm, max(1, round(share * samples.count)))
    judging = np.isin(np.arange(samples.count), chosen)
    return samples.chosen(~judging), samples.chosen(judging)


def representative(harm: Floats, count: int) -> list[int]:
    """Places of the last batches that have at least ``LEAST`` of the mean harm: at most so many."""
    return [int(place) for place in np.flatnonzero(harm >= LEAST * harm.mean())[-count:]]


def harm_of_batches(batches: Iterable[Batch], original: Model, slim: Model, provider: str) -> Floats:
    """Shares of the harm that each batch has of that of all, shape (batches,), as the mean over outputs."""
    found = list(_sums(batches, original, slim, provider))
    names = sorted({name for sums in found for name in sums})
    table = np.array([[sums.get(name, 0.0) for name in names] for sums in found]).reshape(len(found), -1)
    known = np.isfinite(table).all(axis=0) & (table.sum(axis=0) > 0)
    if not known.any():
        return np.zeros(len(found))
    return np.asarray((table[:, known] / table[:, known].sum(axis=0)).mean(axis=1))


def _sums(
    batches: Iterable[Batch], original: Model, slim: Model, provider: str
) -> Iterator[dict[str, float]]:
    """Harm of every output, summed over the samples of each batch."""
    probable = probabilities(original, [value.name for value in original.proto.graph.output])
    with (
        open_session(original, provider, "the original") as before,
        open_session(slim, provider, "the slim model") as after,
    ):
        for batch in batches:
            outputs = run(before, batch.feeds, "the original")
            found = Harm(probable)
            found.add(owned(outputs, outputs), run(after, batch.feeds, "the slim model"), batch.size)
            yield {name: harm for name, (harm, _) in {**found.shares, **found.sums}.items()}
