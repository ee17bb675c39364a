"""Models that are damaged at random: whatever the file, a user gets a result or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from models.build import BUILDERS

from .building import net
from .conftest import Run
from .full import sampled

Damage = Callable[[onnx.ModelProto, np.random.Generator], None]

SIZES = (-1, 0, 1, 2, 3, 7, 100)
OPERATORS = ("Add", "Concat", "Conv", "MatMul", "Relu", "Reshape", "Softmax", "Split", "Transpose")
BUILT = ("dense", "grouped_shuffle", "recurrent", "separate_attention", "unet", "branch_at_run_time")


def a_node(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.NodeProto:
    return model.graph.node[rng.integers(len(model.graph.node))]


def another_input(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    node = a_node(model, rng)
    names = [name for n in model.graph.node for name in n.output]
    for slot in range(len(node.input)):
        node.input[slot] = str(rng.choice(names))


def another_attribute(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    for attribute in a_node(model, rng).attribute:
        if attribute.type == onnx.AttributeProto.INTS and attribute.ints:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = int(rng.choice(SIZES))
        elif attribute.type == onnx.AttributeProto.INT:
            attribute.i = int(rng.choice(SIZES))


def no_attributes(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    del a_node(model, rng).attribute[:]


def fewer_inputs(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    del a_node(model, rng).input[1:]


def no_node(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    model.graph.node.remove(a_node(model, rng))


def another_operator(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    a_node(model, rng).op_type = str(rng.choice(OPERATORS))


def another_weight(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    tensor = model.graph.initializer[rng.integers(len(model.graph.initializer))]
    if tensor.dims:
        shape = list(tensor.dims)
        shape[rng.integers(len(shape))] = int(rng.choice([1, 2, 5, 100]))
        array = rng.standard_normal(shape).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def another_size(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[rng.integers(len(dims))].dim_value = int(rng.choice([0, 1, 2, 17]))


@pytest.mark.parametrize("seed", sampled(range(4), lambda _, seed: not seed))
@pytest.mark.parametrize(
    "damage",
    [
        another_input,
        another_attribute,
        no_attributes,
        fewer_inputs,
        no_node,
        another_operator,
        another_weight,
        another_size,
    ],
)
@pytest.mark.parametrize("builder", BUILT)
def test_result_or_sentence(run: Run, tmp_path: Path, builder: str, damage: Damage, seed: int) -> None:
    model = BUILDERS[builder]()
    damage(model, np.random.default_rng(seed))
    onnx.save(model, tmp_path / "damaged.onnx")
    slim = tmp_path / "slim.onnx"
    found = run("prune", tmp_path / "damaged.onnx", "-o", slim, "--provider", "cpu", "-q")
    assert "internal error" not in found.err, found.err
    assert found.code in (0, 2), found.err
    assert slim.exists() == (found.code == 0)
    assert bool(found.err) == (found.code != 0), found.err


def test_an_axis_of_a_billion_entries_is_not_followed() -> None:
    """Its labels alone would take more memory than there is."""
    text = "h = MatMul (x, W)\ne = Expand (h, S)\ny = MatMul (e, V)"
    dense = net(text, inputs="float[1,4] x", W=(4, 16), S=[10**9, 16], V=(16, 3))()
    (reason,) = [group.reason for group in onnxprune.trace(dense).blocked if group.name == "h"]
    assert reason == "Expand 'e': an axis of 1,000,000,000 entries is longer than what can be followed"
