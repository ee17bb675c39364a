"""Given arrays against what a model declares of its inputs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from ..errors import UsageError
from ..runtime.session import Arrays
from ..shapes.dimensions import declared_size, graph_inputs


def check_inputs(proto: onnx.ModelProto, feeds: Arrays) -> None:
    """Compare given arrays with what the model declares; arrays that it does not name are ignored.

    Raises
    ------
    UsageError
        At the first input that is missing, or of another type or shape.
    """
    for value in graph_inputs(proto):
        if not value.type.HasField("tensor_type"):
            continue
        expected = _declared(value.type.tensor_type)
        if value.name not in feeds:
            found = ", ".join(f"'{name}'" for name in feeds) or "none"
            raise UsageError(f"the data has no input '{value.name}': found {found}, expected {expected}")
        array = feeds[value.name]
        if not _fits(value.type.tensor_type, array):
            found = f"{array.dtype} {shown_dims(array.shape)}"
            raise UsageError(f"input '{value.name}': found {found}, expected {expected}")


def _fits(declared: onnx.TypeProto.Tensor, array: np.ndarray) -> bool:
    if declared.elem_type != onnx.TensorProto.STRING:
        if array.dtype != onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type):
            return False
    elif array.dtype.kind not in "OSU":
        return False
    if not declared.HasField("shape"):
        return True
    dims = declared.shape.dim
    return len(dims) == array.ndim and all(
        declared_size(dim) in (None, size) for dim, size in zip(dims, array.shape, strict=True)
    )


def _declared(tensor: onnx.TypeProto.Tensor) -> str:
    if tensor.elem_type == onnx.TensorProto.STRING:
        kind = "string"
    else:
        kind = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not tensor.HasField("shape"):
        return kind
    return f"{kind} {shown_dims(map(_shown, tensor.shape.dim))}"


def _shown(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    size = declared_size(dim)
    return dim.dim_param or "?" if size is None else size


def shown_dims(sizes: Iterable[object]) -> str:
    """Sizes as messages show them."""
    return "[" + ", ".join(map(str, sizes)) + "]"
