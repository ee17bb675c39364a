"""Measurements as rows, JSON, and a comparison with an earlier run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

NOISE = 1.25
"""How far single rounds differ on a machine that does other work, too."""


@dataclass(frozen=True)
class Measurement:
    """One thing, measured in several rounds.

    Attributes
    ----------
    part : str
        Of the benchmark.
    model, what : str
        What was done, and to what.
    unit : str
        What a value is a multiple of. Only multiples are kept: they outlive the machine.
    values : tuple of float
        One a round.
    """

    part: str
    model: str
    what: str
    unit: str
    values: tuple[float, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from all others of a run."""
        return self.part, self.model, self.what, self.unit

    @property
    def cells(self) -> tuple[str, ...]:
        """As printed."""
        low, high = min(self.values), max(self.values)
        return self.model, self.what, self.unit, f"{median(self.values):.2f}", f"{low:.2f} to {high:.2f}"


def write(path: Path, measurements: Iterable[Measurement]) -> None:
    """Write a run as JSON."""
    path.write_text(json.dumps([asdict(m) for m in measurements], indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[Measurement]:
    """Read what ``write`` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Measurement(**{**row, "values": tuple(row["values"])}) for row in rows]


def worse(before: Iterable[Measurement], now: Iterable[Measurement]) -> Iterator[str]:
    """What takes more than it did, by more than the noise: every round now is above every round then.

    What was measured once has no noise of its own: it counts from ``NOISE`` times what it took.
    """
    old = {m.key: m for m in before}
    for new in now:
        found = old.get(new.key)
        if found is None:
            continue
        once = min(len(new.values), len(found.values)) == 1
        if min(new.values) > max(found.values) * (NOISE if once else 1):
            ratio = median(new.values) / median(found.values)
            yield f"{new.part}, {new.model}, {new.what}: {ratio:.2f} times what it took"


def tables(measurements: Iterable[Measurement]) -> Iterator[Table]:
    """A table a part."""
    rows = list(measurements)
    for part in dict.fromkeys(m.part for m in rows):
        table = Table(title=part)
        for head in ("model", "what", "unit", "median", "all rounds"):
            table.add_column(head, justify="right" if head in ("median", "all rounds") else "left")
        for row in rows:
            if row.part == part:
                table.add_row(*row.cells)
        yield table
