"""A report in SARIF 2.1.0, which code scanning reads (OASIS Standard, 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..checks.report import Report
from ..printable import json_text, printable
from .tables import findings, headline

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

RULES = {
    "surgery": (
        "The slim model computes what the original computes with the removed channels masked.",
        "Prune the original anew by the plan: the slim file is not what that makes, or onnxprune is wrong.",
    ),
    "not-proven": (
        "The surgery could be checked.",
        "The named nodes cannot be compared alone; other inputs (--data) may tell.",
    ),
    "not-verified": ("Both models could be run.", "Give inputs that they run on with --data."),
    "gate": (
        "Measures keep to their gates.",
        "Remove less, recover on more data, or widen the gate if the loss is accepted.",
    ),
    "divergence": (
        "No layer diverges from the original.",
        "Leave the layer whole (--exclude), or recover on data: what comes later is built on it.",
    ),
}
"""What has to hold, and what to do where it does not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result: a rule, how bad it is, what was found, and at which layer."""

    rule: str
    level: str
    text: str
    layer: str = ""


def found(report: Report) -> Iterator[Finding]:
    """What is wrong with a slim model, or worth a look."""
    alone = replace(report, elsewhere=())
    if report.problem:
        yield Finding("not-verified", "error", report.problem)
    if report.wrong is not None:
        yield Finding("surgery", "error", findings(alone)[0], report.wrong.layer or report.wrong.output)
    if report.left_out:
        yield Finding("not-proven", "error", report.headline, "" if report.format else report.left_out[0])
    for gate in report.gates:
        if not gate:
            yield Finding("gate", "error", str(gate), gate.subject)
    if report.diverged is not None:
        yield Finding("divergence", "warning", findings(alone)[-1], report.diverged.layer)
    for other in report.elsewhere:
        for finding in found(other):
            yield replace(finding, text=f"on {other.place}: {finding.text}")


def sarif(report: Report, slim: str, version: str) -> str:
    """The document.

    Parameters
    ----------
    slim : str
        Path of the slim model, which all results are about.
    version : str
        Of onnxprune.
    """
    rules = [_rule(name, *texts) for name, texts in RULES.items()]
    run = {
        "tool": {"driver": {"name": "onnxprune", "version": version, "rules": rules}},
        "results": [_result(finding, slim) for finding in found(report)],
        "properties": {"verdict": printable(headline(report))},
    }
    return json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}) + "\n"


def _rule(name: str, holds: str, help_: str) -> dict[str, Any]:
    """A rule, with all that GitHub's code scanning requires of one."""
    described = {"shortDescription": holds, "fullDescription": holds, "help": help_}
    return {"id": name, **{key: {"text": text} for key, text in described.items()}}


def _result(finding: Finding, slim: str) -> dict[str, Any]:
    place: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(Path(slim).as_posix())},
            "region": {"startLine": 1},
        }
    }
    if finding.layer:
        name = printable(finding.layer)
        place["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "element"}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": finding.level,
        "message": {"text": printable(finding.text)},
        "locations": [place],
    }
