"""Quantised models: exact where the arithmetic is integer, scored on what integers stand for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxprune
from models.build import BUILDERS
from onnxprune.checks.oracle import masked_model
from onnxprune.checks.report import Report
from onnxprune.coupling.trace import Trace, trace
from onnxprune.jobs.verify import verify
from onnxprune.model.file import Model
from onnxprune.model.quantization import dequantize, pack, quantize, unpack
from onnxprune.runtime.session import open_session, run
from onnxprune.scoring.layer import Layer
from onnxprune.scoring.score import score
from onnxprune.selection.decide import select
from onnxprune.selection.plan import Plan
from onnxprune.surgery.surgeon import rewrite_trace
from tests import cases_quant, cases_quant_microsoft
from tests.building import TOLERANCE, Case
from tests.building_quantized import Graph
from tests.cases_quant import fake_quantized
from tests.cases_quant_microsoft import nbits

from .building import made_up
from .full import first_of_each, in_turn

ROOT = Path(__file__).parent.parent
MODELS = Path(os.environ.get("ONNXPRUNE_MODELS", ROOT.parent / "shared" / "models"))


def plans(traced: Trace) -> list[Plan]:
    """Half of every group, and a random share of each by random scores."""
    rng = np.random.default_rng(1)
    uneven = {group.name: float(rng.uniform(0.05, 0.95)) for group in traced}
    half = select(traced, score(traced), ratio=0.5, granularity=1)
    scores = score(traced, criterion="random", seed=1)
    return [half, select(traced, scores, ratio=uneven, granularity=1)]


def checked(traced: Trace, plan: Plan) -> tuple[Model, Report]:
    """The slim model, and the report on it, which is not empty."""
    removed = plan.removed(traced)
    assert len(removed)
    slim = rewrite_trace(traced, removed)
    report = verify(traced.model, slim, plan=plan, traced=traced, provider="cpu")
    assert not report.problem
    assert report.exact is True, str(report)
    assert report.method == "end to end"
    return slim, report


def equal_bits(report: Report) -> bool:
    """Whether the models agree bit for bit."""
    return all(d.max_abs == 0 for d in report.surgery)


CASES = [*cases_quant.CASES, *cases_quant_microsoft.CASES]
RUN = [case for case in CASES if not case.reference and case.groups]


@pytest.mark.parametrize("case", first_of_each(RUN, lambda case: case.op), ids=str)
def test_slim_equals_masked(case: Case) -> None:
    traced = trace(case.build())
    assert not traced.walk.facts.blocked
    for plan in plans(traced):
        _, report = checked(traced, plan)
        assert equal_bits(report) or case.limit == TOLERANCE, str(report)


@pytest.mark.parametrize("name", ["int8-weights", "uint8-weights"])
def test_dimensions_of_heads_that_project_with_integers(name: str) -> None:
    """Query, key and value of a QAttention are equally wide, whatever goes."""
    (case,) = (c for c in CASES if str(c) == f"com.microsoft::QAttention-{name}")
    traced = trace(case.build(), reshape_channel_axis=1)
    assert [len(group) for group in traced] == [16, 6]
    for plan in plans(traced):
        checked(traced, plan)


def test_removed_means_zero_point() -> None:
    """Masked with zeros instead, the original computes something else."""
    (case,) = (c for c in CASES if str(c) == "QLinearConv-one-scale-per-kernel")
    traced = trace(case.build())
    plan = plans(traced)[0]
    removed = plan.removed(traced)
    slim = rewrite_trace(traced, removed)
    feeds = made_up(traced.graph)
    sizes = traced.sizes(removed)
    found: list[npt.NDArray[Any]] = []
    for zeros in (traced.walk.facts.zeros, dict.fromkeys(traced.walk.facts.zeros, "")):
        traced.walk.facts.zeros = zeros
        with open_session(masked_model(traced, sizes, slim.proto).embedded()) as session:
            found += run(session, feeds).values()
    with open_session(slim) as session:
        (expected,) = run(session, feeds).values()
    assert np.array_equal(found[0], expected)
    assert not np.array_equal(found[1], expected)


def test_dynamic_range_holds_zero() -> None:
    """Removed entries do not widen the range of DynamicQuantizeLinear: equal scales, equal points."""
    g = Graph()
    x = g.node("MatMul", g.input("N", 8), g.floats(8, 16))
    # All kept channels are positive, so that zero is an end of the range.
    x = g.node("Add", g.node("Relu", x), g.store(g.random.uniform(1, 2, 16)))
    q, scale, zero = g.node("DynamicQuantizeLinear", x, outputs=3)
    g.node("MatMulInteger", q, g.integers(16, 4), zero)
    g.nodes[-1].output[0] = "y"
    model = g.done("y").model()
    model.graph.output.append(helper.make_tensor_value_info(scale, TensorProto.FLOAT, []))
    model.graph.output.append(helper.make_tensor_value_info(zero, TensorProto.UINT8, []))
    traced = trace(model)
    for plan in plans(traced):
        _, report = checked(traced, plan)
        assert len(report.surgery) == 3
        assert equal_bits(report)


def test_weights_of_all_bits() -> None:
    """Older processors add neighbouring products in 16 bits by default, and other channels are neighbours."""
    g = Graph()
    q, _, zero = g.node("DynamicQuantizeLinear", g.node("Relu", g.input("N", 8)), outputs=3)
    w = g.store(g.random.choice([-127, 127], (8, 32)), np.int8)
    h = g.node("Cast", g.node("MatMulInteger", q, w, zero), to=TensorProto.FLOAT)
    q, _, zero = g.node("DynamicQuantizeLinear", g.node("Relu", h), outputs=3)
    g.node("MatMulInteger", q, g.store(g.random.choice([-127, 127], (32, 16)), np.int8), zero)
    g.nodes[-1].output[0] = "y"
    traced = trace(g.done("y").model())
    for plan in plans(traced):
        assert equal_bits(checked(traced, plan)[1])


# Scores ------------------------------------------------------------------------------------------


def equal_integers(write: Callable[[Graph, str, npt.NDArray[Any]], str]) -> list[float]:
    """Scores of a layer whose columns hold the same integers under growing scales."""
    g = Graph()
    column = g.random.integers(-60, 60, (16, 1))
    x = write(g, g.input("N", 16), np.repeat(column, 16, axis=1))
    traced = trace(g.done(g.node("MatMul", x, g.floats(16, 4))).model())
    (group,) = traced
    scores = score(traced, criterion="l2", normalizer="none")[group.name].merged
    expected = np.linalg.norm(column) * SCALES
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    return list(scores)


SCALES = np.linspace(0.01, 0.05, 16).astype(np.float32)


def dequantized(g: Graph, x: str, w: npt.NDArray[Any]) -> str:
    parameters = g.store(SCALES), g.store(np.full(16, 3), np.int8)
    numbers = g.node("DequantizeLinear", g.store(w + 3, np.int8), *parameters, axis=1)
    return str(g.node("MatMul", x, numbers))


def qlinear(g: Graph, x: str, w: npt.NDArray[Any]) -> str:
    weight = g.store(w + 3, np.int8), g.store(SCALES), g.store(np.full(16, 3), np.int8)
    result = g.store(0.1), g.point(100)
    return g.numbers((g.node("QLinearMatMul", *g.quantized(x), *weight, *result), *result))


def dynamic(g: Graph, x: str, w: npt.NDArray[Any]) -> str:
    q, scale, zero = g.node("DynamicQuantizeLinear", x, outputs=3)
    y = g.node("MatMulInteger", q, g.store(w + 3, np.int8), zero, g.store(np.full(16, 3), np.int8))
    y = g.node("Cast", y, to=TensorProto.FLOAT)
    return str(g.node("Mul", y, g.node("Mul", scale, g.store(SCALES))))


def packed(g: Graph, x: str, w: npt.NDArray[Any]) -> str:
    b = g.store((w + 128).T[:, None], np.uint8)
    return g.ms("MatMulNBits", x, b, g.store(SCALES[:, None]), K=16, N=16, bits=8, block_size=16)


@pytest.mark.parametrize("write", [dequantized, qlinear, dynamic, packed])
def test_scores_see_dequantized_weights(write: Callable[[Graph, str, npt.NDArray[Any]], str]) -> None:
    equal_integers(write)


def test_scores_of_a_quantized_embedding() -> None:
    g = Graph()
    table = g.random.integers(0, 255, (50, 16))
    q = g.node("Gather", g.store(table, np.uint8), g.input("N", 4, dtype=TensorProto.INT64))
    x = g.numbers((q, g.store(0.5), g.point(128)))
    traced = trace(g.done(g.node("MatMul", x, g.floats(16, 4))).model())
    (group,) = traced
    (kernel,) = group.kernels
    np.testing.assert_array_equal(Layer(traced, kernel).weight, (table.T - 128) * 0.5)


# Numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize(("shape", "axis", "block"), [((), 1, 0), ((6,), 1, 0), ((2, 6), 0, 2)])
def test_numbers_are_those_of_the_specification(
    dtype: npt.DTypeLike, shape: tuple[int, ...], axis: int, block: int
) -> None:
    rng = np.random.default_rng(0)
    low = 0 if np.dtype(dtype) in (np.uint8, ml_dtypes.uint4) else -7
    x, zero = (rng.integers(low, 8, s).astype(dtype) for s in ((4, 6), shape))
    if dtype is np.int32:
        zero = np.zeros(shape, dtype)
    scale = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    attributes: dict[str, Any] = {"axis": axis, "block_size": block} if shape else {}
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in (("x", x), ("s", scale), ("z", zero))
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)
    model = helper.make_model(helper.make_graph([node], "one", values, [output]))
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x, "s": scale, "z": zero})
    np.testing.assert_array_equal(dequantize(x, scale, zero, axis, block), expected)


def test_scales_may_have_the_axes_of_their_tensor() -> None:
    x, scale = np.ones((2, 3, 4), np.int8), np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    np.testing.assert_array_equal(dequantize(x, scale, None, -1), np.repeat(scale, 3, 1))


def test_quantize_undoes_dequantize() -> None:
    x = np.random.default_rng(0).integers(-128, 128, (4, 6)).astype(np.int8)
    scale, zero = np.linspace(0.1, 1, 6).astype(np.float32), np.arange(6).astype(np.int8)
    np.testing.assert_array_equal(quantize(dequantize(x, scale, zero, 1), scale, zero, 1), x)
    far = np.array([-1e9, 1e9], np.float32)
    limits = quantize(far, np.ones((), np.float32), np.zeros((), np.int8))
    assert limits.tolist() == [-128, 127]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pack_undoes_unpack(bits: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 5)).astype(np.uint8)
    values = unpack(data, bits)
    assert values.shape == (3, 5 * 8 // bits)
    assert values.max() < 2**bits
    np.testing.assert_array_equal(pack(values, bits), data)
    assert unpack(np.array([0x21], np.uint8), 4).tolist() == [1, 2]


def test_threads_that_share_out_a_batch_do_not_count() -> None:
    """onnxruntime rounds the states of a small LSTM row by row, and those of a large one as a whole."""
    g, random = Graph(17), np.random.default_rng(0)
    weights = (random.integers(-60, 61, (1, n, 1600)).astype(np.int8) for n in (8, 400))
    zero = g.store(np.zeros(1), np.int8)
    stored = [g.store(weight, np.int8) for weight in weights]
    parameters = [g.scale(1), zero, g.scale(1), zero]
    given = [g.input(4, 2, 8), *stored, g.floats(1, 3200), "", "", "", "", *parameters]
    y, *_ = g.node("DynamicQuantizeLSTM", *given, domain="com.microsoft", outputs=3, hidden_size=400)
    model = g.done(g.node("MatMul", y, g.floats(400, 3))).model()
    result = onnxprune.prune(model, ratio=0.75, granularity=1, verify=True, provider="cpu")
    assert result.report
    assert result.report.method == "end to end"


# Storage -----------------------------------------------------------------------------------------

SHORT = [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("dtype", SHORT, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("external", [False, True], ids=["inside", "outside"])
def test_short_types_are_sliced_and_stored(tmp_path: Path, dtype: npt.DTypeLike, external: bool) -> None:
    g = Graph()
    x = g.input("N", 7)
    for inputs, outputs in ((7, 15), (15, 9), (9, 3)):
        w = g.store(g.random.integers(0, 8, (inputs, outputs)), dtype)
        x = g.node("MatMul", x, g.node("DequantizeLinear", w, g.scale()))
    dense = g.done(x).model()
    written = onnx.ModelProto.FromString(dense.SerializeToString())
    onnx.save(written, tmp_path / "dense.onnx", save_as_external_data=external, size_threshold=0)
    traced = trace(tmp_path / "dense.onnx")
    plan = select(traced, score(traced), ratio=0.5, granularity=1, exclude=[traced[1].name])
    rewrite_trace(traced, plan.removed(traced)).save(tmp_path / "slim.onnx")

    before = {t.name: t for t in dense.graph.initializer}
    slim = onnx.load(tmp_path / "slim.onnx")
    after = {t.name: t for t in slim.graph.initializer}
    (keep,) = {g.keep for g in plan.groups if g.status == "pruned"}
    first, second, third = (t.name for t in dense.graph.initializer if len(t.dims) == 2)
    for name, axis in ((first, 1), (second, 0)):
        assert after[name].data_type == before[name].data_type
        expected = np.take(numpy_helper.to_array(before[name]), keep, axis)
        np.testing.assert_array_equal(numpy_helper.to_array(after[name]), expected)
    assert after[third].raw_data == before[third].raw_data
    ort.InferenceSession(tmp_path / "slim.onnx", providers=["CPUExecutionProvider"])


# What must stay ----------------------------------------------------------------------------------


def product(K: int, N: int, *more: str, **attributes: Any) -> Graph:
    """A product of floats in front of a MatMulNBits."""
    g = Graph()
    x = g.node("MatMul", g.input("N", 6), g.floats(6, K))
    count = -(-K // 16)
    b = g.store(g.random.integers(0, 256, (N, count, 8)), np.uint8)
    extra = [""] * bool(more) + [g.store(np.arange(K), np.int32) for _ in more]
    x = g.ms("MatMulNBits", x, b, g.scale(N, count), *extra, K=K, N=N, block_size=16, **attributes)
    return g.done(x)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: product(40, 4), "in blocks of 16, which do not divide it"),
        (lambda: product(12, 4), "quantises it as one block"),
        (lambda: product(48, 4, "g_idx"), "orders its rows by g_idx"),
        (lambda: product(48, 4, weight_prepacked=1), "packed for one kind of device"),
    ],
)
def test_rows_of_packed_weights_may_stay(build: Callable[[], Graph], reason: str) -> None:
    traced = trace(build().model())
    assert not traced.groups
    assert reason in traced.blocked[0].reason


def test_packed_columns_fall_in_steps_of_the_granularity() -> None:
    """Columns count one by one, although each has several scales."""
    g = Graph()
    x = nbits(g, g.input("N", 48), (48, 80), 4, "packed", bias=False, flat=True)
    traced = trace(g.done(g.node("MatMul", x, g.floats(80, 4))).model())
    (group,) = traced
    assert (len(group), group.width) == (80, 1)
    plan = select(traced, score(traced), ratio=0.47, granularity=8)
    assert len(plan.groups[0].keep) == 48


# Whole networks ----------------------------------------------------------------------------------


def test_groups_are_those_of_the_float_network() -> None:
    """Scales and zero points are members, and tie nothing else together."""
    traced = trace(fake_quantized().model())
    assert [len(group) for group in traced] == [16, 12]
    (member,) = {m for m in traced[0].members if m.axis == 1}
    assert len(traced[0].members) == 7  # weight, scale, zero point; bias with both; next weight
    assert member.tensor in {n.inputs[0] for n in traced.graph.nodes}


@pytest.mark.parametrize("name", ["derived_mobilenet_v2_qdq", "mobilenet_v2_qoperator_int8"])
def test_real_network(name: str) -> None:
    path = MODELS / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {MODELS} (set ONNXPRUNE_MODELS)")
    traced = trace(path)
    assert (len(traced), traced.units) == (25, 9128)
    for plan in plans(traced):
        _, report = checked(traced, plan)
        assert equal_bits(report)


class Feeds:
    """Inputs for calibration, one after the other."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = trace(model).graph
        self.rows = iter([made_up(graph, seed) for seed in range(2)])

    def get_next(self) -> Any:
        return next(self.rows, None)


FORMS = ["QDQ", "QDQ of int8", "QOperator", "dynamic"]


@pytest.mark.parametrize(
    ("name", "form"), in_turn(["residual", "transformer", "inverted_residual", "dense"], FORMS)
)
def test_network_quantized_by_onnxruntime(tmp_path: Path, name: str, form: str) -> None:
    from onnxruntime import quantization as q

    model = BUILDERS[name]()
    onnx.save(model, tmp_path / "float.onnx")
    paths = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    if form == "dynamic":
        q.quantize_dynamic(*paths, weight_type=q.QuantType.QInt8, per_channel=True, reduce_range=True)
    else:
        kind, _, int8 = form.partition(" of ")
        types = {
            "activation_type": q.QuantType.QInt8 if int8 else q.QuantType.QUInt8,
            "weight_type": q.QuantType.QInt8,
        }
        q.quantize_static(
            *paths,
            Feeds(model),
            quant_format=q.QuantFormat[kind],
            per_channel=True,
            reduce_range=True,
            **types,
        )
    traced, floating = trace(paths[1]), trace(model)
    assert not traced.walk.facts.blocked
    assert sorted(map(len, traced)) == sorted(map(len, floating))
    for plan in plans(traced):
        _, report = checked(traced, plan)
        assert equal_bits(report) or form == "dynamic", str(report)


@pytest.mark.parametrize("bits", [4, 8])
def test_network_packed_by_onnxruntime(tmp_path: Path, bits: int) -> None:
    pytest.importorskip("onnx_ir", reason="onnxruntime's quantizer of blocks needs onnx_ir")
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(BUILDERS["transformer"](), block_size=16, bits=bits)
    quantizer.process()
    traced = trace(quantizer.model.model)
    assert not traced.walk.facts.blocked
    for plan in plans(traced):
        checked(traced, plan)
