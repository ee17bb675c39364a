"""What ``verify`` found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..checks.report import Report
from .baseline import Baseline
from .page import Part
from .tables import findings, markdown, tables


@dataclass(frozen=True, slots=True)
class Verification:
    """A report on the models at two paths, see :class:`onnxprune.reports.page.Reported`.

    Attributes
    ----------
    baseline : Baseline or None
        Earlier runs, where there is a file of them.
    """

    dense: str
    slim: str
    report: Report
    baseline: Baseline | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        more = {} if self.baseline is None else {"baseline": self.baseline.to_dict()}
        return {"dense": self.dense, "slim": self.slim, **self.report.to_dict(), **more}

    def page(self) -> Iterator[Part]:
        """Tables, what is new, the verdict, and what to look at first."""
        yield from tables(self.report)
        yield from self._against_baseline()
        yield self.report.headline
        yield from findings(self.report)

    def markdown(self) -> str:
        """GitHub-flavoured Markdown, for a pull request."""
        return markdown(self.report, tuple(self._against_baseline()))

    def _against_baseline(self) -> Iterator[Part]:
        if self.baseline is not None:
            yield self.baseline.table()
            if self.baseline.remark:
                yield f"baseline: {self.baseline.remark}"
