"""The table of rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
        rows = ((f"{r.domain}::{r.op}" if r.domain else r.op, r) for r in self.rows)
        cells = tuple((name, r.status, r.along, r.summary) for name, r in rows)
        yield Table(words("operator", "status", "along", "rule"), cells)


def operators() -> OperatorList:
    """Those of the installed onnx, and all others that have a rule."""
    load_installed()
    return OperatorList(tuple(operator_table()))
