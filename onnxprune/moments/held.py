"""Calibration samples that are read many times."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import compress, islice

import numpy as np
import numpy.typing as npt

from ..data.batches import Batch, DataSet
from ..errors import UsageError


class Held:
    """Batches of samples, in memory as far as a bound allows; others are read again each time.

    Parameters
    ----------
    data : DataSet
    memory : int
        Bytes.

    Raises
    ------
    UsageError
        If there are no samples.
    """

    def __init__(self, data: DataSet, memory: int) -> None:
        self._data, self._memory = data, memory
        self._batches: list[Batch] = []
        self.count = self.samples = 0
        """Number of batches, and of samples in them."""
        size, fits, digest = 0, True, hashlib.sha256()
        for batch in data:
            if not all(array.size for array in batch.feeds.values()):
                break
            self.count += 1
            self.samples += batch.size
            size += sum(array.nbytes for array in batch.feeds.values())
            for name in sorted(batch.feeds):
                digest.update(np.ascontiguousarray(batch.feeds[name]).tobytes())
            fits = fits and size <= memory
            if fits:
                self._batches.append(batch)
        if not self.samples:
            raise UsageError("data: found no samples, expected at least one")
        if not fits:
            self._batches = []
        self.sha256 = digest.hexdigest()
        """Digest of what is fed, in this order."""

    def part(self, start: float, end: float) -> Held:
        """Some of the batches, as shares of all; at least one."""
        first = min(self.count - 1, round(start * self.count))
        last = max(first + 1, round(end * self.count))
        return Held(replace(self._data, make=lambda: islice(self, first, last)), self._memory)

    def chosen(self, which: npt.NDArray[np.bool_]) -> Held:
        """Those batches for which an array of shape (batches,) is true; at least one."""
        return Held(replace(self._data, make=lambda: compress(self, which)), self._memory)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches or self._data)

    @property
    def first(self) -> Batch:
        """The first batch."""
        return next(iter(self))
