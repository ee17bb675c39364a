"""Second moments of what layers read, in one pass over the data."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from ..coupling.trace import Trace
from ..data.portions import portions
from ..labels.vector import Floats
from ..runtime.session import Arrays
from ..settings.table import DEFAULTS
from .bound import fed
from .held import Held
from .linear import Linear
from .segment import Parts, running
from .windows import Positions

POSITIONS = 60_000
"""Most rows of a layer that its moments are taken of; they are enough for a few thousand columns."""

LEAST, PER_COLUMN = 8_000, 48
"""Rows that are taken in any case, and rows per column beyond which results do not change."""

MEMORY: int = DEFAULTS["memory"]
"""Bytes that moments and rows may take, where the caller names no bound."""

Progress = Callable[[int, int], None]
"""Told how many layers are done, and how many there are."""


def silent(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and centred second moment of the rows that a layer reads.

    Attributes
    ----------
    count : int
        Number of rows.
    mean : float array, shape (groups, width)
    second : float array, shape (groups, width, width)
        Mean of the outer products of centred rows. Centring frees the bias: the best one is
        known once the weight is.
    """

    count: int
    mean: Floats
    second: Floats

    def variance(self, matrix: Floats) -> Floats:
        """Variance of every output of a weight (groups, outputs, width), of the same leading shape."""
        return np.einsum("goi,gij,goj->go", matrix, self.second, matrix, optimize=True)


class MomentSums:
    """Sums over rows, from which moments follow; products are taken in float32, sums in float64.

    Rows are shifted by the mean of the first ones, so that centring cancels no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: tuple[npt.NDArray[np.float32], Floats, Floats] | None = None
        """Shift, sum and sum of outer products of shifted rows."""

    def add(self, rows: npt.NDArray[np.float32]) -> None:
        """Add rows of shape (rows, groups, width)."""
        if not len(rows):
            return
        if self._sums is None:
            groups, width = rows.shape[1:]
            self._sums = rows.mean(axis=0), np.zeros((groups, width)), np.zeros((groups, width, width))
        shift, first, products = self._sums
        blocks = (rows - shift).swapaxes(0, 1)
        self.count += len(rows)
        first += blocks.sum(axis=1, dtype=np.float64)
        products += blocks.swapaxes(1, 2) @ blocks

    def moments(self) -> Moments:
        """What the sums say, once there are rows."""
        assert self._sums is not None
        shift, first, products = self._sums
        mean = first / self.count
        second = products / self.count - mean[:, :, None] * mean[:, None, :]
        return Moments(self.count, mean + shift, second)


def enough(width: int, most: int) -> int:
    """How many rows of so many columns are taken of a layer, where there are more."""
    return min(most, max(LEAST, PER_COLUMN * width))


class Sampler:
    """Seeded choice of positions, the same for a layer whatever else is collected.

    A subset of positions is taken, not of samples: deep layers of a small image have few positions
    per sample, and every sample says something new.

    Parameters
    ----------
    seed : int
    name : str
        Of the layer.
    limit : int
        Most positions that are taken of all batches together.
    """

    def __init__(self, seed: int, name: str, limit: int) -> None:
        self.limit = limit
        self.share = 1.0
        self._rng = np.random.default_rng([seed, zlib.crc32(name.encode())])

    def expect(self, total: int) -> None:
        """Say how many positions all batches hold, so that each gives its part."""
        self.share = min(1.0, self.limit / max(1, total))

    def draw(self, count: int) -> Positions:
        """Some of ``count`` positions, ascending."""
        if self.share >= 1:
            return np.arange(count)
        wanted = max(1, round(count * self.share))
        return np.sort(self._rng.choice(count, wanted, replace=False))


@dataclass(frozen=True, slots=True)
class Means:
    """What moments are taken with.

    Attributes
    ----------
    positions : int
        Most rows that are taken of one layer.
    memory : int
        Bytes. One layer alone may need more: see :func:`bytes_of`.
    seed : int
        Of the choice of rows.
    provider : str
        Where the model runs.
    progress : callable
        Called with the number of layers, or groups, that are done, and of all.
    """

    positions: int = POSITIONS
    memory: int = MEMORY
    seed: int = 0
    provider: str = "cpu"
    progress: Progress = silent


PLAIN = Means()


class _Sums:
    """Sums of one layer over the batches.

    Parameters
    ----------
    batches : int
        How many there will be.
    """

    def __init__(self, traced: Trace, layer: Linear, means: Means, batches: int) -> None:
        width = layer.shape(traced.graph)[2]
        self.layer, self.batches, self.sums = layer, batches, MomentSums()
        self.sampler = Sampler(means.seed, layer.node.name, enough(width, means.positions))

    def add(self, found: Arrays) -> None:
        """Add rows of one batch."""
        x = found[self.layer.source]
        count = self.layer.positions(x)
        if not self.sums.count:
            self.sampler.expect(count * self.batches)
        self.sums.add(self.layer.rows(x, self.sampler.draw(count)))


def _add(turn: Sequence[_Sums], found: Arrays) -> None:
    """Add one batch to all sums; what was computed is let go before the next one is."""
    for one in turn:
        one.add(found)


def collect(
    traced: Trace, layers: Sequence[Linear], data: Held, means: Means = PLAIN
) -> Iterator[tuple[Linear, Moments]]:
    """Moments of what some layers read, as soon as they are known.

    Layers are taken in turns, so that the second moments of one turn and the tensors of one batch
    fit into half of the bound; the model runs over the data once per turn, as far as the turn needs it.

    Yields
    ------
    (Linear, Moments)
    """
    parts, done, first = Parts(traced.model), 0, data.first.feeds
    scale, shapes = fed(traced, first), traced.shapes.shown.shapes

    def held(layer: Linear) -> int:
        """Bytes of second moments, of a product of them, and of what the layer reads of one batch."""
        return 2 * bytes_of(traced, layer) + int(4 * scale * prod(shapes.get(layer.source, (1,))))

    for turn in portions(layers, held, means.memory // 2):
        sums = [_Sums(traced, layer, means, len(data)) for layer in turn]
        with running(parts, first, [layer.source for layer in turn], means.provider) as step:
            for batch in data:
                _add(sums, step(batch.feeds))
        while sums:
            one = sums.pop(0)
            yield one.layer, one.sums.moments()
        done += len(turn)
        means.progress(done, len(layers))


def bytes_of(traced: Trace, layer: Linear) -> int:
    """Bytes that the second moments of a layer take, in float64."""
    groups, _, width = layer.shape(traced.graph)
    return 8 * groups * width**2
