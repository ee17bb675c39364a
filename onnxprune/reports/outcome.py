"""What pruning and cleaning did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..checks.report import Report
from ..cleanup.log import Log
from ..coupling.trace import Trace
from ..selection.cost import Cost
from ..selection.plan import Plan
from ..selection.recovered import Recovery
from .analysis import by_reason, costs
from .analysis import obstacle_lines as hindrances
from .page import Part, Table

ALL = "--json lists all"


class Outcome(Protocol):
    """What is told of a result, see :class:`onnxprune.Result`."""

    @property
    def plan(self) -> Plan:
        """What is kept."""

    @property
    def report(self) -> Report | None:
        """The checks."""

    @property
    def trace(self) -> Trace:
        """The analysis."""

    @property
    def log(self) -> Log | None:
        """What the clean-up did."""

    @property
    def recovery(self) -> Recovery | None:
        """Weights that were fitted."""

    @property
    def before(self) -> Cost:
        """Cost of the original."""

    @property
    def after(self) -> Cost:
        """Cost of the slim model."""


def pruned(outcome: Outcome, path: str, out: str) -> Iterator[Part]:
    """What ``prune`` did to the model at ``path``, and where it wrote the result."""
    if outcome.log is not None:
        yield f"cleaned first: {outcome.log.headline}"
        yield ""
    yield from _groups(outcome.plan)
    yield from hindrances(outcome.trace)
    yield costs(outcome.before, outcome.after, outcome.trace)
    if outcome.recovery is not None:
        yield str(outcome.recovery)
    yield verdict(outcome.report)
    for score in outcome.report.scores if outcome.report is not None else ():
        yield f"{score.name}: {score.before:.4f} before, {score.after:.4f} after"
    yield written(outcome, path, out)


def _groups(plan: Plan) -> Iterator[Table]:
    """Tables of the groups that shrank, and of those that did not, by reason."""
    found = [g for g in plan.groups if g.status == "pruned"]
    if found:
        coarse = any(g.reason for g in found)
        rows = tuple((g.name, f"{g.channels} -> {len(g.keep)}", *[g.reason] * coarse) for g in found)
        yield Table(("pruned", ">channels", *["why"] * coarse), rows, ALL)
    for status in ("kept", "blocked"):
        same = [g for g in plan.groups if g.status == status]
        rows = by_reason({"name": g.name, "channels": g.channels, "reason": g.reason} for g in same)
        if rows:
            yield Table((status, ">channels", "why"), rows, ALL)


def cleaned(outcome: Outcome, path: str, out: str) -> Iterator[Part]:
    """What ``clean`` did to the model at ``path``, and where it wrote the result."""
    log = outcome.log
    assert log is not None
    yield from (log.headline, *log.assumptions, *log.reasons)
    yield ""
    if log.rows:
        rows = tuple(
            (r.tensor, f"{r.before:,}", f"{r.after:,}", f"{r.after - r.before:+,}") for r in log.rows
        )
        yield Table(("constant", ">bytes before", ">after", ">difference"), rows, ALL)
        yield costs(log.before, log.after, outcome.trace)
    yield verdict(outcome.report)
    yield written(outcome, path, out)


def verdict(report: Report | None) -> str:
    """Both checks in one line."""
    return "not verified (--no-verify)" if report is None else report.headline


def written(outcome: Outcome, path: str, out: str) -> str:
    """Where the result is, and whether it differs."""
    if unchanged(outcome.plan):
        return f"nothing was removed: '{out}' is a copy of '{path}'"
    return f"wrote '{out}'"


def unchanged(plan: Plan) -> bool:
    """Whether nothing was removed."""
    return all(group.status != "pruned" for group in plan.groups)
