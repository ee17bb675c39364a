"""A model of 16-bit floats as one of 32 bits, so that rounding hides nothing.

A half keeps three digits: two channels that were swapped can move the outputs of a network by less
than rounding does. With every stored half made a float32, which loses nothing, the same graph
computes the same function to seven digits.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from ..model.protos import copied, graphs, node_protos, tensors
from ..runtime.session import Arrays

HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}

TYPE_ATTRIBUTES = {"dtype", "output_datatype", "output_dtype", "softmax_precision", "stash_type", "to"}
"""Integer attributes of the ONNX operators that name the type of a tensor."""


def has_halves(proto: onnx.ModelProto) -> bool:
    """Whether a model stores, takes or casts to 16-bit floats."""
    stored = any(tensor.data_type in HALVES for tensor in tensors(proto.graph))
    taken = any(value.type.tensor_type.elem_type in HALVES for value in proto.graph.input)
    return stored or taken or any(_names_half(a) for n in node_protos(proto.graph) for a in n.attribute)


def widened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of a model with float32 in place of every 16-bit float; weights are inside it."""
    wide = copied(proto)
    for tensor in tensors(wide.graph):
        if tensor.data_type in HALVES:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for graph in graphs(wide.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            _widen_type(value.type)
    for node in node_protos(wide.graph):
        for attribute in node.attribute:
            if _names_half(attribute):
                attribute.i = TensorProto.FLOAT
    return wide


def widened_feeds(feeds: Arrays) -> Arrays:
    """Inputs of the wide model."""
    halves = {onnx.helper.tensor_dtype_to_np_dtype(dtype) for dtype in HALVES}
    return {name: v.astype(np.float32) if v.dtype in halves else v for name, v in feeds.items()}


def _names_half(attribute: AttributeProto) -> bool:
    known = attribute.type == AttributeProto.INT and attribute.name in TYPE_ATTRIBUTES
    return known and attribute.i in HALVES


def _widen_type(kind: onnx.TypeProto) -> None:
    """Change the element type of a tensor, also of one in a sequence or an optional."""
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    if kind.tensor_type.elem_type in HALVES:
        kind.tensor_type.elem_type = TensorProto.FLOAT
