"""What pruning and cleaning did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..checks.report import Report
from ..cleanup.log import Log
from ..model.file import Model
from ..printable import plural
from ..scoring.score import ODD, unseen
from ..selection.decision import FEWEST
from ..selection.plan import Plan
from .analysis import by_reason, costs, obstacle_lines, obstacles
from .page import Part, Table, numbers, words
from .result import Result

ALL = "--json lists all"


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """What becomes of one group."""

    name: str
    channels: int
    kept: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Quantized:
    """What became of the slim model in 8 bits.

    Attributes
    ----------
    model : Model
    out : str
        Where it goes.
    report : Report or None
        How far it is from the original, where that was asked for.
    floats : int
        Bytes of the slim model.
    """

    model: Model
    out: str
    report: Report | None
    floats: int

    @property
    def larger(self) -> str:
        """That it is larger than the slim model; empty where it is not."""
        more = self.model.nbytes() - self.floats
        if more <= 0:
            return ""
        return (
            f"in 8 bits the model is {plural(more, 'byte')} larger than the slim one: "
            "scales and nodes take more than its weights save"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        report = self.report.to_dict() if self.report is not None else None
        return {"output": self.out, "bytes": self.model.nbytes(), "verification": report}

    def lines(self) -> Iterator[str]:
        """Size, change and accuracy; where it is."""
        yield f"in 8 bits: {plural(self.model.nbytes(), 'byte')}; {verdict(self.report)}"
        for score in self.report.scores if self.report is not None else ():
            yield f"{score.name} in 8 bits: {score.before:.4f} before, {score.after:.4f} after"
        yield f"wrote '{self.out}'"


@dataclass(frozen=True, slots=True)
class _Written:
    """What a verb that writes a model has to say.

    Attributes
    ----------
    path, out : str
        Where the model was read, and where the result goes.
    plan_out : str or None
        Where the plan goes.
    """

    outcome: Result
    path: str
    out: str
    plan_out: str | None = None

    @property
    def written(self) -> bool:
        """Whether the result may be written."""
        return self.outcome.report is None or not self.outcome.report.failed

    def _places(self) -> dict[str, Any]:
        plan = self.outcome.plan
        return {
            "model": {"path": self.path, **plan.model},
            "output": self.out,
            "plan": self.plan_out,
            "options": dict(plan.options),
        }

    def _checked(self) -> dict[str, Any]:
        report = self.outcome.report
        return {"verification": report.to_dict() if report is not None else None, "written": self.written}


@dataclass(frozen=True, slots=True)
class Pruning(_Written):
    """What ``prune`` did, see :class:`onnxprune.reports.page.Reported`.

    Attributes
    ----------
    slower : str
        That the result is slower than its original; empty where it is not, or was not timed.
    quantized : Quantized or None
        The same in 8 bits, where that was asked for.
    """

    slower: str = ""
    quantized: Quantized | None = None

    @property
    def groups(self) -> list[PlannedRow]:
        """One row per group."""
        groups = self.outcome.plan.groups
        return [PlannedRow(g.name, g.channels, len(g.keep), g.status, g.reason) for g in groups]

    @property
    def notes(self) -> list[str]:
        """Where a setting could not be followed; what was chosen how; what got worse than hoped."""
        made_up = unseen(self.outcome.plan.options)
        larger = self.quantized.larger if self.quantized is not None else ""
        found = [made_up, self._by_weights, self._tried, self._fewest, self.slower, larger]
        return [*self.outcome.trace.notes, *filter(None, found)]

    @property
    def _by_weights(self) -> str:
        """Which groups were chosen by weights though there are data, and what is wrong with those."""
        odd: dict[str, str] = self.outcome.plan.options.get(ODD, {})
        groups = _first([*odd], "groups") if odd else ""
        return f"chosen by the norms of weights: {groups}: {next(iter(odd.values()))}" if odd else ""

    @property
    def _tried(self) -> str:
        """Which allocation is taken, where several were tried; empty where none was."""
        tried = self.outcome.plan.options.get("tried")
        if not tried:
            return ""
        taken, *others = (f"'{name}' (harm {harm:.3g})" for name, harm in tried.items())
        return f"much harm is expected, so allocations were tried: {taken} is taken, not {', '.join(others)}"

    @property
    def _fewest(self) -> str:
        """Which groups are cut to as little as may stay; empty where none is."""
        found = [row.name for row in self.groups if row.reason == FEWEST]
        groups = _first(found, "groups") if found else ""
        more = "a larger budget or --min-share leaves more"
        return f"as few channels as may stay are left of {groups}: {more}" if found else ""

    @property
    def not_recovered(self) -> list[str]:
        """What a recovery could not do, and one that was recorded and is missing."""
        found = self.outcome.recovery
        if found is None:
            missing = "recovery" in self.outcome.plan.options
            return ["the plan records a recovery: give its weights with --recovery"] if missing else []
        layers: dict[str, list[str]] = {}
        for one in found.outcomes:
            if one.named:
                layers.setdefault(one.reason, []).append(one.layer)
        return [f"not recovered: {_first(names)}: {reason}" for reason, names in layers.items()]

    @property
    def doubts(self) -> list[str]:
        """That the recovered model is too far from the original, and what would help."""
        found = self.outcome.recovery
        if found is None or "harm" not in found.options:
            return []
        from ..recovery.harm import doubts

        text = doubts(found.options["harm"][1], found.options["samples"])
        return [text] if text else []

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        outcome = self.outcome
        return {
            **self._places(),
            "cleaned": outcome.log.to_dict() if outcome.log is not None else None,
            "groups": [asdict(row) for row in self.groups],
            "obstacles": obstacles(outcome.trace),
            "notes": self.notes,
            "cost": {"before": outcome.before.to_dict(), "after": outcome.after.to_dict()},
            "latency": outcome.latency.to_dict() if outcome.latency is not None else None,
            "recovery": outcome.recovery.to_dict() if outcome.recovery is not None else None,
            "quantized": self.quantized.to_dict() if self.quantized is not None else None,
            **self._checked(),
        }

    def page(self) -> Iterator[Part]:
        """What went, what stayed and why, sizes and checks."""
        outcome = self.outcome
        if outcome.log is not None:
            yield f"cleaned first: {outcome.log.headline}"
            yield ""
        yield from self.tables()
        yield from obstacle_lines(outcome.trace)
        yield costs(outcome.before, outcome.after, outcome.trace, outcome.latency)
        if outcome.latency is not None:
            yield str(outcome.latency)
        if outcome.recovery is not None:
            yield str(outcome.recovery)
        yield verdict(outcome.report)
        for score in outcome.report.scores if outcome.report is not None else ():
            yield f"{score.name}: {score.before:.4f} before, {score.after:.4f} after"
        yield written(outcome, self.path, self.out)
        if self.quantized is not None:
            yield from self.quantized.lines()

    def tables(self) -> Iterator[Table]:
        """Tables of the groups that shrank, and of those that did not, by reason."""
        found = [row for row in self.groups if row.status == "pruned"]
        if found:
            coarse = any(row.reason for row in found)
            cells = tuple((g.name, f"{g.channels} -> {g.kept}", *[g.reason] * coarse) for g in found)
            columns = (*words("pruned"), *numbers("channels"), *words("why")[: int(coarse)])
            yield Table(columns, cells, ALL)
        for status in ("kept", "blocked"):
            same = [row for row in self.groups if row.status == status]
            if rows := by_reason((row.name, row.channels, row.reason) for row in same):
                yield Table((*words(status), *numbers("channels"), *words("why")), rows, ALL)


@dataclass(frozen=True, slots=True)
class Cleaning(_Written):
    """What ``clean`` did, see :class:`onnxprune.reports.page.Reported`."""

    @property
    def log(self) -> Log:
        """What went."""
        assert self.outcome.log is not None
        return self.outcome.log

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        return {**self._places(), **self.log.to_dict(), **self._checked()}

    def page(self) -> Iterator[Part]:
        """What went, sizes and checks."""
        log = self.log
        yield from (log.headline, *log.assumptions, *log.reasons)
        yield ""
        if log.rows:
            yield self.table()
            yield costs(log.before, log.after, self.outcome.trace)
        yield verdict(self.outcome.report)
        yield written(self.outcome, self.path, self.out)

    def table(self) -> Table:
        """One row per stored tensor that changed."""
        changed = tuple(
            (r.tensor, f"{r.before:,}", f"{r.after:,}", f"{r.after - r.before:+,}") for r in self.log.rows
        )
        return Table((*words("constant"), *numbers("bytes before", "after", "difference")), changed, ALL)


def verdict(report: Report | None) -> str:
    """Both checks in one line."""
    return "not verified (--no-verify)" if report is None else report.headline


def written(outcome: Result, path: str, out: str) -> str:
    """Where the result is, and whether it differs."""
    if unchanged(outcome.plan):
        return f"nothing was removed: '{out}' is a copy of '{path}'"
    return f"wrote '{out}'"


def unchanged(plan: Plan) -> bool:
    """Whether nothing was removed."""
    return all(group.status != "pruned" for group in plan.groups)


def _first(names: list[str], things: str = "layers") -> str:
    """One layer, or how many with the first of them."""
    return names[0] if len(names) == 1 else f"{len(names)} {things}, such as {names[0]}"
