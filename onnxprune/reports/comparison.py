"""Two models side by side, and one model with each of its groups pruned alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..checks.sessions import Repeated
from ..errors import UsageError
from ..printable import first_of, plural
from ..selection.cost import Cost
from .page import Part, Table, numbers, share, words

MEASURES = {
    "cosine": "{:.4f}", "relative": "{:.3g}", "agreement": "{:.1%}", "accuracy": "{:.1%}",
    "drop": "{:+.1%}",
}  # fmt: skip
"""What a table of sensitivity can show, and how."""

SHOWN = 5
"""Convolutions that a sentence names."""

ALL = "--json lists all"

BETWEEN = "between operators"
"""What is left of the time of a run."""


@dataclass(frozen=True, slots=True)
class OperatorTimes:
    """Milliseconds of every operator of the optimized graphs, the longest first.

    Attributes
    ----------
    before, after : mapping
    left : tuple of str
        Convolutions that run in the blocked layout in the first model, and not in the second.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    left: tuple[str, ...] = ()

    def rows(self) -> Iterator[tuple[str, float, float]]:
        """(operator, milliseconds before, after), of either model."""
        both = dict.fromkeys((*self.before, *self.after))
        for name in sorted(both, key=lambda name: (name == BETWEEN, -self.before.get(name, 0.0))):
            yield name, self.before.get(name, 0.0), self.after.get(name, 0.0)


@dataclass(frozen=True, slots=True)
class Bench:
    """Both models side by side.

    Attributes
    ----------
    before, after : Cost
    activations : (int, int)
        Most bytes of intermediate tensors that are alive at once, in the order of the graph.
    memory : (int or None, int or None)
        Most bytes of a process that runs the model, and nothing else.
    batch : int
        Samples per run.
    providers : (str, str)
    threads : int
        Of one operator; 0 where onnxruntime chooses.
    cores : int
        Processors that it may choose from.
    operators : OperatorTimes or None
        None where onnxruntime cannot run a model alone.
    """

    latency: Repeated
    before: Cost
    after: Cost
    activations: tuple[int, int]
    memory: tuple[int | None, int | None]
    batch: int
    providers: tuple[str, str]
    threads: int
    cores: int
    operators: OperatorTimes | None = None
    tf32: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "latency": self.latency.to_dict()}

    @property
    def where(self) -> str:
        """What ran how, in words."""
        where = self.providers[0] if len(set(self.providers)) == 1 else " and ".join(self.providers)
        chosen = f"threads as onnxruntime chooses ({plural(self.cores, 'core')})"
        threads = plural(self.threads, "thread") if self.threads else chosen
        runs = f"median of {plural(len(self.latency.runs.before), 'run')} of each, in turns"
        differs = ["no spinning between runs"] if self.threads != 1 else []
        if {"cuda", "tensorrt"} & set(self.providers) and not self.tf32:
            differs.append("TF32 off")
        options = f"default options{', but ' * bool(differs)}{' and '.join(differs)}"
        return f"{where}, {threads}, batch {self.batch}: {runs}; onnxruntime's {options}"


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
    ms : float or None
        Milliseconds that it saves, as predicted, where the model was timed.
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
    ms: float | None = None

    @property
    def price(self) -> float:
        """Relative L2 per millisecond saved."""
        return self.relative / self.ms if self.ms else float("inf")


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
        runs = found.latency.runs
        times = (f"{median:.3f}" for median in runs.medians)
        spread = (" to ".join(f"{t:.3f}" for t in times) for times in runs.percentiles(10, 90))
        sessions = " to ".join(f"{left:.1%}" for left in found.latency.spread)
        rows = [
            ("latency (ms)", *times, f"{found.latency.share:.1%}"),
            ("10 % to 90 % of the runs", *spread, ""),
            (f"{plural(len(found.latency.pairs), 'pair')} of sessions", "", "", sessions),
        ]
        rows += [(title, f"{a:,}", f"{b:,}", share(b, a)) for title, a, b in self._counts()]
        yield Table((*words(""), *numbers("dense", "slim", "left")), tuple(rows))
        if found.operators is not None:
            yield self._operators(found.operators)
            if left := found.operators.left:
                yield f"convolutions that left the blocked layout: {first_of(left, SHOWN)}"
        yield found.where

    def _counts(self) -> Iterator[tuple[str, int, int]]:
        """(title, before, after) of what is counted."""
        found = self.found
        yield "parameters", found.before.parameters, found.after.parameters
        yield "MACs", found.before.macs, found.after.macs
        yield "file size (bytes)", found.before.bytes, found.after.bytes
        yield "activations (bytes)", *found.activations
        dense, slim = found.memory
        if dense is not None and slim is not None:
            yield "memory of a process (bytes)", dense, slim

    def _operators(self, found: OperatorTimes) -> Table:
        rows = tuple((name, f"{a:.3f}", f"{b:.3f}", share(b, a)) for name, a, b in found.rows())
        return Table((*words("operator, as it runs"), *numbers("dense (ms)", "slim (ms)", "left")), rows, ALL)


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
        for s in self._ordered():
            cells = rows.setdefault(s.group, [f"{s.channels:,}"])
            cells.append(MEASURES[measure].format(getattr(s, measure)))
            if s.ms is not None:
                cells.append(f"{s.ms:.3f}")
        timed = self.found[0].ms is not None
        ratios = dict.fromkeys(s.ratio for s in self.found)
        titles = (title for ratio in ratios for title in (f"-{ratio:.0%}", *["ms"] * timed))
        yield Table(
            (*words("group"), *numbers("channels", *titles)),
            tuple((name, *cells) for name, cells in rows.items()),
        )
        yield f"{measure} when one group alone loses that share of its channels"
        if timed:
            yield "milliseconds that this saves; the groups that lose least per millisecond come first"

    def _ordered(self) -> list[Sensitivity]:
        """As they were measured; where the model was timed, the cheapest groups per millisecond first."""
        found = list(self.found)
        if any(s.ms is None for s in found):
            return found
        price = {s.group: s.price for s in found}  # at the last ratio
        return sorted(found, key=lambda s: price[s.group])
