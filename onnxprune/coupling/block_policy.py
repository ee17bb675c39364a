"""Blocks of channels that keep inner channels of their own (``group_policy`` count and none).

A product ``L[i, j] = rows[i] and columns[j]`` with held rows normally keeps the same ``j`` in every
block ``i``. NetsPresso's group policies *count* and *none* let every block keep its own, equally
many. That is legal where nothing reads one inner channel of all blocks through one shared vector:

- a grouped Conv, whose weight has input channels per block anyway: they are cut block by block;
- computed tensors on which the blocks are an axis of their own, and operators that treat every
  block by itself: entry by entry, moving axes, or products batched over the blocks.

Then the labels ``L`` are units of their own, each in one block. The columns are no channels any
more but places: ``alive`` marks the first ``n`` of them, where ``n`` is what every block keeps, so
that every size follows. Anything else falls back to common inner channels, with a note why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..labels.facts import Product
from ..labels.vector import Ints, Labels, carried, distinct
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait, traits_of
from .incidence import ByUnit, Incidence
from .resolve import Components, resolve


@dataclass(frozen=True, eq=False, slots=True)
class Inner:
    """Inner channels of one or more products: their positions, and the atoms of the factors."""

    positions: frozenset[int]
    rows: Ints
    columns: Ints
    place: str


def separate(walk: Walk, axis: int | None) -> tuple[Components, tuple[str, ...]]:
    """Components in which blocks keep inner channels of their own wherever that is legal.

    Returns
    -------
    Components
    tuple of str
        A note for every place where the blocks share their inner channels after all.
    """
    base = resolve(walk.facts, walk.count, axis)
    found = list(_candidates(walk, base))
    problems = Legality(walk, base, found).problems()
    legal = [inner for inner in found if inner not in problems]
    while legal:
        chosen = frozenset(k for inner in legal for k in inner.positions)
        components = resolve(walk.facts, walk.count, axis, chosen)
        free = Freedom(walk, components)
        tied = [inner for inner in legal if not free(inner)]
        if not tied:
            break
        problems |= dict.fromkeys(tied, "its blocks are coupled in another way, too")
        legal = [inner for inner in legal if inner not in tied]
    else:
        components = base
    notes = {
        f"{inner.place}: every block keeps the same inner channels, because {why}"
        for inner, why in problems.items()
    }
    return components, tuple(sorted(notes))


def _candidates(walk: Walk, base: Components) -> Iterator[Inner]:
    """Products with held rows of which something can go, by their columns."""
    products = walk.facts.products
    classes: dict[int, list[int]] = defaultdict(list)
    for position in sorted(base.inner):
        classes[int(base.atom[products[position].columns].min())].append(position)
    for positions in classes.values():
        first = products[positions[0]]
        if any(u not in base.reason for u in base.unit[first.columns].tolist()):
            rows, columns = base.atom[first.rows], base.atom[first.columns]
            yield Inner(frozenset(positions), rows, columns, str(walk.graph.nodes[first.node]))


class Legality:
    """Why the blocks of some products cannot keep inner channels of their own."""

    def __init__(self, walk: Walk, base: Components, found: Sequence[Inner]) -> None:
        self.walk, self.base, self.found = walk, base, found
        self.owner = np.zeros(int(base.atom.max()) + 1, np.int64)
        for number, inner in enumerate(found, 1):
            self.owner[inner.columns] = number

    def problems(self) -> dict[Inner, str]:
        """The first problem of each that has one."""
        result: dict[Inner, str] = {}
        for find in (self._repeated, self._cut_otherwise, self._pinned, self._counted, self._shared):
            for inner, problem in find():
                result.setdefault(inner, problem)
        return result

    def touched(self, labels: Labels) -> Iterator[Inner]:
        """Inner channels that a label vector carries."""
        owners = self.owner[self.base.atom[labels]]
        if owners.any():
            yield from (self.found[number - 1] for number in distinct(owners[owners > 0]).tolist())

    def _repeated(self) -> Iterator[tuple[Inner, str]]:
        for inner in self.found:
            if any(len(distinct(factor)) < len(factor) for factor in (inner.rows, inner.columns)):
                yield inner, "some of them are the same channel"

    def _cut_otherwise(self) -> Iterator[tuple[Inner, str]]:
        for position, product in enumerate(self.walk.facts.products):
            for vector in (product.rows, product.columns, product.labels):
                for inner in self.touched(vector):
                    if not self._agrees(position, product, inner):
                        yield inner, f"{self.walk.graph.nodes[product.node]} cuts them otherwise"

    def _pinned(self) -> Iterator[tuple[Inner, str]]:
        for pin in self.walk.facts.pins:
            yield from ((inner, "some of them must survive") for inner in self.touched(pin.labels))

    def _counted(self) -> Iterator[tuple[Inner, str]]:
        for node, labels in self.walk.facts.stats:
            yield from ((inner, f"{node} computes statistics along them") for inner in self.touched(labels))

    def _shared(self) -> Iterator[tuple[Inner, str]]:
        for name, axes in self.walk.axes.items():
            for axis, labels in enumerate(axes):
                for inner in self.touched(labels) if labels is not None else ():
                    if problem := self._slot(inner, name, axis):
                        yield inner, problem

    def _agrees(self, position: int, product: Product, inner: Inner) -> bool:
        atom = self.base.atom
        return (
            position in inner.positions
            and np.array_equal(atom[product.rows], inner.rows)
            and np.array_equal(atom[product.columns], inner.columns)
            and not np.isin(atom[product.labels], inner.columns).any()
        )

    def _slot(self, inner: Inner, name: str, axis: int) -> str:
        """Why one axis needs the same inner channels in every block; empty where it does not."""
        walk, atom = self.walk, self.base.atom
        readers = walk.graph.consumers.get(name, [])
        if walk.stored(name):
            rows = walk.facts.ragged.get((name, axis))
            convs = [node for node in readers if node.op != "Shape"]
            cut = rows is not None and np.array_equal(atom[rows], inner.rows) and len(convs) == 1
            return "" if cut and name in walk.graph.constants else f"all blocks share '{name}'"
        blocks = [
            k
            for k, v in enumerate(walk.axes[name])
            if k != axis and carried(v) and np.isin(atom[v], inner.rows).all()
        ]
        if len(blocks) != 1:
            return f"the blocks are no axis of '{name}'"
        for node in filter(None, [walk.graph.producers.get(name), *readers]):
            if not self._block_by_block(node, name, blocks[0], axis):
                return f"{node} does not treat every block by itself"
        return ""

    def _block_by_block(self, node: Node, name: str, block: int, axis: int) -> bool:
        traits = traits_of(node)
        if Trait.BLOCKWISE_WHERE_KEPT in traits:
            return self._leaves(node, self.walk.axes[name][block], self.walk.axes[name][axis])
        batched = node.op != "MatMul" or block < self.walk.rank(name) - 2
        return Trait.BLOCKWISE in traits and batched

    def _leaves(self, node: Node, *vectors: Labels | None) -> bool:
        """Whether all that a node reads and makes of some channels has both axes as they are."""
        atom, axes = self.base.atom, self.walk.axes
        block, inner = (atom[v].tobytes() for v in vectors if v is not None)
        read = 0
        for other in (*node.inputs, *node.outputs):
            found = [atom[v] for v in axes.get(other, ()) if carried(v)]
            if any(np.isin(v, atom[vectors[1]]).any() for v in found):
                if not {block, inner} <= {v.tobytes() for v in found}:
                    return False
                read += other in node.inputs
        return read > 0


class Freedom:
    """Whether the entries of all blocks are units of their own and cover the same slots."""

    def __init__(self, walk: Walk, components: Components) -> None:
        self._components, self._products = components, walk.facts.products
        vectors = [v for axes in walk.axes.values() for v in axes if v is not None]
        self._alike = Incidence(vectors, components.unit).signatures()
        self._independent = ByUnit([p.labels for p in components.independent], components.unit)

    def __call__(self, inner: Inner) -> bool:
        """Whether that is so of the blocks of some inner channels."""
        unit, reason = self._components.unit, self._components.reason
        mine = unit[self._products[min(inner.positions)].labels]
        if len(distinct(mine)) < len(mine) or any(u in reason for u in mine.tolist()):
            return False
        alike = self._alike[mine]
        if (alike != alike[0]).any():
            return False
        blocks = _as_sets(mine, len(inner.rows))
        products = [self._components.independent[k] for k in self._independent.of_all(mine)]
        return all(_as_sets(unit[p.labels], len(p.rows)) == blocks for p in products)


def _as_sets(units: Ints, blocks: int) -> set[frozenset[int]]:
    return {frozenset(block) for block in units.reshape(blocks, -1).tolist()}
