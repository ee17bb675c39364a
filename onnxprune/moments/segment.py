"""Part of a model as a model of its own: from tensors that are known to tensors that are wanted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from heapq import heappop, heappush

import numpy as np
import onnx

from ..model.file import Model
from ..model.protos import UNLISTED, bodies, reads
from ..runtime.session import Arrays, open_session, run

Step = Callable[[Arrays], dict[str, np.ndarray]]
"""From known tensors of one batch to wanted ones."""

Lent = Mapping[str, onnx.TensorProto]
NOTHING: Lent = {}


class Parts:
    """A model from which segments are cut.

    Parameters
    ----------
    model : Model
        Not changed; segments hold its weights as they are when they are cut. From one cut to the next
        weights may change, and nodes may read other stored tensors, which are put behind those that were
        there; nothing else may.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.proto = model.proto
        nodes = list(self.proto.graph.node)
        self.reads = [tuple(reads(node)) for node in nodes]
        self.makers = {name: k for k, node in enumerate(nodes) for name in node.output if name}
        self.inputs = {value.name: value for value in self.proto.graph.input}
        self.outputs = {value.name for value in self.proto.graph.output}
        self._stored = {t.name: k for k, t in enumerate(self.proto.graph.initializer)}
        stored = self._stored.keys() | {s.values.name for s in self.proto.graph.sparse_initializer}
        self.constant = self._constant(nodes, stored)
        self.fed = [name for name in self.inputs if name not in stored]

    def _constant(self, nodes: Sequence[onnx.NodeProto], stored: set[str]) -> set[str]:
        """Names that depend on no input."""
        known = set(stored)
        for node, read in zip(nodes, self.reads, strict=True):
            if all(name in known for name in read):
                known.update(node.output)
        return known

    def needed(self, known: Iterable[str], wanted: Iterable[str], start: int = 0) -> list[int]:
        """Positions of the nodes that lead from known tensors to wanted ones, from one on."""
        pending, found, held = list(wanted), set(), set(known)
        while pending:
            name = pending.pop()
            k = self.makers.get(name, -1)
            if name in held or k < start or k in found:
                continue  # nodes stand behind all that they read
            found.add(k)
            pending += self.reads[k]
        return sorted(found)

    def frontier(self, position: int, wanted: Iterable[str]) -> list[str]:
        """Tensors that are known before a node, and lead from there to wanted ones or are wanted."""
        (found,) = self.frontiers([(position, wanted)])
        return found

    def frontiers(self, steps: Sequence[tuple[int, Iterable[str]]]) -> list[list[str]]:
        """The frontier of every step, of which each leads to what is wanted by it and by later ones.

        Parameters
        ----------
        steps : sequence of (int, iterable of str)
            Position of a node, and what is wanted. One that stands behind that of a later step is taken
            for that one.
        """
        found: list[list[str]] = []
        alive, done, place = set[str](), set[int](), len(self.reads)
        made: list[tuple[int, str]] = []  # what is alive; what the last node makes is the first
        for position, wanted in reversed(steps):
            place, pending = min(place, position), list(wanted)
            while True:
                for name in set(pending) - alive - self.constant:
                    if name in self.makers or name in self.inputs:
                        alive.add(name)
                        heappush(made, (-self.makers.get(name, -1), name))
                if not made or -made[0][0] < place:
                    break
                last, name = heappop(made)
                alive.discard(name)
                pending = [] if last in done else list(self.reads[-last])
                done.add(last)
            found.append(sorted(alive))
        return found[::-1]

    @cached_property
    def _readers(self) -> dict[str, list[int]]:
        found = defaultdict(list)
        for k, read in enumerate(self.reads):
            for name in read:
                found[name].append(k)
        return dict(found)

    def reader(self, stored: Iterable[str]) -> int:
        """Position of the first node that computes anything with some stored tensors."""
        first, met, pending = len(self.reads), set[str](), list(stored)
        while pending:
            name = pending.pop()
            readers = () if name in met else self._readers.get(name, ())
            met.add(name)
            for k in readers:
                made = self.proto.graph.node[k].output
                if self.constant.issuperset(made):
                    pending += made
                else:
                    first = min(first, k)
        return first

    def cut(self, known: Arrays, wanted: Sequence[str], lent: Lent = NOTHING) -> onnx.ModelProto:
        """The nodes from known tensors, which give types and ranks, to wanted ones, as a model.

        Parameters
        ----------
        lent : mapping
            Tensors that are taken in place of stored ones of their names, or beside them.
        """
        graph, stored = self.proto.graph, self._places()
        chosen = self.needed(known, wanted)
        part = onnx.ModelProto(ir_version=max(self.proto.ir_version, UNLISTED))
        part.opset_import.extend(self.proto.opset_import)
        part.graph.name = "part"
        part.graph.node.extend(graph.node[k] for k in chosen)
        read = {name for k in chosen for name in reads(graph.node[k])} | set(wanted)
        places = sorted(stored[name] for name in read & stored.keys())
        part.graph.initializer.extend(lent.get(t.name, t) for t in (graph.initializer[k] for k in places))
        beside = [name for name in lent if name in read and name not in stored]
        part.graph.initializer.extend(lent[name] for name in beside)
        part.graph.sparse_initializer.extend(s for s in graph.sparse_initializer if s.values.name in read)
        ranked = any(True for node in part.graph.node for _ in bodies(node))
        for name in sorted(name for name in read.difference(self.constant, beside) if name not in stored):
            if name in known:
                part.graph.input.append(_of_any_size(name, known[name], ranked))
            elif name in self.inputs:
                part.graph.input.append(self.inputs[name])
        part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in dict.fromkeys(wanted))
        return part

    def _places(self) -> dict[str, int]:
        """Stored tensor -> its position."""
        for k in range(len(self._stored), len(self.proto.graph.initializer)):
            self._stored[self.proto.graph.initializer[k].name] = k
        return self._stored


def _of_any_size(name: str, array: np.ndarray, ranked: bool) -> onnx.ValueInfoProto:
    """What is known, as an input: batches may differ in sizes.

    A Scan wants to know ranks. Elsewhere they are left out: with them the last digits of what is computed
    depend on where the part begins, so that probes that were broken off go on with other numbers.
    """
    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
    return onnx.helper.make_tensor_value_info(name, dtype, [None] * np.ndim(array) if ranked else None)


@contextmanager
def running(
    parts: Parts, known: Arrays, wanted: Sequence[str], provider: str = "cpu", lent: Lent = NOTHING
) -> Iterator[Step]:
    """Function from known tensors to wanted ones; those that are known already are handed on.

    Parameters
    ----------
    known : mapping
        One batch of what will be fed: it gives names and types.
    lent : mapping
        See :meth:`Parts.cut`.
    """
    made = [name for name in dict.fromkeys(wanted) if name not in known]
    if not made:
        yield lambda feeds: {name: feeds[name] for name in wanted}
        return
    cut = parts.model.derived(parts.cut(known, made, lent))
    for name in lent:
        cut.cuts.pop(name, None)  # what is lent is whole
    with open_session(cut, provider, "a part of the model") as session:

        def step(feeds: Arrays) -> dict[str, np.ndarray]:
            found = run(session, feeds, "a part of the model")
            return {**found, **{name: feeds[name] for name in wanted if name in known}}

        yield step
