"""Inputs that are made up for a model where nobody gives any."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from ..errors import ModelError
from ..model.graph import Graph
from ..model.node import Node
from ..model.operators import Trait, traits_of
from .dimensions import FreeDimensions, graph_inputs
from .inference import infer
from .told import stored_shape

ITERATIONS = 3
"""Trip count given to a Loop that takes it as an input of the model."""


LONG = 8
"""Entries of an axis from which on it is taken for positions that neighbours depend on each other along."""


def synthetic_inputs(
    graph: Graph, sizes: FreeDimensions, seed: int = 0, *, smooth: bool = False
) -> dict[str, np.ndarray]:
    """Random inputs that a model accepts.

    Floats are standard normal. Integers stay inside the tables that they index; an integer that is
    compared with a constant takes that constant; lengths and masks are full.

    Parameters
    ----------
    sizes : mapping
        Sizes of the free dimensions.
    smooth : bool
        Whether floats vary slowly along long axes, but for the first one, as images and sounds do.
    """
    only_tensors(graph.model.proto)
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in graph_inputs(graph.model.proto):
        tensor = value.type.tensor_type
        shape = [sizes.get((value.name, k), d.dim_value) for k, d in enumerate(tensor.shape.dim)]
        hint = _integer_hint(graph, value.name, sizes) if tensor.elem_type in _INTEGERS else None
        made = _random(tensor.elem_type, shape, hint, rng)
        feeds[value.name] = _smooth(made) if smooth and tensor.elem_type not in _INTEGERS else made
    return feeds


def untold(proto: onnx.ModelProto) -> str:
    """Which input no data can hold, as it is no tensor; empty where there is none."""
    for value in graph_inputs(proto):
        kind = str(value.type.WhichOneof("value") or "tensor_type").removesuffix("_type").replace("_", " ")
        if kind != "tensor":
            return f"input '{value.name}' is of the kind '{kind}', which data cannot hold"
    return ""


def only_tensors(proto: onnx.ModelProto) -> None:
    """Refuse a model of such an input where it would be run.

    Raises
    ------
    ModelError
    """
    if problem := untold(proto):
        raise ModelError(problem, "It can be pruned without data, and is not verified then.")


def _smooth(values: np.ndarray) -> np.ndarray:
    """Noise with amplitudes that fall as one over the frequency, as those of images do (Field 1987)."""
    axes = [k for k, size in enumerate(values.shape) if k and size >= LONG]
    if not axes or values.dtype.kind in "bO":
        return values
    squares: np.ndarray = np.zeros((1,) * values.ndim)
    for k in axes:
        size = values.shape[k]
        frequency = np.fft.fftfreq(size) * size
        squares = squares + np.square(frequency).reshape([-1 if j == k else 1 for j in range(values.ndim)])
    spectrum = np.fft.fftn(values.astype(np.float64), axes=axes) / np.sqrt(np.maximum(squares, 1))
    found = np.fft.ifftn(spectrum, axes=axes).real
    return np.asarray(found / found.std()).astype(values.dtype)


def _random(
    dtype: int, shape: list[int], hint: int | np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Random values of one input; see ``_integer_hint``."""
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    if dtype == TensorProto.BOOL:
        return np.ones(shape, np.bool_)
    if dtype == TensorProto.STRING:
        return np.full(shape, "a", object)
    if dtype not in _INTEGERS:
        return np.asarray(rng.standard_normal(shape)).astype(numpy_dtype)
    if isinstance(hint, np.ndarray):
        return np.broadcast_to(hint.astype(numpy_dtype), shape).copy()
    if hint is None and dtype in (TensorProto.UINT8, TensorProto.INT8):
        return rng.integers(0, 127, shape).astype(numpy_dtype)
    return rng.integers(0, hint, shape).astype(numpy_dtype) if hint else np.ones(shape, numpy_dtype)


_INTEGERS = {
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
}  # fmt: skip


def _integer_hint(graph: Graph, name: str, sizes: FreeDimensions) -> int | np.ndarray | None:
    """Upper bound of an integer input, or the value that it should take."""
    bounds: list[int] = []
    for current, node in _readers(graph, name):
        if _is_index(node, current):
            table = stored_shape(graph, node.inputs[0])
            if table is not None:
                bounds.append(table[node.attr("axis", 0)])
        elif (value := _fitting(graph, current, node, sizes)) is not None:
            return value
    return min(bounds, default=None)


def _readers(graph: Graph, name: str) -> Iterator[tuple[str, Node]]:
    """Nodes that read a tensor, or what others hand on of it without changing its bounds; and the name."""
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        for node in graph.consumers.get(current, ()):
            yield current, node
            if Trait.KEEPS_BOUNDS in traits_of(node) and not _is_index(node, current):
                fresh = [output for output in node.outputs if output not in seen]
                seen.update(fresh)
                pending += fresh


def _is_index(node: Node, name: str) -> bool:
    return node.op == "Gather" and node.inputs[1] == name


def _fitting(graph: Graph, name: str, node: Node, sizes: FreeDimensions) -> np.ndarray | None:
    """The value of an integer that a node makes sense with; None where it asks for none."""
    if node.op == "Equal":
        other = node.inputs[1] if node.inputs[0] == name else node.inputs[0]
        return graph.value(other).reshape(-1)[:1].reshape(()) if other in graph.constants else None
    if Trait.RECURRENT in traits_of(node) and name in node.inputs[4:5]:
        shape = infer(graph, sizes).shapes.get(node.inputs[0])
        return np.array(shape[0]) if shape else None
    return np.array(ITERATIONS) if node.op == "Loop" and node.inputs[0] == name else None
