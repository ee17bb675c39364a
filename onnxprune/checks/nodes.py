"""Layer by layer: where the slim model leaves the original.

Two comparisons per node, on the kept entries:

entire
    Both models run end to end, so differences add up on the way.
single
    Each slim node runs alone, fed with the reference's own tensors. Nothing adds up: against the
    masked original every node must agree to rounding, however the network as a whole amplifies it,
    and the first that does not is the one that was cut wrongly. Nodes inside branches and loops are
    nodes like any other, see ``inside.py``.

Tensors are compared in portions of bounded size, weights among them, and summed up batch by batch; no run
holds all activations of both models, or those of several batches. onnxruntime does not optimise here:
it would fuse nodes, refuse some outputs in between, and even quantise weights by their range.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache, partial
from math import prod
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import onnx

from ..coupling.trace import Trace
from ..data.batches import Batch
from ..data.portions import portions
from ..errors import ModelError
from ..labels.sizes import Sizes
from ..model.cut import payload
from ..model.file import Model
from ..model.node import Node
from ..model.operators import Trait, traits_of
from ..model.protos import bodies, copied, node_protos, tensors
from ..runtime.session import Arrays, run
from .accepted import DRAWS, MANY, largest, nudge
from .alone import exposed, nodes_alone
from .compare import Comparison, Difference
from .inside import Scope, enter
from .noise import draws

PORTION = 256 * 2**20
"""Bytes of reference tensors and of weights that are held at once."""


def compare_entire(
    traced: Trace,
    sizes: Sizes,
    slim: Model,
    batches: Iterable[Batch],
    provider: str = "cpu",
    slim_provider: str = "",
) -> Iterator[Difference]:
    """Compare every tensor of the main graph with the original's, in topological order.

    Parameters
    ----------
    traced : Trace
        Of the original, at the sizes of the inputs.
    sizes : Sizes
        View of the kept entries.
    slim : Model
    batches : iterable of Batch
        Inputs of both, all of the same shapes. They are read again for every portion.
    slim_provider : str, optional
        Where the slim model runs, if elsewhere.
    """
    for nodes in _portions(traced, sizes, traced.graph.main.nodes, slim.proto):
        sums = _Sums([node for node in nodes if not draws(node, traced)])
        with (
            exposed(traced.model, sums.names, provider) as before,
            exposed(slim, sums.names, slim_provider or provider) as after,
        ):
            for batch in batches:
                kept = _kept(sizes, run(before, batch.feeds))
                sums.add(kept, run(after, batch.feeds), batch.size)
        yield from sums.differences()


def compare_single(
    traced: Trace, sizes: Sizes, reference: Model, slim: Model, batches: Iterable[Batch], provider: str
) -> Iterator[Difference]:
    """Compare every node alone with the masked original, in topological order.

    Nodes that cannot run alone are left out. Of a node with graphs inside, the nodes of the graph
    that runs are compared, too. Parameters are those of :func:`compare_entire`;
    ``reference`` is the masked original.
    """
    scope = Scope(traced.graph.main.nodes, reference, slim)
    return _Single(traced, sizes, provider).compare(
        scope, lambda: (Fed(b.feeds, b.feeds, b.size) for b in batches)
    )


class Fed(NamedTuple):
    """Inputs of one run of the masked original and of the slim model."""

    reference: Arrays
    slim: Arrays
    size: int


class _Single:
    """Comparison of single nodes, those inside nodes included."""

    def __init__(self, traced: Trace, sizes: Sizes, provider: str) -> None:
        self.traced, self.sizes, self.provider = traced, sizes, provider
        self.macs: dict[int, int] = defaultdict(int)
        whole = traced.sizes()
        for node, cost in traced.walk.facts.costs:
            self.macs[node.index] += cost(whole)

    def compare(self, scope: Scope, batches: Callable[[], Iterable[Fed]]) -> Iterator[Difference]:
        """Differences of all tensors of a graph, in topological order."""
        graph = self.traced.graph
        for nodes in _portions(self.traced, self.sizes, scope.nodes, scope.slim.proto):
            sums = _Sums([node for node in nodes if not draws(node, self.traced)], self._exact)
            read = {name for node in nodes for name in graph.reads(node)}
            made = {name for name in read & graph.producers.keys() if graph.producers[name].op != "Constant"}
            made -= self.traced.shapes.first.sequences.keys()  # an optional tensor would come as an array
            needed = sorted({*sums.names, *made})
            inside: dict[int, dict[str, Difference]] = defaultdict(dict)
            with ExitStack() as stack:
                before = stack.enter_context(exposed(scope.reference, needed, self.provider))
                run_alone = None
                for batch in batches():
                    found = run(before, batch.reference)
                    for node in nodes:
                        within = self._inside(node, scope, {**batch.reference, **found}, batch.size)
                        _gather(inside[node.index], within)
                    given = {**batch.slim, **_kept(self.sizes, found)}
                    if run_alone is None:
                        run_alone = stack.enter_context(
                            nodes_alone(scope.slim, sums.names, given, self.provider)
                        )
                    several = cache(partial(_moved, scope.slim, sums.names, given, self.provider))
                    through = {name: self._through(node, given) for node in nodes for name in node.outputs}
                    sums.add(given, run_alone(given), batch.size, partial(_all_moved, several), through)
            whole = {d.output: d for d in sums.differences()}
            for node in nodes:
                own = {name: whole[name] for name in node.outputs if name in whole}
                yield from {**inside[node.index], **own, **inside[node.index]}.values()

    def _exact(self, name: str, node: Node) -> Comparison:
        """Comparison of a tensor that a node alone makes, in which rounding is accepted."""
        return Comparison(name, layer=node.name, exact=True, terms=self._terms(node))

    def _terms(self, node: Node) -> float:
        """Products that are added up in one number of what a node makes, or one inside it."""
        made = max((prod(self.sizes.original(name)) for name in node.outputs if name), default=0)
        own = self.macs.get(node.index, 0) / max(1, made)
        return max([own, *map(self._terms, node.inside)])

    def _through(self, node: Node, known: Arrays) -> float:
        """Largest number that gates of a node let through, as far as what it reads and makes tells; or 0."""
        if not _gated(node):
            return 0
        around = [known[n] for n in (*self.traced.graph.reads(node), *node.outputs) if n in known]
        return max((largest(array) for array in around if array.dtype.kind == "f"), default=1)

    def _inside(self, node: Node, scope: Scope, known: Arrays, size: int) -> Iterator[Difference]:
        """Differences inside a node; where they say all of it, those of its outputs are the last ones.

        A branch that does not run by itself (onnxruntime's messages know many reasons) is compared
        as a whole with its node.
        """
        entered = enter(node, scope, self.traced.graph, self.sizes, known) if node.bodies else None
        if entered is None:
            return
        inner, reference, slim = entered
        try:
            found = {d.output: d for d in self.compare(inner, lambda: [Fed(reference, slim, size)])}
        except ModelError:
            return
        yield from found.values()
        if node.op == "If" and not left_out(inner.slim.proto, self.traced, set(found)):
            for name, value in zip(node.outputs, inner.slim.proto.graph.output, strict=True):
                if value.name in found:
                    yield replace(found[value.name], output=name, layer=node.name)


def _gather(worst: dict[str, Difference], found: Iterable[Difference]) -> None:
    """Of several batches, keep what is furthest from what is accepted."""
    for one in found:
        known = worst.setdefault(one.output, one)
        if one.relative - (one.tolerance or 0) > known.relative - (known.tolerance or 0):
            worst[one.output] = one


def _all_moved(several: Callable[[range], list[Arrays]]) -> Iterator[Arrays]:
    """What nodes compute when last bits change; many times only if that is asked for."""
    for seeds in (range(DRAWS), range(DRAWS, MANY)):
        yield from several(seeds)


def _moved(slim: Model, names: Sequence[str], given: Arrays, provider: str, seeds: range) -> list[Arrays]:
    """What the nodes compute when the last bits of what they are given and of weights change.

    Nothing is known of it where the nodes refuse such numbers: factors of a Resize may be weights.
    """
    found: list[Arrays] = []
    for edit in (lambda model: Model(nudged(model.embedded())), lambda model: model):
        with suppress(ModelError), nodes_alone(slim, names, given, provider, edit) as run_alone:
            for seed in seeds[len(found) :]:
                found.append(run_alone({name: nudge(value, seed) for name, value in given.items()}))
    return found


def draws_of(name: str, moved: Callable[[], Iterable[Arrays]]) -> Iterator[np.ndarray]:
    """One tensor of several runs, which are made when they are read."""
    for draw in moved():
        if name in draw:
            yield draw[name]


def nudged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of a model with the last bit of every weight changed; single numbers are bounds and steps."""
    copy = copied(model)
    for tensor in tensors(copy.graph):
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE) and prod(tensor.dims) > 1:
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(nudge(onnx.numpy_helper.to_array(tensor)), tensor.name)
            )
    return copy


def _gated(node: Node) -> bool:
    """Whether a node, or one inside its bodies, computes gates."""
    return Trait.SATURATES in traits_of(node) or any(map(_gated, node.inside))


def _measured(name: str, node: Node) -> Comparison:
    """Comparison of a tensor that tells how far it is off, and judges nothing."""
    return Comparison(name, layer=node.name)


class _Sums:
    """Sums over the batches, for every tensor that some nodes make."""

    def __init__(
        self, nodes: Sequence[Node], comparison: Callable[[str, Node], Comparison] = _measured
    ) -> None:
        makers = {name: node for node in nodes for name in node.outputs if name}
        self.names = list(makers)
        self._all = {name: comparison(name, node) for name, node in makers.items()}

    def add(
        self,
        reference: Arrays,
        found: Arrays,
        samples: int,
        moved: Callable[[], Iterable[Arrays]] = tuple,
        through: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Add what both models computed."""
        for name in self.names:
            if name in reference and name in found:
                self._all[name].add(
                    reference[name], found[name], samples, draws_of(name, moved), through.get(name, 0)
                )

    def differences(self) -> Iterator[Difference]:
        """What the sums say of the tensors that both models have."""
        return (sums.difference() for sums in self._all.values() if sums.runs)


def _portions(
    traced: Trace, sizes: Sizes, nodes: Sequence[Node], slim: onnx.ModelProto
) -> Iterator[list[Node]]:
    """Nodes that make tensors in both models, in portions of bounded size."""
    present = {name for proto in slim.graph.node for name in proto.output}
    present -= traced.shapes.first.sequences.keys()
    made = [n for n in nodes if n.op != "Constant" and not present.isdisjoint(n.outputs)]

    def held(node: Node) -> int:
        names = [name for name in node.outputs if name in present]
        made = sum(4 * int(np.prod(sizes.original(name), dtype=np.int64)) for name in names)
        stored = (traced.graph.constants.get(name) for name in traced.graph.reads(node))
        return made + sum(payload(c.dtype, c.size) for c in stored if c is not None)

    return portions(made, held, PORTION)


def _kept(sizes: Sizes, tensors: Arrays) -> dict[str, np.ndarray]:
    """Entries of the reference's tensors that the slim model has, too."""
    return {name: sizes.compact(name, value) for name, value in tensors.items()}


def left_out(slim: onnx.ModelProto, traced: Trace, compared: set[str]) -> tuple[str, ...]:
    """Nodes on the way to the outputs that no comparison of single nodes covers.

    What a node that the rewriter inserted makes, or a sequence, is handed on to the node that reads
    it: such nodes are compared with their readers. Of random numbers nothing but the source counts.
    """
    sequences, original = traced.shapes.first.sequences, traced.graph.producers
    wanted = {value.name for value in slim.graph.output}
    covered: set[str] = set()
    missing: list[str] = []
    for proto in reversed(slim.graph.node):
        inside = [child for _, body in bodies(proto) for child in node_protos(body)]
        if proto.op_type == "Constant" or not wanted.intersection(proto.output):
            continue
        read = {name for node in (proto, *inside) for name in node.input if name}
        wanted |= read
        passed_on = [n for n in proto.output if n in covered and (n not in original or n in sequences)]
        drawn = any(n in original and draws(original[n], traced) for n in proto.output)
        if compared.intersection(proto.output) or passed_on or (drawn and not inside):
            covered |= read
        else:
            title = f"{proto.op_type} '{proto.name or proto.output[0]}'"
            missing.append(f"{title} (it draws random numbers)" if drawn else title)
    return tuple(reversed(missing))
