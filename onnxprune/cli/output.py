"""How results are written: tables and JSON on stdout."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..errors import SurgeryError
from ..printable import json_text, printable
from .progress import note, say

if TYPE_CHECKING:
    from ..checks.report import Report
    from ..coupling.groups import Group
    from ..coupling.trace import Trace
    from ..jobs.result import Result
    from ..selection.cost import Cost

LIMIT = 20
"""Rows of a table in the report of ``prune``; the rest is counted."""


def print_json(command: str, document: Mapping[str, Any]) -> None:
    """Print one JSON document; numbers that are not finite become null."""
    complete = {"command": command, "version": __version__, **document}
    click.echo(json_text(_finite(complete)))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, limit: int = 0, rest: str = ""
) -> None:
    """Print a table; a column whose title starts with ``>`` is aligned to the right.

    Parameters
    ----------
    limit : int
        Most rows printed, 0 for all of them.
    rest : str
        How to see the rows that are left out.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
        show_header=any(columns),
    )
    for title in columns:
        right = title.startswith(">")
        table.add_column(
            title.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    everything = list(rows)
    for row in everything[: limit or None]:
        table.add_row(*map(printable, row))
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    with console.capture() as rendered:
        console.print(table)
    for line in rendered.get().splitlines():
        say(line.rstrip())
    if limit and len(everything) > limit:
        say(f"... and {len(everything) - limit} more; {rest}")
    say()


def print_costs(before: Cost, after: Cost, traced: Trace) -> None:
    """Print parameters, multiply-accumulates and file size of two models."""
    rows = [
        (title, f"{old:,}", f"{new:,}", share(new, old))
        for title, old, new in (
            ("parameters", before.parameters, after.parameters),
            (macs_title(traced), before.macs, after.macs),
            ("file size (bytes)", before.bytes, after.bytes),
        )
    ]
    print_table(["", ">before", ">after", ">left"], rows)


def macs_title(traced: Trace) -> str:
    """Name of the MACs in a table, with the sizes that free dimensions were given."""
    from ..shapes.dimensions import graph_inputs

    sizes = traced.shapes.shown.sizes
    if not sizes:
        return "MACs"
    dims = {v.name: v.type.tensor_type.shape.dim for v in graph_inputs(traced.model.proto)}
    given = {dims[n][k].dim_param or f"{n}[{k}]": size for (n, k), size in sizes.items()}
    return f"MACs ({', '.join(f'{name}={size}' for name, size in given.items())})"


def plural(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def share(part: float, whole: float) -> str:
    """A fraction as a percentage."""
    return f"{part / whole:.1%}" if whole else "-"


def describe_group(group: Group) -> dict[str, Any]:
    """What is said of a group wherever one is listed."""
    return {
        "name": group.name,
        "channels": len(group),
        "layers": [node.name for node in group.nodes],
        "members": [{"tensor": m.tensor, "axis": m.axis} for m in group.members],
    }


def print_obstacles(traced: Trace) -> None:
    """Print which operators stood in the way: those without a rule, and those in their wake."""
    from ..rules import find

    if not (traced.groups or traced.blocked):
        click.echo("no layer was found that makes channels with stored weights\n")
    nodes = [traced.graph.nodes[index] for index in traced.walk.facts.blocked]
    missing = Counter(node.kind for node in nodes if find(node) is None)
    stuck = Counter(node.kind for node in nodes if find(node) is not None)
    for title, counts in (
        ("operators without a rule", missing),
        ("operators that met an unknown shape or value", stuck),
    ):
        if counts:
            say(f"{title}: {', '.join(f'{k} {n}' for k, n in sorted(counts.items()))}")
    held = Counter((node.kind, why) for node, why in traced.held())
    for (kind, why), count in sorted(held.items()):
        say(f"{kind} {count} keeps its weights: {why}")
    if nodes or held:
        say()


def obstacles(traced: Trace) -> list[str]:
    """The same, node by node, as JSON."""
    held = (f"{node}: {why}" for node, why in traced.held())
    return [*traced.walk.facts.blocked.values(), *held]


def by_reason(groups: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Rows (groups, channels, reason) in which groups with the same reason share one."""
    merged: dict[str, list[Mapping[str, Any]]] = {}
    for group in groups:
        merged.setdefault(group["reason"], []).append(group)
    return [
        (
            found[0]["name"] + (f" and {len(found) - 1} more" if len(found) > 1 else ""),
            f"{sum(g['channels'] for g in found):,}",
            reason,
        )
        for reason, found in merged.items()
    ]


def verdict(report: Report | None) -> str:
    """Both checks in one line."""
    return "not verified (--no-verify)" if report is None else report.headline


def judge(report: Report | None, kind: str, quiet: bool) -> None:
    """Fail where a result was found to be wrong; tell where that could not be found out."""
    if report is not None and report.failed:
        raise SurgeryError(
            f"the {kind} model is {report.judgement}: {verdict(report)}",
            "Nothing was written. This is a bug in onnxprune; please report it with the model.",
        )
    if report is not None and report.problem:
        note("the result is not verified; give inputs with --data", quiet)


def unchanged(result: Result) -> bool:
    """Whether nothing was removed."""
    return all(group.status != "pruned" for group in result.plan.groups)
