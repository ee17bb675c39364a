"""Networks with channels that contribute nothing, and the comparison that shows it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxprune.cleanup.log import Log
from onnxprune.coupling.trace import Trace
from onnxprune.jobs.clean import clean
from onnxprune.model.file import Model
from onnxprune.reports.result import Result
from onnxprune.runtime.session import open_session, run

from .building import net

Array = npt.NDArray[Any]

ROUNDING = 3e-6
"""Relative L2 difference of two float32 models that differ in the order of their sums alone."""


def graph(
    text: str, *, inputs: str = "float[2,3,8,8] x", outputs: str = "y", **constants: Any
) -> onnx.ModelProto:
    """Model from the text of its nodes; a constant is an array, a list or a number."""
    stored: dict[str, Any] = {name: _stored(value) for name, value in constants.items()}
    return net(text, inputs=inputs, outputs=outputs, **stored)()


def _stored(value: Any) -> Array:
    """Array of the type that a network of float32 wants."""
    array = np.asarray(value)
    return array.astype({"f": np.float32, "i": np.int64}.get(array.dtype.kind, array.dtype))


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
        value.name: rng.uniform(
            low, high, [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in model.graph.input
        if value.name not in stored
    }


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


def cleaned(model: onnx.ModelProto, limit: float = ROUNDING, **options: Any) -> Result:
    """Clean a model and insist that no output changes."""
    original = model.SerializeToString()
    result = clean(model, **{"granularity": 1, **options})
    assert model.SerializeToString() == original, "the given model was changed"
    onnx.checker.check_model(result.model.proto, full_check=True)
    feeds = inputs_of(model)
    assert worst(outputs_of(model, feeds), outputs_of(result.model, feeds)) <= limit
    return result


def log(result: Result) -> Log:
    """What a clean-up did."""
    assert result.log is not None
    return result.log


def kept(result: Result) -> dict[str, tuple[int, ...]]:
    """Kept channels of every group that shrinks."""
    return {g.name: g.keep for g in result.plan.groups if g.status == "pruned"}


def shape_of(result: Result, name: str) -> tuple[int, ...]:
    """Shape of an initializer of the slim model."""
    found = {t.name: tuple(t.dims) for t in result.model.proto.graph.initializer}
    return found[name]


def plant(traced: Trace, seed: int) -> tuple[onnx.ModelProto, dict[str, set[int]]]:
    """Set the filters, biases and normalizations of random channels to zero.

    Returns
    -------
    model, planted
        Group -> positions of the channels.
    """
    rng = np.random.default_rng(seed)
    planted, units = {}, set()
    for group in traced:
        chosen = rng.choice(len(group), max(1, len(group) // 8), replace=False)
        if len(chosen) < len(group):
            planted[group.name] = set(chosen.tolist())
            units.update(group.units[chosen].tolist())
    model = onnx.ModelProto()
    model.CopyFrom(traced.model.embedded())
    kernels = {(kernel.tensor, kernel.axis) for kernel in traced.walk.facts.kernels}
    variances = {n.inputs[4] for n in traced.graph.nodes if n.op == "BatchNormalization"}
    stored = {t.name: t for t in model.graph.initializer}
    stored |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    for member in {m for group in traced for m in group.members if m.tensor in traced.graph.constants}:
        labels = traced.walk.axis(member.tensor, member.axis)
        shape = traced.walk.shape(member.tensor)
        vector = sum(size > 1 for size in shape) == 1 and member.tensor not in variances
        if vector or (member.tensor, member.axis) in kernels:
            tensor = stored.get(traced.graph.constants[member.tensor].name)
            if tensor is None:  # in a nested graph
                continue
            array = numpy_helper.to_array(tensor).copy()
            dead = np.isin(traced.components.unit[labels], list(units))
            np.moveaxis(array, member.axis, 0)[dead] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model, planted
