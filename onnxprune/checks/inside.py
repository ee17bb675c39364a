"""Graphs inside nodes, taken out as models of their own, so that their nodes can be compared alone.

Of an If that is the branch which its condition takes, of a Loop or Scan the first iteration: the
nodes are the same in all. What the graph takes from outside becomes an input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..labels.sizes import Sizes
from ..model.file import Model
from ..model.graph import Graph
from ..model.node import Node
from ..model.protos import UNLISTED, bodies, graphs, node_protos
from ..runtime.session import Arrays


@dataclass(frozen=True)
class Scope:
    """One graph, the main one or one inside a node, as a model of its own in both models.

    Attributes
    ----------
    nodes : sequence of Node
        In the view of the original.
    reference, slim : Model
        The graph in the masked original and in the slim model.
    """

    nodes: Sequence[Node]
    reference: Model
    slim: Model


def enter(
    node: Node, scope: Scope, graph: Graph, sizes: Sizes, known: Arrays
) -> tuple[Scope, Arrays, Arrays] | None:
    """The graph inside a node that runs first, with the inputs of both models.

    Parameters
    ----------
    node : Node
        One of ``scope``.
    known : mapping
        Tensors of the masked original, around the node and behind it.

    Returns
    -------
    tuple of (Scope, mapping, mapping) or None
        None where no graph runs, or where it is not known what enters.
    """
    entry = _ENTRIES.get(node.op)
    protos = [_holder(node, model.proto) for model in (scope.reference, scope.slim)]
    given = {name: _value(name, graph, known) for name in node.inputs if name}
    if entry is None or node.domain or None in protos or any(v is None for v in given.values()):
        return None
    key, values = entry(node, given)  # type: ignore[arg-type]
    if not key:
        return None
    before, after = (dict(bodies(proto))[key] for proto in protos if proto is not None)
    names = [graph.aliases.get(name, name) for name in node.bodies[key].inputs]
    feeds = dict(known)
    kept = {name: sizes.compact(name, value) for name, value in known.items()}
    for name, outer, inner, value in zip(names, before.input, after.input, values, strict=True):
        feeds[outer.name], kept[inner.name] = value, sizes.compact(name, value)
    models = _alone(scope.reference, before, feeds), _alone(scope.slim, after, kept)
    return Scope(node.bodies[key].nodes, *models), feeds, kept


def _holder(node: Node, model: onnx.ModelProto) -> onnx.NodeProto | None:
    """The node in another model, which may have renamed its outputs."""
    known = {name for child in node.inside for name in child.outputs}
    known.update(node.outputs)
    for proto in model.graph.node:
        if proto.op_type == node.op:
            inside = (
                name for _, body in bodies(proto) for child in node_protos(body) for name in child.output
            )
            if known.intersection((*proto.output, *inside)):
                return proto
    return None


def _value(name: str, graph: Graph, known: Arrays) -> np.ndarray | None:
    if name in known:
        return known[name]
    return graph.value(name) if graph.has_value(name) else None


def _if(node: Node, given: Mapping[str, np.ndarray]) -> tuple[str, list[np.ndarray]]:
    (condition,) = given.values()
    return ("then_branch" if condition.reshape(-1)[0] else "else_branch"), []


def _loop(node: Node, given: Mapping[str, np.ndarray]) -> tuple[str, list[np.ndarray]]:
    trips, going, *carried = node.inputs
    runs = all(given[name].reshape(-1)[0] for name in (trips, going) if name)
    first = [np.zeros((), np.int64), np.ones((), np.bool_)]
    return ("body" if runs else ""), [*first, *(given[name] for name in carried)]


def _scan(node: Node, given: Mapping[str, np.ndarray]) -> tuple[str, list[np.ndarray]]:
    scanned = node.attr("num_scan_inputs")
    states = len(node.inputs) - scanned
    axes = node.attr("scan_input_axes", [0] * scanned)
    ends = node.attr("scan_input_directions", [0] * scanned)
    whole = [given[name] for name in node.inputs]
    if node.opset < 9 or not all(v.shape[k] for v, k in zip(whole[states:], axes, strict=True)):
        return "", []
    slices = [v.take(-end, k) for v, k, end in zip(whole[states:], axes, ends, strict=True)]
    return "body", [*whole[:states], *slices]


_ENTRIES = {"If": _if, "Loop": _loop, "Scan": _scan}


def _alone(whole: Model, body: onnx.GraphProto, feeds: Arrays) -> Model:
    """A nested graph as a model: what it takes from outside is stored, or an input."""
    model = whole.proto
    alone = onnx.ModelProto(ir_version=max(model.ir_version, UNLISTED))
    alone.opset_import.extend(model.opset_import)
    graph = alone.graph
    graph.name = "inside"
    read = {name for node in node_protos(body) for name in node.input}
    read |= {value.name for nested in graphs(body) for value in nested.output}
    graph.initializer.extend(t for t in model.graph.initializer if t.name in read)
    graph.node.extend(n for n in model.graph.node if n.op_type == "Constant" and n.output[0] in read)
    stored = {t.name for t in graph.initializer} | {n.output[0] for n in graph.node}
    graph.initializer.extend(body.initializer)
    graph.node.extend(body.node)
    graph.output.extend(body.output)
    made = {name for node in body.node for name in node.output} | {t.name for t in body.initializer}
    for name in sorted((read | {v.name for v in body.input}) & feeds.keys() - stored - made):
        dtype = onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype)
        value = onnx.helper.make_tensor_value_info(name, dtype, [None] * feeds[name].ndim)
        graph.input.append(value)
    return whole.derived(alone)
