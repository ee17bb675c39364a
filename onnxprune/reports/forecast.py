"""What a budget is expected to do, group by group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..printable import plural
from ..recovery.forecast import Forecast
from .page import Part, Table, numbers, words


@dataclass(frozen=True, eq=False, slots=True)
class Expected:
    """What ``sensitivity`` says of a budget, see :class:`onnxprune.reports.page.Reported`."""

    model: str
    found: Forecast

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        found = self.found
        groups = [
            {**asdict(one), "kept": found.left(one), "expected": found.harm.get(one.group, 0.0)}
            for one in found.probes
        ]
        return {
            "model": self.model,
            "budget": found.budget,
            "groups": groups,
            "harm": found.total,
            "macs": {"before": found.macs[0], "after": found.macs[1]},
            "samples": found.samples,
            "enough": found.enough,
            "latency": found.latency,
        }

    def page(self) -> Iterator[Part]:
        """One row per group: what half of it does, what the budget leaves, and what that should do."""
        found = self.found
        if not found.probes:
            yield "nothing can go: 'onnxprune inspect' says why"
            return
        rows = []
        for one in found.probes:
            harm = found.harm.get(one.group, 0.0)
            cells = f"{one.channels:,}", f"{one.harm:.3g}", f"{found.left(one):,}", f"{harm:.3g}"
            rows.append((one.group, *cells))
        yield Table((*words("group"), *numbers("channels", "harm of half", "kept", "expected")), tuple(rows))
        asked = ", ".join(f"{name.replace('_', '-')} {share:g}" for name, share in found.budget.items())
        left = found.macs[1] / found.macs[0] if found.macs[0] else 1.0
        seen = plural(found.samples, "sample")
        time = "" if found.latency is None else f", {found.latency:.1%} of the latency as predicted"
        yield f"{asked} ({left:.1%} of the MACs{time}): expected harm {found.total:.3g}, from {seen}"
