"""A layer of the original and its slim form, with what the fit of the second should reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..coupling.trace import Trace
from ..errors import ModelError
from ..labels.sizes import Index, Sizes
from ..labels.vector import Floats
from ..model.graph import Graph
from ..moments.joint import Weights
from ..moments.linear import Linear, linear_of, made
from ..moments.segment import Parts
from .affine import Affine, affine_after
from .scales import Scales
from .stores import Unwritable, write_back

FLAT = 1e-12
"""Factor below which a channel is taken to be constant."""


@dataclass(frozen=True, eq=False)
class LayerPair:
    """A layer in both models.

    Attributes
    ----------
    dense, slim : Linear
    before, after : Affine
        What follows the layer in the original, and in the slim model.
    target : str
        Tensor of the original that the layer should reproduce on its kept outputs; for a product that
        stays inside its node, what the original multiplies.
    other : str
        Tensor of the slim model that is added before that; ``""`` where nothing is.
    kept : int array or None
        Outputs of the original that the slim layer has, None for all.
    low, high : float
        Where the activation behind it is cut off: -inf and inf where it is not.
    leads : bool
        Whether the layer's result is an output of the model.
    """

    dense: Linear
    slim: Linear
    before: Affine
    after: Affine
    target: str
    other: str
    kept: Index
    low: float
    high: float
    leads: bool

    @property
    def bounded(self) -> bool:
        """Whether an activation cuts its result off."""
        return self.low > -np.inf or self.high < np.inf

    def store(self, graph: Graph, new: Weights) -> dict[str, np.ndarray]:
        """Constants that hold new weights.

        Raises
        ------
        Unwritable
            If the file has no place of its own for them.
        """
        matrix = self.slim.matrix(graph)
        factor = self.after.factor.reshape(matrix.shape[:2])[:, :, None]
        live = np.abs(factor) > FLAT
        inner = np.where(live, new.matrix / np.where(live, factor, 1), matrix)
        gap = new.offset - self.after.shift.reshape(new.offset.shape)
        return put(graph, self.slim, self.after, inner, gap)

    @property
    def free(self) -> bool:
        """Whether the offset can change."""
        return bool(self.after.holders)


@dataclass(frozen=True, eq=False)
class Found:
    """Layers of a slim model that can be recovered, in the order of its nodes, and the others.

    Attributes
    ----------
    skipped : dict
        Layer -> why it keeps its weights.
    """

    pairs: list[LayerPair]
    skipped: dict[str, str] = field(default_factory=dict)


def put(graph: Graph, layer: Linear, after: Affine, matrix: Floats, gap: Floats) -> dict[str, np.ndarray]:
    """Constants with which a layer has another matrix, and gives more by ``gap`` at its end.

    Raises
    ------
    Unwritable
        If the file has no place of its own for the matrix. An offset that has none stays.
    """
    shape = np.shape(graph.value(layer.weight))
    name, stored = write_back(graph, layer.weight, layer.layout.weight(matrix, shape))
    found = {name: stored}
    for holder in after.holders:
        by = holder.factor.reshape(gap.shape)
        usable = np.abs(by) > FLAT
        moved = np.where(usable, gap / np.where(usable, by, 1), 0).reshape(-1)
        old = np.asarray(graph.value(holder.name)).astype(np.float64)
        try:
            name, vector = write_back(graph, holder.name, old + moved.reshape(old.shape))
        except Unwritable:
            continue
        return {**found, name: vector}
    return found


def up_to_activation(graph: Graph, layer: Linear, after: Affine) -> Weights:
    """A layer as it stands, with what follows it up to its activation."""
    matrix = layer.matrix(graph)
    factor = after.factor.reshape(matrix.shape[:2])
    return Weights(matrix * factor[:, :, None], after.shift.reshape(matrix.shape[:2]))


def find_pairs(traced: Trace, sizes: Sizes, slim: Graph, parts: Parts) -> Found:
    """Every linear layer whose input surgery changed, and every scale of statistics that it changed."""
    dense = {made(node): node for node in traced.graph.main.nodes}
    changed = _changed(sizes, parts)
    weighing = {kernel.node.index for kernel in traced.walk.facts.kernels}
    scales, found = Scales(traced, sizes), Found([])
    for node in sorted(slim.main.nodes, key=lambda n: parts.makers.get(made(n), -1)):
        twin = dense.get(made(node)) if made(node) else None
        if twin is None or twin.op != node.op:
            continue
        try:
            one = linear_of(traced.graph, twin) or scales.of(twin, traced.graph, twin)
            two = linear_of(slim, node) or scales.of(twin, slim, node)
        except ModelError as error:
            found.skipped[node.name] = error.message
            continue
        if one is None or two is None or one.source != two.source:
            if twin.index in weighing and changed.intersection(node.inputs):
                found.skipped[node.name] = f"{node.kind} has no weight in matrix form"
            continue
        if two.source not in changed:
            continue  # it reads what it always read
        make = _inner if one.inner else _pair
        pair = make(traced, sizes, slim, parts, one, two)
        try:
            write_back(slim, two.weight, np.asarray(slim.value(two.weight)))
        except Unwritable as error:
            found.skipped[node.name] = str(error)
        else:
            found.pairs.append(pair)
    return found


def _changed(sizes: Sizes, parts: Parts) -> set[str]:
    """Tensors that lost entries, and all that depend on them."""
    found: set[str] = set()
    for read, node in zip(parts.reads, parts.proto.graph.node, strict=True):
        if found.intersection(read) or any(sizes.cut(name) for name in node.output if name):
            found.update(filter(None, node.output))
    return found


def _pair(traced: Trace, sizes: Sizes, slim: Graph, parts: Parts, one: Linear, two: Linear) -> LayerPair:
    before, after = affine_after(traced.graph, one), affine_after(slim, two)
    if before.end != after.end:  # the rewriter put a node between
        before, after = Affine(one.output, before.factor, before.shift), _own_part(slim, two)
    kept = _kept(sizes, one)
    end, other = after.end, _added(slim, after.end)
    target = end
    if other and _known(parts, other, two.output) and _added(traced.graph, end) == other:
        target = slim.consumers[end][0].output
    else:
        other = ""
    low, high = _bounds(slim, target)
    return LayerPair(one, two, before, after, target, other, kept, low, high, target in slim.returned)


def _kept(sizes: Sizes, layer: Linear) -> Index:
    """Outputs of a layer of the original that are left, those of one block after those of another."""
    shape = sizes.original(layer.output)
    rank = len(shape)
    axes = [*range(rank - 2 - len(layer.blocks), rank - 2)] if layer.blocks else []
    axes.append(layer.channels % max(1, rank))
    found = [sizes.index(layer.output, axis) for axis in axes]
    if all(index is None for index in found):
        return None
    index = [np.arange(shape[k]) if i is None else i for k, i in zip(axes, found, strict=True)]
    return np.ravel_multi_index(np.ix_(*index), [shape[k] for k in axes]).reshape(-1)


def _inner(traced: Trace, sizes: Sizes, slim: Graph, parts: Parts, one: Linear, two: Linear) -> LayerPair:
    """A product that stays inside its node, and has no offset."""
    kept = sizes.index(one.weight, 1)
    if kept is not None:
        directions, rows, _ = sizes.original(one.weight)
        kept = (rows * np.arange(directions)[:, None] + kept).reshape(-1)
    before, after = affine_after(traced.graph, one), affine_after(slim, two)
    return LayerPair(one, two, before, after, one.source, "", kept, -np.inf, np.inf, False)


def _own_part(graph: Graph, layer: Linear) -> Affine:
    """The layer alone, with its own bias."""
    whole = affine_after(graph, layer)
    own = Affine(layer.output, np.ones_like(whole.factor), np.zeros_like(whole.shift))
    if layer.bias:
        value = np.asarray(graph.value(layer.bias)).astype(np.float64)
        if value.size == len(own.shift):
            own.add(layer.bias, value.reshape(-1), layer.beta)
    return own


def _added(graph: Graph, name: str) -> str:
    """What a tensor is added to by the only node that reads it."""
    readers = graph.consumers.get(name, [])
    if len(readers) != 1 or readers[0].kind != "Add" or name in graph.returned:
        return ""
    one, two = readers[0].inputs
    other = two if one == name else one
    stored = graph.has_value(other)
    return "" if stored or other == name else other


def _known(parts: Parts, name: str, before: str) -> bool:
    """Whether a tensor is made before another one, in the order of the nodes."""
    return parts.makers.get(name, -1) < parts.makers[before]


def _bounds(graph: Graph, name: str) -> tuple[float, float]:
    """Where the activation that alone reads a tensor is cut off."""
    readers = graph.consumers.get(name, [])
    if len(readers) != 1 or name in graph.returned:
        return -np.inf, np.inf
    (node,) = readers
    if node.kind == "Relu":
        return 0.0, np.inf
    if node.kind != "Clip":
        return -np.inf, np.inf
    _, low, high = node.take(3)
    ends = node.attr("min", -np.inf), node.attr("max", np.inf)
    found = [_number(graph, n, end) for n, end in zip((low, high), ends, strict=True)]
    return (-np.inf, np.inf) if None in found else (found[0], found[1])  # type: ignore[return-value]


def _number(graph: Graph, name: str, absent: float) -> float | None:
    if not name:
        return float(absent)
    return float(np.asarray(graph.value(name)).item()) if graph.is_constant(name) else None


def in_steps(pairs: Sequence[LayerPair], parts: Parts) -> list[list[LayerPair]]:
    """Neighbours that do not depend on each other: what they read can be collected together."""
    steps: list[list[LayerPair]] = []
    for pair in pairs:
        mine = {parts.makers[p.slim.output] for p in (steps[-1] if steps else ())}
        read = filter(None, [pair.slim.source, pair.other])
        if steps and mine.isdisjoint(parts.needed((), read, min(mine))):
            steps[-1].append(pair)
        else:
            steps.append([pair])
    return steps
