"""A baseline: what earlier runs of ``verify`` measured, to compare with."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checks.report import Report
from ..errors import UsageError
from ..files.writing import write_atomically
from ..model.file import Model
from ..printable import json_text
from ..settings.schema import BaselineFile, checked, read_json
from .page import Table, numbers, words
from .tables import measures

FORMAT, VERSION = "onnxprune.baseline", 1

LONGEST = 100
"""Runs that a file keeps; the oldest go first."""

SHOWN = 5
"""Runs whose values a table shows beside each other."""

SIZE = "file size (bytes)"

LESS_IS_BETTER = ("relative of ", "max_abs of ", "latency ratio", SIZE)
"""How the names of measures begin of which less is better; of all others more is."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes
    ----------
    dense, slim : str
        SHA-256 of both files.
    data : str
        Source of the samples; empty where they were made up.
    measures : mapping
        Name -> value.
    """

    dense: str
    slim: str
    data: str
    samples: int
    measures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Earlier runs, the oldest first, and this one."""

    earlier: tuple[Run, ...]
    run: Run

    @property
    def remark(self) -> str:
        """Why the numbers of the last run may not be comparable; empty where they are."""
        if not self.earlier:
            return "there is no earlier run to compare with"
        last = self.earlier[-1]
        pairs = (
            ("another original", last.dense != self.run.dense),
            ("other data", (last.data, last.samples) != (self.run.data, self.run.samples)),
        )
        differ = " and ".join(text for text, yes in pairs if yes)
        return f"the last run was of {differ}" if differ else ""

    def table(self) -> Table:
        """Every measure now and before."""
        last = self.earlier[-1].measures if self.earlier else {}
        rows = []
        for name, now in self.run.measures.items():
            known = [run.measures[name] for run in self.earlier[1 - SHOWN :] if name in run.measures]
            trend = ", ".join(map(short, (*known, now)))
            if name not in last:
                rows.append((name, "-", f"{now:.6g}", "-", "new", trend))
                continue
            change = now - last[name]
            rows.append(
                (name, f"{last[name]:.6g}", f"{now:.6g}", f"{change:+.3g}", verdict(name, change), trend)
            )
        columns = (*words("measure"), *numbers("baseline", "now", "change"), *words("", "trend"))
        return Table(columns, tuple(rows))

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "remark": self.remark,
            "earlier": [asdict(run) for run in self.earlier],
            "run": asdict(self.run),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the earlier runs with this one."""
        runs = [asdict(run) for run in (*self.earlier, self.run)][-LONGEST:]
        document = {"format": FORMAT, "version": VERSION, "runs": runs}
        write_atomically(Path(path), (json_text(document) + "\n").encode())


def short(value: float) -> str:
    """A number as it stands among others."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def verdict(name: str, change: float) -> str:
    """Better or worse, in a word."""
    if not change:
        return "same"
    return "better" if (change < 0) == name.startswith(LESS_IS_BETTER) else "worse"


def compared(path: str, report: Report, dense: Model, slim: Model, *, new: bool) -> Baseline:
    """A report beside the runs of a file.

    Parameters
    ----------
    new : bool
        Whether the file need not exist.

    Raises
    ------
    UsageError
        If it cannot be read, or is no baseline.
    """
    earlier = () if new and not Path(path).exists() else tuple(_read(path))
    found = {name: value for name, value in measures(report) if math.isfinite(value)}
    found[SIZE] = float(slim.nbytes())
    return Baseline(earlier, Run(dense.sha256(), slim.sha256(), report.data, report.samples, found))


def _read(path: str) -> Iterator[Run]:
    what = f"baseline '{path}'"
    document = read_json(path, "baseline", UsageError)
    found = checked(document, BaselineFile, what, UsageError)
    if (found.format, found.version) != (FORMAT, VERSION):
        raise UsageError(
            f"{what}: found format {found.format!r} {found.version}, expected {FORMAT!r} {VERSION}"
        )
    for run in found.runs:
        yield Run(run.dense, run.slim, run.data, run.samples, run.measures)
