"""Dynamic shapes: the slim model runs, and is exact, at sizes that the pruner never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.build import BUILDERS
from onnxprune.coupling.trace import Trace, retrace, trace
from onnxprune.data.dataset import _other_sizes
from onnxprune.jobs.prune import prune as prune_model
from onnxprune.jobs.verify import verify
from onnxprune.model.graph import Graph
from onnxprune.model.loading import load
from onnxprune.runtime.session import open_session, run
from onnxprune.scoring.score import score
from onnxprune.selection.decide import select
from onnxprune.selection.plan import Plan
from onnxprune.shapes.analysis import analyse, examine
from onnxprune.shapes.dimensions import free_dimensions, sample_sizes
from onnxprune.shapes.made_up import synthetic_inputs
from onnxprune.surgery.surgeon import rewrite_trace

from . import battery
from .building import Builder, net
from .building_text import model as text_model
from .cases_control import CASES as CONTROL
from .cases_dynamic import CASES
from .cases_signal import spectrogram

DIGITS = Path(__file__).parents[1] / "models" / "digits.onnx"

UNSEEN: tuple[dict[str, Any], ...] = (
    {"batch": 1, "sequence": 5, "spatial": (40, 32)},
    {"batch": 4, "sequence": 33, "spatial": (64, 96)},
    {"batch": 7, "sequence": 12, "spatial": (20, 20)},
)

BUILD: dict[str, Builder] = {name: builder for _, name, builder in CASES}
BUILD |= {name: BUILDERS[name] for name in ("dynamic_reshape", "computed_features", "plain")}
BUILD["digits"] = lambda: onnx.load(DIGITS)
BUILD |= {name: builder for _, name, builder in CONTROL if free_dimensions(builder())}

UNITS = {
    "merged_heads": 4,
    "windows": 20,
    "repeated_token": 16,
    "half_of_time": 16,
    "resize_to_skip": 20,
    "computed_width": 8,
    "computed_mean": 8,
    "causal_mask": 3,
    "time_into_batch": 28,
    "initial_state": 5,
    "dynamic_reshape": 72,
    "computed_features": 40,
    "plain": 72,
    "digits": 416,
    "branches_with_layers": 40,
    "branch_is_constant": 8,
    "squeeze_if_single": 16,
    "branch_by_batch": 20,
    "scan_over_time": 28,
    "split_by_size": 48,
}
"""Channels that can go: fewer were needless coupling, more a missed one."""


def unseen(proto: onnx.ModelProto, number: int) -> dict[tuple[str, int], int]:
    """Sizes that differ from both sample settings in every free dimension."""
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in proto.graph.input}
    sizes = {}
    for name, axis in free_dimensions(proto):
        if ranks[name] == 4 and axis > 1:
            sizes[name, axis] = UNSEEN[number]["spatial"][axis - 2]
        else:
            sizes[name, axis] = UNSEEN[number]["batch" if axis == 0 else "sequence"]
    return sizes


def prune(traced: Trace, seed: int) -> Plan:
    rng = np.random.default_rng(seed)
    ratio = {g.name: float(rng.uniform(0.05, 0.95)) for g in traced}
    return select(traced, score(traced, criterion="random", seed=seed), ratio=ratio, granularity=1)


@pytest.mark.parametrize("name", BUILD)
def test_exact_at_unseen_sizes(name: str) -> None:
    model = BUILD[name]()
    traced = trace(model)
    plan = prune(traced, seed=1)
    slim = rewrite_trace(traced, plan.removed(traced))
    onnx.checker.check_model(slim.proto, full_check=True)
    for number in range(len(UNSEEN)):
        sizes = unseen(model, number)
        assert all(sizes[k] not in (s[k] for s in samples(model)) for k in sizes)
        feeds = synthetic_inputs(traced.graph, sizes, number)
        report = verify(model, slim, plan=plan, data=feeds, provider="cpu", traced=traced)
        assert report.exact, f"{sizes}: {report}"
        assert report.method == "end to end"


def samples(model: onnx.ModelProto) -> list[dict[tuple[str, int], int]]:
    return [sample_sizes(model, {}, setting) for setting in (0, 1)]


@pytest.mark.parametrize("name", BUILD)
def test_plan_does_not_depend_on_the_sizes(name: str) -> None:
    model = BUILD[name]()
    traced = trace(model)
    plan = prune(traced, seed=2)
    assert traced.units == UNITS[name], str(traced)
    for number in range(len(UNSEEN)):
        feeds = synthetic_inputs(traced.graph, unseen(model, number))
        other = retrace(traced, {k: v.shape for k, v in feeds.items()})
        assert [(g.name, len(g), g.members) for g in other] == [(g.name, len(g), g.members) for g in traced]
        again = prune(other, seed=2)
        assert again.groups == plan.groups
        assert again.constants == plan.constants


def test_number_of_results_may_depend_on_data() -> None:
    dense = text_model("""
        g (float[N,6] x) => (float[M,1] y) <float[32,6] W, float[1,32] V> {
          h = Gemm <transB=1> (x, W)
          r = Relu(h)
          s = Gemm <transB=1> (r, V)
          zero = Constant <value = float {0.0}> ()
          found = Greater(s, zero)
          one = Constant <value_ints=[1]> ()
          flat = Squeeze(found, one)
          y = Compress <axis=0> (s, flat)
        }""")
    traced = trace(dense)
    assert traced.units == 32
    plan = prune(traced, seed=1)
    slim = rewrite_trace(traced, plan.removed(traced))
    x = np.random.default_rng(0).standard_normal((400, 6)).astype(np.float32)
    counts = []
    for proto in (dense, slim):
        with open_session(proto) as session:
            counts.append(len(run(session, {"x": x})["y"]))
    assert counts[0] != counts[1]
    report = verify(dense, slim, plan=plan, data={"x": x}, provider="cpu", traced=traced)
    assert report.exact, report


def test_a_branch_that_makes_no_sense_at_the_sizes_given() -> None:
    """It is not taken there: at 100 steps the second window would not be single."""
    dense = text_model("""
        g (float[N,1,T] x, bool c) => (float[N,4] y)
          <float[8,1,64] W1, float[4,8] V1, float[8,1,49] W2, float[4,8] V2> {
          two = Constant <value_ints=[2]> ()
          y = If (c) <
            then_branch = t () => (t4) {
              t1 = Conv <strides=[64]> (x, W1) t2 = Relu(t1)
              t3 = Squeeze(t2, two) t4 = Gemm <transB=1> (t3, V1)
            },
            else_branch = e () => (e4) {
              e1 = Conv <strides=[49]> (x, W2) e2 = Relu(e1)
              e3 = Squeeze(e2, two) e4 = Gemm <transB=1> (e3, V2)
            }>
        }""")
    traced = trace(dense)
    assert (len(traced), traced.units) == (2, 16)
    assert retrace(traced, {"x": (3, 1, 100), "c": ()}).shapes.get("t1") == (3, 8, 1)
    plan = prune(traced, seed=1)
    slim = rewrite_trace(traced, plan.removed(traced))
    x = np.random.default_rng(0).standard_normal((2, 1, 100)).astype(np.float32)
    data = {"x": x, "c": np.array(True)}
    report = verify(dense, slim, plan=plan, data=data, provider="cpu", traced=traced)
    assert report.exact, report


def test_made_up_inputs_are_as_long_as_the_model_needs() -> None:
    """Analysis is content with 16 steps, which a Pad by reflection cannot do with."""
    dense = text_model("""
        g (float[N,T] x) => (float[N,4,S] y) <float[8,1,32] W, float[4,8,1] V> {
          pads = Constant <value_ints=[0,200,0,200]> ()
          one = Constant <value_ints=[1]> ()
          p = Pad <mode="reflect"> (x, pads)
          u = Unsqueeze(p, one)
          a = Conv <strides=[16]> (u, W)
          r = Relu(a)
          y = Conv(r, V)
        }""")
    traced = trace(dense)
    assert set(traced.shapes.first.sizes.values()) == {2, 16}
    plan = prune(traced, seed=1)
    slim = rewrite_trace(traced, plan.removed(traced))
    report = verify(dense, slim, plan=plan, provider="cpu", traced=traced)
    assert not report.problem
    assert report.exact, report


def test_a_state_has_its_batch_in_the_middle() -> None:
    dense = text_model(
        "g (float[T,N,3] x, float[2,M,5] h, float[1,S,5] z) => (float[2,M,5] y) { y = Relu(h) }"
    )
    first, second = samples(dense)
    assert [first["h", 1], second["h", 1]] == [2, 3]
    assert [first["z", 1], second["z", 1]] == [16, 24]


def test_an_stft_gives_one_side_by_default() -> None:
    """The specification says so; the shape inference of onnx gives both."""
    dense = spectrogram()
    traced = trace(dense)
    assert [len(g) for g in traced] == [6, 8]
    plan = prune(traced, seed=1)
    slim = rewrite_trace(traced, plan.removed(traced))
    report = verify(dense, slim, plan=plan, provider="cpu", traced=traced)
    assert report.exact, report


def test_labels_on_a_tensor_of_unknown_shape() -> None:
    traced = trace(BUILDERS["plain"]())
    name = traced.graph.main.nodes[0].output
    labels = traced.walk.axes[name]
    del traced.shapes.first.shapes[name]
    assert len(labels) == 4
    assert traced.sizes(traced.groups[0].units[:1]).shape(name) == ()


def test_made_up_indices_are_in_every_table_that_they_look_up() -> None:
    dense = text_model("""
        g (int64[8] i) => (float[8,6] y) <float[9,6] A, float[3,6] B> {
          a = Gather(A, i) b = Gather(B, i) y = Add(a, b)
        }""")
    found = {int(i) for seed in range(5) for i in synthetic_inputs(trace(dense).graph, {}, seed)["i"]}
    assert found == {0, 1, 2}


def test_made_up_inputs_leave_some_memory() -> None:
    """Products of all pairs of 16,000 steps are not tried, whatever the model refuses before."""
    dense = text_model("""
        g (float[N,T,3] x) => (float[N,T,U] y) <float[3,8] W> {
          q = MatMul(x, W)
          k = Transpose <perm=[0,2,1]> (q)
          y = MatMul(q, k)
        }""")
    traced = trace(dense)
    steps = [samples.first.feeds["x"].shape[1] for samples in _other_sizes(traced, {})]
    assert steps == [64, 512, 4096, 16, 64, 512, 4096]


def test_other_sizes_are_looked_at_only_where_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = BUILDERS["dynamic_reshape"]()
    traced = trace(dense)
    monkeypatch.setattr("onnxprune.data.dataset.infer", None)
    assert not verify(dense, dense, provider="cpu", traced=traced).problem


@pytest.mark.parametrize(
    "text",
    [
        "h = Conv(x, W)\n roi = Constant<value = float[0] {}>()\n y = Resize(h, roi, by)",
        "h = Conv(x, W)\n y, mask = Dropout(h)",
    ],
)
def test_sizes_suit_whatever_is_empty_or_unread_at_all_sizes(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = np.array([1, 1, 2, 2], np.float32)
    opset = 11 if "Resize" in text else 7
    graph = Graph(load(net(text, W=(4, 3, 3, 3), by=by, inputs="float[N,3,H,V] x", opset=opset)()))
    looked: list[int] = []

    def counted(*given: Any) -> Any:
        looked.append(given[2])
        return examine(*given)

    monkeypatch.setattr("onnxprune.shapes.analysis.examine", counted)
    analyse(graph)
    assert looked == [0, 1], "once per setting"


def test_free_axes_are_not_taken_for_single_steps() -> None:
    """A window that takes all of the first sample sizes in one step hides how heads are cut."""
    build = net(
        """
        h = Conv <kernel_shape=[64], strides=[64], pads=[32,31]> (x, W1)
        t = Transpose <perm=[2,0,1]> (h)
        s = Shape (t)
        l = Gather (s, zero)
        n = Gather (s, one)
        d = Mul (n, two)
        u = Concat <axis=0> (l, d, four)
        r = Reshape (t, u)
        q = Transpose <perm=[1,0,2]> (r)
        k = Transpose <perm=[1,2,0]> (r)
        m = MatMul (q, k)
        v = MatMul (m, q)
        o = Transpose <perm=[1,0,2]> (v)
        b = Reshape (o, s)
        y = MatMul (b, W2)""",
        inputs="float[N,3,T] x",
        outputs="float[L,N,5] y",
        W1=(8, 3, 64),
        W2=(8, 5),
        zero=[0],
        one=[1],
        two=[2],
        four=[4],
    )
    pruned = battery.prune(build())
    assert tuple(map(len, pruned.trace)) == (2,)  # whole heads
    data = {"x": np.random.default_rng(0).standard_normal((3, 3, 2048)).astype(np.float32)}
    report = verify(pruned.trace.model, pruned.slim, plan=pruned.plan, data=data, provider="cpu")
    assert report.exact, str(report)


def one_sample(batch: str) -> onnx.ModelProto:
    """Attention as ``torch.export`` specialises it: views that hold for a batch of 1 alone."""
    return net(
        """
        t = Transpose <perm=[1,0,2]> (x)
        [qkv] l = MatMul (t, W)
        s = Shape <start=1, end=2> (x)
        i = Concat <axis=0> (s, one, three, depth)
        v = Reshape (l, i)
        u = Transpose <perm=[2,1,0,3]> (v)
        a, b, c = Split <axis=0, num_outputs=3> (u)
        q = Squeeze (a, zero)
        k = Squeeze (b, zero)
        w = Squeeze (c, zero)
        r = Transpose <perm=[0,2,1]> (k)
        m = MatMul (q, r)
        p = Softmax <axis=-1> (m)
        o = MatMul (p, w)
        [out] y = MatMul (o, V)""",
        inputs=f"float[{batch},T,20] x",
        outputs="float[1,T,5] y",
        opset=18,
        W=(20, 48),
        V=(16, 5),
        zero=[0],
        one=[1],
        three=[3],
        depth=[16],
    )()


def test_batch_that_is_free_in_name_only() -> None:
    """It is looked at with the sizes at which it runs, which is said."""
    free, fixed = trace(one_sample("N")), trace(one_sample("1"))
    assert [(g.name, len(g), g.members) for g in free] == [(g.name, len(g), g.members) for g in fixed]
    assert len(free) == 1
    assert not fixed.notes
    (note,) = free.notes
    assert note.startswith("input 'x': axis 0 is taken to be 1")
    plan = prune(free, seed=1)
    slim = rewrite_trace(free, plan.removed(free))
    for steps in (3, 50):
        feeds = {"x": np.random.default_rng(steps).normal(size=(1, steps, 20)).astype(np.float32)}
        assert verify(free.model, slim, plan=plan, data=feeds, provider="cpu").exact


def test_sizes_are_scaled_once_and_by_no_ones() -> None:
    """Nodes that read one list of sizes share what is made of it; a half needs no product."""
    pruned = battery.prune(BUILD["initial_state"]())
    known = {node.output[0] for node in pruned.trace.model.proto.graph.node}
    new = [node for node in pruned.slim.proto.graph.node if node.output[0] not in known]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in pruned.slim.proto.graph.initializer}
    assert {node.op_type for node in new} == {"Mul", "Div"}
    assert all((stored[node.input[1]] != 1).any() for node in new)
    assert len({(node.op_type, node.input[0]) for node in new}) == len(new)
    pruned = battery.prune(BUILD["merged_heads"]())
    assert [n.op_type for n in pruned.slim.proto.graph.node].count("Mul") == [
        n.op_type for n in pruned.trace.model.proto.graph.node
    ].count("Mul")


@pytest.mark.parametrize(
    ("nodes", "made", "shape"),
    [
        ("r = Reshape (h, s)", "r", [4, 4]),
        ("r = Expand (h, s)", "r", [2, 8]),
        ("k = ConstantOfShape (s)\nr = Add (h, k)", "k", [2, 8]),
    ],
    ids=["Reshape", "Expand", "ConstantOfShape"],
)
def test_a_declared_shape_that_is_computed_stays(nodes: str, made: str, shape: list[int]) -> None:
    """The shape of the output is known then, but not what says it: it cannot be made to say another."""
    text = f"a = MatMul (x, A)\nb = Relu (a)\nh = MatMul (b, W)\n{nodes}\ny = Relu (r)"
    model = net(text, inputs="float[2,3] x, int64[2] s", outputs="float[U,V] y", A=(3, 6), W=(6, 8))()
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(made, 1, shape))
    result = prune_model(model, ratio=0.5, granularity=1)
    assert [(g.name, len(g)) for g in result.trace] == [("a", 6)]
    assert any(
        "takes its shape from 's', which is computed from data" in g.reason for g in result.trace.blocked
    )
    feeds = {"x": np.ones((2, 3), np.float32), "s": np.array(shape)}
    assert verify(model, result.model, plan=result.plan, data=feeds, provider="cpu").exact
