"""Weights that onnxruntime reads where they lie, in place of a serialised copy of the model.

A session that is made from bytes holds the weights four times for a while: in the model, in the bytes,
in what onnxruntime parsed and in what its kernels packed. Here it is given the graph alone, and the
arrays beside it. Those that lie in a data file just as they are read are named only: onnxruntime maps
the file, whereas it copies arrays while it loads. Small tensors stay in the graph: onnxruntime reads
shapes while it infers others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, external_data_helper, numpy_helper

from ..model.cut import kept_dims, payload, tensor_nbytes
from ..model.engine import ort
from ..model.file import LEAST_LENT, PROTOBUF_LIMIT, Model
from ..model.protos import skeleton, tensors

LENT = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT8, TensorProto.UINT8,
    TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32, TensorProto.UINT32, TensorProto.INT64,
    TensorProto.UINT64, TensorProto.BOOL,
}  # fmt: skip
"""Types that numpy has, too."""

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE}

FOLDER = "session.model_external_initializers_file_folder_path"
"""Option that says where the data files of a model lie that comes as bytes."""

LARGE = 30_000_000
"""Bytes of floats from which on kernels keep no weights packed anew: of a few runs they save less than
it takes to make the copy. Those that hold integers may know packed weights only."""


def lend(model: Model, options: ort.SessionOptions) -> tuple[bytes, list[ort.OrtValue]] | None:
    """Give the large weights of a model to a session that is to be made.

    Returns
    -------
    tuple or None
        The model without them, and what has to live as long as the session; None where what is left
        fits into no message.
    """
    listed = {value.name for value in model.proto.graph.input}
    large = _large(model, listed)
    proto = skeleton(model.proto)
    values: dict[str, ort.OrtValue] = {}
    copied: dict[str, ort.OrtValue] = {}
    lent: list[TensorProto] = []
    for tensor in model.proto.graph.initializer:
        stored = proto.graph.initializer.add()
        if not _lent(model, tensor, listed):
            stored.CopyFrom(tensor)
            continue
        place, name = _place(model, tensor), tensor.name
        if place is not None and not large and place[1] % payload(tensor.data_type, 1):
            place = None  # kernels would read numbers at odd addresses
        if large or place is None:
            values[name] = ort.OrtValue.ortvalue_from_numpy(model.shared(tensor))
        if place is None:
            copied[name], place = values[name], ("lent", 0)
        _name_only(stored, tensor, kept_dims(tensor, model.cuts.get(name)), place)
        lent.append(stored)
    names = {tensor.name for tensor in lent}
    kept = [t for t in tensors(proto.graph) if t.name not in names]
    if sum(tensor_nbytes(t, model.cuts.get(t.name)) for t in kept) > PROTOBUF_LIMIT:
        return None
    for tensor in kept:
        if external_data_helper.uses_external_data(tensor):
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(model.array(tensor)), tensor.name))
    options.add_external_initializers(list(copied), list(copied.values()))
    options.add_session_config_entry(FOLDER, str(model.files.folder))
    if large:
        options.add_session_config_entry("session.disable_prepacking", "1")
        for name, value in values.items():
            options.add_initializer(name, value)  # without it the session has a copy
    return proto.SerializeToString(), list(values.values())


def _lent(model: Model, tensor: TensorProto, listed: set[str]) -> bool:
    """Whether a tensor stays where it is."""
    large = tensor_nbytes(tensor, model.cuts.get(tensor.name)) >= LEAST_LENT
    return large and tensor.data_type in LENT and tensor.name not in listed


def _large(model: Model, listed: set[str]) -> bool:
    """Whether kernels shall read the weights where they lie, too."""
    lent = [t for t in model.proto.graph.initializer if _lent(model, t, listed)]
    size = sum(tensor_nbytes(t, model.cuts.get(t.name)) for t in lent)
    return size > LARGE and {t.data_type for t in lent} <= FLOATS


def _place(model: Model, tensor: TensorProto) -> tuple[str, int] | None:
    """Data file, relative to the folder of the model, and offset where a tensor lies; None where nowhere."""
    place = model.place(tensor)
    if place is None or not place[0].is_relative_to(model.files.folder):
        return None
    return str(place[0].relative_to(model.files.folder)), place[1]


def _name_only(
    stored: TensorProto, tensor: TensorProto, shape: Sequence[int], place: tuple[str, int]
) -> None:
    """Make an empty tensor one of that name and type whose data lie elsewhere."""
    stored.name, stored.data_type = tensor.name, tensor.data_type
    stored.dims.extend(shape)
    stored.data_location = TensorProto.EXTERNAL
    for key, value in zip(("location", "offset"), place, strict=True):
        stored.external_data.add(key=key, value=str(value))
