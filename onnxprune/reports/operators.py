"""The table of rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..errors import unknown_name
from ..plugins import load_installed
from ..rules.table import OperatorRow, operator_table
from .page import Part, Table, words


@dataclass(frozen=True, slots=True)
class OperatorList:
    """What happens to channels at every operator, see :class:`onnxprune.reports.page.Reported`."""

    rows: tuple[OperatorRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        return {
            "rules": [
                {
                    "domain": r.domain,
                    "operator": r.op,
                    "status": r.status,
                    "along": r.along,
                    "rule": r.summary,
                }
                for r in self.rows
            ]
        }

    def page(self) -> Iterator[Part]:
        """One row per operator."""
        cells = tuple((_name(r), r.status, r.along, r.summary) for r in self.rows)
        yield Table(words("operator", "status", "along", "rule"), cells)


def operators(*patterns: str) -> OperatorList:
    """Those of the installed onnx, and all others that have a rule; without patterns, all of them.

    Raises
    ------
    UsageError
        If a pattern names none.
    """
    load_installed()
    rows = tuple(operator_table())
    for pattern in patterns:
        if not any(_named(row, pattern) for row in rows):
            raise unknown_name("operator", pattern, {row.op for row in rows})
    return OperatorList(tuple(r for r in rows if not patterns or any(_named(r, p) for p in patterns)))


def _name(row: OperatorRow) -> str:
    """With its domain, but for those of ONNX itself."""
    return f"{row.domain}::{row.op}" if row.domain else row.op


def _named(row: OperatorRow, pattern: str) -> bool:
    """Whether a pattern, in any case of letters, is its name with or without the domain."""
    return any(fnmatchcase(name.lower(), pattern.lower()) for name in (row.op, _name(row)))
