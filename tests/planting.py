"""Networks with channels that contribute nothing, and the comparison that shows it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxprune.cleaning import CleanResult, clean
from onnxprune.model import Model
from onnxprune.runtime import open_session, run

Array = npt.NDArray[Any]

ROUNDING = 3e-6
"""Relative L2 difference of two float32 models that differ in the order of their sums alone."""


def graph(text: str, *, inputs: str = "float[2,3,8,8] x", outputs: str = "float[] y", opset: int = 17, **constants: Any) -> onnx.ModelProto:  # fmt: skip
    """Model from the text of its nodes; a constant is an array, a list of integers or a number."""
    parsed = onnx.parser.parse_graph(f"case ({inputs}) => ({outputs}) {{ {text} }}")
    parsed.initializer.extend(_tensor(name, value) for name, value in constants.items())
    for output in parsed.output:
        output.type.tensor_type.ClearField("shape")
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(parsed, opset_imports=opsets, ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    for output, known in zip(model.graph.output, inferred, strict=True):
        output.CopyFrom(known)
    return model


def _tensor(name: str, value: Any) -> TensorProto:
    array = np.asarray(value)
    kinds = {"f": array.dtype if array.dtype == np.float16 else np.float32, "i": np.int64}
    return numpy_helper.from_array(array.astype(kinds.get(array.dtype.kind, array.dtype)), name)


def normal(*shape: int, seed: int = 0, dead: Iterable[int] = (), axis: int = 0) -> Array:
    """Random weight with some slices of zeros; different for every shape and seed."""
    rng = np.random.default_rng([seed, zlib.crc32(repr(shape).encode())])
    array = rng.normal(0, 1, shape).astype(np.float32)
    np.moveaxis(array, axis, 0)[list(dead)] = 0
    return array


def inputs_of(model: onnx.ModelProto, low: float = -2.0, high: float = 2.0) -> dict[str, Array]:
    """Random inputs in a range."""
    rng = np.random.default_rng(0)
    stored = {t.name for t in model.graph.initializer}
    return {
        value.name: rng.uniform(low, high, [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in model.graph.input
        if value.name not in stored
    }  # fmt: skip


def outputs_of(model: onnx.ModelProto | Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs on onnxruntime, on the CPU."""
    with open_session(model, "cpu") as session:
        return run(session, feeds)


def worst(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    """Largest relative difference of two sets of outputs."""
    assert before.keys() == after.keys()
    gaps = [0.0]
    for name, reference in before.items():
        a, b = reference.astype(np.float64), after[name].astype(np.float64)
        assert a.shape == b.shape
        assert np.isfinite(a).all()
        gaps.append(float(np.linalg.norm(b - a) / max(float(np.linalg.norm(a)), 1e-12)))
    return max(gaps)


def cleaned(model: onnx.ModelProto, limit: float = ROUNDING, **options: Any) -> CleanResult:
    """Clean a model and insist that no output changes."""
    original = model.SerializeToString()
    result = clean(model, **options)
    assert model.SerializeToString() == original, "the given model was changed"
    onnx.checker.check_model(result.model.proto, full_check=True)
    feeds = inputs_of(model)
    assert worst(outputs_of(model, feeds), outputs_of(result.model, feeds)) <= limit
    return result


def kept(result: CleanResult) -> dict[str, tuple[int, ...]]:
    """Kept channels of every group that shrinks."""
    return {g.name: g.keep for g in result.plan.groups if g.status == "pruned"}


def shape_of(result: CleanResult, name: str) -> tuple[int, ...]:
    """Shape of an initializer of the slim model."""
    found = {t.name: tuple(t.dims) for t in result.model.proto.graph.initializer}
    return found[name]
