"""Inputs that a user gives: read them, and say which one does not fit the model."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx

from .errors import UsageError
from .runtime import Arrays
from .samples import graph_inputs


def load_data(source: str | os.PathLike[str] | Arrays) -> Mapping[str, np.ndarray]:
    """Inputs by name from an .npz file; a mapping is returned as it is.

    Raises
    ------
    UsageError
        If the file cannot be read.
    """
    if isinstance(source, Mapping):
        return source
    try:
        with Path(source).open("rb") as file:
            data = np.load(file, allow_pickle=False)
            if isinstance(data, np.ndarray):
                raise ValueError("it holds a single array")
            return {name: data[name] for name in data.files}
    except OSError as error:
        detail = (error.strerror or str(error)).lower()
    except (EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        detail = "it is damaged or cut short"
    except ValueError as error:
        pickled = "pickle" in str(error).lower()
        detail = "it is no archive of plain arrays" if pickled else str(error).lower()
    raise UsageError(f"cannot read data '{source}': {detail}", "Expected an .npz file with one array per input.")  # fmt: skip


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
            raise UsageError(f"the data has no input '{value.name}': found {found}, expected {expected}")  # fmt: skip
        array = feeds[value.name]
        if not _fits(value.type.tensor_type, array):
            found = f"{array.dtype} {_dims(array.shape)}"
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
        dim.dim_value <= 0 or dim.dim_value == size
        for dim, size in zip(dims, array.shape, strict=True)
    )


def _declared(tensor: onnx.TypeProto.Tensor) -> str:
    if tensor.elem_type == onnx.TensorProto.STRING:
        kind = "string"
    else:
        kind = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not tensor.HasField("shape"):
        return kind
    return f"{kind} {_dims([d.dim_value or d.dim_param or '?' for d in tensor.shape.dim])}"


def _dims(sizes: Iterable[object]) -> str:
    return "[" + ", ".join(map(str, sizes)) + "]"
