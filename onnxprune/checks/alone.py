"""Models taken apart: with inner tensors as outputs, and with every node on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import onnx

from ..model.engine import InferenceSession
from ..model.file import Model
from ..model.names import Names, names_of
from ..model.protos import bodies, copied, node_protos, reads, skeleton
from ..runtime.session import Arrays, open_session, run


@contextmanager
def exposed(model: Model, names: Sequence[str], provider: str) -> Iterator[InferenceSession]:
    """Session of a model that returns inner tensors."""
    copy = copied(model.proto)
    _set_outputs(copy, names, {name for node in copy.graph.node for name in node.output})
    with open_session(model.derived(copy), provider, optimize="none", in_turns=True) as session:
        yield session


@contextmanager
def nodes_alone(
    model: Model,
    names: Sequence[str],
    given: Arrays,
    provider: str,
    edit: Callable[[Model], Model] = lambda model: model,
) -> Iterator[Callable[[Arrays], Arrays]]:
    """Run the nodes of a model, each on given tensors instead of on each other's.

    Parameters
    ----------
    names : sequence of str
        Tensors that are asked for.
    given : mapping
        Types and sizes of the tensors that nodes read; the function that is yielded takes tensors of
        the same names.
    edit : callable, optional
        What becomes of the model of these nodes.
    """
    separate = _Separate(model.proto, given)
    alone = edit(model.derived(separate.model(names)))
    with open_session(alone, provider, optimize="none", in_turns=True) as session:
        yield lambda tensors: run(session, {separate.alias[name]: tensors[name] for name in separate.fed})


class _Separate:
    """The nodes of a model, which read what they are given.

    Nodes that the rewriter inserted have inputs of their own, which are not given: they stay
    chained to the node that they mend. A node of whose inputs nothing is known is left out.

    Attributes
    ----------
    alias : dict
        Given tensor -> what it is called as an input of the model.
    fed : set of str
        Those of them that some node reads.
    """

    def __init__(self, model: onnx.ModelProto, given: Arrays) -> None:
        self._source, self._given = model, given
        self._stored = {t.name for t in model.graph.initializer}
        self._stored |= {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
        fresh = Names(names_of(model), given)
        self.alias = {name: fresh.fresh(f"{name}::given") for name in given}
        self.fed: set[str] = set()
        self._made = set(self._stored)
        self._nodes: list[onnx.NodeProto] = []
        for node in model.graph.node:
            self._add(node)

    def _add(self, node: onnx.NodeProto) -> None:
        """Take a node over, if all that it reads is given, stored or made."""
        copy = copied(node)
        inside = [child for _, body in bodies(copy) for child in node_protos(body)]
        own = {name for _, body in bodies(copy) for name in _names_inside(body)}
        readers = [copy, *inside]
        read = {name for reader in readers for name in reader.input} - own - {""}
        if any(name not in self._made and name not in self._given for name in read):
            return
        for reader in readers:
            for slot, name in enumerate(reader.input):
                if name in self._given and name not in self._stored:
                    reader.input[slot] = self.alias[name]
                    self.fed.add(name)
        self._nodes.append(copy)
        self._made.update(node.output)

    def model(self, names: Sequence[str]) -> onnx.ModelProto:
        """Model of what makes some tensors, which returns those of them that are made."""
        nodes, read = list[onnx.NodeProto](), set(names)
        for node in reversed(self._nodes):
            if not read.isdisjoint(node.output):
                nodes.append(node)
                read.update(reads(node))
        result = skeleton(self._source)
        graph = result.graph
        del graph.node[:], graph.input[:], graph.value_info[:]
        graph.node.extend(reversed(nodes))
        graph.initializer.extend(t for t in self._source.graph.initializer if t.name in read)
        listed = read & self._stored
        graph.input.extend(value for value in self._source.graph.input if value.name in listed)
        graph.input.extend(self._input(name) for name in sorted(self.fed) if self.alias[name] in read)
        _set_outputs(result, names, self._made)
        return result

    def _input(self, name: str) -> onnx.ValueInfoProto:
        array = self._given[name]
        # A branch that is not taken may contradict sizes; a list of sizes has to have its length.
        shape = [None] * array.ndim if array.ndim > 1 else array.shape
        dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnx.helper.make_tensor_value_info(self.alias[name], dtype, shape)


def _set_outputs(model: onnx.ModelProto, names: Sequence[str], made: set[str]) -> None:
    """Return some tensors, those that are made."""
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n in made)


def _names_inside(graph: onnx.GraphProto) -> set[str]:
    """Names that a nested graph and those inside it define."""
    names = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    for node in graph.node:
        names.update(node.output)
        for _, body in bodies(node):
            names |= _names_inside(body)
    return names
