"""The table of operators: which are carried, which are pinned on purpose, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx

from .registry import RULES, Along

Status = Literal["carried", "pinned", "unknown"]


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """How one operator is handled.

    Attributes
    ----------
    summary : str
        What its rule does, or why it pins what it touches.
    along : str
        What becomes of channels along an axis that it reduces, normalizes or orders.
    """

    domain: str
    op: str
    status: Status
    summary: str
    along: Along = ""


def operator_table() -> list[OperatorRow]:
    """A row for every operator that onnx knows and for every other one that has a rule.

    Operators of the newest opsets of the installed onnx, sorted by domain and name.
    """
    known = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}
    return [_row(domain, op) for domain, op in sorted(known | RULES.keys())]


def _row(domain: str, op: str) -> OperatorRow:
    rule = RULES.get((domain, op))
    if rule is None:
        return OperatorRow(domain, op, "unknown", "there is no rule: everything it touches is pinned")
    if rule.pinned:
        return OperatorRow(domain, op, "pinned", rule.pinned)
    return OperatorRow(domain, op, "carried", rule.summary, rule.along)
