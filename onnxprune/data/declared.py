"""Given arrays against what a model declares of its inputs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from ..errors import UsageError
from ..printable import plural
from ..runtime.session import Arrays
from ..shapes.dimensions import declared_size


def as_declared(inputs: Iterable[onnx.ValueInfoProto], feeds: Arrays) -> Arrays:
    """The same arrays, those whose type a file of numpy's does not tell as the model declares them.

    bfloat16 and the like are no types of numpy's own: it saves them as mere bytes.
    """
    types = {v.name: v.type.tensor_type.elem_type for v in inputs}
    return {name: _as_type(array, types.get(name, 0)) for name, array in feeds.items()}


def _as_type(array: np.ndarray, declared: int) -> np.ndarray:
    if not _bytes(array.dtype) or not declared:
        return array
    dtype = onnx.helper.tensor_dtype_to_np_dtype(declared)
    foreign = dtype.isbuiltin == _REGISTERED and dtype.itemsize == array.dtype.itemsize
    return array.view(dtype) if foreign else array


def _bytes(dtype: np.dtype) -> bool:
    """Whether numpy knows nothing of the entries but how many bytes they take."""
    return dtype.type is np.void and dtype.fields is None and dtype.subdtype is None


_REGISTERED = 2
"""What ``isbuiltin`` says of a type that another package gave to numpy."""


def check_inputs(inputs: Iterable[onnx.ValueInfoProto], feeds: Arrays) -> None:
    """Compare given arrays with what the model declares; arrays that it does not name are ignored.

    Parameters
    ----------
    inputs : iterable of ValueInfoProto
        Those that a caller must feed.
    feeds : mapping

    Raises
    ------
    UsageError
        At the first input that is missing, or of another type or shape.
    """
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            continue
        expected = _declared(value.type.tensor_type)
        if value.name not in feeds:
            found = ", ".join(f"'{name}'" for name in feeds) or "none"
            raise UsageError(f"the data has no input '{value.name}': found {found}, expected {expected}")
        array = feeds[value.name]
        if not _fits(value.type.tensor_type, array):
            found = f"{array.dtype} {shown_dims(array.shape)}"
            raise UsageError(
                f"input '{value.name}': found {found}, expected {expected}", _hint(array, expected)
            )


def _hint(array: np.ndarray, expected: str) -> str:
    kind = expected.partition(" ")[0]
    if not _bytes(array.dtype) or not array.dtype.itemsize:
        return "" if str(array.dtype) == kind else f"Give it as {kind}."
    size = plural(array.dtype.itemsize, "byte")
    return f"Files of numpy do not tell which type of {size} that was: store it as {kind}."


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
