"""Control flow and sequences: exact, and really pruned inside the bodies and through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper, numpy_helper

import onnxprune
from onnxprune.checks.report import Report
from onnxprune.coupling.trace import Trace, trace
from onnxprune.jobs.verify import verify
from onnxprune.model.graph import Graph
from onnxprune.model.loading import load
from onnxprune.model.protos import tensors
from onnxprune.runtime.session import open_session, run
from onnxprune.scoring.score import score
from onnxprune.selection.decide import select
from onnxprune.selection.plan import Plan
from onnxprune.surgery.surgeon import rewrite_trace

from . import cases_control, cases_sequences
from .building import Builder, made_up
from .building_text import model
from .conftest import exact
from .full import in_turn

UNITS = {
    "branches_with_layers": 40,
    "branch_is_constant": 8,
    "branch_returns_initializer": 8,
    "branch_computes_constant": 8,
    "nested_branches": 20,
    "squeeze_if_single": 16,
    "branch_by_batch": 20,
    "branch_computes_from_shared": 0,
    "branches_of_different_size": 12,
    "recurrent_cell": 16,
    "constant_initial_state": 28,
    "carries_its_weights": 16,
    "ends_by_a_counter": 8,
    "growing_state": 8,
    "growing_channels": 12,
    "passed_through": 20,
    "list_in_loop": 20,
    "branch_in_loop": 28,
    "mended_inside": 22,
    "scan_over_time": 28,
    "scan_over_channels": 12,
    "layer_per_element": 20,
    "split_by_size": 48,
    "split_by_sizes": 16,
    "split_into_entries": 16,
    "edited_list": 36,
    "position_from_data": 8,
    "list_of_branches": 8,
    "optional_tensor": 20,
}
"""Channels that can go: fewer were needless coupling, more a missed one."""

CASES = [*cases_control.CASES, *cases_sequences.CASES]

BUILD = {name: builder for _, name, builder in CASES}


def plan_for(traced: Trace, seed: int | None) -> Plan:
    """Half of every group by weight, or a random share of each by chance."""
    if seed is None:
        return select(traced, score(traced), ratio=0.5, granularity=1)
    rng = np.random.default_rng(seed)
    ratio = {g.name: float(rng.uniform(0.05, 0.95)) for g in traced}
    return select(traced, score(traced, criterion="random", seed=seed), ratio=ratio, granularity=1)


def variants(traced: Trace) -> list[dict[str, np.ndarray]]:
    """Inputs for both values of every truth value, and for other numbers."""
    feeds = made_up(traced.graph)
    found = [feeds]
    for name, array in feeds.items():
        if array.dtype == np.bool_:
            found += [f | {name: np.asarray(~array)} for f in found]
        elif array.dtype == np.int64:
            found += [f | {name: np.asarray(array - 1)} for f in found]
    return found


@pytest.mark.parametrize(("name", "seed"), in_turn(BUILD, [None, 1]))
def test_exact(name: str, seed: int | None) -> None:
    dense = BUILD[name]()
    onnx.checker.check_model(dense)
    traced = trace(dense)
    assert not traced.obstacles()
    plan = plan_for(traced, seed)
    slim = rewrite_trace(traced, plan.removed(traced))
    onnx.checker.check_model(slim.proto, full_check=True)
    for feeds in variants(traced):
        report = verify(dense, slim, plan=plan, data=feeds, provider="cpu", traced=traced)
        assert report.exact, f"{report}\n{feeds}"
        assert report.method == "end to end", report


@pytest.mark.parametrize(("op", "name", "builder"), CASES)
def test_units(op: str, name: str, builder: Builder) -> None:
    traced = trace(builder())
    assert any(node.op == op for node in traced.graph.nodes)
    assert traced.units == UNITS[name], str(traced)


def prune_half(dense: onnx.ModelProto, feeds: dict[str, np.ndarray] | None = None) -> Report:
    """Prune half of every group and compare."""
    traced = trace(dense)
    assert traced.units
    plan = plan_for(traced, None)
    slim = rewrite_trace(traced, plan.removed(traced))
    return verify(dense, slim, plan=plan, data=feeds, provider="cpu", traced=traced)


@pytest.mark.parametrize("name", ["recurrent_cell", "growing_state", "passed_through"])
def test_no_iteration(name: str) -> None:
    dense = BUILD[name]()
    feeds = made_up(Graph(load(dense))) | {"M": np.asarray(0)}
    report = prune_half(dense, feeds)
    assert report.exact, report


@pytest.mark.parametrize(
    ("name", "weight"), [("branches_with_layers", "W2"), ("recurrent_cell", "R"), ("scan_over_time", "P")]
)
def test_wrong_weight_in_a_body_is_found(name: str, weight: str) -> None:
    dense = BUILD[name]()
    traced = trace(dense)
    plan = plan_for(traced, None)
    slim = rewrite_trace(traced, plan.removed(traced))
    (tensor,) = [t for t in tensors(slim.proto.graph) if t.name == weight]
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.roll(array, 1, axis=0), weight))
    report = verify(dense, slim, plan=plan, provider="cpu", traced=traced)
    assert report.exact is False
    assert report.method == "layer by layer"


def test_names_may_repeat_in_branches() -> None:
    dense = model("""
        g (float[2,6] x, bool c) => (float[2,10] y)
          <float[8,6] W, float[8,12] A, float[8,12] B, float[10,12] V> {
          h = Gemm <transB=1> (x, W)
          z = If (c) <
            then_branch = t () => (o) { a = MatMul(h, A) o = Relu(a) },
            else_branch = e () => (o) { a = MatMul(h, B) o = Tanh(a) }>
          y = Gemm <transB=1> (z, V)
        }""")
    assert trace(dense).units == 20
    assert prune_half(dense).exact


def test_sequence_output_is_pinned() -> None:
    dense = model("""
        g (float[2,6] x) => (seq(float[2,8]) s, float[2,10] y)
          <float[8,6] A, float[12,6] B, float[10,12] V> {
          a = Gemm <transB=1> (x, A)
          b = Gemm <transB=1> (x, B)
          s = SequenceConstruct(a, a)
          y = Gemm <transB=1> (b, V)
        }""")
    traced = trace(dense)
    assert {g.name: g.reason for g in traced.blocked} == {"a": "graph output 's'", "y": "graph output 'y'"}
    assert prune_half(dense).exact


def test_sequence_input_is_unknown() -> None:
    dense = model("""
        g (seq(float[2,6]) s, float[2,6] x) => (float[2,10] y) <float[8,6] A, float[8,6] B, float[10,8] V> {
          i = Constant <value_int=0> ()
          e = SequenceAt(s, i)
          a = Gemm <transB=1> (e, A)
          b = Gemm <transB=1> (x, B)
          m = Mul(a, b)
          y = Gemm <transB=1> (m, V)
        }""")
    traced = trace(dense)
    assert next(iter(traced.walk.facts.blocked.values())) == (
        "SequenceAt 'e': the elements of 's' are not known"
    )


def test_loop_that_changes_the_rank_is_pinned() -> None:
    dense = model("""
        g (float[2,6] x, int64 M) => (float y) <float[8,6] W> {
          h = Gemm <transB=1> (x, W)
          yes = Constant <value = bool {1}> ()
          zero = Constant <value_ints=[0]> ()
          z = Loop (M, yes, h) <
            body = b (int64 i, bool k, float hi) => (k2, ho) {
              k2 = Identity(k)
              ho = Unsqueeze(hi, zero)
            }>
          y = ReduceSum <keepdims=0> (z)
        }""")
    traced = trace(dense)
    assert not traced.units
    (group,) = traced.blocked
    assert group.reason == "Loop 'z' changes the number of its axes, or does what cannot be followed"


def test_old_scan_is_pinned() -> None:
    dense = model(
        """
        g (float[1,4,6] x) => (float[1,4,12] y) <float[6,8] W, float[8,12] R> {
          u = MatMul(x, W)
          y = Scan (, u) <num_scan_inputs=1, body = b (float[8] t) => (o) { o = MatMul(t, R) }>
        }""",
        8,
    )
    traced = trace(dense)
    assert not traced.units
    assert traced.obstacles() == {"Scan": 1}


def test_custom_node_with_a_body_pins_what_it_captures() -> None:
    dense = model("""
        g (float[2,6] x) => (float[2,10] y) <float[8,6] W, float[12,6] U, float[8,12] A, float[10,12] V> {
          h = Gemm <transB=1> (x, W)
          u = Gemm <transB=1> (x, U)
          z = ai.example.Twice <body = b () => (o) { o = MatMul(h, A) }> ()
          s = Add(z, u)
          y = Gemm <transB=1> (s, V)
        }""")
    dense.opset_import.append(onnx.helper.make_opsetid("ai.example", 1))
    traced = trace(dense)
    assert not traced.units
    reason = "ai.example::Twice 'z': there is no rule for this operator"
    assert traced.walk.facts.blocked[traced.graph.producers["z"].index] == reason
    assert {g.name for g in traced.blocked if g.reason == reason} == {"h"}


def test_unknown_sequence_pins_what_else_the_branches_return() -> None:
    dense = model("""
        g (seq(float[2,6]) s, float[2,6] x, bool c) => (float[2,10] y)
          <float[8,6] W, float[8,12] A, float[8,12] B, float[10,12] V> {
          h = Gemm <transB=1> (x, W)
          t, z = If (c) <
            then_branch = t () => (s1, o1) { s1 = SequenceConstruct(x) o1 = MatMul(h, A) },
            else_branch = e () => (s2, o2) { s2 = Identity(s) o2 = MatMul(h, B) }>
          y = Gemm <transB=1> (z, V)
        }""")
    traced = trace(dense)
    assert not traced.units, str(traced)


def test_unknown_result_pins_nothing_else() -> None:
    dense = model("""
        g (float[2,6] x, int64 M) => (float[2,10] y) <float[8,6] W, float[8,12] Q, float[10,12] V> {
          h = Gemm <transB=1> (x, W)
          yes = Constant <value = bool {1}> ()
          zero = Constant <value_ints=[0]> ()
          a, b = Loop (M, yes) <
            body = b (int64 i, bool k) => (k2, o, p) {
              k2 = Identity(k)
              o = ai.example.Unknown(x)
              q = MatMul(h, Q)
              p = Tanh(q)
            }>
          s = ReduceSum <keepdims=0> (b, zero)
          y = Gemm <transB=1> (s, V)
        }""")
    dense.opset_import.append(onnx.helper.make_opsetid("ai.example", 1))
    traced = trace(dense)
    assert [(g.name, len(g)) for g in traced] == [("h", 8), ("q", 12)]
    assert traced.obstacles() == {"ai.example::Unknown": 1}


def test_external_data_in_a_body(tmp_path: Path) -> None:
    dense = BUILD["branches_with_layers"]()
    path = tmp_path / "dense.onnx"
    for tensor in tensors(dense.graph):
        if tensor.name in ("W2", "V"):
            external_data_helper.set_external_data(tensor, "weights.bin")
    onnx.save(dense, path)
    result = onnxprune.prune(path, granularity=1, verify=True)
    assert exact(result)
    result.model.save(tmp_path / "slim.onnx")
    slim = onnx.load(tmp_path / "slim.onnx")
    shapes = {t.name: tuple(t.dims) for t in tensors(slim.graph)}
    assert shapes["W2"] == (12, 8, 3, 3)
    with open_session(onnxprune.load(tmp_path / "slim.onnx")) as session:
        assert run(session, made_up(result.trace.graph))["y"].shape == (2, 10)


@pytest.mark.parametrize(("keepdims", "shape"), [("", (2, 1)), ("<axis=1, keepdims=0>", (2,))])
def test_entries_of_a_split_keep_their_axis_unless_told(keepdims: str, shape: tuple[int, ...]) -> None:
    dense = model(f"""
        g (float[2,6] x) => (float[2,4] y) <float[4,6] W> {{
          y = Gemm <transB=1> (x, W)
          s = SplitToSequence {keepdims or "<axis=1>"} (y)
        }}""")
    assert trace(dense).shapes.first.sequences["s"].shapes == (shape,) * 4


def test_recorded_types_of_sequences_do_not_contradict() -> None:
    """Parts of one size need not be of one size any more, and one type says it of all of them."""
    dense = model("""
        g (float[2,3,8,8] x) => (float[2,10] y) <float[16,3,3,3] W, float[10,16] V> {
          a = Conv <pads=[1,1,1,1]> (x, W)
          size = Constant <value_int=8> ()
          s = SplitToSequence <axis=1> (a, size)
          zero = Constant <value_int=0> ()
          one = Constant <value_int=1> ()
          l = SequenceAt (s, zero)
          r = SequenceAt (s, one)
          l2 = Relu (l)
          r2 = Relu (r)
          z = Concat <axis=1> (l2, r2)
          p = GlobalAveragePool (z)
          f = Flatten (p)
          y = Gemm <transB=1> (f, V)
        }""")
    tensor = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [2, 8, 8, 8])
    kind = onnx.helper.make_sequence_type_proto(tensor)
    dense.graph.value_info.append(onnx.helper.make_value_info("s", kind))
    ratio = {group.name: 0.25 * (k + 1) for k, group in enumerate(onnxprune.trace(dense))}
    result = onnxprune.prune(dense, ratio=ratio, granularity=1, verify=True, provider="cpu")
    assert len(ratio) == 2
    assert exact(result)
    (slim,) = result.model.proto.graph.value_info
    dims = slim.type.sequence_type.elem_type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [2, 0, 8, 8]


def test_a_branch_that_is_not_taken_may_contradict_the_sizes_of_a_run() -> None:
    """Its node runs alone on tensors of fixed sizes, along which the other branch cannot squeeze."""
    dense = model("""
        g (float[N,K,6] x) => (float[N,M,10] y) <float[6,12] U, float[12,16] W, float[16,10] V> {
          h = MatMul (x, U)
          a = MatMul (h, W)
          s = Shape <start=1, end=2> (a)
          one = Constant <value_ints=[1]> ()
          q = Equal (s, one)
          z = If (q) <
            then_branch = t () => (t2) { t1 = Squeeze (a, one) t2 = Unsqueeze (t1, one) },
            else_branch = e () => (e1) { e1 = Relu (a) }>
          y = MatMul (z, V)
        }""")
    result = onnxprune.prune(dense, granularity=1)
    report = verify(dense, result.model, plan=result.plan, layers=True, provider="cpu")
    assert report.exact
    assert "z" in {d.layer for d in report.single}
    assert result.plan.groups[0].status == "pruned"
