"""What a clean-up did to every stored tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx import TensorProto

from ..coupling.trace import Trace
from ..model.cut import tensor_nbytes
from ..model.file import Model
from ..model.protos import bodies, copied, node_protos
from ..printable import page, plural
from ..selection.cost import Cost, cost
from .dead import KINDS, Dead, Ranges


@dataclass(frozen=True, slots=True)
class ChangedTensor:
    """One stored tensor that changed: its bytes before and after."""

    tensor: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Log:
    """What a clean-up did.

    Attributes
    ----------
    rows : tuple of ChangedTensor
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
    before, after : Cost
        Of both models.
    kinds : mapping
        Unit of the analysed model that went -> kind.
    spared : int
        Channels that could go, too, but for the numbers that would be left.
    kept_for_size : str
        Why nothing went although it could: what takes over its work is larger than what goes.
    """

    rows: tuple[ChangedTensor, ...]
    looked_at: int
    blocked: int
    removed: Mapping[str, int]
    stays: Mapping[tuple[str, str], int]
    assumed: Ranges
    before: Cost
    after: Cost
    kinds: Mapping[int, str] = field(default_factory=dict)
    spared: int = 0
    kept_for_size: str = ""

    def costs(self) -> tuple[Cost, Cost]:
        """What both models cost."""
        return self.before, self.after

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "constants": [{"tensor": r.tensor, "before": r.before, "after": r.after} for r in self.rows],
            "looked_at": self.looked_at,
            "blocked": self.blocked,
            "removed": dict(self.removed),
            "stays": [{"group": g, "reason": why, "channels": n} for (g, why), n in self.stays.items()],
            "assumed": {name: list(limits) for name, limits in self.assumed.items()},
            "spared": self.spared,
            "kept_for_size": self.kept_for_size,
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
        """Why channels stay that contribute nothing, one line each."""
        found = [
            f"{group}: {count} constant channel{'s stay' if count > 1 else ' stays'}, because {why}"
            for (group, why), count in self.stays.items()
        ]
        if self.spared:
            stay = f"{self.spared} channel{'s stay' if self.spared > 1 else ' stays'}"
            found.append(f"{stay} that could go, since fewer would be slower: --granularity 1 removes all")
        return found

    @property
    def headline(self) -> str:
        """How many channels went, of how many, and why."""
        total = sum(self.removed.values())
        if self.kept_for_size:
            return f"nothing was removed, because {self.kept_for_size}"
        if self.spared and not total:
            return "nothing was removed"
        if not total:
            return f"nothing to remove: none of {plural(self.looked_at, 'channel')} is zero, constant, unused or a duplicate"
        parts = ", ".join(f"{count} {kind}" for kind, count in self.removed.items())
        return f"removed {total} of {plural(self.looked_at, 'channel')}: {parts}"


def make_log(traced: Trace, slim: Model, dead: Dead, ranges: Ranges, after: Cost) -> Log:
    """Account for every stored tensor; ``after`` is what the slim model costs."""
    counts = Counter(dead.kinds.values())
    return Log(
        rows=tuple(changed(traced.model, slim)),
        looked_at=traced.units,
        blocked=sum(map(len, traced.blocked)),
        removed={kind: counts[kind] for kind in KINDS if counts[kind]},
        stays=dead.stays,
        assumed=ranges,
        before=after if slim is traced.model else cost(traced, traced.sizes(), traced.model),
        after=after,
        kinds=dead.kinds,
        spared=dead.spared,
    )


def changed(model: Model, slim: Model) -> list[ChangedTensor]:
    """Stored tensors that differ in size or content between two models."""
    if slim is model:
        return []
    old, new = _stored(model), _stored(slim)
    rows = []
    for name in dict.fromkeys([*old, *new]):
        one, two = old.get(name), new.get(name)
        before, after = (
            tensor_nbytes(t, m.cuts.get(name)) if t is not None else 0 for t, m in ((one, model), (two, slim))
        )
        if before != after or one is None or two is None or not _same(one, two):
            rows.append(ChangedTensor(name, before, after))
    return rows


def _stored(model: Model) -> dict[str, TensorProto]:
    """Stored tensors by name, those of Constant nodes included."""
    found = {t.name: t for t in model.proto.graph.initializer}
    for node in node_protos(model.proto.graph):
        for _, body in bodies(node):
            found.update((t.name, t) for t in body.initializer)
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
    return found


def _same(one: TensorProto, two: TensorProto) -> bool:
    """Whether two tensors hold the same; what a NaN hides is found in their bytes."""
    return bool(one == two) or _content(one) == _content(two)


def _content(tensor: TensorProto) -> bytes:
    payload = copied(tensor)
    payload.name = payload.doc_string = ""
    return bytes(payload.SerializeToString(deterministic=True))
