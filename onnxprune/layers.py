"""Layer by layer: where the slim model leaves the original.

Two comparisons per node, on the kept entries:

entire
    Both models run end to end, so differences add up on the way.
single
    Each slim node runs alone, fed with the reference's own tensors. Nothing adds up: against the
    masked original every node must agree to rounding, however the network as a whole amplifies it,
    and the first that does not is the one that was cut wrongly.

Tensors are compared in portions of bounded size; no run holds all activations of both models.
onnxruntime does not optimise here: it would fuse nodes, and even quantise weights by their range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from .compare import Difference, difference, rounding
from .graph import Node
from .model import Model, bodies
from .rewrite import node_protos
from .runtime import Arrays, open_session, run
from .sizes import Sizes
from .trace import Trace

PORTION = 256 * 2**20
"""Bytes of reference tensors that are held at once."""

FLOATS = {
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """How one tensor differs, and the node that makes it.

    Attributes
    ----------
    single : Difference or None
        None where the node cannot run alone.
    """

    node: Node
    entire: Difference
    single: Difference | None


def compare_layers(
    traced: Trace,
    sizes: Sizes,
    reference: Model | onnx.ModelProto,
    slim: Model,
    feeds: Arrays,
    provider: str = "cpu",
) -> Iterator[LayerDifference]:
    """Compare every tensor of the main graph, in topological order.

    Parameters
    ----------
    traced : Trace
        Of the original.
    sizes : Sizes
        View of the kept entries.
    reference : Model or onnx.ModelProto
        The original, or the masked original.
    slim : Model
    feeds : mapping
        Inputs of both.
    """
    proto = reference.embedded() if isinstance(reference, Model) else reference
    slim_proto = slim.embedded()
    for portion in _portions(traced, sizes, slim_proto):
        wanted = [name for node in portion for name in node.outputs if name]
        read = {name for node in portion for name in (*node.inputs, *traced.graph.captured(node))}
        needed = read & traced.graph.producers.keys()
        given = _tensors(proto, sorted({*wanted, *needed}), feeds, provider)
        kept = {name: sizes.compact(name, value) for name, value in given.items()}
        entire = _tensors(slim_proto, wanted, feeds, provider)
        single = _alone(slim_proto, wanted, {**feeds, **kept}, provider)
        for node in portion:
            for name in node.outputs:
                if name in kept and name in entire:
                    value = kept[name]
                    alone = (
                        difference(name, value, single[name], rounding(value))
                        if name in single
                        else None
                    )
                    yield LayerDifference(node, difference(name, value, entire[name]), alone)


def _portions(traced: Trace, sizes: Sizes, slim: onnx.ModelProto) -> Iterator[list[Node]]:
    """Nodes that make float or quantised tensors in both models, in portions of bounded size."""
    present = {name for proto in slim.graph.node for name in proto.output}
    dtypes, zeros = traced.shapes.first.dtypes, traced.walk.facts.zeros
    portion: list[Node] = []
    size = 0
    for node in traced.graph.main.nodes:
        names = [
            n for n in node.outputs if n in present and (dtypes.get(n) in FLOATS or n in zeros)
        ]
        if not names or node.op == "Constant" or node.outputs[0] in traced.graph.derived:
            continue
        portion.append(node)
        size += sum(4 * int(np.prod(sizes.original(n), dtype=np.int64)) for n in names)
        if size > PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def names_inside(graph: onnx.GraphProto) -> set[str]:
    """Names that a nested graph and those inside it define."""
    names = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    for proto in graph.node:
        names.update(proto.output)
        for _, body in bodies(proto):
            names |= names_inside(body)
    return names


def _tensors(proto: onnx.ModelProto, names: Sequence[str], feeds: Arrays, provider: str) -> Mapping[str, np.ndarray]:  # fmt: skip
    """Run a model and return inner tensors."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(proto)
    del exposed.graph.output[:]
    made = {name for node in proto.graph.node for name in node.output}
    exposed.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name in made
    )
    with open_session(exposed, provider, optimize=False) as session:
        return run(session, feeds)


def _alone(slim: onnx.ModelProto, names: Sequence[str], given: Arrays, provider: str) -> Mapping[str, np.ndarray]:  # fmt: skip
    """Run nodes of the slim model, each on given tensors instead of on each other's.

    Nodes that the rewriter inserted have inputs of their own, which are not given: they stay
    chained to the node that they mend.
    """
    alone = onnx.ModelProto()
    alone.CopyFrom(slim)
    stored = {t.name for t in slim.graph.initializer}
    stored |= {n.output[0] for n in slim.graph.node if n.op_type == "Constant"}
    made, fed, nodes = set(stored), set(), []
    for proto in slim.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(proto)
        inside = [child for _, body in bodies(copy) for child in node_protos(body)]
        own = {n for _, body in bodies(copy) for n in names_inside(body)}
        readers = [copy, *inside]
        read = {n for reader in readers for n in reader.input} - own - {""}
        if any(n not in made and n not in given for n in read):
            continue
        for reader in readers:
            for slot, name in enumerate(reader.input):
                if name in given and name not in stored:
                    reader.input[slot] = f"{name}::given"
                    fed.add(name)
        nodes.append(copy)
        made.update(proto.output)
    listed = [value for value in slim.graph.input if value.name in stored]
    del alone.graph.node[:], alone.graph.input[:], alone.graph.output[:], alone.graph.value_info[:]
    alone.graph.input.extend(listed)
    alone.graph.node.extend(nodes)
    alone.graph.input.extend(
        onnx.helper.make_tensor_value_info(
            f"{name}::given",
            onnx.helper.np_dtype_to_tensor_dtype(given[name].dtype),
            given[name].shape,
        )
        for name in sorted(fed)
    )
    alone.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name in made
    )
    with open_session(alone, provider, optimize=False) as session:
        return run(session, {f"{name}::given": given[name] for name in fed})
