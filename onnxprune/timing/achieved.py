"""What became of a budget of latency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    tries : int
        Plans that were measured, this one included.
    machine : Machine
    """

    target: float
    predicted: float
    measured: float
    before: float
    after: float
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
        numbers = ("target", "predicted", "measured", "before", "after", "tries")
        return {**{name: getattr(self, name) for name in numbers}, "machine": self.machine.to_dict()}

    def __str__(self) -> str:
        return (
            f"latency: {self.measured:.1%} measured, {self.predicted:.1%} predicted "
            f"({self.machine.running}, batch {self.machine.batch})"
        )
