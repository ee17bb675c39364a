"""Which stored tensors shrink, and how: what the plan records and the rewriter carries out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np

from ..labels.sizes import Sizes
from ..model.cut import Cut, take
from ..model.graph import Graph
from ..model.names import Names


class Slice(NamedTuple):
    """One version of a constant in the slim model.

    Attributes
    ----------
    root : str
        Name in the input file: an initializer, the output of a Constant node, or a tensor that is
        computed from constants alone.
    name : str
        Name in the slim model; differs from ``root`` where uses of a shared vector want different
        slices, for all versions but the first.
    shape : tuple of int
        Original shape.
    cut : tuple
        Kept indices per axis, None where all are kept; of shape (blocks, kept) where every block
        of the first axis keeps its own.
    uses : tuple of (int, int)
        (node, input position) that read this version.
    """

    root: str
    name: str
    shape: tuple[int, ...]
    cut: Cut
    uses: tuple[tuple[int, int], ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is removed."""
        return all(index is None for index in self.cut)

    def take(self, array: np.ndarray) -> np.ndarray:
        """The kept part of a value."""
        return take(array, self.cut)


def find_slices(graph: Graph, sizes: Sizes) -> list[Slice]:
    """Every constant of which a version differs from what the file holds."""
    stored = list(_stored(graph, sizes))
    return stored + list(_computed(graph, sizes, {s.root for s in stored}))


def uses_of(graph: Graph) -> dict[str, list[tuple[int, int, str]]]:
    """Who reads each stored tensor: (node, input position, name there), -1 for a graph that returns it."""
    uses: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for name in sorted(graph.returned & graph.constants.keys()):
        uses[name].append((-1, 0, name))  # comes first, so that the name stays
    for node in graph.nodes:
        if graph.passed_through(node):
            continue  # its readers read the constant itself
        for slot, name in enumerate(node.inputs):
            constant = graph.constants.get(name)
            if constant is not None:
                uses[constant.name].append((node.index, slot, name))
    return uses


def _stored(graph: Graph, sizes: Sizes) -> Iterator[Slice]:
    names = Names(graph.taken)
    for root, found in uses_of(graph).items():
        if any(sizes.cut(name) for _, _, name in found):
            yield from _versions(graph, sizes, root, found, names)


def _versions(
    graph: Graph, sizes: Sizes, root: str, uses: list[tuple[int, int, str]], names: Names
) -> Iterator[Slice]:
    """Uses that want the same slice share one version; the first version keeps the name."""
    versions: dict[Hashable, tuple[Cut, list[tuple[int, int]]]] = {}
    shape = graph.constants[uses[0][2]].shape
    for index, slot, name in uses:
        cut = sizes.indices(name) or (None,) * len(shape)
        key = sizes.version(name) if len(uses) > 1 else None
        readers = versions.setdefault(key, (cut, []))[1]
        if index >= 0:
            readers.append((index, slot))
    for number, (cut, readers) in enumerate(versions.values()):
        name = names.fresh(root, "_version", first=1) if number else root
        yield Slice(root, name, shape, cut, tuple(readers))


def _computed(graph: Graph, sizes: Sizes, changed: set[str]) -> Iterator[Slice]:
    """Computed constants that shrink, or that read something that does."""
    changed = set(changed)
    read = {name for node in graph.nodes for name in node.inputs if node.output not in graph.folded}
    read |= graph.returned
    for node in graph.nodes:
        if not node.outputs or node.output not in graph.derived:
            continue
        sources = [graph.constants[n].name if n in graph.constants else n for n in node.inputs]
        stale = any(name in changed for name in sources)
        if stale:
            changed.update(node.outputs)
        if node.output not in graph.folded:
            continue
        for name in node.outputs:
            cut = sizes.indices(name)
            if any(i is not None for i in cut) or (stale and name in read):
                shape = sizes.original(name)
                yield Slice(name, name, shape, cut or (None,) * len(shape))
