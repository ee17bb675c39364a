"""Bounds of values hold at every node, and they are tight where that matters."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import pytest
from ml_dtypes import bfloat16
from onnx import TensorProto

import models.build  # noqa: F401 - fills the table
from models.net import BUILDERS
from onnxprune import cores
from onnxprune.cleanup.values import VALUE_RULES, Values, acting, analyse_values, contractions, slices
from onnxprune.cleanup.values import bounds as b
from onnxprune.cleanup.values.registry import values
from onnxprune.coupling.trace import trace
from onnxprune.runtime.session import open_session, run
from onnxprune.shapes.dimensions import graph_inputs

from .building import made_up
from .planting import graph, normal

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def analysed(
    model: onnx.ModelProto, low: float = -1.0, high: float = 1.0
) -> tuple[Values, dict[str, np.ndarray]]:
    """Bounds of a model for inputs in a range, and all its tensors for one such input."""
    traced = trace(model, norm="pin")
    names = [v.name for v in graph_inputs(traced.model.proto) if v.type.tensor_type.elem_type in FLOATS]
    found = analyse_values(traced.walk, dict.fromkeys(names, (low, high)))
    feeds = dict(made_up(traced.graph))
    rng = np.random.default_rng(0)
    for name in names:
        feeds[name] = rng.uniform(low, high, feeds[name].shape).astype(feeds[name].dtype)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(traced.model.embedded())
    listed = {value.name for value in exposed.graph.output}
    dtypes = traced.shapes.first.dtypes
    for node in traced.graph.main.nodes:
        for name in node.outputs:
            if name and name not in listed and dtypes.get(name) in FLOATS:
                exposed.graph.output.append(onnx.helper.make_tensor_value_info(name, dtypes[name], None))
    with open_session(exposed, "cpu") as session:
        return found, dict(run(session, feeds))


def breaches(found: Values, tensors: dict[str, np.ndarray]) -> list[str]:
    """Tensors that are somewhere outside their bounds, by more than rounding."""
    bad = []
    for name, array in tensors.items():
        array = array.astype(np.float64)
        scale = (1e-2 if tensors[name].dtype == np.float16 else 1e-5) * (1 + np.abs(array).max())
        for axis in range(array.ndim):
            known = found.known(name, axis)
            if known is None:
                known = found.whole(name)
            rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
            low, high = rows.min(axis=1), rows.max(axis=1)
            if (low < known[0] - scale).any() or (high > known[1] + scale).any():
                bad.append(f"{name} axis {axis}")
    return bad


@pytest.mark.parametrize("name", BUILDERS)
def test_bounds_hold(name: str) -> None:
    assert not breaches(*analysed(BUILDERS[name]()))


OPERATORS = {
    "Conv": "y = Conv<pads=[1,0,0,1], strides=[2,1]>(h, V, v)",
    "Conv grouped": "y = Conv<group=2, dilations=[2,2]>(h, G, v)",
    "Conv transposed": "y = ConvTranspose<strides=[2,2], output_padding=[1,1]>(h, V, v)",
    "Conv transposed grouped": "y = ConvTranspose<group=2, pads=[1,1,1,1]>(h, G, v2)",
    "Gemm": "f = Flatten(h)\ny = Gemm<transB=1, alpha=0.5, beta=-2.0>(f, M, v3)",
    "Gemm transposed": "f = Flatten(h)\nt = Transpose(f)\ny = Gemm<transA=1, transB=1>(t, M, v3)",
    "Gemm of two": "f = Flatten(h)\ny = Gemm<transB=1>(f, f)",
    "MatMul": "y = MatMul(h, N)",
    "MatMul left": "f = Flatten(h)\nt = Transpose(f)\ny = MatMul(M, t)",
    "MatMul of two": "t = Transpose<perm=[0,1,3,2]>(h)\ny = MatMul(h, t)",
    "MatMul of a batch": "y = MatMul(h, B)",
    "BatchNormalization": "y = BatchNormalization(h, g, v, v, p)",
    "InstanceNormalization": "y = InstanceNormalization(h, g, v)",
    "LayerNormalization": "y = LayerNormalization(h, g6, v6)",
    "Add": "y = Add(h, k)", "Sub": "y = Sub(k, h)", "Mul": "y = Mul(h, k)", "Div": "y = Div(h, k)",
    "Div by data": "q = Exp(h)\ny = Div(h, q)",
    "Max": "y = Max(h, k, one_f)", "Min": "y = Min(h, k)", "Mean": "y = Mean(h, k)", "Sum": "y = Sum(h, k, h)",
    "PRelu": "y = PRelu(h, k)", "Pow": "y = Pow(h, two)", "Where": "q = Greater(h, k)\ny = Where(q, h, k)",
    "Where fixed": "y = Where(mask, h, k)",
    "Relu": "y = Relu(h)", "LeakyRelu": "y = LeakyRelu<alpha=-0.5>(h)", "Sigmoid": "y = Sigmoid(h)",
    "Tanh": "y = Tanh(h)", "Clip": "y = Clip(h, low, high)", "Exp": "y = Exp(h)", "Abs": "y = Abs(h)",
    "Neg": "y = Neg(h)", "HardSwish": "y = HardSwish(h)", "HardSigmoid": "y = HardSigmoid<alpha=0.3>(h)",
    "Elu": "y = Elu<alpha=2.0>(h)", "Selu": "y = Selu(h)", "Celu": "y = Celu<alpha=2.0>(h)", "Softplus": "y = Softplus(h)",
    "Softsign": "y = Softsign(h)", "Erf": "y = Erf(h)", "Cos": "y = Cos(h)", "Floor": "y = Floor(h)", "Round": "y = Round(h)",
    "ThresholdedRelu": "y = ThresholdedRelu<alpha=-0.2>(h)", "Sqrt": "a = Abs(h)\ny = Sqrt(a)", "Cast": "i = Cast<to=7>(h)\ny = Cast<to=1>(i)",
    "Cast of anything": "q = HardSwish(h)\ni = Cast<to=7>(q)\ny = Cast<to=1>(i)",
    "Integers that wrap": "q = Add(h, big)\ni = Cast<to=6>(q)\nu = ReduceSum(i, a23)\ny = Cast<to=1>(u)",
    "CastLike": "q = Mul(h, big)\ni = CastLike(q, eight)\nu = CastLike(i, h)\ny = Mul(u, k)",
    "CastLike of a size": "q = Shape(h)\ni = CastLike(h, q)\ny = Cast<to=1>(i)",
    "Dropout": "y = Dropout(h)", "Dropout in training": "y = Dropout(h, c, yes)",
    "MaxPool": "y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(h)",
    "AveragePool": "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(h)",
    "AveragePool with padding": "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(h)",
    "AveragePool upwards": "y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, count_include_pad=1>(h)",
    "LpPool": "y = LpPool<kernel_shape=[2,2]>(h)", "GlobalAveragePool": "y = GlobalAveragePool(h)",
    "GlobalMaxPool": "y = GlobalMaxPool(h)", "GlobalLpPool": "y = GlobalLpPool(h)",
    "Pad": "y = Pad(h, pads, two)", "Pad mirrored": "y = Pad<mode=\"reflect\">(h, pads_inside)", "Pad cropping": "y = Pad(h, crop, two)",
    "Pad computed": "q = Shape(h)\nu = Slice(q, two_i, four_i)\nw2 = Div(u, u)\nt = Concat<axis=0>(zeros2, w2, zeros4)\ny = Pad(h, t, two)",
    "Einsum": "y = Einsum<equation=\"nchw,cd->ndhw\">(h, S)", "Einsum to channels": "y = Einsum<equation=\"nchw,c->nchw\">(h, v)",
    "LSTM": "f = Transpose<perm=[2,0,1,3]>(h)\nq = Reshape(f, r3)\ny, z = LSTM<hidden_size=2>(q, L, R)",
    "GRU": "f = Transpose<perm=[2,0,1,3]>(h)\nq = Reshape(f, r3)\ny = GRU<hidden_size=2>(q, L3, R3)",
    "RNN": "f = Transpose<perm=[2,0,1,3]>(h)\nq = Reshape(f, r3)\ny = RNN<hidden_size=2>(q, L1, R1)",
    "RoiAlign": "y = RoiAlign(h, rois, which)", "MaxRoiPool": "y = MaxRoiPool<pooled_shape=[2,2]>(h, rois5)", "GridSample": "y = GridSample(h, grid)",
    "Resize": "y = Resize<mode=\"linear\">(h, , s)", "Resize cubic": "y = Resize<mode=\"cubic\">(h, , s)",
    "Resize outside": "y = Resize<mode=\"linear\", coordinate_transformation_mode=\"tf_crop_and_resize\", extrapolation_value=9.0>(h, roi, s)",
    "ReduceMean": "y = ReduceMean<axes=[2,3]>(h)", "ReduceSum": "y = ReduceSum(h, a23)", "ReduceSum over channels": "y = ReduceSum<keepdims=0>(h, a1)",
    "ReduceMax": "y = ReduceMax<axes=[3], keepdims=0>(h)", "ReduceL2": "y = ReduceL2<axes=[2]>(h)", "ReduceProd": "y = ReduceProd<axes=[2]>(h)",
    "ReduceLogSumExp": "y = ReduceLogSumExp<axes=[2]>(h)",
    "Softmax": "y = Softmax<axis=1>(h)", "LogSoftmax": "y = LogSoftmax(h)",
    "Transpose": "y = Transpose<perm=[3,1,0,2]>(h)", "Flatten": "y = Flatten(h)", "Reshape": "y = Reshape(h, r)",
    "Reshape inwards": "q = Reshape(h, r)\nt = Transpose<perm=[0,2,1,3]>(q)\ny = Reshape(t, r2)",
    "Squeeze": "q = Unsqueeze(h, a1)\nt = Relu(q)\ny = Squeeze(t, a1)",
    "Concat": "q = Relu(h)\ny = Concat<axis=1>(h, q, k4)", "Concat elsewhere": "q = Relu(h)\ny = Concat<axis=2>(h, q)",
    "Split": "p0, p1 = Split<axis=1>(h, one_three)\ny = Relu(p1)\nz = Relu(p0)",
    "Slice": "y = Slice(h, start, end, a1, step)", "Gather": "y = Gather<axis=1>(h, picks)", "Gather one": "y = Gather<axis=1>(h, pick)",
    "Expand": "q = ReduceMean<axes=[3]>(h)\ny = Expand(q, e)", "Tile": "y = Tile(h, tiles)",
    "DepthToSpace": "q = Gather<axis=1>(h, eight)\ny = DepthToSpace<blocksize=2>(q)",
    "DepthToSpace CRD": "q = Gather<axis=1>(h, eight)\ny = DepthToSpace<blocksize=2, mode=\"CRD\">(q)",
    "SpaceToDepth": "y = SpaceToDepth<blocksize=2>(h)",
    "QuantizeLinear": "q = QuantizeLinear(h, one_f, zp)\ny = DequantizeLinear(q, one_f, zp)",
    "ConstantOfShape": "q = ConstantOfShape<value=float[1] {2.5}>(shape)\ny = Add(h, q)",
    "infinite": "q = Add(h, wall)\ny = Clip(q, low, high)",
}  # fmt: skip

STORED: dict[str, Any] = {
    "W": normal(4, 3, 1, 1, dead=(0, 1)), "w": np.array([0, 0.75, 0.1, -0.2]),
    "V": normal(4, 4, 3, 3), "G": normal(4, 2, 3, 3), "v": normal(4), "v2": normal(4), "M": normal(5, 144), "v3": normal(5),
    "N": normal(6, 3), "B": normal(4, 6, 2), "g": np.array([1, 0, -2, 0.5]), "p": np.array([1, 2, 0.5, 0.1]),
    "g6": np.array([1, 0, 2, 0, 1, 1.0]), "v6": normal(6), "k": normal(4, 1, 1), "k4": normal(2, 1, 6, 6), "one_f": 1.0, "two": 2.0,
    "low": -0.5, "high": 0.5, "mask": np.array([[[True]], [[False]], [[True]], [[False]]]),
    "pads": [0, 1, 1, 0, 0, 0, 2, 0], "pads_inside": [0, 0, 1, 0, 0, 0, 2, 0], "crop": [0, 0, -1, 1, 0, 0, 0, 0],
    "s": np.array([1, 1, 1.5, 2.0]), "roi": np.array([0, 0, -0.5, 0, 1, 1, 1.5, 1.0]), "a1": [1], "a23": [2, 3], "r": [2, 2, 2, 36], "r2": [2, 4, 36],
    "one_three": [1, 3], "start": [-1], "end": [-5], "step": [-2], "picks": [[3, 1], [0, 0]], "pick": -3, "e": [2, 4, 6, 5], "tiles": [1, 2, 1, 2],
    "zp": np.uint8(3), "shape": [2, 4, 6, 6], "wall": np.array([0, 0, np.inf, 0]).reshape(4, 1, 1), "two_i": [2], "eight": [0, 0, 0, 0, 1, 1, 1, 1], "big": 1.5e9, "four_i": [4], "zeros2": [0, 0], "zeros4": [0, 0, 0, 0], "S": normal(4, 5), "r3": [6, 2, 24],
    "L": normal(1, 8, 24), "R": normal(1, 8, 2), "L3": normal(1, 6, 24), "R3": normal(1, 6, 2), "L1": normal(1, 2, 24), "R1": normal(1, 2, 2),
    "rois": np.array([[0, 0, 4, 4.0]]), "which": [1], "rois5": np.array([[0, 0, 0, 4, 4.0]]), "grid": normal(2, 3, 3, 2),
    "yes": True, "E": np.eye(4).reshape(4, 4, 1, 1), "c": 0.75,
}  # fmt: skip


UNINFERRED = ("Einsum", "MaxRoiPool", "GridSample", "Shape(")
"""Operators of which onnx does not infer the shape of the output."""


def operator_model(text: str) -> onnx.ModelProto:
    """One operator after a Conv whose channels are zero, constant, anything and anything."""
    used = {
        name: value
        for name, value in STORED.items()
        if name in text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    }
    outputs = "float[A,B,C,D] y" if any(op in text for op in UNINFERRED) else "y"
    return graph(
        "h = Conv(x, W, w)\n" + text,
        inputs="float[2,3,6,6] x",
        outputs=outputs,
        W=STORED["W"],
        w=STORED["w"],
        **used,
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_bounds_of_an_operator(name: str) -> None:
    found, tensors = analysed(operator_model(OPERATORS[name]))
    assert not breaches(found, tensors)
    assert not np.isinf(found.known("h", 1)).any()  # type: ignore[arg-type]


def test_padding_by_sizes_that_are_free() -> None:
    """The amounts are known when the model runs; a channel may hold the value that is added."""
    model = graph(
        """h = Conv(x, W, w)
        s = Shape(h)
        u = Slice(s, two_i, four_i)
        t = Concat<axis=0>(zeros2, u, zeros4)
        y = Pad(h, t, two)""",
        inputs="float[2,3,H,W] x",
        outputs="float[A,B,C,D] y",
        **{name: STORED[name] for name in ("W", "w", "two_i", "four_i", "zeros2", "zeros4", "two")},
    )
    found, tensors = analysed(model)
    assert not breaches(found, tensors)
    assert (tensors["y"] == 2).any()


def test_every_value_rule_is_tried() -> None:
    """Every operator with a rule of its own occurs above; families are tried by members."""
    tried = {node.op_type for text in OPERATORS.values() for node in operator_model(text).graph.node}
    families: dict[Any, set[str]] = {}
    for (_, op), rule in VALUE_RULES.items():
        families.setdefault(rule, set()).add(op)
    large = [ops for ops in families.values() if len(ops) > 12]
    untried = {op for ops in families.values() if ops not in large for op in ops} - tried
    assert untried <= {
        "Upsample", "Hardmax", "GroupNormalization", "ReduceMin", "ReduceL1", "ReduceSumSquare",
        "ReduceLogSum", "Shape", "Size",
    }  # fmt: skip
    assert all(ops & tried for ops in large)


TIGHT = {
    "Relu": ("y = Relu(h)", 1, [0, 0.75]), "Sigmoid": ("y = Sigmoid(h)", 1, [0.5, 1 / (1 + np.exp(-0.75))]),
    "Add": ("y = Add(h, k)", 1, [float(STORED["k"][0, 0, 0]), 0.75 + float(STORED["k"][1, 0, 0])]),
    "MaxPool": (OPERATORS["MaxPool"], 1, [0, 0.75]), "AveragePool": (OPERATORS["AveragePool"], 1, [0, 0.75]),
    "AveragePool with padding": (OPERATORS["AveragePool with padding"], 1, [0, None]),
    "Pad": ("y = Pad(h, pads_inside, two)", 1, [None, None]), "Pad with the same": ("y = Pad(h, pads_inside, c)", 1, [None, 0.75]),
    "Pad with zero": ("y = Pad(h, pads_inside)", 1, [0, None]),
    "Flatten": ("y = Flatten(h)", 1, [0, 0]), "ReduceSum": ("y = ReduceSum(h, a23)", 1, [0, 27]),
    "Mul": ("q = Exp(x)\nu = ReduceMean<axes=[1]>(q)\ny = Mul(h, u)", 1, [0, None]), "Div": ("q = Exp(h)\ny = Div(h, q)", 1, [0, 0.75 / np.exp(0.75)]),
    "Conv": ("y = Conv(h, E, v)", 1, [float(STORED["v"][0]), float(STORED["v"][1]) + 0.75]),
    "Conv with padding": ("y = Conv<pads=[1,1,1,1]>(h, E, v)", 1, [float(STORED["v"][0]), None]),
    "InstanceNormalization": ("y = InstanceNormalization(h, g, v)", 1, [float(STORED["v"][0]), float(STORED["v"][1])]),
    "Pad computed": (OPERATORS["Pad computed"], 1, [None, None]), "Einsum": (OPERATORS["Einsum to channels"], 1, [0, None]),
    "RoiAlign": (OPERATORS["RoiAlign"], 1, [0, None]), "QuantizeLinear": (OPERATORS["QuantizeLinear"], 1, [0, 1]),
    "CastLike": (OPERATORS["CastLike of a size"], 1, [0, 0]), "Softmax": ("y = Softmax<axis=1>(h)", 1, [None, None]), "Transpose": ("y = Transpose<perm=[1,0,2,3]>(h)", 0, [0, 0.75]),
    "Concat": ("y = Concat<axis=2>(h, h)", 1, [0, 0.75]), "Resize": (OPERATORS["Resize"], 1, [0, 0.75]),
}  # fmt: skip


@pytest.mark.parametrize("name", TIGHT)
def test_constants_are_followed(name: str) -> None:
    """Channels 0 and 1 are the constants 0 and 0.75; None where the result is not constant."""
    text, axis, expected = TIGHT[name]
    found, tensors = analysed(operator_model(text))
    assert not breaches(found, tensors)
    value = b.constants(found.axis("y", axis))[:2]
    assert value == pytest.approx([np.nan if v is None else v for v in expected], rel=1e-6, nan_ok=True)


def test_what_acts_on_what_takes_a_bit_a_weight() -> None:
    """It took a byte, for all layers at once: a quarter of a sparse model."""
    weight = normal(64, 256)
    weight[::2, ::3] = 0
    nodes = "h = MatMul(x, v) y = MatMul(h, w)"
    traced = trace(graph(nodes, inputs="float[1,8] x", v=normal(8, 64), w=weight), norm="pin")
    (mix,) = (mix for mix in analyse_values(traced.walk).mixes if mix.weights is not None)
    assert isinstance(mix.weights, acting.Bits)
    assert mix.weights.bits.nbytes == weight.size / 8


def test_breaches_are_seen() -> None:
    """The comparison fails for bounds that are too tight by a hundredth."""
    found, tensors = analysed(operator_model("y = Sigmoid(h)"))
    known = found.known("y", 1)
    assert known is not None
    known[1] -= 0.01
    assert breaches(found, tensors)


def test_rule_cannot_be_registered_twice() -> None:
    with pytest.raises(ValueError, match="Conv has a value rule already"):
        values("Conv")(lambda v, n: None)


def test_failing_rule_leaves_everything_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubt keeps: a rule that fails counts as none."""

    def broken(v: Values, n: object) -> None:
        raise KeyError("attribute")

    monkeypatch.setitem(VALUE_RULES, ("", "Relu"), broken)
    found, _ = analysed(operator_model("y = Relu(h)"))
    assert np.isinf(found.whole("y")).all()
    assert found.unclear == ["y"]


@pytest.mark.parametrize("low", [-np.inf, 0.0])
@pytest.mark.parametrize("high", [0.0, np.inf])
def test_inputs_of_one_sign_give_what_any_bounds_give(low: float, high: float) -> None:
    """The short way for layers behind a Relu, against interval arithmetic over every input."""
    rng = np.random.default_rng(0)
    kernel = rng.integers(-1, 2, (3, 4, 2, 3)).astype(np.float32)
    kernel[0, 0], kernel[1, :, 1], kernel[2, 1] = 0, 0, np.abs(kernel[2, 1])
    x = np.broadcast_to(np.reshape([low, high], (2, 1, 1)), (2, 3, 2))
    up, down = np.any(kernel > 0, axis=3), np.any(kernel < 0, axis=3)
    sums, weights = contractions.weigh(kernel, x, padded=False)
    assert np.array_equal(sums, contractions._weigh(kernel, up, down, x))
    assert weights is not None
    for rows in np.eye(12, dtype=np.bool_).reshape(12, 3, 4):
        assert np.array_equal(weights.heard(rows), ((up | down) & rows[:, :, None]).any(axis=1))


@pytest.mark.parametrize("shape", [(1, 40, 64), (2, 30, 13), (1, 1, 0), (3, 1, 300)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.5, 0.998, 1.0])
def test_what_acts_is_known_whatever_form_it_takes(
    shape: tuple[int, ...], order: Literal["C", "F"], share: float
) -> None:
    random = np.random.default_rng(0)
    weights = np.asarray(random.random(shape) < share, order=order)
    known = acting.smallest(weights)
    for rows in (random.random(shape[:2]) < 0.1, random.random(shape[:2]) < 0.9):
        assert np.array_equal(known.heard(rows), (weights & rows[:, :, None]).any(axis=1))


def test_a_bit_for_each_weight_only_where_they_differ() -> None:
    forms = {
        share: type(acting.smallest(np.random.default_rng(0).random((1, 90, 90)) < share)).__name__
        for share in (0.0, 0.002, 0.5, 0.998)
    }
    assert forms == {0.0: "Few", 0.002: "Few", 0.5: "Bits", 0.998: "Few"}


@pytest.mark.parametrize("taps", [1, 2])
@pytest.mark.parametrize("sparse", [0, 1, 7, 60])
def test_outputs_without_holes_need_not_be_looked_at(taps: int, sparse: int) -> None:
    """A stored weight most of whose outputs hear every input, some or all of whose others do not."""
    random = np.random.default_rng(0)
    kernel = random.normal(size=(2, 30, 16, taps)) + 9
    rows = random.permutation(60)[:sparse]
    kernel.reshape(60, -1)[rows] *= random.random((sparse, 16 * taps)) < 0.5
    weights = (kernel != 0).any(axis=3)
    known = acting.acting(kernel, (kernel == 0).any(axis=(2, 3)))
    assert (known is None) == weights.all()
    for heard in (random.random((2, 30)) < 0.1, random.random((2, 30)) < 0.9):
        if known is not None:
            assert np.array_equal(known.heard(heard), (weights & heard[:, :, None]).any(axis=1))


SLICED = [((70, 3), 0), ((70, 3), 1), ((5,), 0), ((2, 3, 4), 1), ((1, 6, 2), 1), ((3, 2, 2, 2), 3)]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.bool_, np.uint64, bfloat16])
@pytest.mark.parametrize(("shape", "axis"), SLICED)
def test_slices_are_read_in_blocks(
    shape: tuple[int, ...], axis: int, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks and threads of a few numbers find what the whole array says."""
    monkeypatch.setattr(cores, "BLOCK", 8)
    monkeypatch.setattr(cores, "LEAST", 16)
    array: np.ndarray = np.random.default_rng(0).integers(0, 5, shape).astype(dtype)
    rows = np.moveaxis(array, axis, 0).reshape(shape[axis], -1).astype(np.float64)
    found = slices.slices_of(array, axis)
    assert np.array_equal(found.bounds, [rows.min(axis=1), rows.max(axis=1)])
    assert np.array_equal(found.holes, (rows == 0).any(axis=1))
    assert np.array_equal(found.sums.astype(np.float64), rows.sum(axis=1))
    assert found.finite


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [0, 1])
def test_slices_that_hold_no_number(odd: float, axis: int) -> None:
    array = np.ones((4, 4), np.float32)
    array[2, 1] = odd
    found = slices.slices_of(array, axis)
    assert not found.finite
    assert np.isinf(found.bounds[:, 2 if axis == 0 else 1]).any()
