"""The table: every row of every ``cases_*.py`` beside this file.

A module holds ``CASES``, a list of rows: :class:`tests.building.Case`, or a tuple of an operator,
a name and a function that builds the model, of which nothing is known but that the battery passes.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .building import Builder, Case


def rows(path: Path) -> Iterator[Case]:
    """The rows of one module."""
    module: Any = importlib.import_module(f"{__package__}.{path.stem}")
    for row in module.CASES:
        yield row if isinstance(row, Case) else _bare(*row)


def _bare(op: str, name: str, build: Builder) -> Case:
    """A row of which nothing is known."""
    return Case(op, name, build, unknown=None, zero=False)


CASES = tuple(row for path in sorted(Path(__file__).parent.glob("cases_*.py")) for row in rows(path))

repeated = [name for name, count in Counter(map(str, CASES)).items() if count > 1]
if repeated:
    raise ValueError(f"several rows have one name: {', '.join(repeated)}")
