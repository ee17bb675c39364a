"""How long two models take, in turns."""

from __future__ import annotations

import time
from dataclasses import dataclass

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

    @property
    def ratio(self) -> float:
        """Median after over median before."""
        before, after = self.medians
        return after / before


def measure_latency(
    before: InferenceSession, after: InferenceSession, feeds: Arrays, runs: int = RUNS
) -> Latency:
    """Run two sessions in turns, so that a busy machine slows both, each first every other time."""
    times: dict[InferenceSession, list[float]] = {before: [], after: []}
    names = {before: "the original", after: "the slim model"}
    for number in range(WARM_UP + max(runs, 1)):
        for session in (before, after) if number % 2 else (after, before):
            start = time.perf_counter()
            run(session, feeds, names[session])
            times[session].append((time.perf_counter() - start) * 1e3)
    return Latency(tuple(times[before][WARM_UP:]), tuple(times[after][WARM_UP:]))
