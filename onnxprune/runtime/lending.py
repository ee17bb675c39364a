"""Weights that onnxruntime reads where they lie, in place of a serialised copy of the model.

A session that is made from bytes holds the weights four times for a while: in the model, in the bytes,
in what onnxruntime parsed and in what its kernels packed. Here it is given the graph alone, and the
arrays beside it. Small tensors stay in the graph: onnxruntime reads shapes while it infers others.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, external_data_helper, numpy_helper

from ..model.engine import ort
from ..model.file import LEAST_LENT, PROTOBUF_LIMIT, Model, tensor_nbytes
from ..model.protos import skeleton, tensors

LENT = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT8, TensorProto.UINT8,
    TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32, TensorProto.UINT32, TensorProto.INT64,
    TensorProto.UINT64, TensorProto.BOOL,
}  # fmt: skip
"""Types that numpy has, too."""

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE}

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
    proto = skeleton(model.proto)
    values: dict[str, ort.OrtValue] = {}
    for tensor in model.proto.graph.initializer:
        stored = proto.graph.initializer.add()
        size = tensor_nbytes(tensor, model.cuts.get(tensor.name))
        if size < LEAST_LENT or tensor.data_type not in LENT or tensor.name in listed:
            stored.CopyFrom(tensor)
            continue
        array = np.require(model.array(tensor), requirements=["C", "A"])
        values[tensor.name] = ort.OrtValue.ortvalue_from_numpy(array)
        stored.name, stored.data_type = tensor.name, tensor.data_type
        stored.dims.extend(array.shape)
        stored.data_location = TensorProto.EXTERNAL
        stored.external_data.add(key="location", value="lent")
    kept = [t for t in tensors(proto.graph) if t.name not in values]
    if sum(tensor_nbytes(t, model.cuts.get(t.name)) for t in kept) > PROTOBUF_LIMIT:
        return None
    for tensor in kept:
        if external_data_helper.uses_external_data(tensor):
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(model.array(tensor)), tensor.name))
    options.add_external_initializers(list(values), list(values.values()))
    lent = [t for t in model.proto.graph.initializer if t.name in values]
    if {t.data_type for t in lent} <= FLOATS and sum(tensor_nbytes(t, None) for t in lent) > LARGE:
        options.add_session_config_entry("session.disable_prepacking", "1")
        for name, value in values.items():
            options.add_initializer(name, value)  # without it the session has a copy
    return proto.SerializeToString(), list(values.values())
