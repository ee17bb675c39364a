"""A model as it stands in its file: load, decode, save.

The ``ModelProto`` is the truth. It is never converted to another representation, so whatever is
not touched survives byte for byte. Weights stay where they are, in the proto or in external data
files, until somebody asks for one of them; a model with external data is written tensor by tensor.
"""

from __future__ import annotations

import gc
import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, numpy_helper
from onnx.inliner import inline_local_functions

from .cuts import take
from .errors import ModelError
from .protos import bodies, node_protos, opset_of, skeleton, tensors

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    ModelLike: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto | gs.Graph | Model"

OLDEST_OPSET = 7
PROTOBUF_LIMIT = 2**31 - 2**26
"""Weights beyond this many bytes do not fit into one protobuf message with their graph."""

ADDED_BY_ONNXRUNTIME = {
    "DisentangledAttention_TRT", "EfficientNMS_TRT", "MultilevelCropAndResize_TRT",
    "PyramidROIAlign_TRT", "SimplifiedLayerNormalization",
}  # fmt: skip
"""Operators of the default domain that onnxruntime knows and ONNX does not."""


@dataclass(eq=False)
class Model:
    """An ONNX model and the place of its external data.

    Attributes
    ----------
    proto : onnx.ModelProto
        The model; functions are inlined and names are unique over all nested graphs.
    folder : pathlib.Path or None
        Folder that external data locations are relative to.
    path : pathlib.Path or None
        File that the model was read from.
    cuts : dict
        Initializers with external data that are sliced when they are read: name -> one index
        array (or None) per axis. Filled by the rewriter.
    """

    proto: onnx.ModelProto
    folder: Path | None = None
    path: Path | None = None
    cuts: dict[str, tuple[np.ndarray | None, ...]] = field(default_factory=dict)

    def array(self, tensor: TensorProto) -> np.ndarray:
        """Decode a tensor, from its external data file if it has one.

        Raises
        ------
        ModelError
            If the external data is missing or outside the model's folder, or data does not fill
            the shape.
        """
        if not external_data_helper.uses_external_data(tensor):
            try:
                return numpy_helper.to_array(tensor)
            except ValueError:
                raise ModelError(f"tensor '{tensor.name}': its data does not fill the shape {list(tensor.dims)}") from None  # fmt: skip
        array = self._read_external(tensor)
        return take(array, self.cuts.get(tensor.name, ()))

    def _read_external(self, tensor: TensorProto) -> np.ndarray:
        info = external_data_helper.ExternalDataInfo(tensor)
        folder = (self.folder or Path()).resolve()
        path = (folder / info.location).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            raise ModelError(
                f"tensor '{tensor.name}': external data '{info.location}' not found beside the model",
                f"Put it into {folder}.",
            )
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        count = prod(tensor.dims)
        if dtype.itemsize * count == 0 or tensor.data_type in _PACKED:
            loaded = TensorProto()
            loaded.CopyFrom(tensor)
            external_data_helper.load_external_data_for_tensor(loaded, str(folder))
            return numpy_helper.to_array(loaded)
        if (info.offset or 0) + dtype.itemsize * count > path.stat().st_size:
            raise ModelError(
                f"tensor '{tensor.name}': external data '{info.location}' is cut short"
            )
        return np.memmap(path, dtype, "r", info.offset or 0, tuple(tensor.dims))

    @property
    def external(self) -> bool:
        """Whether any weight lies outside the proto."""
        return any(map(external_data_helper.uses_external_data, tensors(self.proto.graph)))

    def data_files(self) -> set[Path]:
        """Files that hold external data."""
        folder = self.folder or Path()
        return {
            folder / external_data_helper.ExternalDataInfo(tensor).location
            for tensor in tensors(self.proto.graph)
            if external_data_helper.uses_external_data(tensor)
        }

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return opset_of(self.proto)

    def nbytes(self) -> int:
        """Size in bytes of the model as it would be saved, external data included."""
        outside = sum(
            tensor_nbytes(t, self.cuts.get(t.name))
            for t in tensors(self.proto.graph)
            if external_data_helper.uses_external_data(t)
        )
        if self.path is not None and self.path.is_file():
            return self.path.stat().st_size + outside
        return int(self.proto.ByteSize()) + outside

    @property
    def weight_bytes(self) -> int:
        """Size of the stored tensors alone (``ByteSize`` takes as long as writing the file)."""
        return sum(tensor_nbytes(t, self.cuts.get(t.name)) for t in tensors(self.proto.graph))

    def sha256(self) -> str:
        """Digest of the proto (not of external data files)."""
        return hashlib.sha256(self.proto.SerializeToString(deterministic=True)).hexdigest()

    def embedded(self) -> onnx.ModelProto:
        """Proto with every weight inside it; ``proto`` itself where that is already so."""
        if not self.external:
            return self.proto
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in tensors(proto.graph):
            if external_data_helper.uses_external_data(tensor):
                tensor.CopyFrom(
                    numpy_helper.from_array(np.asarray(self.array(tensor)), tensor.name)
                )
        return proto

    def to_graphsurgeon(self) -> gs.Graph:
        """The model as an onnx-graphsurgeon graph (metadata that it cannot hold is dropped)."""
        import onnx_graphsurgeon as gs

        return gs.import_onnx(self.embedded())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model atomically: the target is either the old file or the whole new one.

        A model that came with external data gets one data file, ``NAME.data``, beside it.
        """
        target = Path(path)
        if not target.parent.is_dir():
            raise ModelError(f"cannot write '{target}': no folder '{target.parent}'")
        if self.external or self.weight_bytes > PROTOBUF_LIMIT:
            self._save_external(target)
        else:
            write_atomically(target, self.proto.SerializeToString())

    def _save_external(self, target: Path) -> None:
        data_name = target.name + ".data"
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        handle, data_file = tempfile.mkstemp(prefix=f".{data_name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                for tensor in tensors(proto.graph):
                    big = tensor.ByteSize() > 1024 and tensor.HasField("raw_data")
                    if big or external_data_helper.uses_external_data(tensor):
                        _append_external(tensor, np.asarray(self.array(tensor)), out, data_name)
            os.chmod(data_file, 0o644)
            os.replace(data_file, target.with_name(data_name))
        except BaseException:
            Path(data_file).unlink(missing_ok=True)
            raise
        write_atomically(target, proto.SerializeToString())


_PACKED = {
    getattr(TensorProto, name)
    for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")
    if hasattr(TensorProto, name)
}


def load(source: ModelLike) -> Model:
    """Read a model and make it ready for analysis.

    Parameters
    ----------
    source : path, bytes, onnx.ModelProto, onnx_graphsurgeon.Graph or Model
        A ``Model`` is returned as it is. A given proto is not changed.

    Raises
    ------
    ModelError
        If it cannot be read, fails the ONNX checker, or uses an operator set older than 7.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, onnx.ModelProto):
        model = Model(source)
    elif isinstance(source, bytes):
        model = Model(_parse(source, "the given bytes"))
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        model = Model(_parse(_read(path), f"'{path}'"), path.parent, path)
    elif hasattr(source, "nodes") and hasattr(source, "tensors"):
        import onnx_graphsurgeon as gs

        model = Model(gs.export_onnx(source))
    else:
        raise ModelError(f"cannot load a model from {type(source).__name__}")
    _check(model)
    return _normalise(model)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read '{path}': {(error.strerror or str(error)).lower()}"
        ) from None


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(f"{name} is not an ONNX model, or is cut short") from None
    return proto


def _check(model: Model) -> None:
    """Refuse what the ONNX checker refuses, in one sentence."""
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
        first = " ".join(str(error).split("\n\n")[0].split("\n==>")[0].split())
        raise ModelError(f"the ONNX checker refuses the model: {first}") from None


def set_apart(proto: onnx.ModelProto) -> None:
    """Move what the checker refuses and onnxruntime runs to a domain of its own, for the checker."""
    parts: list[tuple[onnx.ModelProto | onnx.FunctionProto, list[onnx.NodeProto]]] = [
        (proto, list(node_protos(proto.graph))),
        *((function, list(function.node)) for function in proto.functions),
    ]
    for owner, nodes in parts:
        opset = opset_of(owner)
        strangers = [n for n in nodes if n.domain in ("", "ai.onnx") and _strange(n.op_type, opset)]
        for node in strangers:
            node.domain = "onnxruntime"
        if strangers:
            owner.opset_import.add(domain="onnxruntime", version=1)


@cache
def _strange(op: str, opset: int) -> bool:
    """Whether the checker refuses an operator of the default domain that onnxruntime runs.

    That is one of its own, or one that is deprecated but defined by others, which stand in for it:
    GroupNormalization of the opsets 18 to 20.
    """
    try:
        schema: Any = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return op in ADDED_BY_ONNXRUNTIME
    return schema.deprecated and (schema.has_function or schema.has_context_dependent_function)


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Copy in which large initializers hold no data: checking costs no time for the weights.

    External and raw data are kept out of the check; their sizes are verified when they are read.
    """
    light = skeleton(proto)
    for tensor in tensors(light.graph):  # those of nested graphs and of Constant nodes
        if external_data_helper.uses_external_data(tensor):
            name, dtype = tensor.name, tensor.data_type
            tensor.CopyFrom(TensorProto(name=name, data_type=dtype, dims=[0], raw_data=b""))
    for tensor in proto.graph.initializer:
        bare = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type)
        if prod(tensor.dims) <= 64 and not external_data_helper.uses_external_data(tensor):
            bare.CopyFrom(tensor)
        else:
            bare.dims[:] = [0]
            bare.raw_data = b""
    return light


def _normalise(model: Model) -> Model:
    """Inline local functions and make names unique over nested graphs, on a copy if needed."""
    proto = model.proto
    if proto.functions:
        proto = inline_local_functions(model.embedded())
    clashes = _clashes(proto.graph, set())
    if clashes:
        if proto is model.proto:
            proto = onnx.ModelProto()
            proto.CopyFrom(model.proto)
        _rename_clashes(proto.graph, set(), {})
    return Model(proto, model.folder, model.path)


def _own_names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in graph.input)
    initialised = {value.name for value in graph.input}
    yield from (t.name for t in graph.initializer if t.name not in initialised)
    for node in graph.node:
        yield from filter(None, node.output)


def _clashes(graph: onnx.GraphProto, seen: set[str]) -> bool:
    for name in _own_names(graph):
        if name in seen:
            return True
        seen.add(name)
    return any(_clashes(body, seen) for node in graph.node for _, body in bodies(node))


def _rename_clashes(graph: onnx.GraphProto, seen: set[str], scope: Mapping[str, str]) -> None:
    """Give a new name to what a nested graph defines under a name that is taken elsewhere."""
    scope = dict(scope)
    for name in _own_names(graph):
        fresh, number = name, 1
        while fresh in seen:
            number += 1
            fresh = f"{name}_{number}"
        seen.add(fresh)
        scope[name] = fresh
    named: list[Any] = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for value in named:
        value.name = scope.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [scope.get(name, name) for name in node.input]
        node.output[:] = [scope.get(name, name) for name in node.output]
        for _, body in bodies(node):
            _rename_clashes(body, seen, scope)


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause cyclic garbage collection: analysis makes many objects and drops none of them.

    It takes a third of the time of a trace otherwise.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def kept_dims(tensor: TensorProto, cut: tuple[np.ndarray | None, ...] | None) -> list[int]:
    """Sizes of a stored tensor once it is cut."""
    dims = list(tensor.dims)
    for axis, index in enumerate(cut or ()):
        dims[axis] = dims[axis] if index is None else index.shape[-1]
    return dims


def tensor_nbytes(tensor: TensorProto, cut: tuple[np.ndarray | None, ...] | None) -> int:
    """Size in bytes of a stored tensor once it is cut."""
    return payload(tensor.data_type, prod(kept_dims(tensor, cut)))


def let_go(array: np.ndarray) -> None:
    """Give back the memory of an array that is mapped from a file; it is read again if needed."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def payload(data_type: int, count: int) -> int:
    """Bytes of so many elements."""
    bits = 4 if data_type in _PACKED else 8 * _itemsize(data_type)
    return (count * bits + 7) // 8


@cache
def _itemsize(data_type: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _append_external(tensor: TensorProto, array: np.ndarray, out: Any, location: str) -> None:
    """Move one tensor's data to the end of an open data file, aligned to a page."""
    raw = numpy_helper.from_array(array).raw_data if tensor.data_type in _PACKED else None
    out.write(b"\0" * (-out.tell() % 4096))
    offset = out.tell()
    if raw is None:
        np.ascontiguousarray(array).tofile(out)
        out.flush()
        out.seek(0, os.SEEK_END)
    else:
        out.write(raw)
    tensor.dims[:] = array.shape
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", out.tell() - offset)):
        tensor.external_data.add(key=key, value=str(value))
