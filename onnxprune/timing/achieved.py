"""What became of a budget of latency."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..printable import plural
from .machine import Machine

ABOVE, BELOW = 1.03, 0.95
"""Shares of a budget between which a measurement is taken for it: two runs of one file differ by 3 %."""


@dataclass(frozen=True, slots=True)
class Achieved:
    """How long a plan takes.

    Attributes
    ----------
    target, predicted, measured : float
        Shares of the latency of the original.
    before, after : float
        Milliseconds of the fastest runs.
    spread : (float, float)
        The least and the largest share that a pair of sessions measured; ``measured`` is the median.
    pairs : int
        Pairs of sessions.
    tries : int
        Plans that were measured, this one included.
    machine : Machine
    """

    target: float
    predicted: float
    measured: float
    before: float
    after: float
    spread: tuple[float, float]
    pairs: int
    tries: int
    machine: Machine

    @property
    def holds(self) -> bool:
        """Whether the budget is met, as far as can be measured."""
        return self.measured <= ABOVE * self.target

    @property
    def close(self) -> bool:
        """Whether no better plan is worth looking for."""
        return self.holds and self.measured >= BELOW * self.target

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "spread": list(self.spread), "machine": self.machine.to_dict()}

    def __str__(self) -> str:
        low, high = self.spread
        return (
            f"latency: {self.measured:.1%} measured ({low:.1%} to {high:.1%} in {plural(self.pairs, 'pair')} of sessions), "
            f"{self.predicted:.1%} predicted ({self.machine.running}, batch {self.machine.batch})"
        )
