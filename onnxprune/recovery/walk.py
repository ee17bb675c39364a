"""The walk: layer by layer through both models, each fitted on what the fits before it left.

Layers are taken in the order of the slim model's nodes. What a layer reads is computed by the slim
model as it is by then, so a fit sees, and undoes, all errors before it; its target comes from the
original. Samples stream batch by batch. Tensors that are alive between two steps are held where
they fit into the bound; otherwise both models run again from the last ones that did, which costs
little in front, where tensors are large, and is never needed behind, where they are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..coupling.trace import Trace
from ..errors import ModelError
from ..labels.sizes import Sizes
from ..model.file import Model
from ..model.graph import Graph
from ..moments.held import Held
from ..moments.joint import Recover
from ..moments.second import MEMORY, Progress, Sampler, silent
from ..moments.segment import Parts, running
from ..printable import plural
from ..runtime.session import Arrays
from ..scoring.registry import lookup
from ..selection.recovered import LayerOutcome, Recovery, Taking
from .fit import fit
from .front import Front
from .pairs import Found, LayerPair, find_pairs, in_steps, up_to_activation
from .samples import Pile, Samples
from .stores import Unwritable, read_once

ROWS = 30_000
"""Rows that a layer is fitted on; 15,000 to 40,000 gave the same accuracy."""

FEWEST = 10
"""Rows below which a layer keeps its weights."""

AUTO = "auto"

_ODD = "it reads or gives values that are not finite"


@dataclass(frozen=True, slots=True)
class Way:
    """How to recover.

    Attributes
    ----------
    how : str
        ``bias``, ``moments`` or ``lstsq``; ``auto`` is ``lstsq`` with targets that follow the
        activation and variances restored.
    memory : int
        Bytes that rows, and tensors between two steps, may take.
    """

    how: str = AUTO
    memory: int = MEMORY
    seed: int = 0
    provider: str = "cpu"

    @property
    def recover(self) -> Recover:
        """The pass."""
        found: Recover = lookup("recovery", "lstsq" if self.how == AUTO else self.how)
        return found


def recover(
    traced: Trace, sizes: Sizes, slim: Model, data: Held, way: Way, progress: Progress = silent
) -> Recovery:
    """Fit every layer of a slim model whose input surgery changed.

    Parameters
    ----------
    traced : Trace
        Of the original.
    sizes : Sizes
        View of the kept entries.
    slim : Model
        What surgery made of it. Not changed.
    data : Held
        Unlabelled samples.
    progress : callable
        Called with the number of layers done, and of all.

    Returns
    -------
    Recovery
        Weights of the layers that gained on held-out samples, and what became of every layer.
    """
    graph, parts = Graph(slim), Parts(slim)
    found = find_pairs(traced, sizes, graph, parts)
    walk = _Walk(traced, slim, graph, data, way)
    total = len(found.pairs)
    for step, later in _steps(found, parts):
        walk.take(step, later)
        progress(len(walk.outcomes), total)
    skipped = [LayerOutcome(name, reason=why, named=True) for name, why in found.skipped.items()]
    options = {"recover": way.how, "seed": way.seed, "samples": data.samples}
    return Recovery(walk.weights, (*walk.outcomes, *skipped), options)


def _steps(found: Found, parts: Parts) -> Iterator[tuple[list[LayerPair], list[LayerPair]]]:
    """Every step, and the layers from it on."""
    steps = in_steps(found.pairs, parts)
    for number, step in enumerate(steps):
        yield step, [pair for later in steps[number:] for pair in later]


class _Walk:
    """State of a walk: weights so far, and tensors of both models at this place."""

    def __init__(self, traced: Trace, slim: Model, graph: Graph, data: Held, way: Way) -> None:
        self.traced, self.graph, self.data, self.way = traced, graph, data, way
        self.weights: dict[str, np.ndarray] = {}
        self.outcomes: list[LayerOutcome] = []
        share = way.memory // 8  # of each model, what is held and what is held next: half of the bound
        self.before = Front(Parts(traced.model), data, share)
        self.taking = Taking(slim)
        self.after = Front(Parts(self.taking.model), data, share)

    def take(self, step: Sequence[LayerPair], later: Sequence[LayerPair]) -> None:
        """Collect samples of some layers, fit them and let the slim model have their weights."""
        try:
            samples = self._collect(step, later)
        except ModelError as error:  # a part may not run alone: an operator that hands on no tensor
            self.after.forget()
            self.before.forget()
            self.outcomes += [
                LayerOutcome(pair.slim.node.name, reason=error.message, named=True) for pair in step
            ]
            return
        new: dict[str, np.ndarray] = {}
        for pair, found in zip(step, samples, strict=True):
            outcome, weights = self._fit(pair, found)
            self.outcomes.append(outcome)
            new |= weights
        self.weights |= new
        if self.taking.take(new):
            self.after.parts = Parts(self.taking.model)

    def _fit(self, pair: LayerPair, found: Samples | None) -> tuple[LayerOutcome, dict[str, np.ndarray]]:
        name = pair.slim.node.name
        if found is None or len(found) < FEWEST:
            rows = 0 if found is None else len(found)
            return LayerOutcome(
                name, reason=f"found {plural(rows, 'row')}, expected at least {FEWEST}", named=True
            ), {}
        if not np.isfinite(found.target).all() or not np.isfinite(found.rows).all():
            return LayerOutcome(name, reason=_ODD, named=True), {}
        auto = self.way.how == AUTO
        start = up_to_activation(self.graph, pair.slim, pair.after)
        dense = up_to_activation(self.traced.graph, pair.dense, pair.before)
        restore = auto and pair.free and not (pair.bounded or pair.other or pair.leads)
        asked = {"free": pair.free, "aware": auto, "restore": restore}
        new, error, kept, how = fit(self.way.recover, dense, start, found, **asked)
        if new is None:
            return LayerOutcome(name, error, kept, reason="nothing was better on held-out samples"), {}
        try:
            read_once(self.traced.graph, pair.dense.weight)
            return LayerOutcome(name, error, kept, how), pair.store(self.graph, new)
        except Unwritable as problem:
            return LayerOutcome(name, kept, kept, reason=str(problem), named=True), {}

    def _collect(self, step: Sequence[LayerPair], later: Sequence[LayerPair]) -> list[Samples | None]:
        """Rows and targets of some layers, at positions drawn once for both models."""
        reads = {n for pair in step for n in (pair.slim.source, pair.other) if n}
        gives = {pair.target for pair in step}
        ahead = {n for pair in later for n in (pair.slim.source, pair.other) if n}
        goals = {pair.target for pair in later}
        place = min(self.after.parts.makers[pair.slim.output] for pair in step)
        start = self.before.parts.makers[step[0].dense.output]
        after = self.after.parts.frontier(place, ahead)
        before = self.before.parts.frontier(start, goals)
        rows = [_Rows(pair, self.way, self._limit(step, pair), self.traced.graph) for pair in step]
        first = next(self.after.known()), next(self.before.known())
        provider = self.way.provider
        with (
            running(self.after.parts, first[0], sorted(reads | set(after)), provider) as slim,
            running(self.before.parts, first[1], sorted(gives | set(before)), provider) as dense,
        ):
            for mine, theirs in zip(self.after.known(), self.before.known(), strict=True):
                self._add(rows, slim(mine), dense(theirs), after, before)
        self.after.step()
        self.before.step()
        return [part.samples() for part in rows]

    def _add(
        self, rows: Sequence[_Rows], slim: Arrays, dense: Arrays, after: Sequence[str], before: Sequence[str]
    ) -> None:
        """Take what is needed of one batch; all else is let go before the next one is computed."""
        self.after.hold(slim, after)
        self.before.hold(dense, before)
        for part in rows:
            part.add(slim, dense, len(self.data))

    def _limit(self, step: Sequence[LayerPair], pair: LayerPair) -> int:
        """Rows of a layer that fit into its share of the bound."""
        groups, outputs, width = pair.slim.shape(self.graph)
        row = 4 * groups * (width + 3 * outputs)
        return min(ROWS, self.way.memory // 4 // row // len(step))


class _Rows:
    """Rows and targets of one layer, batch by batch."""

    def __init__(self, pair: LayerPair, way: Way, limit: int, graph: Graph) -> None:
        self.pair = pair
        inner = pair.dense.inner
        self.matrix = pair.dense.matrix(graph)[0].astype(np.float32) if inner else np.zeros((0, 0))
        self.sampler = Sampler(way.seed, pair.slim.node.name, limit)
        self.rows, self.targets, self.others = Pile(), Pile(), Pile()
        self.fits = True

    def add(self, slim: Arrays, dense: Arrays, batches: int) -> None:
        """Draw positions of one batch."""
        pair, layer = self.pair, self.pair.slim
        x, goal = slim[layer.source], dense[pair.target]
        count = layer.positions(x)
        width = layer.entries(goal.shape, layer.contracted) if layer.inner else layer.width(goal)
        self.fits = self.fits and goal.size == count * width
        if not self.fits:
            return
        if not len(self.rows):
            self.sampler.expect(count * batches)
        chosen = self.sampler.draw(count)
        target = layer.outputs(goal, chosen) if not layer.inner else self._product(goal, chosen)
        target = target if pair.kept is None else target[:, pair.kept]
        if pair.other:
            other = slim[pair.other]
            self.fits = other.size == count * target.shape[1]
            if not self.fits:
                return
            added = layer.outputs(other, chosen)
            self.others.add(added, batches)
            target = target - added
        self.rows.add(layer.rows(x, chosen), batches)
        self.targets.add(target, batches)

    def _product(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """What the layer of the original makes of what it reads, where no tensor holds it."""
        rows: np.ndarray = self.pair.dense.rows(x, positions)[:, 0] @ self.matrix.T
        return rows

    def samples(self) -> Samples | None:
        """All of them; None where both models do not have the same positions."""
        if not self.fits or not len(self.rows):
            return None
        rows, target = self.rows.whole, self.targets.whole
        shape = len(rows), rows.shape[1], -1
        other = self.others.whole.reshape(shape) if len(self.others) else None
        return Samples(rows, target.reshape(shape), other, self.pair.low, self.pair.high)
