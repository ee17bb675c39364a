"""How long two models take, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ..model.engine import InferenceSession
from ..runtime.session import Arrays, run
from ..settings.table import DEFAULTS

RUNS: int = DEFAULTS["runs"]
WARM_UP = 3
"""Measured runs of each model, and those before them that are not."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of every run of both models, which took turns."""

    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def medians(self) -> tuple[float, float]:
        """Median milliseconds before and after."""
        return float(np.median(self.before)), float(np.median(self.after))

    def percentiles(self, *shares: float) -> tuple[list[float], list[float]]:
        """Milliseconds before and after that such percentages of the runs stay below."""
        return np.percentile(self.before, shares).tolist(), np.percentile(self.after, shares).tolist()

    @property
    def fastest(self) -> tuple[float, float]:
        """Milliseconds before and after, the mean of the fastest quarter of the runs."""
        return _fastest_quarter(self.before), _fastest_quarter(self.after)

    @property
    def ratio(self) -> float:
        """Median after over median before."""
        before, after = self.medians
        return after / before

    @property
    def fastest_ratio(self) -> float:
        """The same of the fastest quarters."""
        before, after = self.fastest
        return after / before


def _fastest_quarter(times: tuple[float, ...]) -> float:
    return fmean(sorted(times)[: -(-len(times) // 4)])


def measure_latency(
    before: InferenceSession,
    after: InferenceSession,
    feeds: Arrays,
    runs: int = RUNS,
    seconds: float = math.inf,
    clock: Callable[[], float] | None = None,
) -> Latency:
    """Run two sessions in turns, so that a busy machine slows both, each first every other time.

    Parameters
    ----------
    runs : int
        Measured runs of each.
    seconds : float
        After so long there are no more.
    clock : callable
        Seconds from any beginning.
    """
    clock = clock or time.perf_counter
    times: dict[InferenceSession, list[float]] = {before: [], after: []}
    names = {before: "the original", after: "the slim model"}
    end = time.perf_counter() + seconds if math.isfinite(seconds) else math.inf
    for number in range(WARM_UP + max(runs, 1)):
        if math.isfinite(end) and number > WARM_UP and time.perf_counter() > end:
            break
        for session in (before, after) if number % 2 else (after, before):
            start = clock()
            run(session, feeds, names[session])
            times[session].append((clock() - start) * 1e3)
    return Latency(tuple(times[before][WARM_UP:]), tuple(times[after][WARM_UP:]))
