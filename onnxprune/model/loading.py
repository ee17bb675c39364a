"""Reading a model: parse, check, inline functions, make names unique."""

from __future__ import annotations

import mmap
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from io import FileIO
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper

from ..errors import ModelError, reason
from .file import LEAST_LENT, Model, ModelLike
from .functions import inlined
from .names import Names, names_of
from .operators import Trait, told
from .ordering import sort_nodes
from .ort_format import OrtModel
from .protos import (
    UNLISTED,
    bodies,
    copied,
    graphs,
    leave,
    node_protos,
    opset_of,
    plain_domain,
    skeleton,
    tensors,
)
from .source import DataFiles, Source
from .wellformed import check_form
from .wire import Content, Irregular, Place, read_around

OLDEST_OPSET = 7

LARGE = 2**26
"""Bytes of a file from which on its weights are left in it until somebody asks for one of them. (Windows
replaces no file that is open, so a model could not be saved in its own place.)"""

POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for one of Git LFS."""


def load(source: ModelLike) -> Model:
    """Read a model and make it ready for analysis.

    Parameters
    ----------
    source : path, bytes, onnx.ModelProto, onnx_ir.Model, onnx_graphsurgeon.Graph or Model
        A ``Model`` is returned as it is, nothing that is given is changed. So are taken the functions of
        onnxscript, and what ``torch.onnx.export`` returns: whatever has ``to_model_proto()`` or
        ``model_proto``.

    Raises
    ------
    ModelError
        If it cannot be read, fails the ONNX checker, or uses an operator set older than 7.
    """
    model = load_runnable(source)
    if isinstance(model, OrtModel):
        name = f"'{model.path}'" if model.path else "the model"
        raise ModelError(
            f"{name} is in the ORT format of onnxruntime, expected ONNX",
            "Give the file that it was converted from; 'verify' compares it with that one, as the slim model.",
        )
    return model


def load_runnable(source: ModelLike) -> Model:
    """As ``load``, but a model that onnxruntime alone can read is taken, too: as an ``OrtModel``."""
    if isinstance(source, Model):
        return source
    places: list[Place] = []
    if isinstance(source, onnx.ModelProto):
        model = Model(source)
    elif isinstance(source, (bytes, str, os.PathLike)):
        model, places = _from_file(source)
        if isinstance(model, OrtModel):
            return model
    elif (proto := _proto_of(source)) is not None:
        model = proto
    elif hasattr(source, "nodes") and hasattr(source, "tensors"):
        import onnx_graphsurgeon as gs

        model = Model(gs.export_onnx(source))
    else:
        raise ModelError(f"cannot load a model from {type(source).__name__}")
    check_form(model.proto, model.source.size if model.source else None)
    for place in places:
        leave(model.proto.graph.initializer[place.number], place.offset, place.length)
    model.files.remember(model.locations())
    return _normalise(_check(model))


def _proto_of(source: Any) -> Model | None:
    """A model of onnx_ir, onnxscript or torch.onnx; None of anything else."""
    ir = sys.modules.get("onnx_ir")  # where nobody imported it, there is no model of it
    if ir is not None and isinstance(source, ir.Model):
        values = (value.const_value for graph in source.graphs() for value in graph.initializers.values())
        folders = {os.fspath(v.base_dir) for v in values if isinstance(v, ir.ExternalTensor)}
        if len(folders) > 1:
            raise ModelError(
                "the model reads weights from several folders", "Save it first with onnx_ir.save."
            )
        return Model(ir.to_proto(source), Path(folders.pop()) if folders else None)
    for name in ("to_model_proto", "model_proto"):
        found = getattr(source, name, None)
        proto = found() if callable(found) else found
        if isinstance(proto, onnx.ModelProto):
            return Model(proto)
    return None


def _from_file(given: bytes | str | os.PathLike[str]) -> tuple[Model, list[Place]]:
    """A model as a file holds it, and where weights are that were left there."""
    path = None if isinstance(given, bytes) else Path(given)
    read = given if isinstance(given, bytes) else _read(Path(given))
    source = Source(read)
    with _content(read) as data:
        if OrtModel.holds(data):
            return OrtModel(onnx.ModelProto(), path=path, source=source, data=data[:]), []
        light, places = _light(data)
    proto = _parse(light, f"'{path}'" if path else "the given bytes")
    folder = path.parent if path else None
    return Model(proto, folder, path, source=source, files=DataFiles(folder, source)), places


def _read(path: Path) -> bytes | FileIO:
    """The content of a file, or a large file, open."""
    try:
        found = path.stat()
        if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            raise OSError("it is a device")
        if found.st_size >= LARGE and stat.S_ISREG(found.st_mode) and os.name != "nt":
            return FileIO(str(path.resolve()))
        return path.read_bytes()
    except ValueError:
        raise ModelError(f"cannot read '{path}': no file can have this name") from None
    except OSError as error:
        raise ModelError(f"cannot read '{path}': {reason(error)}") from None


def _content(read: bytes | FileIO) -> AbstractContextManager[Content]:
    if isinstance(read, bytes):
        return nullcontext(read)
    return mmap.mmap(read.fileno(), 0, access=mmap.ACCESS_READ)


def _light(data: Content) -> tuple[bytes, list[Place]]:
    """What is parsed: all that was given, but of a file its weights, and where those lie."""
    if isinstance(data, bytes):
        return data, []
    try:
        return read_around(data, LEAST_LENT)
    except Irregular:
        return data[:], []


CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".h5", ".hdf5", ".keras", ".pb", ".tflite")
"""Endings of files in which frameworks keep networks and weights."""

_EXPORT = (
    "Export it to ONNX first: with torch.onnx.export, model.export(..., format='onnx') of Keras, or tf2onnx."
)


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    if not data:
        raise ModelError(f"{name}: found no bytes, expected an ONNX model")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        hint = "It stands for a file of Git LFS: run 'git lfs pull'; on GitHub actions/checkout takes 'lfs: true'."
        other = _EXPORT if Path(name.strip("'")).suffix.lower() in CHECKPOINTS else ""
        hint = hint if data.startswith(POINTER) else other
        raise ModelError(f"{name} is not an ONNX model, or is cut short", hint) from None
    return proto


def _check(model: Model) -> Model:
    """Refuse what the ONNX checker refuses, in one sentence; nodes out of order are put in order."""
    proto = model.proto
    if not proto.graph.node and not proto.graph.output:
        raise ModelError("not an ONNX model: it has no graph")
    if model.opset < OLDEST_OPSET:
        raise ModelError(
            f"opset {model.opset} is older than {OLDEST_OPSET}, the oldest that is supported",
            "Convert it first with onnx.version_converter.convert_version.",
        )
    light = _without_weights(model.proto)
    set_apart(light)
    try:
        onnx.checker.check_model(light)
    except (onnx.checker.ValidationError, ValueError) as error:
        if sort_nodes(light):
            return _check(_in_order(model))
        raise ModelError(f"the ONNX checker refuses the model: {one_line(error)}") from None
    return model


def one_line(error: Exception) -> str:
    """First paragraph of a message of onnx, on one line."""
    return " ".join(str(error).split("\n\n")[0].split("\n==>")[0].split())


def _in_order(model: Model) -> Model:
    """Copy of a model with its nodes in topological order."""
    proto = copied(model.proto)
    sort_nodes(proto)
    return replace(model, proto=proto)


def set_apart(proto: onnx.ModelProto) -> None:
    """Move what the checker refuses and onnxruntime runs to a domain of its own, for the checker."""
    parts: list[tuple[onnx.ModelProto | onnx.FunctionProto, list[onnx.NodeProto]]] = [
        (proto, list(node_protos(proto.graph))),
        *((function, list(function.node)) for function in proto.functions),
    ]
    for owner, nodes in parts:
        opset = opset_of(owner)
        strangers = [n for n in nodes if not plain_domain(n.domain) and _strange(n.op_type, opset)]
        for node in strangers:
            node.domain = "onnxruntime"
        if strangers:
            owner.opset_import.add(domain="onnxruntime", version=1)


@cache
def _strange(op: str, opset: int) -> bool:
    """Whether the checker refuses an operator of the default domain that onnxruntime runs.

    That is one of its own, or one that is deprecated but defined by others, which stand in for it:
    GroupNormalization of the opsets 18 to 20. Of those of the first days it prints a warning, past Python.
    """
    try:
        schema: Any = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return Trait.UNLISTED in told("", op)
    return schema.deprecated and (schema.has_function or schema.has_context_dependent_function)


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Copy in which large initializers hold no data: checking costs no time for the weights.

    External and raw data are kept out of the check; their sizes are verified when they are read.
    """
    light = skeleton(proto)
    light.ir_version = max(light.ir_version, UNLISTED)  # tools forget about older ones
    for value in light.graph.output:  # whose shape tools leave open altogether
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    # Those of nested graphs and of Constant nodes:
    for tensor in chain(tensors(light.graph), *map(tensors, light.functions)):
        if external_data_helper.uses_external_data(tensor):
            name, dtype = tensor.name, tensor.data_type
            tensor.CopyFrom(TensorProto(name=name, data_type=dtype, dims=[0], raw_data=b""))
    stored = light.graph.initializer
    for tensor in proto.graph.initializer:
        if prod(tensor.dims) <= 64 and not external_data_helper.uses_external_data(tensor):
            stored.append(tensor)
        else:
            stored.add(name=tensor.name, data_type=tensor.data_type, dims=[0], raw_data=b"")
    return light


def _normalise(model: Model) -> Model:
    """Inline functions, make names unique over nested graphs, and forget places of what lies inside.

    That is done on a copy if needed. Such a place is how a tensor notes which file it came from.
    """
    proto = model.proto
    if proto.functions:
        try:
            proto = inlined(proto)
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
            raise ModelError(f"the functions of the model cannot be written out: {one_line(error)}") from None
    names = [name for graph in graphs(proto.graph) for name in _own_names(graph)]
    if len(set(names)) < len(names):
        if proto is model.proto:
            proto = copied(model.proto)
        _rename_clashes(proto.graph, Names(names_of(proto)), set(), {})
    if any(map(_misplaced, tensors(proto.graph))):
        proto = copied(proto) if proto is model.proto else proto
        for tensor in filter(_misplaced, tensors(proto.graph)):
            tensor.ClearField("external_data")
    return replace(model, proto=proto)


def _misplaced(tensor: TensorProto) -> bool:
    """Whether a tensor names a place outside, but holds its data."""
    return bool(tensor.external_data) and not external_data_helper.uses_external_data(tensor)


def _own_names(graph: onnx.GraphProto) -> list[str]:
    """What a graph defines: inputs, initializers that are not listed as such, results of nodes."""
    inputs = [value.name for value in graph.input]
    stored = [tensor.name for tensor in graph.initializer]
    stored += [sparse.values.name for sparse in graph.sparse_initializer]
    made = [name for node in graph.node for name in node.output if name]
    listed = set(inputs)
    return [*inputs, *(name for name in stored if name not in listed), *made]


def _rename_clashes(graph: onnx.GraphProto, names: Names, seen: set[str], scope: Mapping[str, str]) -> None:
    """Give a new name to what a nested graph defines under a name that is taken elsewhere."""
    scope = dict(scope)
    for name in _own_names(graph):
        scope[name] = names.fresh(name) if name in seen else name
        seen.add(name)
    named: list[Any] = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    named += [sparse.values for sparse in graph.sparse_initializer]
    for value in named:
        value.name = scope.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [scope.get(name, name) for name in node.input]
        node.output[:] = [scope.get(name, name) for name in node.output]
        for _, body in bodies(node):
            _rename_clashes(body, names, seen, scope)
