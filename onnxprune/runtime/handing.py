"""Arrays of types that numpy has from another package, for onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from ..model.engine import ort

NO_ARRAY = (
    "onnxruntime gives Python no output of that type: put a Cast behind it, or prune without data and checks."
)


def handed(feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of a session: arrays, but tensors of onnxruntime's own where it takes no array of such a type."""
    return {name: _tensor(value) if _foreign(value) else value for name, value in feeds.items()}


def _foreign(value: Any) -> bool:
    """Whether an array is one of bfloat16 or float8, whose entries are whole bytes."""
    return isinstance(value, np.ndarray) and value.dtype.name.startswith(("bfloat16", "float8_"))


def _tensor(array: np.ndarray) -> ort.OrtValue:
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
        bits, onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    )
