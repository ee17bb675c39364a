"""How long two models take in several pairs of sessions, because two sessions of one file differ.

Where its threads run and its memory lies is settled when a session is opened. With one thread that makes
about 3 %, with several up to 18 %: one pair of sessions tells how fast it is itself, several tell how fast
the next ones will be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from math import ceil, inf, sqrt
from statistics import median
from typing import Any

import numpy as np

from ..model.engine import InferenceSession
from ..model.file import Model
from ..runtime.session import Arrays, open_session
from ..timing.machine import Machine
from .latency import Latency, measure_latency

PAIRS = 3, 9
"""Pairs of sessions at least and at most."""

PATIENCE = 60.0
"""Seconds after which no more pairs than the fewest are opened: sessions of large models take long to open."""

PRECISE = 0.01
"""Error of the median, as a share of it, from which on it counts as known."""

Opener = Callable[[], AbstractContextManager[InferenceSession]]


@dataclass(frozen=True, slots=True)
class Repeated:
    """Latency in several pairs of sessions.

    Attributes
    ----------
    pairs : tuple of Latency
    shares : tuple of float
        What is left of the latency by each of them.
    """

    pairs: tuple[Latency, ...]
    shares: tuple[float, ...]

    @property
    def share(self) -> float:
        """The median of those shares."""
        return median(self.shares)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the largest of those shares."""
        return min(self.shares), max(self.shares)

    @property
    def runs(self) -> Latency:
        """The runs of all pairs."""
        before = tuple(ms for pair in self.pairs for ms in pair.before)
        return Latency(before, tuple(ms for pair in self.pairs for ms in pair.after))

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        runs = self.runs
        before, after = runs.percentiles(10, 90)
        return {
            "before": runs.medians[0],
            "after": runs.medians[1],
            "before_10_90": before,
            "after_10_90": after,
            "ratio": self.share,
            "spread": list(self.spread),
            "pairs": len(self.pairs),
            "runs": len(runs.before),
        }


def opener(model: Model, machine: Machine, what: str = "", *, tf32: bool = True) -> Opener:
    """Sessions of a model whose time counts; ``what`` is the model in messages."""
    return partial(open_session, model, machine.provider, what, tf32=tf32, timed=machine.timed())


def measure_sessions(
    before: Opener,
    after: Opener,
    feeds: Arrays,
    runs: int,
    share: Callable[[Latency], float],
    *,
    bounds: Sequence[float] = (),
    pairs: tuple[int, int] = PAIRS,
    seconds: float = inf,
    clock: Callable[[], float] | None = None,
) -> Repeated:
    """Open pairs of sessions, each of which takes turns, until the share of the latency that is left is clear.

    It is where its error is small, or where no bound lies within twice its error. So as long as sessions
    agree, that takes as many runs as one pair of them.

    Parameters
    ----------
    before, after : callable
        Open a session.
    runs : int
        Runs of each model in the fewest pairs together; further pairs take as many as these.
    share : callable
        What a pair tells of the share that is left.
    bounds : sequence of float
        Shares between which something is decided.
    pairs : (int, int)
        Fewest and most pairs.
    seconds : float
        After so long there are no more.
    """
    fewest = min(pairs[0], max(runs, 1))
    start = time.perf_counter()
    found: list[Latency] = []
    while len(found) < pairs[1]:
        with before() as first, after() as second:
            found.append(measure_latency(first, second, feeds, ceil(runs / fewest), seconds / fewest, clock))
        shares = [share(pair) for pair in found]
        passed = time.perf_counter() - start
        if passed > seconds or (len(found) >= fewest and (passed > PATIENCE or _clear(shares, bounds))):
            break
    return Repeated(tuple(found), tuple(shares))


def _clear(shares: Sequence[float], bounds: Sequence[float]) -> bool:
    """Whether more pairs would tell no more, or decide the same."""
    low, middle, high = np.quantile(shares, (0.25, 0.5, 0.75)).tolist()
    error = (high - low) / sqrt(len(shares))
    apart = bool(bounds) and all(abs(bound - middle) > 2 * error for bound in bounds)
    return apart or error <= PRECISE * middle
