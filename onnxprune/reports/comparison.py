"""Two models side by side, and one model with each of its groups pruned alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..checks.latency import Latency
from ..errors import UsageError
from ..selection.cost import Cost
from .page import Part, Table, plural, share

MEASURES = {
    "cosine": "{:.4f}", "relative": "{:.3g}", "agreement": "{:.1%}", "accuracy": "{:.1%}",
    "drop": "{:+.1%}",
}  # fmt: skip
"""What a table of sensitivity can show, and how."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Both models side by side.

    Attributes
    ----------
    before, after : Cost
    activations : (int, int)
        Most bytes of intermediate tensors that are alive at once, in the order of the graph.
    batch : int
        Samples per run.
    providers : (str, str)
    """

    latency: Latency
    before: Cost
    after: Cost
    activations: tuple[int, int]
    batch: int
    providers: tuple[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        found = asdict(self)
        found["latency"] = {
            "before": self.latency.medians[0],
            "after": self.latency.medians[1],
            "ratio": self.latency.ratio,
            "runs": len(self.latency.before),
        }
        return found


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What pruning one group at one ratio does to the outputs.

    Attributes
    ----------
    cosine : float
        Of the output that suffers most, mean over the samples.
    relative : float
        Relative L2 of the output that suffers most.
    agreement : float or None
        Share of samples with the same best class.
    accuracy, drop : float or None
        Where there are labels.
    """

    group: str
    ratio: float
    channels: int
    kept: int
    cosine: float
    relative: float
    agreement: float | None = None
    accuracy: float | None = None
    drop: float | None = None


def side_by_side(found: Bench) -> Iterator[Part]:
    """Latency and sizes of two models."""
    before, after = found.latency.medians
    pairs = (
        ("parameters", found.before.parameters, found.after.parameters),
        ("MACs", found.before.macs, found.after.macs),
        ("file size (bytes)", found.before.bytes, found.after.bytes),
        ("activations (bytes)", *found.activations),
    )
    rows = [("latency (ms)", f"{before:.3f}", f"{after:.3f}", share(after, before))]
    rows += [(title, f"{a:,}", f"{b:,}", share(b, a)) for title, a, b in pairs]
    yield Table(("", ">dense", ">slim", ">left"), tuple(rows))
    where = found.providers[0] if len(set(found.providers)) == 1 else " and ".join(found.providers)
    yield f"{where}, batch {found.batch}, median of {plural(len(found.latency.before), 'run')}"


def each_alone(found: Sequence[Sensitivity], measure: str | None) -> Iterator[Part]:
    """One row per group, one column per ratio.

    Raises
    ------
    UsageError
        If that was not measured.
    """
    if not found:
        yield "nothing can go: 'onnxprune inspect' says why"
        return
    labelled = all(s.accuracy is not None for s in found)
    measure = measure or ("accuracy" if labelled else "cosine")
    if getattr(found[0], measure) is None:
        raise UsageError(
            f"there is no {measure} to show", "Accuracy takes labels, agreement an output of class scores."
        )
    ratios = list(dict.fromkeys(s.ratio for s in found))
    rows: dict[str, list[str]] = {}
    for s in found:
        rows.setdefault(s.group, [f"{s.channels:,}"]).append(MEASURES[measure].format(getattr(s, measure)))
    titles = ("group", ">channels", *(f">-{ratio:.0%}" for ratio in ratios))
    yield Table(titles, tuple((name, *cells) for name, cells in rows.items()))
    yield f"{measure} when one group alone loses that share of its channels"
