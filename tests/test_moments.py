"""Rows and moments of layers, against numpy and onnxruntime."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.data.batches import DataSet
from onnxprune.data.dataset import open_data
from onnxprune.moments.bound import fitting
from onnxprune.moments.held import Held
from onnxprune.moments.linear import linear_of
from onnxprune.moments.second import Means, MomentSums, collect
from onnxprune.moments.segment import Parts, running
from onnxprune.runtime.session import open_session, run

from .building_text import model
from .conftest import DIGITS

RNG = np.random.default_rng(0)


def layer_model(
    op: str, weight: tuple[int, ...], x: tuple[int, ...], bias: int = 0, swap: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """A model of one layer with random weights."""
    value, tensor = helper.make_tensor_value_info, numpy_helper.from_array
    stored = [tensor(RNG.standard_normal(weight).astype(np.float32), "W")]
    inputs = ["W", "x"] if swap else ["x", "W"]
    if bias:
        stored.append(tensor(RNG.standard_normal(bias).astype(np.float32), "B"))
        inputs.append("B")
    node = helper.make_node(op, inputs, ["y"], "layer", **attributes)
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, x)], [value("y", TensorProto.FLOAT, None)], stored
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


LAYERS: dict[str, Any] = {
    "Conv": ("Conv", (6, 4, 3, 3), (2, 4, 9, 8), 6, {"pads": [1, 1, 1, 1]}),
    "Conv stride": ("Conv", (6, 4, 3, 2), (2, 4, 9, 8), 6, {"pads": [1, 0, 2, 1], "strides": [2, 3]}),
    "Conv dilation": ("Conv", (6, 4, 3, 3), (2, 4, 9, 8), 0, {"dilations": [2, 1]}),
    "Conv groups": ("Conv", (6, 2, 3, 3), (2, 4, 9, 8), 6, {"group": 2}),
    "Conv depthwise": ("Conv", (8, 1, 3, 3), (2, 4, 9, 8), 8, {"group": 4}),
    "Conv same upper": ("Conv", (6, 4, 4, 3), (2, 4, 9, 8), 6, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "Conv same lower": ("Conv", (6, 4, 4, 3), (2, 4, 9, 8), 6, {"auto_pad": "SAME_LOWER"}),
    "Conv 1-D": ("Conv", (6, 4, 5), (2, 4, 17), 6, {"pads": [2, 2], "strides": [3]}),
    "Conv 3-D": ("Conv", (6, 2, 2, 3, 2), (2, 4, 5, 6, 4), 6, {"group": 2, "strides": [1, 2, 1]}),
    "ConvTranspose": ("ConvTranspose", (4, 6, 3, 3), (2, 4, 5, 4), 6, {"strides": [2, 2]}),
    "ConvTranspose pads": (
        "ConvTranspose", (4, 6, 4, 3), (2, 4, 5, 4), 6,
        {"strides": [2, 3], "pads": [1, 0, 1, 2], "output_padding": [1, 1], "dilations": [1, 2]},
    ),
    "ConvTranspose crop": ("ConvTranspose", (4, 6, 2, 2), (2, 4, 5, 4), 0, {"pads": [2, 1, 1, 1]}),
    "ConvTranspose groups": ("ConvTranspose", (4, 3, 3, 3), (2, 4, 5, 4), 6, {"group": 2, "strides": [2, 1]}),
    "Gemm": ("Gemm", (4, 6), (7, 4), 6, {"alpha": 0.5, "beta": 2.0}),
    "Gemm transposed": ("Gemm", (6, 4), (4, 7), 6, {"transA": 1, "transB": 1}),
    "MatMul": ("MatMul", (4, 6), (2, 3, 4), 0, {}),
    "MatMul left": ("MatMul", (6, 4), (2, 4, 3), 0, {"swap": True}),
    "MatMul batched": ("MatMul", (1, 2, 5, 4, 6), (3, 2, 5, 7, 4), 0, {}),
    "MatMul batched left": ("MatMul", (5, 6, 4), (2, 5, 4, 3), 0, {"swap": True}),
    "MatMul of a vector": ("MatMul", (4, 6), (4,), 0, {}),
    "MatMul left of a vector": ("MatMul", (6, 4), (4,), 0, {"swap": True}),
    "MatMul batched of a vector": ("MatMul", (2, 4, 6), (4,), 0, {}),
    "MatMul batched left of a vector": ("MatMul", (1, 2, 6, 4), (4,), 0, {"swap": True}),
    "MatMul of one by all": ("MatMul", (5, 4, 6), (7, 4), 0, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_matrix_times_its_rows(name: str) -> None:
    op, weight, shape, bias, attributes = LAYERS[name]
    traced = onnxprune.trace(layer_model(op, weight, shape, bias, **attributes))
    (node,) = traced.graph.nodes
    layer = linear_of(traced.graph, node)
    assert layer is not None
    x = RNG.standard_normal(shape).astype(np.float32)
    with open_session(traced.model) as session:
        y = run(session, {"x": x})["y"]
    positions = np.arange(layer.positions(x))
    rows = layer.rows(x, positions).astype(np.float64)
    matrix = layer.matrix(traced.graph)
    found = np.einsum("ngi,goi->ngo", rows, matrix).reshape(len(rows), -1)
    if bias:
        found += layer.beta * traced.graph.value("B")
    np.testing.assert_allclose(found, layer.outputs(y, positions), atol=1e-5)
    some = positions[::3]
    np.testing.assert_array_equal(layer.rows(x, some), layer.rows(x, positions)[::3])
    again = layer.layout.weight(matrix, weight)
    np.testing.assert_allclose(again, traced.graph.value("W"), rtol=1e-6)


def test_moments_are_those_of_numpy() -> None:
    rows = (RNG.standard_normal((500, 2, 7)) * RNG.uniform(0.1, 3, 7) + 50).astype(np.float32)
    sums = MomentSums()
    for part in np.split(rows, [3, 200, 200, 310]):
        sums.add(part)
    found = sums.moments()
    assert found.count == 500
    for g in range(2):
        block = rows[:, g].astype(np.float64)
        np.testing.assert_allclose(found.mean[g], block.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(found.second[g], np.cov(block.T, bias=True), rtol=1e-4, atol=1e-5)
    matrix = RNG.standard_normal((2, 3, 7))
    expected = np.einsum("ngi,goi->ngo", rows, matrix).var(axis=0)
    np.testing.assert_allclose(found.variance(matrix), expected, rtol=1e-4)


@pytest.mark.parametrize("memory", [1, 2**30])
def test_a_pass_collects_what_every_layer_reads(memory: int) -> None:
    traced = onnxprune.trace(DIGITS)
    layers = [layer for n in traced.graph.nodes if (layer := linear_of(traced.graph, n)) is not None]
    images = np.load(DIGITS.parent / "digits_train.npz")["image"][:40]
    data = Held(open_data(traced, {"image": images}), 2**30)
    assert (len(data), data.samples) == (3, 40)
    told: list[tuple[int, int]] = []
    found = dict(collect(traced, layers, data, Means(memory=memory, progress=lambda *n: told.append(n))))
    assert list(found) == layers
    assert told[-1] == (len(layers), len(layers))
    assert len(told) == (len(layers) if memory == 1 else 1)
    layer = layers[3]
    with running(Parts(traced.model), {"image": images}, [layer.source]) as step:
        x = step({"image": images})[layer.source]
    rows = layer.rows(x, np.arange(layer.positions(x)))[:, 0]
    assert found[layer].count == len(rows)
    np.testing.assert_allclose(found[layer].second[0], np.cov(rows.T, bias=True), rtol=1e-3, atol=1e-5)


def test_layers_are_taken_in_turns_that_half_of_the_bound_holds() -> None:
    """As many as fit; what a layer takes is counted here from what it reads of a batch."""
    traced = onnxprune.trace(DIGITS)
    layers = [layer for node in traced.graph.nodes if (layer := linear_of(traced.graph, node)) is not None]
    data = Held(open_data(traced, DIGITS.parent / "digits_train.npz", samples=32), 2**30)
    with running(Parts(traced.model), data.first.feeds, [layer.source for layer in layers], "cpu") as step:
        read = {name: array.nbytes for name, array in step(data.first.feeds).items()}
    sizes = []
    for layer in layers:
        groups, _, width = layer.shape(traced.graph)
        sizes.append(2 * 8 * groups * width**2 + read[layer.source])
    memory = sum(sizes) // 2
    ends = [0]
    for _ in collect(traced, layers, data, Means(memory=memory, progress=lambda done, _: ends.append(done))):
        pass
    ends = sorted({*ends, len(layers)})
    assert len(ends) > 3, "one turn says nothing of the bound"
    for start, end in pairwise(ends):
        assert end == start + 1 or sum(sizes[start:end]) <= memory // 2
        assert end == len(layers) or sum(sizes[start : end + 1]) > memory // 2


def test_samples_come_in_batches_that_the_bound_lets_run() -> None:
    traced = onnxprune.trace(DIGITS)
    images = np.load(DIGITS.parent / "digits_train.npz")["image"][:40]
    given = open_data(traced, {"image": images})
    sizes = {memory: [b.size for b in fitting(traced, given, memory)] for memory in (2**31, 0)}
    assert sizes == {2**31: [16, 16, 8], 0: [1] * 40}
    with pytest.raises(onnxprune.UsageError, match="found no samples"):
        onnxprune.prune(DIGITS, ratio=0.5, data=DataSet(list))


def test_positions_are_bounded_and_seeded() -> None:
    traced = onnxprune.trace(DIGITS)
    layer = linear_of(traced.graph, traced.graph.nodes[0])
    assert layer is not None
    images = np.load(DIGITS.parent / "digits_train.npz")["image"][:64]
    data = Held(open_data(traced, {"image": images}), 0)

    def second(seed: int) -> np.ndarray:
        ((_, moments),) = collect(traced, [layer], data, Means(positions=400, seed=seed))
        assert moments.count == 400
        return moments.second

    np.testing.assert_array_equal(second(0), second(0))
    assert (second(0) != second(1)).any()


def test_a_layer_behind_a_mean_reads_what_the_mean_is_of() -> None:
    traced = onnxprune.trace(DIGITS)
    head = linear_of(traced.graph, traced.graph.nodes[-1])
    assert head is not None
    wide = head.before_pool(traced.graph, traced.walk.rank)
    assert wide is not None
    assert traced.graph.producers[wide.source].op == "Relu"
    images = np.load(DIGITS.parent / "digits_train.npz")["image"][:8]
    with running(Parts(traced.model), {"image": images}, [wide.source, head.source]) as step:
        found = step({"image": images})
    rows = wide.rows(found[wide.source], np.arange(8 * 16)).reshape(8, 16, -1)
    np.testing.assert_allclose(rows.mean(axis=1), found[head.source], rtol=1e-5)


def test_a_part_knows_the_ranks_of_what_it_is_given() -> None:
    """The state of a Scan whose body declares nothing has the shape of what enters."""
    proto = model("""
        g (float[N,T,8] x) => (float[N,T,4] y) <float[8,16] A, float[16,16] K, float[16,4] V> {
          h = MatMul (x, A)
          first = Constant <value_int = 0> ()
          z = Gather <axis=1> (h, first)
          end, steps = Scan <num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1],
            body = b (s, t) => (s2, t2) { u = MatMul (t, K) w = Add (u, s) s2 = Tanh (w) t2 = Identity (s2) }
          > (z, h)
          y = MatMul (steps, V)
        }""")
    x = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    traced = onnxprune.trace(proto)
    with open_session(traced.model, "cpu") as session:
        whole = run(session, {"x": x})
    with running(Parts(traced.model), {"x": x}, ["y"]) as step:
        np.testing.assert_array_equal(step({"x": x[:2]})["y"], whole["y"][:2])
