"""Two models side by side, and one model with each of its groups pruned alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..checks.latency import Latency
from ..errors import UsageError
from ..selection.cost import Cost
from .page import Part, Table, numbers, plural, share, words

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


@dataclass(frozen=True, slots=True)
class SideBySide:
    """What ``bench`` measured of the models at two paths, see :class:`onnxprune.reports.page.Reported`."""

    dense: str
    slim: str
    found: Bench

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        return {"dense": self.dense, "slim": self.slim, **self.found.to_dict()}

    def page(self) -> Iterator[Part]:
        """Latency and sizes of two models."""
        found = self.found
        before, after = found.latency.medians
        pairs = (
            ("parameters", found.before.parameters, found.after.parameters),
            ("MACs", found.before.macs, found.after.macs),
            ("file size (bytes)", found.before.bytes, found.after.bytes),
            ("activations (bytes)", *found.activations),
        )
        rows = [("latency (ms)", f"{before:.3f}", f"{after:.3f}", share(after, before))]
        rows += [(title, f"{a:,}", f"{b:,}", share(b, a)) for title, a, b in pairs]
        yield Table((*words(""), *numbers("dense", "slim", "left")), tuple(rows))
        where = found.providers[0] if len(set(found.providers)) == 1 else " and ".join(found.providers)
        yield f"{where}, batch {found.batch}, median of {plural(len(found.latency.before), 'run')}"


@dataclass(frozen=True, slots=True)
class EachAlone:
    """What ``sensitivity`` measured of the model at a path, see :class:`onnxprune.reports.page.Reported`.

    Attributes
    ----------
    measure : str or None
        What the table shows; by default accuracy, where that is known everywhere, else cosine.
    """

    model: str
    found: Sequence[Sensitivity]
    measure: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        return {"model": self.model, "groups": [asdict(s) for s in self.found]}

    def page(self) -> Iterator[Part]:
        """One row per group, one column per ratio.

        Raises
        ------
        UsageError
            If that was not measured.
        """
        if not self.found:
            yield "nothing can go: 'onnxprune inspect' says why"
            return
        labelled = all(s.accuracy is not None for s in self.found)
        measure = self.measure or ("accuracy" if labelled else "cosine")
        if getattr(self.found[0], measure) is None:
            raise UsageError(
                f"there is no {measure} to show",
                "Accuracy takes labels, agreement an output of class scores.",
            )
        rows: dict[str, list[str]] = {}
        for s in self.found:
            cells = rows.setdefault(s.group, [f"{s.channels:,}"])
            cells.append(MEASURES[measure].format(getattr(s, measure)))
        ratios = dict.fromkeys(s.ratio for s in self.found)
        titles = numbers("channels", *(f"-{ratio:.0%}" for ratio in ratios))
        yield Table((*words("group"), *titles), tuple((name, *cells) for name, cells in rows.items()))
        yield f"{measure} when one group alone loses that share of its channels"
