"""Every kind of layer makes up for lost channels, or is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.data.dataset import open_data
from onnxprune.model.graph import Graph
from onnxprune.model.protos import unread
from onnxprune.moments.held import Held
from onnxprune.recovery.walk import Way, recover
from onnxprune.selection.recovered import Recovery
from onnxprune.surgery.surgeon import rewrite_trace

from .building import net
from .conftest import Run

WIDE = 8
"""Channels in front of the layer; the second half are combinations of the first."""


class Redundant:
    """A network whose second layer can make up exactly for the loss of half of what it reads."""

    def __init__(self, *shape: int) -> None:
        self.rng = np.random.default_rng(0)
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        first = self.rng.standard_normal((4, 3))
        combined = np.concatenate([first, self.rng.standard_normal((4, 4)) @ first])
        if len(shape) == 2:
            self.add("Gemm", ["x", self.keep("first", combined)], "wide", transB=1)
        else:
            kernel = combined.reshape(WIDE, 3, *[1] * (len(shape) - 2))
            self.add("Conv", ["x", self.keep("first", kernel)], "wide")

    def keep(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Store a tensor."""
        self.stored.append(numpy_helper.from_array(np.asarray(value).astype(dtype), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """Store random numbers."""
        return self.keep(name, self.rng.standard_normal(shape))

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node."""
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def model(self) -> onnx.ModelProto:
        """The network as far as it is."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "redundant",
            [value("x", TensorProto.FLOAT, ["n", *self.shape[1:]])],
            [value(next(filter(None, self.nodes[-1].output)), TensorProto.FLOAT, None)],
            self.stored,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


IMAGE, SERIES, ROW = (64, 3, 7, 6), (64, 3, 12), (256, 3)


def conv(n: Redundant) -> None:
    n.add("Conv", ["wide", n.weight("W", 5, WIDE, 3, 3), n.weight("B", 5)], "y", pads=[1, 1, 1, 1])


def strided(n: Redundant) -> None:
    n.add("Conv", ["wide", n.weight("W", 5, WIDE, 3, 3), n.weight("B", 5)], "y", strides=[2, 1])


def one_dimension(n: Redundant) -> None:
    n.add("Conv", ["wide", n.weight("W", 5, WIDE, 3), n.weight("B", 5)], "y", dilations=[2])


def transposed(n: Redundant) -> None:
    n.add("ConvTranspose", ["wide", n.weight("W", WIDE, 5, 3, 2), n.weight("B", 5)], "y", strides=[2, 2])


def normalized(n: Redundant) -> None:
    n.add("Conv", ["wide", n.weight("W", 5, WIDE, 1, 1)], "z")
    vectors = [n.weight(k, 5) for k in ("scale", "bias", "mean")]
    n.add("BatchNormalization", ["z", *vectors, n.keep("variance", np.arange(1, 6))], "y")


def normalized_and_shared(n: Redundant) -> None:
    """Exporters store equal vectors once: the bias of the normalization is its mean, too."""
    n.add("Conv", ["wide", n.weight("W", 5, WIDE, 1, 1)], "z")
    ones = n.keep("ones", np.ones(5))
    n.add("BatchNormalization", ["z", n.weight("scale", 5), ones, ones, ones], "y")


def gemm(n: Redundant) -> None:
    n.add("Gemm", ["wide", n.weight("W", WIDE, 5), n.weight("B", 5)], "y", alpha=0.5, beta=2.0)


def matmul(n: Redundant) -> None:
    n.add("MatMul", ["wide", n.weight("W", WIDE, 5)], "z")
    n.add("Add", [n.weight("B", 5), "z"], "y")


def scaled(n: Redundant) -> None:
    n.add("MatMul", ["wide", n.weight("W", WIDE, 5)], "z")
    n.add("Sub", ["z", n.weight("B", 5)], "s")
    n.add("Div", ["s", n.keep("D", [1, 2, 3, -4, 5])], "y")


def moved(n: Redundant) -> None:
    n.add("Transpose", [n.weight("W", 5, WIDE)], "T", perm=[1, 0])
    n.add("MatMul", ["wide", "T"], "y")


def left(n: Redundant) -> None:
    n.add("MatMul", [n.weight("W", 5, WIDE), "wide"], "y")


def batched(n: Redundant) -> None:
    """Experts of a mixture, each with a matrix and a bias."""
    n.add("MatMul", ["wide", n.weight("W", 3, WIDE, 5)], "z")
    n.add("Add", ["z", n.weight("B", 3, 1, 5)], "y")


def without_offset(n: Redundant) -> None:
    n.add("Conv", ["wide", n.weight("W", 5, WIDE, 1, 1)], "y")


def residual(n: Redundant) -> None:
    n.add("Conv", ["x", n.weight("S", 5, 3, 1, 1)], "skip")
    n.add("Conv", ["wide", n.weight("W", 5, WIDE, 1, 1), n.weight("B", 5)], "z")
    n.add("Add", ["skip", "z"], "sum")
    n.add("Relu", ["sum"], "y")


def quantized(n: Redundant) -> None:
    stored = n.rng.integers(-90, 90, (5, WIDE, 1, 1))
    n.keep("Q", stored, np.int8)
    n.keep("scale", np.full(5, 0.01))
    n.add("DequantizeLinear", ["Q", "scale", n.keep("zero", np.zeros(5), np.int8)], "W", axis=0)
    n.add("Conv", ["wide", "W", n.weight("B", 5)], "y")


def recurrent(n: Redundant) -> None:
    n.add("Transpose", ["wide"], "steps", perm=[2, 0, 1])
    stored = [n.weight("W", 1, 20, WIDE), n.weight("R", 1, 20, 5), n.weight("B", 1, 40)]
    n.add("LSTM", ["steps", *stored], "y", hidden_size=5)


def both_directions(n: Redundant) -> None:
    n.add("Transpose", ["wide"], "steps", perm=[2, 0, 1])
    stored = n.weight("W", 2, 15, WIDE), n.weight("R", 2, 15, 5)
    n.nodes.append(
        helper.make_node("GRU", ["steps", *stored], ["", "y"], hidden_size=5, direction="bidirectional")
    )


KINDS = {
    "Conv": (conv, IMAGE), "strided": (strided, IMAGE), "1-D": (one_dimension, SERIES),
    "ConvTranspose": (transposed, IMAGE), "BatchNormalization": (normalized, IMAGE),
    "shared vectors": (normalized_and_shared, IMAGE), "Gemm": (gemm, ROW), "MatMul and Add": (matmul, ROW),
    "Sub and Div": (scaled, ROW), "Transpose": (moved, ROW), "MatMul from the left": (left, SERIES), "batched": (batched, ROW),
    "no offset": (without_offset, IMAGE), "residual": (residual, IMAGE), "DequantizeLinear": (quantized, IMAGE),
    "LSTM": (recurrent, SERIES), "GRU in both directions": (both_directions, SERIES),
}  # fmt: skip

LOST = {"DequantizeLinear": 0.02}
"""Share of the error that is left: 8 bits round. Elsewhere it is the weakest ridge, 1e-4."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_makes_up_for_channels_that_others_determine(kind: str) -> None:
    build, shape = KINDS[kind]
    net = Redundant(*shape)
    build(net)
    traced = onnxprune.trace(net.model())
    group = traced.find("wide")[0]
    removed = group.units[4:]
    slim = rewrite_trace(traced, removed)
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32) + 0.5}
    data = Held(open_data(traced, feeds), 2**30)
    found = recover(traced, traced.sizes(removed), slim, data, Way())
    (outcome,) = found.outcomes
    assert outcome.how
    assert outcome.error < LOST.get(kind, 1e-3) * outcome.kept
    before, after = (outputs(model, feeds) for model in (slim, found.apply(slim)))
    expected = outputs(traced.model, feeds)
    assert distance(after, expected) < 0.15 * distance(before, expected) + 1e-3


def outputs(model: onnxprune.Model, feeds: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(
        model.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)[0]


def distance(a: Any, b: Any) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_a_vector_of_which_every_use_took_its_own_goes() -> None:
    net = Redundant(*IMAGE)
    normalized_and_shared(net)
    model, own = onnxprune.load(net.model()), np.arange(1, 6, dtype=np.float32)
    names = [name for name in Graph(model).constants if name.startswith("ones")]
    some = Recovery(dict.fromkeys(names[:-1], own)).apply(model)
    assert "ones" in {tensor.name for tensor in some.proto.graph.initializer}
    every = Recovery(dict.fromkeys(names, own)).apply(model)
    assert not unread(every.proto.graph)
    assert len(names) == 3


def test_what_cannot_take_weights_is_named() -> None:
    net = Redundant(*ROW)
    net.weight("W", WIDE, WIDE)
    net.add("MatMul", ["wide", "W"], "z")
    net.add("MatMul", ["z", "W"], "v")
    net.add("Gemm", ["v", net.weight("W2", WIDE, 5)], "y")
    traced = onnxprune.trace(net.model())
    removed = traced[0].units[4:]
    slim = rewrite_trace(traced, removed)
    data = Held(open_data(traced, {"x": np.ones(ROW, np.float32)}), 2**30)
    found = recover(traced, traced.sizes(removed), slim, data, Way())
    reasons = {o.layer: o.reason for o in found.outcomes if o.named}
    assert reasons["z"] == reasons["v"] == "'W' is read in several places"


def test_a_product_of_a_form_that_is_not_fitted_is_named(run: Run, tmp_path: Path) -> None:
    net = Redundant(*ROW)
    net.add("FusedMatMul", ["wide", net.weight("W", WIDE, WIDE)], "z", domain="com.microsoft")
    net.add("FusedMatMul", ["z", net.weight("V", WIDE, 5)], "y", domain="com.microsoft")
    model, feeds, out = tmp_path / "fused.onnx", tmp_path / "x.npz", tmp_path / "slim.onnx"
    onnx.save(net.model(), model)
    np.savez(feeds, x=np.random.default_rng(1).standard_normal(ROW).astype(np.float32))
    told = run("prune", model, "-o", out, "--data", feeds, "--granularity", 1, "--provider", "cpu").err
    assert (
        "not recovered: 2 layers, such as z: com.microsoft::FusedMatMul has no weight in matrix form\n"
        in told
    )


def test_weights_with_which_the_file_would_be_larger_than_its_input_are_not_taken(tmp_path: Path) -> None:
    """A use of a shared vector gets a tensor of its own, which is called after it."""
    net = Redundant(*IMAGE)
    normalized_and_shared(net)
    model, long = net.model(), "ones" * 2000
    for names in [*(node.input for node in model.graph.node)]:
        names[:] = [long if name == "ones" else name for name in names]
    next(tensor for tensor in model.graph.initializer if tensor.name == "ones").name = long
    feeds = {"x": np.random.default_rng(1).standard_normal(IMAGE).astype(np.float32) + 0.5}
    found = onnxprune.prune(model, data=feeds, granularity=1, verify=True, provider="cpu")
    assert found.recovery is not None
    assert found.report
    assert not found.recovery.weights
    assert found.model.nbytes() < model.ByteSize()
    (outcome,) = found.recovery.outcomes
    assert outcome.named
    assert "larger than its input with the recovered weights" in outcome.reason
    weights = Recovery({long: np.ones(5, np.float32)})
    with pytest.raises(onnxprune.PlanError, match="larger than its input with the recovered weights"):
        onnxprune.prune(model, plan=onnxprune.prune(model, granularity=1).plan, recovery=weights)


def test_layers_that_share_a_bias_are_fitted_where_each_keeps_its_own_part(tmp_path: Path) -> None:
    """The part of the second one is a tensor that only the slim model has."""
    net = Redundant(*ROW)
    bias, read = net.weight("B", WIDE), "wide"
    for number in range(3):
        net.add("MatMul", [read, net.weight(f"W{number}", WIDE, WIDE)], f"z{number}")
        net.add("Add", [f"z{number}", bias], f"b{number}")
        read = net.add("Relu", [f"b{number}"], f"r{number}")
    net.add("MatMul", [read, net.weight("V", WIDE, 5)], "y")
    feeds = {"x": np.random.default_rng(1).standard_normal(ROW).astype(np.float32)}
    found = onnxprune.prune(net.model(), ratio=0.5, data=feeds, granularity=1, verify=True, provider="cpu")
    assert found.recovery is not None
    assert {"B", "B_version1", "B_version2"} <= found.recovery.weights.keys()
    assert found.report
    assert found.report.exact
    again = onnxprune.prune(
        net.model(), plan=found.plan, recovery=found.recovery, verify=True, provider="cpu"
    )
    assert again.model.proto == found.model.proto
    assert again.report
    assert again.report.exact


def test_a_bias_that_whole_layers_share_with_cut_ones_is_fitted_in_its_place() -> None:
    """The view of the slim model numbers its uses otherwise, and what was fitted was compared in another place."""
    net = Redundant(*ROW)
    bias = net.weight("B", WIDE)
    outputs = []
    for branch in range(2):
        net.add("MatMul", ["wide", net.weight(f"W{branch}", WIDE, WIDE)], f"z{branch}")
        net.add("Add", [f"z{branch}", bias], f"b{branch}")
        net.add("Relu", [f"b{branch}"], f"r{branch}")
        net.add("MatMul", [f"r{branch}", net.weight(f"V{branch}", WIDE, WIDE)], f"v{branch}")
        outputs.append(net.add("Add", [f"v{branch}", bias], f"y{branch}"))
    model = net.model()
    model.graph.output.insert(0, helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, None))
    feeds = {"x": np.random.default_rng(1).standard_normal(ROW).astype(np.float32)}
    found = onnxprune.prune(model, ratio=0.5, data=feeds, granularity=1, verify=True, provider="cpu")
    assert found.recovery is not None
    assert {"V0", "V1"} <= found.recovery.weights.keys()
    assert [name for name in found.recovery.weights if "#" in name]
    assert found.report
    assert found.report.exact


def test_a_weight_that_is_computed_from_constants_is_fitted() -> None:
    """The slim model stores it, the original computes it: rows of length one."""
    net = Redundant(*ROW)
    net.add("ReduceL2", [net.weight("W", 5, WIDE)], "length", axes=[1], keepdims=1)
    net.add("Div", ["W", "length"], "rows")
    net.add("Transpose", ["rows"], "T", perm=[1, 0])
    net.add("MatMul", ["wide", "T"], "y")
    feeds = {"x": np.random.default_rng(1).standard_normal(ROW).astype(np.float32)}
    found = onnxprune.prune(net.model(), ratio=0.5, data=feeds, granularity=1, verify=True, provider="cpu")
    assert found.recovery is not None
    assert found.recovery.weights.keys() == {"rows"}
    assert found.report
    assert found.report.exact


def test_a_matrix_that_layers_share_is_not_fitted_where_one_row_of_it_is_left() -> None:
    """What is left is a vector, whose uses the slim model could tell apart; the original cannot."""
    net = Redundant(*ROW)
    shared, back = net.weight("W", WIDE, 2), net.weight("U", 2, WIDE)
    net.add("Tanh", ["wide"], "other")
    for number, read in enumerate(("wide", "other")):
        net.add("MatMul", [read, shared], f"z{number}")
        net.add("Relu", [f"z{number}"], f"r{number}")
        net.add("MatMul", [f"r{number}", back], f"u{number}")
    net.add("Add", ["u0", "u1"], "sum")
    net.add("MatMul", ["sum", net.weight("V", WIDE, 5)], "y")
    feeds = {"x": np.random.default_rng(1).standard_normal(ROW).astype(np.float32)}
    found = onnxprune.prune(net.model(), ratio=0.5, data=feeds, granularity=1, verify=True, provider="cpu")
    assert found.recovery is not None
    assert slim_shape(found.model.proto, "W") == [WIDE // 2, 1]
    reasons = {one.layer: one.reason for one in found.recovery.outcomes if one.named}
    assert reasons["z0"] == reasons["z1"] == "'W' is read in several places"
    assert found.report
    assert found.report.exact


def slim_shape(proto: onnx.ModelProto, name: str) -> list[int]:
    return next(list(tensor.dims) for tensor in proto.graph.initializer if tensor.name == name)


@pytest.mark.parametrize(
    ("stored", "text", "made"),
    [
        ((8, 3), "MatMul(r, W)", "float[3] y"),
        ((2, 8, 3), "MatMul(r, W)", "float[2,3] y"),
        ((1, 2, 3, 8), "MatMul(W, r)", "float[1,2,3] y"),
    ],
)
def test_a_layer_that_reads_a_vector_is_fitted(stored: tuple[int, ...], text: str, made: str) -> None:
    """Its output has no axis for the one row, or column, that it reads."""
    model = net(
        f"h = MatMul(x, V)\nr = Relu(h)\ny = {text}", inputs="float[6] x", outputs=made, V=(6, 8), W=stored
    )
    samples = {"x": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}
    result = onnxprune.prune(model(), ratio=0.5, granularity=1, data=samples, verify=True, provider="cpu")
    assert result.recovery is not None
    (outcome,) = result.recovery.outcomes
    assert outcome.how == "fit"
    assert outcome.error < outcome.kept
