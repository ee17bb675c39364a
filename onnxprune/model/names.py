"""Names that are made up: for views of a tensor, groups, new constants and nodes.

None of them is a name of the file, wherever in it that stands, and none is made twice. Tensors and
nodes are not told apart: two names that differ are never mistaken for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain

import onnx

from .protos import bodies, graphs


def names_of(proto: onnx.ModelProto) -> set[str]:
    """Every name of a model: of tensors and nodes, in nested graphs and in functions."""
    found: set[str] = set()
    for graph in graphs(proto.graph):
        _collect(graph, found)
    for function in proto.functions:
        found.update(function.input, function.output)
        _collect(function, found)
        for node in function.node:
            for _, body in bodies(node):
                for graph in graphs(body):
                    _collect(graph, found)
    found.discard("")
    return found


def _collect(graph: onnx.GraphProto | onnx.FunctionProto, found: set[str]) -> None:
    for node in graph.node:
        found.add(node.name)
        found.update(node.input)
        found.update(node.output)
    found.update(value.name for value in graph.value_info)
    if isinstance(graph, onnx.GraphProto):
        found.update(value.name for value in chain(graph.input, graph.output))
        found.update(tensor.name for tensor in graph.initializer)
        found.update(sparse.values.name for sparse in graph.sparse_initializer)


class Names:
    """New names.

    Parameters
    ----------
    taken : collection of str
        Not changed.
    others : iterable of str
        Further names that are taken.

    Examples
    --------
    >>> names = Names({"conv", "conv#2"})
    >>> names.fresh("conv", "#"), names.fresh("conv", "#"), names.fresh("mask"), names.fresh("mask")
    ('conv#3', 'conv#4', 'mask', 'mask_2')
    """

    def __init__(self, taken: Collection[str], others: Iterable[str] = ()) -> None:
        self._taken = taken
        self._made = set(others)
        self._last: dict[tuple[str, str], int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._made or name in self._taken

    def fresh(self, base: str, mark: str = "_", first: int = 2) -> str:
        """A new name: the base itself where that is free, or else with a mark and a number.

        Parameters
        ----------
        mark : str
            Stands in front of the number.
        first : int
            The first number that is tried.
        """
        name, number = base, self._last.get((base, mark), first - 1)
        while name in self:
            number += 1
            name = f"{base}{mark}{number}"
        self._last[base, mark] = number
        self._made.add(name)
        return name
