"""Walking and copying ONNX protos."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, external_data_helper, numpy_helper

GRAPH, GRAPHS = AttributeProto.GRAPH, AttributeProto.GRAPHS
TENSOR, TENSORS = AttributeProto.TENSOR, AttributeProto.TENSORS

UNLISTED = 4
"""First IR version whose initializers need not be listed as inputs."""

WRITTEN = 4096
"""Bytes up to which raw data are written faster than they are left out."""

NUMBERS = {
    getattr(onnx.defs.OpSchema.AttrType, kind)
    for kind in ("FLOAT", "FLOATS", "INT", "INTS", "STRING", "STRINGS")
}


@cache
def plain(op: str, domain: str) -> bool:
    """Whether the schema of an operator allows no tensor and no graph in its attributes."""
    try:
        attributes = onnx.defs.get_schema(op, domain).attributes.values()
    except onnx.defs.SchemaError:
        return False
    return all(attribute.type in NUMBERS for attribute in attributes)


Message = TypeVar("Message", onnx.ModelProto, onnx.NodeProto, onnx.TensorProto)


def copied(message: Message) -> Message:
    """A copy of a model, a node or a tensor."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def return_also(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Let a model return inner tensors, too, whatever their types are."""
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known
    )


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of a model without its initializers."""
    copy = onnx.ModelProto()
    for descriptor, value in proto.ListFields():
        if descriptor.name == "graph":
            _copy_fields(value, copy.graph, skip=("initializer",))
        else:
            _copy_field(copy, descriptor.name, value)
    return copy


def byte_size(model: onnx.ModelProto, tensor_size: Callable[[TensorProto], int]) -> int:
    """Bytes of a serialised model; initializers are counted, where ``ByteSize`` writes their raw data.

    Parameters
    ----------
    tensor_size : callable
        Bytes of a tensor, serialised.
    """
    bare = skeleton(model)
    before = bare.graph.ByteSize()
    after = before + sum(field_size(tensor_size(tensor)) for tensor in model.graph.initializer)
    return bare.ByteSize() - field_size(before) + field_size(after)


def tensor_size(tensor: TensorProto, raw: int) -> int:
    """Bytes of a serialised tensor whose raw data, if it has any, are so many bytes."""
    if raw < WRITTEN or not tensor.HasField("raw_data"):
        return int(tensor.ByteSize())
    bare = TensorProto()
    for field in TensorProto.DESCRIPTOR.fields:
        if field.name == "raw_data":
            continue
        value = getattr(tensor, field.name)
        if len(value) if field.is_repeated else tensor.HasField(field.name):
            _copy_field(bare, field.name, value)
    return int(bare.ByteSize()) + field_size(raw)


def leave(tensor: TensorProto, offset: int, length: int) -> None:
    """Let a tensor say where in the file of its model its raw data were left.

    No file says so: external data have a location. An empty one notes that their place was given.
    """
    noted = (("location", ""),) if tensor.HasField("data_location") else ()
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", str(offset)), ("length", str(length)), *noted):
        tensor.external_data.add(key=key, value=value)


def was_left(tensor: TensorProto) -> bool:
    """Whether the data of a tensor were left in the file of its model, or in a model that lends it."""
    return bool(external_data_helper.uses_external_data(tensor)) and not data_file(tensor)


def data_file(tensor: TensorProto) -> str:
    """Name of the data file that a tensor comes from; empty where there is none."""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def emptied(tensor: TensorProto, dims: list[int]) -> TensorProto:
    """A tensor whose data were left, as it stands in a file but for its raw data, which are empty.

    Parameters
    ----------
    dims : list of int
        Its sizes; where they are others than before, it is written as a new one.
    """
    bare = TensorProto()
    if dims == list(tensor.dims):
        bare.CopyFrom(tensor)
        bare.ClearField("external_data")
        bare.ClearField("data_location")
        if any(entry.key == "location" for entry in tensor.external_data):
            bare.data_location = TensorProto.DEFAULT
    else:
        bare.name, bare.data_type = tensor.name, tensor.data_type
        bare.dims.extend(dims)
        _note(bare, tensor)
    bare.raw_data = b""
    return bare


def field_size(size: int) -> int:
    """Bytes of a field of number below 16 whose content has a length: number, length, content."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size


def _copy_fields(source: Any, target: Any, skip: tuple[str, ...]) -> None:
    for descriptor, value in source.ListFields():
        if descriptor.name not in skip:
            _copy_field(target, descriptor.name, value)


def _copy_field(target: Any, name: str, value: Any) -> None:
    if hasattr(value, "extend") or hasattr(value, "add"):
        getattr(target, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)


def bodies(node: onnx.NodeProto) -> list[tuple[str, onnx.GraphProto]]:
    """Graph attributes of a node (branches of If, bodies of Loop and Scan)."""
    # This runs for every node of every model, often: a look into a schema that is known by now
    # and a comprehension over plain integers take a fraction of the time of a loop.
    if plain(node.op_type, node.domain):
        return []
    return [
        (attribute.name, graph)
        for attribute in node.attribute
        if attribute.type in (GRAPH, GRAPHS)
        for graph in ([attribute.g] if attribute.type == GRAPH else attribute.graphs)
    ]


def tensors(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[TensorProto]:
    """Initializers and tensor attributes of a graph, or a function, and of the graphs nested in it."""
    if isinstance(graph, onnx.GraphProto):
        yield from graph.initializer
    for node in graph.node:
        for attribute in () if plain(node.op_type, node.domain) else node.attribute:
            if attribute.type == TENSOR:
                yield attribute.t
            elif attribute.type == TENSORS:
                yield from attribute.tensors
            elif attribute.type == GRAPH:
                yield from tensors(attribute.g)
            elif attribute.type == GRAPHS:
                for body in attribute.graphs:
                    yield from tensors(body)


def plain_domain(domain: str) -> str:
    """A domain; that of ONNX's own operators has two names, of which this gives the empty one."""
    return "" if domain == "ai.onnx" else domain


def opset_of(proto: onnx.ModelProto | onnx.FunctionProto) -> int:
    """Imported version of ONNX's own operators, 0 where only others are imported."""
    versions = [o.version for o in proto.opset_import if not plain_domain(o.domain)]
    return max(versions, default=0 if proto.opset_import else 1)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those nested in it."""
    yield graph
    for node in graph.node:
        for _, body in bodies(node):
            yield from graphs(body)


def unread(graph: onnx.GraphProto) -> set[str]:
    """Initializers of the main graph that no node reads and that are neither inputs nor outputs."""
    names = {tensor.name for tensor in graph.initializer}
    for part in graphs(graph):
        names.difference_update(value.name for value in (*part.input, *part.output))
        for node in part.node:
            names.difference_update(node.input)
    return names


def node_protos(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes in the order of the view: nested ones before the node that holds them."""
    for node in graph.node:
        for _, body in bodies(node):
            yield from node_protos(body)
        yield node


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, those included that the graphs inside it take from outside."""
    yield from filter(None, node.input)
    for _, body in bodies(node):
        inside = {value.name for value in body.input} | {t.name for t in body.initializer}
        for child in body.node:
            yield from (name for name in reads(child) if name not in inside)
            inside.update(child.output)
        yield from (value.name for value in body.output if value.name not in inside)


def fill(tensor: TensorProto, name: str, value: np.ndarray) -> None:
    """Name an empty tensor and store a value in it."""
    if value.dtype.kind in "biuf" and sys.byteorder == "little":
        tensor.name = name
        tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor.dims.extend(value.shape)
        tensor.raw_data = value.tobytes()
    else:  # strings, packed types
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))


def refill(tensor: TensorProto, old: TensorProto, value: np.ndarray) -> None:
    """Make an empty tensor another one with a new value: what is said of it, and where it is saved."""
    fill(tensor, old.name, value)
    _note(tensor, old)
    if data_file(old):
        tensor.external_data.extend(old.external_data)


def _note(tensor: TensorProto, old: TensorProto) -> None:
    if old.HasField("doc_string"):
        tensor.doc_string = old.doc_string
    tensor.metadata_props.extend(old.metadata_props)


def stored(value: np.ndarray, name: str) -> TensorProto:
    """A value as a tensor of its own."""
    tensor = TensorProto()
    fill(tensor, name, value)
    return tensor
