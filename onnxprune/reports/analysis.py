"""What an analysis found: groups, costs, and what stood in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..coupling.groups import Group
from ..coupling.trace import NO_LAYER, Trace
from ..printable import first_of, plural
from ..rules import find
from ..selection.cost import Cost, cost, mac_terms, parameter_terms
from ..selection.meter import hanging
from ..shapes.dimensions import graph_inputs
from .page import Part, Table, numbers, share, words

if TYPE_CHECKING:
    from ..moments.consumers import Readers
    from ..timing.achieved import Achieved
    from ..timing.model import LatencyModel


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group that can go, and what would vanish with all of its channels."""

    group: Group
    parameters: int
    macs: int
    readers: Readers
    ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, with who reads its channels."""
        found = {**describe_group(self.group), "parameters": self.parameters, "macs": self.macs}
        timed = {} if self.ms is None else {"ms": self.ms}
        return {**found, **timed, **self.readers.to_dict()}


@dataclass(frozen=True, slots=True)
class Inspection:
    """The groups of a model, see :class:`onnxprune.reports.page.Reported`.

    Attributes
    ----------
    path : str
        Where the model was read from.
    latency : LatencyModel or None
        How long it takes, where that was asked for.
    """

    traced: Trace
    path: str
    cost: Cost
    groups: tuple[GroupRow, ...]
    latency: LatencyModel | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Where a setting could not be followed; what a profile could not tell."""
        return (*self.traced.notes, *(self.latency.notes if self.latency is not None else ()))

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        traced, model = self.traced, self.traced.model
        return {
            "model": {"path": self.path, "nodes": len(model.proto.graph.node), "opset": model.opset},
            "options": dict(traced.options),
            "cost": self.cost.to_dict(),
            "channels": traced.units,
            "groups": [row.to_dict() for row in self.groups],
            "blocked": [{**describe_group(g), "reason": g.reason} for g in traced.blocked],
            "obstacles": obstacles(traced),
            "notes": list(self.notes),
            **self._timed(),
        }

    def _timed(self) -> dict[str, Any]:
        if self.latency is None:
            return {}
        return {"latency": {"ms": self.latency.us / 1e3, "machine": dict(self.latency.machine)}}

    def page(self) -> Iterator[Part]:
        """What can go, what cannot, and what stood in the way."""
        traced, whole = self.traced, self.cost
        yield f"{plural(traced.units, 'channel')} in {plural(len(traced), 'group')} can go"
        yield (
            f"of {plural(whole.parameters, 'parameter')}, {whole.macs:,} {macs_title(traced)}, {plural(whole.bytes, 'byte')}"
        )
        if self.latency is not None:
            yield self.latency.where
        yield ""
        if self.groups:
            yield self.table()
            yield self.reading()
        if traced.blocked:
            blocked = by_reason((g.name, len(g), g.reason) for g in traced.blocked)
            yield Table((*words("blocked"), *numbers("channels"), *words("why")), blocked)
        yield from obstacle_lines(traced)

    def table(self) -> Table:
        """One row per group that can go."""
        rows = tuple(
            (
                row.group.name,
                f"{len(row.group):,}",
                str(len(row.group.nodes)),
                share(row.parameters, self.cost.parameters),
                share(row.macs, self.cost.macs),
                *([] if row.ms is None else [f"{row.ms:.3f}"]),
            )
            for row in self.groups
        )
        timed = ["ms"] * (self.latency is not None)
        titles = numbers("channels", "layers", "parameters", "MACs", *timed)
        return Table((*words("group"), *titles), rows)

    def reading(self) -> Table:
        """Who reads the channels of every group that can go: on which axis, and from which entry on."""
        rows = tuple(
            (one.node.name, row.group.name, str(one.axis), str(one.offset), f"{one.taken:,}")
            for row in self.groups
            for one in row.readers.consumers
        )
        titles = *words("read by", "channels of"), *numbers("axis", "offset", "a channel takes")
        return Table(titles, rows, "--json names all of them")


def inspected(traced: Trace, path: str, latency: LatencyModel | None = None) -> Inspection:
    """Count what hangs on every group of a model that was read from a path; milliseconds, too, if timed."""
    from ..moments.consumers import Reading

    costs = {"parameters": parameter_terms(traced), "macs": mac_terms(traced)}
    reading = Reading(traced)
    groups = [
        GroupRow(g, s["parameters"], s["macs"], reading.of(g))
        for g, s in zip(traced, hanging(traced, costs), strict=True)
    ]
    if latency is not None:
        times = milliseconds(traced, latency)
        groups = [replace(row, ms=times[row.group.name]) for row in groups]
    return Inspection(traced, path, cost(traced, traced.sizes(), traced.model), tuple(groups), latency)


def milliseconds(traced: Trace, latency: LatencyModel) -> dict[str, float]:
    """What would vanish of the latency with all channels of each group, as predicted."""
    from ..timing.model import PER_MS

    saved = hanging(traced, {"latency": latency.terms(traced)})
    return {group.name: s["latency"] / PER_MS for group, s in zip(traced, saved, strict=True)}


def costs(before: Cost, after: Cost, traced: Trace, achieved: Achieved | None = None) -> Table:
    """Parameters, multiply-accumulates and file size of two models; latency, too, where it was a budget."""
    pairs = (
        ("parameters", before.parameters, after.parameters),
        (macs_title(traced), before.macs, after.macs),
        ("file size (bytes)", before.bytes, after.bytes),
    )
    rows = [(title, f"{old:,}", f"{new:,}", share(new, old)) for title, old, new in pairs]
    if achieved is not None:
        times = f"{achieved.before:.3f}", f"{achieved.after:.3f}"
        rows.append(("latency (ms)", *times, share(achieved.after, achieved.before)))
    return Table((*words(""), *numbers("before", "after", "left")), tuple(rows))


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


def by_reason(groups: Iterable[tuple[str, int, str]]) -> tuple[tuple[str, str, str], ...]:
    """Rows (groups, channels, reason) in which groups (name, channels, reason) with one reason share one."""
    merged: dict[str, list[tuple[str, int]]] = {}
    for name, channels, reason in groups:
        merged.setdefault(reason, []).append((name, channels))
    return tuple(
        (first_of([name for name, _ in found]), f"{sum(channels for _, channels in found):,}", reason)
        for reason, found in merged.items()
    )


def obstacle_lines(traced: Trace) -> Iterator[str]:
    """Which operators stood in the way: those without a rule, and those in their wake."""
    if not (traced.groups or traced.blocked):
        yield NO_LAYER
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
