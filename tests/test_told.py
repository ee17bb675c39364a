"""Free dimensions whose sizes stored tensors tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.model.graph import Graph
from onnxprune.model.loading import load
from onnxprune.shapes.told import told_sizes

from .building import net, positive

IMAGES, ROWS = "float[N,C,H,W] x", "float[N,D] x"
NORM: dict[str, Any] = {"s": positive(3), "b": (3,), "m": (3,), "v": positive(3)}
INTEGERS = np.ones((8, 3, 1, 1), np.int8)

ROW = {
    "Conv": (net("y = Conv (x, W)", inputs=IMAGES, W=(8, 3, 1, 1)), {("x", 1): 3}),
    "groups": (net("y = Conv <group=2> (x, W)", inputs=IMAGES, W=(8, 3, 1, 1)), {("x", 1): 6}),
    "ConvTranspose": (net("y = ConvTranspose (x, W)", inputs=IMAGES, W=(3, 8, 1, 1)), {("x", 1): 3}),
    "MatMul": (net("y = MatMul (x, W)", inputs=ROWS, W=(5, 8)), {("x", 1): 5}),
    "Gemm": (net("y = Gemm <transB=1> (x, W)", inputs=ROWS, W=(8, 5)), {("x", 1): 5}),
    "transposed Gemm": (net("y = Gemm <transA=1> (x, W)", inputs=ROWS, W=(5, 8)), {("x", 0): 5}),
    "BatchNormalization": (
        net("y = BatchNormalization (x, s, b, m, v)", inputs=IMAGES, **NORM), {("x", 1): 3},
    ),
    "channels last": (
        net("""
            a = Relu (x)
            c = Sub (a, mean)
            t = Transpose <perm=[0,3,1,2]> (c)
            y = Conv (t, W)""", inputs="float[N,H,W,C] x", mean=(1, 1, 1, 3), W=(8, 3, 1, 1)),
        {("x", 3): 3},
    ),
    "stored as integers": (
        net("d = DequantizeLinear (q, s)\n y = Conv (x, d)", inputs=IMAGES, q=INTEGERS, s=0.1), {("x", 1): 3},
    ),
    "positions": (net("y = Add (x, p)", inputs="float[N,T,D] x", p=(7, 5)), {("x", 1): 7, ("x", 2): 5}),
    "recurrent": (
        net("y, z = GRU <hidden_size=4> (x, W, R)", inputs="float[T,N,D] x", outputs="float[T,1,N,4] y",
            W=(1, 12, 5), R=(1, 12, 4)),
        {("x", 2): 5},
    ),
    "behind a layer": (
        net("c = Conv (x, W)\n g = Sub (c, m)\n y = Relu (g)", inputs="float[N,3,H,W] x",
            W=(8, 3, 1, 1), m=(1, 8, 5, 5)),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROW)
def test_sizes_are_read_from_weights(name: str) -> None:
    build, expected = ROW[name]
    assert told_sizes(Graph(load(build()))) == expected


def test_a_free_axis_of_channels_is_that_of_the_weight() -> None:
    """Otherwise it is taken for 224, the network does not run, and larger ones are tried."""
    model = net(
        "a = Conv (x, W)\n b = Relu (a)\n y = Conv (b, V)", inputs=IMAGES, W=(8, 3, 3, 3), V=(4, 8, 1, 1)
    )()
    result = onnxprune.prune(model, ratio=0.5, granularity=1, verify=True, provider="cpu")
    assert result.report
    assert result.report.exact
    assert result.trace.shapes.first.shapes["x"] == (2, 3, 224, 224)
    assert (
        onnx.load_model_from_string(result.model.proto.SerializeToString()).graph.initializer[0].dims[0] == 4
    )
    (note,) = result.trace.notes
    assert note == "input 'x': axis 1 is taken to be 3, as the inside of the model asks for it"


def test_a_declared_size_of_0_is_a_size() -> None:
    """As that of a cache which is empty at first; onnxruntime takes no other. -1 leaves it open."""
    text = "h = MatMul (x, W)\nk = MatMul (past, K)\nc = Concat <axis=1> (k, h)\ny = MatMul (c, V)"
    model = net(text, inputs="float[1,7,3] x, float[1,0,6] past", W=(3, 8), K=(6, 8), V=(8, 5))()
    result = onnxprune.prune(model, ratio=0.5, verify=True, provider="cpu")
    assert result.report is not None
    assert result.report.exact
    assert [d.dim_value for d in result.model.proto.graph.input[1].type.tensor_type.shape.dim] == [1, 0, 6]
    data = {"x": np.zeros((1, 7, 3), np.float32), "past": np.zeros((1, 2, 6), np.float32)}
    with pytest.raises(onnxprune.UsageError, match=r"input 'past': .* expected float32 \[1, 0, 6\]"):
        onnxprune.verify(model, result.model, data=data)
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_value = -1
    assert onnxprune.verify(model, model, data=data, provider="cpu")
