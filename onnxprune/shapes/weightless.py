"""A copy of a model for shape inference: without the data of its weights, at given sizes."""

from __future__ import annotations

from math import prod

import onnx

from ..model.cut import kept_dims
from ..model.file import Model
from ..model.protos import UNLISTED, bodies, node_protos, skeleton, tensors
from .dimensions import FreeDimensions

SMALL = 64
"""Entries up to which a stored tensor keeps its data: sizes, axes and bounds."""


def bare_model(model: Model, sizes: FreeDimensions, declared: bool = True) -> onnx.ModelProto:
    """Copy for shape inference: weights hold no data, free dimensions become ``sizes``.

    Parameters
    ----------
    declared : bool
        Keep the static shapes that the file records, which help behind operators that inference
        does not know.
    """
    bare = skeleton(model.proto)
    # Of older models inference looks at no initializer that is not an input.
    bare.ir_version = max(bare.ir_version, UNLISTED)
    _add_weights(bare.graph, model)
    for proto in node_protos(bare.graph):
        proto.ClearField("metadata_props")  # PyTorch writes stack traces there
        say_onesided(proto)
    _release_constant_nodes(bare.graph)
    for value in bare.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if (value.name, axis) in sizes:
                dim.dim_value = sizes[value.name, axis]
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    _keep_static_value_info(bare.graph, declared)
    return bare


def _add_weights(bare: onnx.GraphProto, model: Model) -> None:
    """Add the weights of the main graph, large ones without data; give cut ones inside nodes their sizes."""
    listed = {value.name for value in bare.input}
    for tensor in model.proto.graph.initializer:
        dims = kept_dims(tensor, model.cuts.get(tensor.name))
        if prod(dims) <= SMALL and not tensor.external_data:
            bare.initializer.append(tensor)
        elif tensor.name not in listed:
            bare.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=dims)
    if model.cuts:
        inside = (tensor for proto in bare.node for _, body in bodies(proto) for tensor in tensors(body))
        for tensor in inside:
            if tensor.name in model.cuts:
                tensor.dims[:] = kept_dims(tensor, model.cuts[tensor.name])


def say_onesided(node: onnx.NodeProto) -> None:
    """Write out that an STFT gives half of the spectrum: onnx infers all of it if nothing is said."""
    if node.op_type == "STFT" and all(a.name != "onesided" for a in node.attribute):
        node.attribute.append(onnx.helper.make_attribute("onesided", 1))


def _release_constant_nodes(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes that hold large tensors into weights without data."""
    large = {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant"
        and node.attribute[0].type == onnx.AttributeProto.TENSOR
        and prod(node.attribute[0].t.dims) > SMALL
    }
    if large:
        kept = [n for n in graph.node if not n.output or n.output[0] not in large]
        del graph.node[:]
        graph.node.extend(kept)
        for name, tensor in large.items():
            graph.initializer.add(name=name, data_type=tensor.data_type, dims=tensor.dims)


def _keep_static_value_info(graph: onnx.GraphProto, declared: bool) -> None:
    """Drop recorded shapes with open dimensions: they would stop inference short."""
    static = [
        value
        for value in graph.value_info
        if declared
        and all(d.HasField("dim_value") and d.dim_value >= 0 for d in value.type.tensor_type.shape.dim)
        and value.type.tensor_type.HasField("shape")
    ]
    del graph.value_info[:]
    graph.value_info.extend(static)
