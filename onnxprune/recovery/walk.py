"""The walk: layer by layer through both models, each fitted on what the fits before it left.

Layers are taken in the order of the slim model's nodes. What a layer reads is computed by the slim
model as it is by then, so a fit sees, and undoes, all errors before it; its target comes from the
original. Samples stream batch by batch. Tensors that are alive between two steps are held where
they fit into the bound; otherwise both models run again from the last ones that did, which costs
little in front, where tensors are large, and is never needed behind, where they are small.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from .pairs import LayerPair, find_pairs, in_steps, up_to_activation
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
    for step in walk.steps(in_steps(found.pairs, parts)):
        walk.take(step)
        progress(len(walk.outcomes), total)
    skipped = [LayerOutcome(name, reason=why, named=True) for name, why in found.skipped.items()]
    options = {"recover": way.how, "seed": way.seed, "samples": data.samples}
    return Recovery(walk.weights, (*walk.outcomes, *skipped), options)


@dataclass(frozen=True, eq=False)
class _Step:
    """Layers that are fitted together.

    Attributes
    ----------
    after, before : list of str
        What is known behind the step, of the slim model and of the original, and leads to later ones.
    """

    pairs: Sequence[LayerPair]
    after: Sequence[str]
    before: Sequence[str]


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

    def steps(self, steps: Sequence[Sequence[LayerPair]]) -> list[_Step]:
        """Steps with what is held behind each."""
        slim, dense = self.after.parts, self.before.parts
        places = [min(slim.makers[pair.slim.output] for pair in step) for step in steps]
        starts = [dense.makers[step[0].dense.output] for step in steps]
        after = slim.frontiers(list(zip(places, map(_reads, steps), strict=True)))
        before = dense.frontiers(list(zip(starts, map(_gives, steps), strict=True)))
        return [_Step(*each) for each in zip(steps, after, before, strict=True)]

    def take(self, step: _Step) -> None:
        """Collect samples of some layers, fit them and let the slim model have their weights."""
        try:
            samples = self._collect(step)
        except ModelError as error:  # a part may not run alone: an operator that hands on no tensor
            self.after.forget()
            self.before.forget()
            self.outcomes += [
                LayerOutcome(pair.slim.node.name, reason=error.message, named=True) for pair in step.pairs
            ]
            return
        new: dict[str, np.ndarray] = {}
        for pair, found in zip(step.pairs, samples, strict=True):
            outcome, weights = self._fit(pair, found)
            self.outcomes.append(outcome)
            new |= weights
        self.weights |= new
        self.taking.take(new)

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

    def _collect(self, step: _Step) -> list[Samples | None]:
        """Rows and targets of some layers, at positions drawn once for both models."""
        reads, gives = _reads(step.pairs), _gives(step.pairs)
        share = len(step.pairs)
        rows = [_Rows(pair, self.way, self._limit(pair, share), self.traced.graph) for pair in step.pairs]
        first = next(self.after.known()), next(self.before.known())
        provider = self.way.provider
        with (
            running(self.after.parts, first[0], sorted(reads.union(step.after)), provider) as slim,
            running(self.before.parts, first[1], sorted(gives.union(step.before)), provider) as dense,
        ):
            for mine, theirs in zip(self.after.known(), self.before.known(), strict=True):
                self._add(rows, slim(mine), dense(theirs), step)
        self.after.step()
        self.before.step()
        return [part.samples() for part in rows]

    def _add(self, rows: Sequence[_Rows], slim: Arrays, dense: Arrays, step: _Step) -> None:
        """Take what is needed of one batch; all else is let go before the next one is computed."""
        self.after.hold(slim, step.after)
        self.before.hold(dense, step.before)
        for part in rows:
            part.add(slim, dense, len(self.data))

    def _limit(self, pair: LayerPair, share: int) -> int:
        """Rows of a layer that fit into the bound, which so many layers share."""
        groups, outputs, width = pair.slim.shape(self.graph)
        row = 4 * groups * (width + 3 * outputs)
        return min(ROWS, self.way.memory // 4 // row // share)


def _reads(step: Sequence[LayerPair]) -> set[str]:
    """What some layers read of the slim model."""
    return {name for pair in step for name in (pair.slim.source, pair.other) if name}


def _gives(step: Sequence[LayerPair]) -> set[str]:
    """What some layers should give, of the original."""
    return {pair.target for pair in step}


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
