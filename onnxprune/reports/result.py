"""What pruning and cleaning give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ..checks.report import Report
from ..cleanup.log import Log
from ..coupling.trace import Trace
from ..model.file import Model
from ..selection.cost import Cost
from ..selection.plan import Plan
from ..selection.recovered import Recovery

if TYPE_CHECKING:
    from ..timing.achieved import Achieved


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What pruning gave.

    Attributes
    ----------
    model : Model
        The slim model; ``model.save(path)`` writes it, ``model.embedded()`` is the ModelProto with all weights
        (``model.proto`` says of those that lie in files where they are).
    plan : Plan
    report : Report or None
        The checks, where they were asked for.
    trace : Trace
        Analysis of the original; of what the clean-up left, where that removed something.
    count : callable
        Gives the costs of both models, when they are first asked for.
    log : Log or None
        What the clean-up removed before anything was scored; None where it removed nothing.
    recovery : Recovery or None
        Weights that were fitted after surgery, layer by layer; None where none was asked for.
    latency : Achieved or None
        Predicted and measured latency, where that was a budget.
    """

    model: Model
    plan: Plan
    report: Report | None
    trace: Trace
    count: Callable[[], tuple[Cost, Cost]] = field(repr=False)
    log: Log | None = None
    recovery: Recovery | None = None
    latency: Achieved | None = None

    def __repr__(self) -> str:
        verdict = self.report.verdict if self.report else "not verified"
        return f"Result({self.plan!r}, {verdict})"

    def __str__(self) -> str:
        return "\n".join([str(self.plan), str(self.report) if self.report else "not verified"])

    @cached_property
    def _costs(self) -> tuple[Cost, Cost]:
        return self.count()

    @property
    def before(self) -> Cost:
        """Cost of the original."""
        return self._costs[0]

    @property
    def after(self) -> Cost:
        """Cost of the slim model."""
        return self._costs[1]
