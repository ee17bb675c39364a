"""Lossless clean-up: remove what provably contributes nothing, and prove that nothing changed."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from .cost import Cost, cost
from .edits import edit
from .errors import UsageError, unknown_name
from .loading import load
from .lossless import KINDS, Dead, Ranges, find_dead
from .made_up import synthetic_inputs
from .model import Model, tensor_nbytes
from .pipeline import Result
from .plan import Plan, PlanGroup, make_plan
from .printable import page
from .protos import bodies, node_protos
from .rewrite import rewrite_trace
from .samples import graph_inputs
from .trace import Trace, trace, without_statistics

if TYPE_CHECKING:
    from .model import ModelLike
    from .runtime import Arrays


@dataclass(frozen=True, slots=True)
class Row:
    """One stored tensor that changed: its bytes before and after."""

    tensor: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Log:
    """What a clean-up did.

    Attributes
    ----------
    rows : tuple of Row
        Every stored tensor that changed, was added or went.
    looked_at : int
        Channels that could go, coupled ones counted once.
    blocked : int
        Channels that cannot go whatever they hold.
    removed : mapping
        Kind (``zero``, ``constant``, ``unused``, ``duplicate``, ``assumed``) -> channels.
    stays : mapping
        (group, reason) -> constant channels that stay for that reason.
    assumed : mapping
        Graph input -> range that was assumed.
    kinds : mapping
        Unit of the analysed model that went -> kind.
    """

    rows: tuple[Row, ...]
    looked_at: int
    blocked: int
    removed: Mapping[str, int]
    stays: Mapping[tuple[str, str], int]
    assumed: Ranges
    before: Cost
    after: Cost
    kinds: Mapping[int, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "constants": [{"tensor": r.tensor, "before": r.before, "after": r.after} for r in self.rows],
            "looked_at": self.looked_at,
            "blocked": self.blocked,
            "removed": dict(self.removed),
            "stays": [{"group": g, "reason": why, "channels": n} for (g, why), n in self.stays.items()],
            "assumed": {name: list(limits) for name, limits in self.assumed.items()},
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }

    def __str__(self) -> str:
        lines = [self.headline]
        lines += self.assumptions
        if self.rows:
            width = max(len(row.tensor) for row in self.rows)
            lines.append(f"{'constant':{width}}  {'before':>12}  {'after':>12}  {'bytes':>12}")
            lines += [
                f"{r.tensor:{width}}  {r.before:12,}  {r.after:12,}  {r.after - r.before:+12,}"
                for r in self.rows
            ]
            for name, before in self.before.to_dict().items():
                after = self.after.to_dict()[name]
                share = f" ({(after - before) / before:+.1%})" if before else ""
                lines.append(f"{name}: {before:,} -> {after:,}{share}")
        lines += self.reasons
        return page(lines)

    @property
    def assumptions(self) -> list[str]:
        """What was assumed, one line each."""
        return [
            f"assumed: '{name}' lies in [{low:g}, {high:g}]" for name, (low, high) in self.assumed.items()
        ]

    @property
    def reasons(self) -> list[str]:
        """Why constant channels stay, one line each."""
        return [
            f"{group}: {count} constant channel{'s stay' if count > 1 else ' stays'}, because {why}"
            for (group, why), count in self.stays.items()
        ]

    @property
    def headline(self) -> str:
        """How many channels went, of how many, and why."""
        total = sum(self.removed.values())
        if not total:
            return f"nothing to remove: none of {self.looked_at} channels is zero, constant, unused or a duplicate"
        parts = ", ".join(f"{count} {kind}" for kind, count in self.removed.items())
        return f"removed {total} of {self.looked_at} channels: {parts}"


def clean(
    source: ModelLike,
    *,
    assume_range: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    duplicates: bool = True,
    verify: bool = False,
    on_failure: str = "raise",
    data: str | os.PathLike[str] | Arrays | None = None,
    profile: Any = None,
    provider: str = "auto",
    seed: int = 0,
) -> Result:
    """Remove every channel that provably contributes nothing. No answer changes.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    assume_range : (low, high) or mapping of input name to (low, high), optional
        Values that inputs are assumed to have (``"*"`` in a mapping: all others). Channels that are zero for every such input go,
        too; the log names the assumption.
    duplicates : bool
        Whether of equal channels one goes, its weights added to those of the other.
    verify : bool
        Compare with the original, to rounding, on ``data`` or synthetic inputs (inside the assumed
        range).
    on_failure : {"raise", "return"}
        Raise :class:`SurgeryError` where the result differs, or return it with a report that says so.
    data, profile, provider, seed
        See :func:`onnxprune.verify`.

    Notes
    -----
    Numbers inside the network are taken to be finite: a weight of zero hides a channel, also where
    the channel would overflow to infinity.
    """
    from .verify import check_on_failure, require
    from .verify import verify as compare

    check_on_failure(on_failure)
    model = load(source)
    traced = trace(model, norm="pin")
    ranges = find_ranges(traced, assume_range)
    dead = find_dead(traced, ranges, duplicates=duplicates)
    result = _carry_out(traced, dead, ranges, duplicates)
    if not verify:
        return result
    if data is None and ranges:
        data = inputs_within(traced, ranges, seed)
    report = compare(
        model,
        result.model,
        plan=result.plan,
        data=data,
        profile=profile,
        provider=provider,
        seed=seed,
        traced=traced,
    )
    require(report, "clean", on_failure)
    return replace(result, report=report)


def first_pass(traced: Trace) -> Result | None:
    """The clean-up that pruning begins with; None where nothing can go."""
    traced = without_statistics(traced)
    dead = find_dead(traced)
    return _carry_out(traced, dead, {}, duplicates=True) if dead.kinds else None


def _carry_out(traced: Trace, dead: Dead, ranges: Ranges, duplicates: bool) -> Result:
    """Remove what is dead, after what stays has taken over its work."""
    plan = lossless_plan(traced, dead, ranges, duplicates)
    removed = plan.removed(traced)
    edited = compensated(traced, dead, removed)
    slim = rewrite_trace(edited, plan.removed(edited)) if len(removed) else traced.model
    before = cost(traced, traced.sizes(), traced.model)
    after = cost(edited, edited.sizes(plan.removed(edited)), slim)
    log = make_log(traced, slim, dead, ranges, before, after)
    return Result(slim, plan, None, traced, lambda: (before, after), log)


def find_ranges(
    traced: Trace, given: tuple[float, float] | Mapping[str, tuple[float, float]] | None
) -> dict[str, tuple[float, float]]:
    """Range of each input that is assumed to have one.

    Raises
    ------
    UsageError
        If an input is unknown, or a range is empty.
    """
    if given is None:
        return {}
    names = [value.name for value in graph_inputs(traced.model.proto)]
    ranges = dict(given) if isinstance(given, Mapping) else {"*": given}
    if "*" in ranges:
        ranges = dict.fromkeys(names, ranges.pop("*")) | ranges
    for name, (low, high) in ranges.items():
        if name not in names:
            raise unknown_name("input", name, names)
        if not low <= high:
            raise UsageError(f"input '{name}': found the range [{low:g}, {high:g}], expected LOW <= HIGH")
    return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}


def inputs_within(traced: Trace, ranges: Ranges, seed: int) -> Arrays:
    """Random inputs, evenly spread over the ranges that are assumed."""
    rng = np.random.default_rng(seed)
    feeds = dict(synthetic_inputs(traced.graph, traced.shapes.first.sizes, seed))
    for name, (low, high) in ranges.items():
        feeds[name] = rng.uniform(low, high, feeds[name].shape).astype(feeds[name].dtype)
    return feeds


def lossless_plan(traced: Trace, dead: Dead, ranges: Ranges, duplicates: bool) -> Plan:
    """The plan that removes what is dead."""
    decided = []
    for group in traced:
        keep = [k for k, u in enumerate(group.units.tolist()) if u not in dead.kinds]
        decided.append(
            PlanGroup.of(group, keep, (), "" if len(keep) < len(group) else "every channel contributes")
        )
    options = {
        **traced.options, "lossless": True, "duplicates": duplicates,
        "assume_range": {name: list(limits) for name, limits in ranges.items()},
    }  # fmt: skip
    return make_plan(traced, decided, options)


def compensated(traced: Trace, dead: Dead, removed: npt.NDArray[np.int64]) -> Trace:
    """Analysis of the model in which what stays does the work of what goes."""
    edited = edit(traced, dead, removed)
    return traced if edited is traced.model else trace(edited, **traced.options)  # type: ignore[arg-type]


def replay(traced: Trace, plan: Plan) -> Trace:
    """Analysis of a model that is made ready for a lossless plan of its own or of its likes."""
    ranges = {name: (low, high) for name, (low, high) in plan.options["assume_range"].items()}
    dead = find_dead(traced, ranges, duplicates=plan.options["duplicates"])
    return compensated(traced, dead, plan.removed(traced))


def make_log(traced: Trace, slim: Model, dead: Dead, ranges: Ranges, before: Cost, after: Cost) -> Log:
    """Account for every stored tensor."""
    counts = Counter(dead.kinds.values())
    return Log(
        tuple(changed(traced.model, slim)),
        traced.units,
        sum(map(len, traced.blocked)),
        {kind: counts[kind] for kind in KINDS if counts[kind]},
        dead.stays,
        ranges,
        before,
        after,
        dead.kinds,
    )


def changed(model: Model, slim: Model) -> list[Row]:
    """Stored tensors that differ in size or content between two models."""
    if slim is model:
        return []
    old, new = _payloads(model), _payloads(slim)
    rows = []
    for name in dict.fromkeys([*old, *new]):
        one, two = old.get(name), new.get(name)
        if one != two:
            rows.append(Row(name, one[0] if one else 0, two[0] if two else 0))
    return rows


def _payloads(model: Model) -> dict[str, tuple[int, bytes]]:
    """Bytes of each stored tensor, and what tells equal sizes apart."""
    found = {t.name: t for t in model.proto.graph.initializer}
    for node in node_protos(model.proto.graph):
        for _, body in bodies(node):
            found.update((t.name, t) for t in body.initializer)
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
    return {name: (tensor_nbytes(t, model.cuts.get(name)), _content(t)) for name, t in found.items()}


def _content(tensor: TensorProto) -> bytes:
    payload = TensorProto()
    payload.CopyFrom(tensor)
    payload.name = payload.doc_string = ""
    return hashlib.sha256(payload.SerializeToString(deterministic=True)).digest()
