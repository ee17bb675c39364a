"""A model as it stands in its file: its tensors, and how it is saved.

The ``ModelProto`` is the truth. It is never converted to another representation, so whatever is
not touched survives byte for byte. Weights stay where they are, in the proto, in external data files
or, if it is large, in the file of the model itself, until somebody asks for one of them; what lies in
files is written tensor by tensor.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

from ..errors import ModelError, UnusableError
from ..files.writing import write_graph, write_with_data
from ..printable import plural
from .cut import PACKED, Cut, kept_dims, take, tensor_nbytes
from .external import DataFile, Place, data_files, region
from .mapped import in_memory, kept_blocks, mapped
from .protos import (
    byte_size,
    copied,
    data_file,
    emptied,
    field_size,
    opset_of,
    skeleton,
    tensor_size,
    tensors,
    was_left,
)
from .source import DataFiles, Source
from .wire import write_around

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs
    import onnx_ir


ModelLike: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto | onnx_ir.Model | gs.Graph | Model"

Cuts: TypeAlias = "dict[str, Cut]"

PROTOBUF_LIMIT = 2**31 - 2**26
"""Weights beyond this many bytes do not fit into one protobuf message with their graph."""

LEAST_LENT = 4096
"""Bytes from which on an initializer is lent, to a copy of its model or to a session."""


@dataclass(eq=False, repr=False)
class Model:
    """An ONNX model and the place of its external data.

    Attributes
    ----------
    proto : onnx.ModelProto
        The model; functions are inlined and names are unique over all nested graphs. Of weights that
        lie in files it says where; :meth:`embedded` has them all.
    folder : pathlib.Path or None
        Folder that external data locations are relative to.
    path : pathlib.Path or None
        File that the model was read from.
    source : Source or None
        What those bytes were; the file may be another one by now.
    files : DataFiles
        Files of external data, shared by all models that are made from this one.
    cuts : dict
        Initializers with external data that are sliced when they are read: name -> one index
        array (or None) per axis. Filled by the rewriter.
    lender : Model or None
        Where initializers are that have a name and a shape here, see :func:`borrow`.
    """

    proto: onnx.ModelProto
    folder: Path | None = None
    path: Path | None = None
    cuts: Cuts = field(default_factory=dict)
    source: Source | None = None
    files: DataFiles = None  # type: ignore[assignment]
    lender: Model | None = None

    def __post_init__(self) -> None:
        if self.files is None:
            self.files = DataFiles(self.folder)

    def __repr__(self) -> str:
        name = f"'{self.path}', " if self.path else ""
        return f"Model({name}{plural(len(self.proto.graph.node), 'node')}, opset {self.opset})"

    def derived(self, proto: onnx.ModelProto, cuts: Cuts | None = None) -> Model:
        """A model that is made from this one, hence reads the same external data."""
        cuts = dict(self.cuts) if cuts is None else cuts
        return Model(proto, self.folder, None, cuts, files=self.files, lender=self.lender)

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
                raise ModelError(
                    f"tensor '{tensor.name}': its data does not fill the shape {list(tensor.dims)}"
                ) from None
        if self.lender is not None and not tensor.external_data:
            return self.lender.array(self.lender.initializers[tensor.name])
        whole, cut = self._read_external(tensor), self.cuts.get(tensor.name)
        if cut is None or mapped(whole) is None:
            return take(whole, cut or ())
        return in_memory(whole, cut, kept_dims(tensor, cut))

    def shared(self, tensor: TensorProto) -> np.ndarray:
        """The same for all who hold it, contiguous and aligned: mapped where the file has it so, else a copy."""
        if not external_data_helper.uses_external_data(tensor):
            return np.require(self.array(tensor), requirements=["C", "A"])
        if self.lender is not None and not tensor.external_data:
            return self.lender.shared(self.lender.initializers[tensor.name])
        whole, cut = self._read_external(tensor), self.cuts.get(tensor.name)
        if cut is None and whole.flags.aligned:
            return whole
        dims = kept_dims(tensor, cut)
        key = "copy", *region(tensor, cut), tensor.data_type, *dims
        found = self.files.held.get(key)
        if found is None:
            found = self.files.held[key] = in_memory(whole, cut or (), dims)
        return found

    def place(self, tensor: TensorProto) -> tuple[Path, int] | None:
        """File and offset where a tensor lies as it is read; None where there is no such place."""
        if not external_data_helper.uses_external_data(tensor):
            return None
        if self.lender is not None and not tensor.external_data:
            return self.lender.place(self.lender.initializers[tensor.name])
        if self._cut(tensor) is not None:
            return None
        array = self._read_external(tensor)
        if not isinstance(array, np.memmap):
            return None
        path = Path(str(array.filename))
        gone = was_left(tensor) and self.files.own is not None and not self.files.own.is_at(path)
        return None if gone else (path, array.offset)

    def parts(self, tensor: TensorProto) -> Iterator[bytes | memoryview]:
        """The bytes of a stored tensor, some at a time where it lies in a file."""
        outside = external_data_helper.uses_external_data(tensor)
        if outside and self.lender is not None and not tensor.external_data:
            yield from self.lender.parts(self.lender.initializers[tensor.name])
            return
        array = self._read_external(tensor) if outside else self.array(tensor)
        cut = self._cut(tensor) or ()
        if tensor.data_type in PACKED:
            yield numpy_helper.from_array(take(array, cut)).raw_data
        else:
            yield from (block.reshape(-1).view(np.uint8).data for block in kept_blocks(array, cut))

    def _read_external(self, tensor: TensorProto) -> np.ndarray:
        place, size = Place.of(tensor), tensor_nbytes(tensor, None)
        owner, start = f"tensor '{tensor.name}'", place.offset or 0
        if was_left(tensor) and self.files.own is not None:
            return self._mapped(self.files.own.look(owner), tensor, start)
        path = self.files.look(place.location, owner)
        if start + size > path.stat().st_size:
            raise UnusableError(f"{owner}: external data '{place.location}' is cut short")
        if size == 0 or tensor.data_type in PACKED:
            with path.open("rb") as file:
                file.seek(start)
                loaded = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=file.read(size))
            return numpy_helper.to_array(loaded)
        return self._mapped(path, tensor, start)

    def _mapped(self, file: Path | FileIO, tensor: TensorProto, start: int) -> np.ndarray:
        """Part of a file; mapped once, so that who lets it go frees the memory."""
        key = "map", data_file(tensor), start, tensor.data_type, *tensor.dims
        found = self.files.held.get(key)
        if found is None:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            found = self.files.held[key] = np.memmap(file, dtype, "r", start, tuple(tensor.dims))
        return found

    def _cut(self, tensor: TensorProto) -> Cut | None:
        """How a tensor is sliced when it is read."""
        return self.cuts.get(tensor.name) if external_data_helper.uses_external_data(tensor) else None

    @cached_property
    def initializers(self) -> dict[str, TensorProto]:
        """Those of the main graph by name."""
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    @property
    def external(self) -> bool:
        """Whether any weight lies outside the proto."""
        return any(map(external_data_helper.uses_external_data, tensors(self.proto.graph)))

    def data_files(self) -> set[Path]:
        """Files that hold external data."""
        folder = self.folder or Path()
        return {folder / location for location in self.locations()}

    def locations(self) -> set[str]:
        """Files that hold external data, relative to the folder."""
        return {
            data_file(tensor)
            for tensor in tensors(self.proto.graph)
            if external_data_helper.uses_external_data(tensor) and data_file(tensor)
        }

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return opset_of(self.proto)

    def nbytes(self) -> int:
        """Size in bytes of the model as it would be saved, external data included."""
        outside = sum({
            region(t, self.cuts.get(t.name)): tensor_nbytes(t, self.cuts.get(t.name))
            for t in tensors(self.proto.graph)
            if external_data_helper.uses_external_data(t) and not was_left(t)
        }.values())  # fmt: skip
        if self.source is not None:
            return self.source.size + outside
        return byte_size(self.proto, self._tensor_size) + outside

    def _tensor_size(self, tensor: TensorProto) -> int:
        """Bytes of a tensor in the file."""
        if not was_left(tensor):
            return tensor_size(tensor, tensor_nbytes(tensor, None))
        cut = self._cut(tensor)
        bare = emptied(tensor, kept_dims(tensor, cut)).ByteSize()
        return bare - field_size(0) + field_size(tensor_nbytes(tensor, cut))

    @property
    def weight_bytes(self) -> int:
        """Size of the stored tensors alone (``ByteSize`` takes as long as writing the file)."""
        cuts = self.cuts
        return sum([tensor_nbytes(t, cuts.get(t.name) if cuts else None) for t in tensors(self.proto.graph)])

    def sha256(self) -> str:
        """Digest of the file that was read, or else of the proto; not of external data files."""
        if self.source is not None:
            return self.source.sha256
        return hashlib.sha256(self.proto.SerializeToString(deterministic=True)).hexdigest()

    def embedded(self) -> onnx.ModelProto:
        """Proto with every weight inside it; ``proto`` itself where that is already so."""
        if not (self.external or self._placed_outside()):
            return self.proto
        proto = copied(self.proto)
        for tensor in tensors(proto.graph):
            if was_left(tensor):
                data = b"".join(self.parts(tensor))
                tensor.CopyFrom(emptied(tensor, kept_dims(tensor, self._cut(tensor))))
                tensor.raw_data = data
            elif external_data_helper.uses_external_data(tensor):
                tensor.CopyFrom(numpy_helper.from_array(np.asarray(self.array(tensor)), tensor.name))
            tensor.ClearField("external_data")
        return proto

    def to_graphsurgeon(self) -> gs.Graph:
        """The model as an onnx-graphsurgeon graph (metadata that it cannot hold is dropped)."""
        import onnx_graphsurgeon as gs

        return gs.import_onnx(self.embedded())

    def to_ir(self) -> onnx_ir.Model:
        """The model as one of onnx_ir, which onnxscript's passes take."""
        import onnx_ir

        return onnx_ir.from_proto(self.embedded())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model atomically: the target is either the old file or the whole new one.

        A model that came with external data gets as many data files, see :mod:`.external`. Each is named by
        its content, ``NAME.0123456789abcdef.data`` or what of it is no longer than the name that it had.
        Data files of an older model of that name go if they were written here; where this model reads
        them, it reads what was written from then on.
        """
        target = Path(path)
        if not target.parent.is_dir():
            raise ModelError(f"cannot write '{target}': no folder '{target.parent}'")
        if self._placed_outside() or self.weight_bytes > PROTOBUF_LIMIT:
            self._save_external(target)
        else:
            write_graph(target, self._written(self.proto))

    def _written(self, proto: onnx.ModelProto) -> Iterator[bytes | memoryview]:
        """What a file of a proto holds; weights that were left in the file of this model get into it."""
        left = {k: t for k, t in enumerate(proto.graph.initializer) if was_left(t)}
        if not left:
            yield proto.SerializeToString()
            return
        light = copied(proto)
        weights = {}
        for k, tensor in left.items():
            cut = self._cut(tensor)
            light.graph.initializer[k].CopyFrom(emptied(tensor, kept_dims(tensor, cut)))
            weights[k] = tensor_nbytes(tensor, cut), self.parts(tensor)
        yield from write_around(light.SerializeToString(), weights)

    def _placed_outside(self) -> bool:
        """Whether any tensor came from a data file, though it may have new values in the proto."""
        return any(map(data_file, tensors(self.proto.graph)))

    def _save_external(self, target: Path) -> None:
        proto = copied(self.proto)
        outside = [t for t in tensors(proto.graph) if data_file(t)]
        inside = [
            t for t in tensors(proto.graph) if was_left(t) or (t.HasField("raw_data") and not data_file(t))
        ]
        crowded = sum(tensor_nbytes(t, self._cut(t)) for t in inside) > PROTOBUF_LIMIT
        inside = [t for t in inside if crowded and tensor_nbytes(t, self._cut(t)) > 1024]
        files = data_files(outside, inside, self._cut)

        def graph(names: Sequence[str]) -> Iterator[bytes | memoryview]:
            for file, name in zip(files, names, strict=True):
                file.name(name)
            return self._written(proto)

        read = {file.resolve() for file in self.data_files()}
        write = partial(DataFile.write, parts=self.parts, place=self.place, cut=self._cut)
        data = [(partial(write, file), file.limit) for file in files]

        def moved(written: list[Path]) -> None:
            if not read.isdisjoint(written) or not all(file.is_file() for file in read):
                left = {t.name for t in proto.graph.initializer if was_left(t)}
                self.proto, self.folder = proto, target.resolve().parent
                self.cuts = {name: cut for name, cut in self.cuts.items() if name in left}
                self.__dict__.pop("initializers", None)
                self.files = DataFiles(self.folder, self.files.own)
                self.files.remember(path.name for path in written)

        write_with_data(target, data, graph, moved)


def borrow(lender: Model, names: Collection[str] | None = None) -> Model:
    """A copy of a model to be edited, which reads large initializers of the original in their place.

    Small ones, which say how often a loop runs or what a shape is, are copied; so are those of nested
    graphs.

    Parameters
    ----------
    names : collection of str, optional
        Initializers that it has; all of them by default.
    """
    proto = skeleton(lender.proto)
    for tensor in lender.proto.graph.initializer:
        if names is not None and tensor.name not in names:
            continue
        cut = lender.cuts.get(tensor.name)
        slim = proto.graph.initializer.add()
        if tensor_nbytes(tensor, cut) < LEAST_LENT:
            slim.CopyFrom(tensor)
            continue
        slim.name, slim.data_type = tensor.name, tensor.data_type
        slim.dims.extend(kept_dims(tensor, cut))
        slim.data_location = TensorProto.EXTERNAL
    borrowed = lender.derived(proto)
    borrowed.lender = lender
    return borrowed


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
