"""Gates: limits that a slim model must keep to, or the build fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

from ..errors import UsageError, unknown_name
from ..settings.table import OPTIONS
from .accuracy import Score
from .compare import Difference


class Limits(TypedDict, total=False):
    """The gates; those that are not set are open.

    Attributes
    ----------
    min_cosine : float
        Of the worst sample of the worst output.
    max_abs : float
        Largest absolute difference of any output.
    min_agreement : float
        Share of samples with the same best class.
    max_accuracy_drop : float
        Accuracy, or value of the metric, of the original less that of the slim model.
    max_latency_ratio : float
        Latency of the slim model over that of the original.
    """

    min_cosine: float | None
    max_abs: float | None
    min_agreement: float | None
    max_accuracy_drop: float | None
    max_latency_ratio: float | None


MISSING = {
    **dict.fromkeys(("min_cosine", "max_abs"), "no output holds anything to compare"),
    "min_agreement": "no output holds scores of classes",
    "max_accuracy_drop": "the data have no labels, and there is no metric",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """One limit and what was found; true if it is kept.

    Attributes
    ----------
    subject : str
        Output or measure that comes nearest to the limit, or is beyond it.
    """

    name: str
    subject: str
    found: float
    limit: float

    def __bool__(self) -> bool:
        return self.found >= self.limit if self.name.startswith("min_") else self.found <= self.limit

    @property
    def excess(self) -> float:
        """How far beyond the limit; negative where it is kept."""
        return abs(self.found - self.limit) * (-1 if self else 1)

    def __str__(self) -> str:
        bound = "at least" if self.name.startswith("min_") else "at most"
        name = self.name.replace("_", "-")
        text = f"{name} of '{self.subject}': found {self.found:.6g}, expected {bound} {self.limit:g}"
        return text if self else f"{text} (off by {self.excess:.3g})"


def check_limits(limits: Limits) -> None:
    """Refuse gates that no model could pass or fail, before anything is measured.

    Raises
    ------
    UsageError
        With what was expected.
    """
    for name, limit in limits.items():
        if limit is not None and (expected := OPTIONS[name].check(limit)):
            raise UsageError(f"gate {OPTIONS[name].flag}: found {limit!r}, expected {expected}")


def check_gates(
    limits: Limits, change: Sequence[Difference], scores: Sequence[Score], latency_ratio: float | None
) -> tuple[Gate, ...]:
    """Compare what was found with the limits.

    Raises
    ------
    UsageError
        If a gate is set for something that was not measured: it must not pass unseen.
    """
    found: dict[str, list[tuple[float, str]]] = {
        "min_cosine": [(d.worst, d.output) for d in change],
        "max_abs": [(d.max_abs, d.output) for d in change],
        "min_agreement": [(d.top1, d.output) for d in change if d.top1 is not None],
        "max_accuracy_drop": [(score.drop, score.name) for score in scores],
        "max_latency_ratio": [] if latency_ratio is None else [(latency_ratio, "latency")],
    }
    unknown = limits.keys() - found.keys()
    if unknown:
        raise unknown_name("gate", min(unknown), found)
    gates = []
    for name in found:
        limit = limits.get(name)
        if limit is None:
            continue
        if not found[name]:
            reason = MISSING.get(name, "it was not measured")
            raise UsageError(f"gate {name.replace('_', '-')} cannot be checked: {reason}")
        value, subject = (min if name.startswith("min_") else max)(found[name])
        gates.append(Gate(name, subject, value, float(cast(float, limit))))
    return tuple(gates)
