"""What an analysis found: groups, costs, and what stood in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..rules import find
from ..selection.cost import Cost
from ..shapes.dimensions import graph_inputs
from .page import Part, Table, plural, share


def inspection(traced: Trace, document: Mapping[str, Any]) -> Iterator[Part]:
    """The groups of a model; ``document`` says the same as JSON types."""
    cost = document["cost"]
    yield f"{plural(traced.units, 'channel')} in {plural(len(traced), 'group')} can go"
    yield (
        f"of {cost['parameters']:,} parameters, {cost['macs']:,} {macs_title(traced)}, {cost['bytes']:,} bytes"
    )
    yield ""
    rows = tuple(
        (
            group["name"],
            f"{group['channels']:,}",
            str(len(group["layers"])),
            share(group["parameters"], cost["parameters"]),
            share(group["macs"], cost["macs"]),
        )
        for group in document["groups"]
    )
    if rows:
        yield Table(("group", ">channels", ">layers", ">parameters", ">MACs"), rows)
    if document["blocked"]:
        yield Table(("blocked", ">channels", "why"), by_reason(document["blocked"]))
    yield from obstacle_lines(traced)


def costs(before: Cost, after: Cost, traced: Trace) -> Table:
    """Parameters, multiply-accumulates and file size of two models."""
    pairs = (
        ("parameters", before.parameters, after.parameters),
        (macs_title(traced), before.macs, after.macs),
        ("file size (bytes)", before.bytes, after.bytes),
    )
    rows = tuple((title, f"{old:,}", f"{new:,}", share(new, old)) for title, old, new in pairs)
    return Table(("", ">before", ">after", ">left"), rows)


def macs_title(traced: Trace) -> str:
    """Name of the MACs in a table, with the sizes that free dimensions were given."""
    sizes = traced.shapes.shown.sizes
    if not sizes:
        return "MACs"
    dims = {v.name: v.type.tensor_type.shape.dim for v in graph_inputs(traced.model.proto)}
    given = {dims[n][k].dim_param or f"{n}[{k}]": size for (n, k), size in sizes.items()}
    return f"MACs ({', '.join(f'{name}={size}' for name, size in given.items())})"


def describe_group(group: Group) -> dict[str, Any]:
    """What is said of a group wherever one is listed, as JSON types."""
    return {
        "name": group.name,
        "channels": len(group),
        "layers": [node.name for node in group.nodes],
        "members": [{"tensor": m.tensor, "axis": m.axis} for m in group.members],
    }


def by_reason(groups: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str, str], ...]:
    """Rows (groups, channels, reason) in which groups with the same reason share one."""
    merged: dict[str, list[Mapping[str, Any]]] = {}
    for group in groups:
        merged.setdefault(group["reason"], []).append(group)
    return tuple(
        (
            found[0]["name"] + (f" and {len(found) - 1} more" if len(found) > 1 else ""),
            f"{sum(g['channels'] for g in found):,}",
            reason,
        )
        for reason, found in merged.items()
    )


def obstacle_lines(traced: Trace) -> Iterator[str]:
    """Which operators stood in the way: those without a rule, and those in their wake."""
    if not (traced.groups or traced.blocked):
        yield "no layer was found that makes channels with stored weights"
        yield ""
    nodes = [traced.graph.nodes[index] for index in traced.walk.facts.blocked]
    missing = Counter(node.kind for node in nodes if find(node) is None)
    stuck = Counter(node.kind for node in nodes if find(node) is not None)
    for title, counts in (
        ("operators without a rule", missing),
        ("operators that met an unknown shape or value", stuck),
    ):
        if counts:
            yield f"{title}: {', '.join(f'{k} {n}' for k, n in sorted(counts.items()))}"
    held = Counter((node.kind, why) for node, why in traced.held())
    for (kind, why), count in sorted(held.items()):
        yield f"{kind} {count} keeps its weights: {why}"
    if nodes or held:
        yield ""


def obstacles(traced: Trace) -> list[str]:
    """The same, node by node, as JSON types."""
    held = (f"{node}: {why}" for node, why in traced.held())
    return [*traced.walk.facts.blocked.values(), *held]
