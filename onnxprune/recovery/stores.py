"""Writing a weight back to where the file keeps it.

A node may read its weight behind nodes that move or decode what is stored. The way back undoes
them one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from ..model.graph import Graph
from ..model.node import Node
from ..model.quantization import quantize


class Unwritable(Exception):
    """A stored tensor cannot take a new value; the message says why."""


def write_back(graph: Graph, name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """The constant, and its new value, that makes ``name`` take a value.

    Raises
    ------
    Unwritable
        If several nodes share it, or it is computed from others.
    """
    while name not in graph.constants:
        maker = graph.derived.get(name)
        back = _BACK.get(maker.kind) if maker is not None else None
        if maker is None or back is None:
            raise Unwritable(f"'{name}' is computed from other constants")
        _alone(graph, name)
        value = back(graph, maker, value)
        name = maker.inputs[0]
    _alone(graph, name)
    constant = graph.constants[name]
    if constant.tensor is None:
        raise Unwritable(f"'{name}' is not stored as a plain tensor")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(constant.dtype)
    if dtype.kind == "f":
        value = np.clip(value, np.finfo(dtype).min, np.finfo(dtype).max)
    return name, np.ascontiguousarray(value.astype(dtype).reshape(constant.shape))


def read_once(graph: Graph, name: str) -> None:
    """Refuse what several nodes read, as it is or behind nodes that move it.

    A matrix may be a vector in the slim model, whose uses have names of their own there.

    Raises
    ------
    Unwritable
    """
    while name:
        _alone(graph, name)
        maker = graph.derived.get(name) if name not in graph.constants else None
        name = maker.inputs[0] if maker is not None and maker.kind in _BACK else ""


def _alone(graph: Graph, name: str) -> None:
    readers = graph.consumers.get(name, [])
    uses = sum(node.inputs.count(name) for node in readers)
    if uses > 1 or name in graph.returned:
        raise Unwritable(f"'{name}' is read in several places")


def _same(graph: Graph, node: Node, value: np.ndarray) -> np.ndarray:
    return value.reshape(np.shape(graph.value(node.inputs[0])))


def _transpose(graph: Graph, node: Node, value: np.ndarray) -> np.ndarray:
    order = node.attr("perm", list(reversed(range(value.ndim))))
    return value.transpose(np.argsort(order))


def _dequantize(graph: Graph, node: Node, value: np.ndarray) -> np.ndarray:
    """Round to the stored numbers by the scale and zero point that are there."""
    _, scale, point = node.take(3)
    old = np.asarray(graph.value(node.inputs[0]))
    if old.dtype.kind not in "iu":
        raise Unwritable(f"{node} decodes a format that has no way back")
    zero = np.asarray(graph.value(point)) if point else np.zeros((), old.dtype)
    factor = np.asarray(graph.value(scale))
    return quantize(value.astype(np.float32), factor, zero, node.attr("axis", 1), node.attr("block_size", 0))


_BACK: dict[str, Callable[[Graph, Node, np.ndarray], np.ndarray]] = {
    "Cast": _same, "Flatten": _same, "Identity": _same, "Reshape": _same, "Squeeze": _same,
    "Unsqueeze": _same, "Transpose": _transpose, "DequantizeLinear": _dequantize,
}  # fmt: skip
