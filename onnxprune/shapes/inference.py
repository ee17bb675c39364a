"""Static shapes and shape arithmetic, before any label is set.

A dynamic model is looked at with two *sample settings* of its free dimensions. Every tensor has a
concrete shape in both; what agrees is static, and a value computed from shapes that agrees is a
constant. ONNX shape inference runs on a copy without weights (2 ms instead of 560 ms on
ResNet-50); a forward pass fills its gaps and evaluates the shape arithmetic that exporters write.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, numpy_helper

from ..model.effort import NOT_INFERRED
from ..model.evaluation import evaluable, evaluate
from ..model.graph import Graph
from ..model.node import Body, Node
from ..model.operators import Trait, traits_of
from ..model.protos import copied
from ..runtime.custom import CUSTOM, shapes_behind
from . import control
from .dimensions import SAMPLE_COUNT, FreeDimensions
from .microsoft import infer_contributed
from .quantized import infer_quantized
from .setting import Setting, Shape
from .weightless import SMALL, bare_model, say_onesided

VALUE_LIMIT = 4096
"""Largest tensor, in elements, whose value is followed through shape arithmetic."""

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


def infer(graph: Graph, sizes: FreeDimensions, number: int = 0) -> Setting:
    """Shapes, types and small values of one setting, with the free dimensions set to ``sizes``.

    Parameters
    ----------
    number : {0, 1}
        Of the setting, which says what stands in for sizes that depend on data.
    """
    setting = Setting(sizes, SAMPLE_COUNT[number])
    bare = bare_model(graph.model, sizes)
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except NOT_INFERRED:
        inferred = bare
    _collect(inferred.graph, setting)
    for name, constant in graph.constants.items():
        setting.shapes[name] = constant.shape
        setting.dtypes[name] = constant.dtype
        if constant.dtype == TensorProto.INT64 and constant.size <= SMALL:
            _known(graph, name, setting)  # sizes, axes and bounds
    forward(graph, graph.main, setting)
    return setting


def _collect(graph: onnx.GraphProto, setting: Setting) -> None:
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.HasField("tensor_type"):
            tensor = value.type.tensor_type
            if tensor.elem_type:
                setting.dtypes.setdefault(value.name, tensor.elem_type)
            dims = _declared(tensor)
            if dims is not None:
                setting.shapes.setdefault(value.name, dims)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _collect(attribute.g, setting)


def _declared(kind: TypeProto.Tensor) -> Shape | None:
    """Shape of a tensor type, None where it has an open dimension (Paddle writes -1)."""
    if not kind.HasField("shape"):
        return None
    dims = kind.shape.dim
    sizes = tuple([dim.dim_value for dim in dims])
    if min(sizes, default=1) > 0:
        return sizes
    return sizes if all(d.HasField("dim_value") and d.dim_value >= 0 for d in dims) else None


def forward(graph: Graph, body: Body, setting: Setting) -> None:
    """Evaluate shape arithmetic and fill the gaps of shape inference, in topological order."""
    for node in body.nodes:
        if control.follows(node):
            known = partial(_known, graph, setting=setting)
            control.follow(node, setting, known, partial(forward, graph))
        elif node.op == "Identity" and node.inputs[0] in setting.sequences:
            setting.sequences[node.output] = setting.sequences[node.inputs[0]]
        elif not _evaluate(graph, node, setting) and any(
            name and name not in setting.shapes for name in node.outputs
        ):
            _infer_node(graph, node, setting)


def _known(graph: Graph, name: str, setting: Setting) -> np.ndarray | None:
    """Value of a tensor if it is small and known."""
    if name in setting.values:
        return setting.values[name]
    constant = graph.constants.get(name)
    if constant is None or constant.size > VALUE_LIMIT or constant.dtype == TensorProto.STRING:
        return None
    value = np.asarray(graph.value(name))
    setting.values[name] = value
    return value


def _evaluate(graph: Graph, node: Node, setting: Setting) -> bool:
    """Compute the outputs of a node from known values; False where that is not possible."""
    if not evaluable(node):
        return False
    asks = node.kind in ("Shape", "Size")
    results = _dims(node, setting) if asks else _computed(graph, node, setting)
    if results is None:
        return False
    for name, value in zip(node.outputs, results, strict=False):
        if name:
            setting.shapes[name] = value.shape
            setting.dtypes[name] = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            if value.size <= VALUE_LIMIT:
                setting.values[name] = value
    return True


def _dims(node: Node, setting: Setting) -> list[np.ndarray] | None:
    """What a Shape or Size gives; None where the shape is not known."""
    shape = setting.shapes.get(node.inputs[0])
    if shape is None:
        return None
    dims = np.array(shape, np.int64)
    return [
        dims[slice(node.attr("start", 0), node.attr("end"))] if node.op == "Shape" else np.array(dims.prod())
    ]


def _computed(graph: Graph, node: Node, setting: Setting) -> Sequence[np.ndarray] | None:
    """What a node gives if all that it reads is known and small; None otherwise."""
    large = any(prod(setting.shapes.get(name, ())) > VALUE_LIMIT for name in node.outputs)
    if node.kind == "Constant" or large:
        return None
    if any(n and n not in setting.values and n not in graph.constants for n in node.inputs):
        return None  # before the constants among them are decoded
    inputs = [_known(graph, name, setting) if name else None for name in node.inputs]
    if any(v is None for v, name in zip(inputs, node.inputs, strict=True) if name):
        return None
    graph.effort.admit(node, inputs)
    return evaluate(node, inputs)


def _infer_node(graph: Graph, node: Node, setting: Setting) -> None:
    """Infer the output types of one node from the shapes and values known by now."""
    if node.domain or node.op == "SimplifiedLayerNormalization":
        infer_quantized(node, setting)
        infer_contributed(node, setting)
        _infer_custom(node, setting)
    if node.domain or not all(name in setting.dtypes for name in node.inputs if name):
        return
    if Trait.LIKE_FIRST in traits_of(node) and node.inputs[0] in setting.shapes:
        setting.shapes[node.output] = setting.shapes[node.inputs[0]]
        setting.dtypes[node.output] = setting.dtypes[node.inputs[0]]
        return
    for name, found in _types_behind(graph, node, setting).items():
        tensor = found.tensor_type
        if tensor.elem_type:
            setting.dtypes[name] = tensor.elem_type
        if tensor.HasField("shape"):
            dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
            _complete(graph, node, name, dims, setting)


def _types_behind(graph: Graph, node: Node, setting: Setting) -> dict[str, TypeProto]:
    """What onnx infers of the outputs of one node; nothing where it refuses."""
    types, data = {}, {}
    for name in filter(None, node.inputs):
        types[name] = onnx.helper.make_tensor_type_proto(setting.dtypes[name], setting.shapes.get(name))
        value = _known(graph, name, setting)
        if value is not None and value.size <= VALUE_LIMIT:
            data[name] = numpy_helper.from_array(value)
    proto = copied(node.proto)
    proto.input[:] = node.inputs
    say_onesided(proto)
    try:
        schema = onnx.defs.get_schema(node.op, node.opset, node.domain)
        return onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=_opsets(graph)
        )
    except (onnx.defs.SchemaError, *NOT_INFERRED):
        return {}


def _infer_custom(node: Node, setting: Setting) -> None:
    """Shapes behind an operator of the user's own, of the type of its first input."""
    inputs = [setting.shapes.get(name) if name else None for name in node.inputs]
    known = all(shape is not None for shape, name in zip(inputs, node.inputs, strict=True) if name)
    if (node.domain, node.op) not in CUSTOM or not known or not node.inputs:
        return
    for name, shape in zip(node.outputs, shapes_behind(node.proto, inputs), strict=True):
        if name and node.inputs[0] in setting.dtypes:
            setting.shapes[name] = shape
            setting.dtypes[name] = setting.dtypes[node.inputs[0]]


def _complete(graph: Graph, node: Node, name: str, dims: list[int | None], setting: Setting) -> None:
    """Record a shape; sizes that depend on data take the sample count."""
    if None in dims and Trait.SIZED_BY_DATA in traits_of(node):
        kept: Sequence[int] = ()
        if node.op == "Slice" and len(node.inputs) > 3:
            axes = _known(graph, node.inputs[3], setting)
            kept = setting.shapes.get(node.inputs[0], ()) if axes is not None else ()
            sliced = {int(k) % len(dims) for k in axes} if axes is not None else set()
            kept = [setting.count if k in sliced else size for k, size in enumerate(kept)]
        kept = kept or [setting.count] * len(dims)
        dims = [k if d is None else d for d, k in zip(dims, kept, strict=True)]
        setting.sampled = True
    if None not in dims:
        setting.shapes[name] = tuple(int(d) for d in dims if d is not None)


def _opsets(graph: Graph) -> list[onnx.OperatorSetIdProto]:
    return [onnx.helper.make_opsetid(d, v) for d, v in graph.opsets.items()]
