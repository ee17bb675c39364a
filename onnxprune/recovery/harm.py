"""How much a change of a network hurts, as one number that is comparable between changes.

Where an output is class scores it is the Kullback-Leibler divergence of the softmax, in nats per
sample: what the decisions of the network depend on. Where a Sigmoid makes an output, every entry is a
probability of its own: there it is the divergence of these, over that of their mean over the samples.
Other outputs give the mean squared difference over the variance of the original's, which is the same of
normal distributions; what is no number gives the share that differs, and whole numbers, which may be
classes or counts, the smaller of both. Several outputs give their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..checks.compare import class_scores
from ..data.batches import Batch
from ..errors import ModelError
from ..labels.vector import Floats
from ..model.file import Model
from ..model.graph import Graph
from ..model.operators import Trait, traits_of
from ..moments.segment import Lent, Parts, running
from ..printable import plural
from ..runtime.session import Arrays, open_session, owned, run
from ..selection.recovered import Lending, Recovery
from .front import Front

HIGH = 0.1
"""Harm above which a result is called into question. Of networks that were measured at 0.04 to 0.06, best
classes changed for a tenth of the samples; at 0.1 of other outputs, the difference is 10 dB below them."""

TINY = 1e-12
"""Least probability of anything."""

ROUNDED = 1e-12
"""Share of a sum of squares below which a difference of two is rounding."""

HarmTotals = dict[str, tuple[float, float]]


@dataclass(eq=False, slots=True)
class Spread:
    """How far samples of one output are from their mean, batch by batch.

    The sum of a divergence from the mean is that of its convex function, less as often that of the
    mean (Bregman 1967; Banerjee et al., JMLR 2005).

    Attributes
    ----------
    level : float
        Sum of the convex function over all entries.
    count, size : int
        Samples, and entries of all.
    whole : float array or None
        Sum of the samples; None where they are of several shapes.
    """

    level: float = 0.0
    count: int = 0
    size: int = 0
    whole: Floats | None = None

    def add(self, rows: Floats, level: Level) -> None:
        """Add samples, which lie along the first axis."""
        total = rows.sum(axis=0)
        if not self.count:
            self.whole = total
        elif self.whole is not None:
            self.whole = self.whole + total if self.whole.shape == total.shape else None
        self.level += level(rows)
        self.count, self.size = self.count + len(rows), self.size + rows.size

    def total(self, level: Level, nothing: float) -> float:
        """Divergence from the mean; of a single sample, or samples that are alike, from knowing nothing."""
        apart = 0.0
        if self.whole is not None and self.count > 1:
            apart = self.level - self.count * level(self.whole / self.count)
        if apart > ROUNDED * abs(self.level):
            return apart
        return self.level - self.size * level(np.array(nothing))


@dataclass(eq=False)
class Harm:
    """Sums over samples, for one changed network.

    Attributes
    ----------
    probable : set
        Outputs whose entries are probabilities.
    sums : dict
        Output -> sum of its harm, and what it is divided by, where that is known at once.
    shares : dict
        Output that holds no floats -> number of entries that differ, and of all.
    spreads : dict
        Output -> what the sum of its harm is divided by in the end.
    """

    probable: AbstractSet[str] = frozenset()
    sums: HarmTotals = field(default_factory=dict)
    shares: HarmTotals = field(default_factory=dict)
    spreads: dict[str, Spread] = field(default_factory=dict)

    def add(self, before: Arrays, after: Arrays, samples: int) -> None:
        """Add the outputs of one batch."""
        for name, reference in before.items():
            found = after.get(name)
            if found is None or found.shape != reference.shape:
                continue
            if reference.dtype.kind not in "fV":
                self._count(name, float((found != reference).sum()), reference.size, self.shares)
                if reference.dtype.kind not in "iu":
                    continue
            old, new = class_scores(reference, samples), class_scores(found, samples)
            if old is not None and new is not None and name not in self.probable:
                self._count(name, float(divergence(old, new).sum()), samples, self.sums)
                continue
            a, b = reference.astype(np.float64), found.astype(np.float64)
            self._count(name, _apart(a, b) if name in self.probable else _power(b - a), 0, self.sums)
            rows = a if a.ndim and len(a) == samples else a[None]
            self.spreads.setdefault(name, Spread()).add(rows, self._level(name))

    def _level(self, name: str) -> Level:
        return _certainty if name in self.probable else _power

    def _count(self, name: str, harm: float, by: float, sums: HarmTotals) -> None:
        old = sums.get(name, (0.0, 0.0))
        sums[name] = old[0] + float(np.maximum(harm, 0.0)), old[1] + by  # rounding makes less than nothing

    def _known(self, name: str) -> Iterator[tuple[float, float]]:
        """Sums of one output, and what they are divided by."""
        if name in self.shares:
            yield self.shares[name]
        if name in self.sums:
            harm, by = self.sums[name]
            nothing = 0.5 if name in self.probable else 0.0
            spread = self.spreads.get(name)
            yield harm, by if spread is None else spread.total(self._level(name), nothing)

    @property
    def value(self) -> float:
        """The harm, of every output the smaller of what is known; infinite where it is not finite."""
        ratios = [
            [harm / by for harm, by in self._known(name) if by > 0] for name in {**self.sums, **self.shares}
        ]
        found = [min(known) for known in ratios if known]
        mean = float(np.mean(found)) if found else 0.0
        return mean if np.isfinite(mean) else np.inf


def doubts(harm: float, samples: int, larger: str = "a larger budget") -> str:
    """What to say of a harm that is too high, with what would help; empty where it is not."""
    if harm <= HIGH:
        return ""
    if np.isinf(harm):
        return "outputs on held-out samples are not finite: nothing says what pruning does to them"
    return (
        f"harm {harm:.2g} is above {HIGH:g}, too much to ship unseen: "
        f"{larger}, more than {plural(samples, 'sample')}, or training afterwards would help"
    )


def divergence(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """KL divergence per row, of logits or of rows that are probabilities already."""
    p, q = _log_probabilities(before), _log_probabilities(after)
    return np.asarray((np.exp(p) * (p - q)).sum(axis=1))


def _apart(before: Floats, after: Floats) -> float:
    """KL divergence of probabilities that are independent of each other, over all of them."""
    q = np.clip(after, TINY, 1 - TINY)
    return _certainty(before) - float((before * np.log(q) + (1 - before) * np.log1p(-q)).sum())


def _certainty(values: Floats) -> float:
    """Negative entropy of such probabilities."""
    p = np.clip(values, TINY, 1 - TINY)
    return float((p * np.log(p) + (1 - p) * np.log1p(-p)).sum())


def _power(values: Floats) -> float:
    return float(np.square(values).sum())


Level = Callable[[Floats], float]
"""Sum over entries of a convex function."""


def _log_probabilities(scores: np.ndarray) -> np.ndarray:
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(scores, TINY)))
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def probabilities(model: Model, outputs: Iterable[str]) -> set[str]:
    """Outputs of which every entry was made by a Sigmoid."""
    graph = Graph(model)
    return {name for name in outputs if _probability(graph, name)}


def _probability(graph: Graph, name: str) -> bool:
    maker = graph.producers.get(name)
    while maker is not None and Trait.COPIES in traits_of(maker):
        maker = graph.producers.get(maker.inputs[0])
    return maker is not None and maker.kind == "Sigmoid"


class OriginalOutputs:
    """Outputs of the original on some batches, to measure changed networks by.

    Parameters
    ----------
    model : Model
    batches : iterable of Batch
        Held in memory, with the outputs.
    memory : int
        Bytes that tensors inside the model may take, besides.
    """

    def __init__(
        self, model: Model, batches: Iterable[Batch], provider: str = "cpu", memory: int = 0
    ) -> None:
        self.provider = provider
        self.batches = list(batches)
        with open_session(model, provider, "the original") as session:
            runs = (run(session, batch.feeds, "the original") for batch in self.batches)
            self.outputs = [owned(found, found) for found in runs]
        self._probable = probabilities(model, self.outputs[0])
        self._front, self._place = Front(Parts(model), self.batches, memory // 2), 0

    def of(self, model: Model) -> float:
        """Harm of a changed network."""
        with open_session(model, self.provider, "the slim model") as session:
            return self._harm(run(session, batch.feeds, "the slim model") for batch in self.batches)

    def of_weights(self, changed: Recovery) -> float:
        """Harm of other weights in the original, of which only what is behind them runs.

        Fastest where weights are taken in the order in which the model reads them.
        """
        names = {part for name in changed.weights for part in (name, name.partition("#")[0])}
        place = self._front.parts.reader(names)
        with self._lending.lent(changed.weights) as lent:
            harm = self._behind(place, lent)
        return self.of(changed.apply(self._front.parts.model)) if harm is None else harm

    @cached_property
    def _lending(self) -> Lending:
        return Lending(self._front.parts.model)

    def _behind(self, place: int, lent: Lent) -> float | None:
        """Harm of other weights behind a node; None where what is there does not run alone."""
        front = self._front
        if place < self._place:
            return None
        try:
            if place > self._place:
                self._go_to(place)
            with running(front.parts, next(front.known()), self._names, self.provider, lent) as tail:
                return self._harm(map(tail, front.known()))
        except ModelError:  # a part may not run alone: an operator that hands on no tensor
            front.forget()
            self._place = 0
            return None

    @property
    def _names(self) -> list[str]:
        return list(self.outputs[0])

    def _go_to(self, place: int) -> None:
        """Hold what the original computes before a node, where that fits into the bound."""
        front = self._front
        names = front.parts.frontier(place, self._names)
        with running(front.parts, next(front.known()), names, self.provider) as step:
            fits = all(front.hold(step(known), names) for known in front.known())
        front.step()
        self._place = place if fits else self._place

    def _harm(self, outputs: Iterator[Arrays]) -> float:
        found = Harm(self._probable)
        for batch, before in zip(self.batches, self.outputs, strict=True):
            found.add(before, next(outputs), batch.size)  # no outputs are alive while the next are computed
        return found.value
