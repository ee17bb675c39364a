"""Budgets that mean milliseconds: profiles, rules of blocks, predictions, and how they are corrected.

Nothing here depends on how fast the machine is: times are given, or only shares of them are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune import BudgetError, trace
from onnxprune.coupling.trace import Trace
from onnxprune.data.one_run import one_run
from onnxprune.jobs import aim as aiming
from onnxprune.jobs import pace
from onnxprune.model.graph import Graph
from onnxprune.reports.comparison import EachAlone, Sensitivity
from onnxprune.reports.page import Table
from onnxprune.runtime.session import run as run_session
from onnxprune.surgery.surgeon import rewrite_trace
from onnxprune.timing import blocks, model, store
from onnxprune.timing.blocks import FULL, HALF, STEPS, BlockedLayout, from_times
from onnxprune.timing.kernels import KernelTimes, TimedKernel, _alone, profile
from onnxprune.timing.learning import learned
from onnxprune.timing.machine import Machine
from onnxprune.timing.model import LatencyModel, measure_model

from .building import net
from .conftest import DIGITS, IMAGES, Run

ONE = Machine("cpu", 1)

AVX512 = BlockedLayout(16, 4, 1.0, 6.0)


@pytest.fixture(autouse=True)
def known_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test times layers or writes into the user's cache."""
    monkeypatch.setattr(model, "find_blocks", lambda machine: AVX512)


# Rules of blocks -----------------------------------------------------------------------------


def chains(block: int, align: int, slow: float) -> list[dict[int, float]]:
    """Times of the three chains on a machine that goes by a rule."""
    found = []
    for depthwise in (0, 1, 3):
        times = {}
        for count in (FULL, HALF, *(HALF + step for step in STEPS)):
            computed = -(-count // block) * block
            times[count] = computed * (100 + depthwise * (slow if count % align else 1))
        found.append(times)
    return found


@pytest.mark.parametrize("block", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("align", "slow"), [(1, 1.0), (2, 5.0), (4, 6.0), (8, 3.0)])
def test_a_rule_is_found_from_times(block: int, align: int, slow: float) -> None:
    found = from_times(*chains(block, align, slow))
    assert found is not None
    assert found.align == align
    assert found.block == max(block, align), "below the alignment nobody can tell"
    assert found.depthwise == pytest.approx(slow, rel=0.35)  # what is computed differs, too


@pytest.mark.parametrize("shared", [0.0, 0.4])
def test_what_the_blocks_of_a_set_share_is_found_from_times(shared: float) -> None:
    rule = BlockedLayout(8, 4, shared=shared)
    alone, pairs = ({n: times * (rule.made(n) + n) + 9 for n in (8, 16, 24, 32)} for times in (1, 4))
    assert blocks.shared_in(alone, pairs) == pytest.approx(shared)
    assert [rule.made(n) for n in (32, 64)] == [32, 64]
    assert rule.made(40) == rule.made(33) == pytest.approx(40 + 24 * shared)


def test_times_that_make_no_sense_give_no_rule() -> None:
    dense, one, three = chains(16, 4, 6.0)
    assert from_times({**dense, HALF: dense[FULL]}, one, three) is None
    assert from_times(dense, three, one) is None


def test_a_rule_is_timed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "folder", lambda: tmp_path / "cache")
    asked: list[int] = []
    rules: dict[int, Any] = {0: [None], 1: [BlockedLayout(8, 2, 1.1, 3.0)]}
    found = BlockedLayout(8, 2, 1.1, 3.0, 0.25)

    def times(machine: Machine, chains: Any, counts: Any) -> list[Any]:
        asked.append(machine.threads)
        return [{} for _ in chains]

    monkeypatch.setattr(blocks, "_times", times)
    monkeypatch.setattr(blocks, "shared_in", lambda *_: 0.25)
    monkeypatch.setattr(blocks, "from_times", lambda *_: rules[asked[-1]][0])
    assert blocks.find_blocks(Machine("cpu")) == found
    assert asked == [0, 1, 1, 1], "what makes no sense is timed again, with one thread"
    assert blocks.find_blocks(ONE) == found
    assert len(asked) == 4
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text("{")
    rules[1] = [None]
    assert blocks.find_blocks(ONE) == blocks.KNOWN["ort-cpu"]


# Profiles ------------------------------------------------------------------------------------


def test_the_time_of_nested_kernels_counts_once() -> None:
    events: list[Any] = [
        {"ts": 0, "dur": 10, "name": "outer"}, {"ts": 1, "dur": 3, "name": "a"},
        {"ts": 5, "dur": 4, "name": "b"}, {"ts": 10, "dur": 2, "name": "next"},
    ]  # fmt: skip
    assert [(e["name"], own) for _, own, e in _alone(events)] == [
        ("outer", 3),
        ("a", 3),
        ("b", 4),
        ("next", 2),
    ]


def test_kernels_of_many_nodes_have_the_same_name_in_every_model() -> None:
    """OpenVINO's end on the number of the subgraph, those of nodes on what belongs to their names."""
    kernels = (
        TimedKernel("OpenVINO-EP-subgraph_5", 2.0),
        TimedKernel("TRT_1_0", 1.5),
        TimedKernel("My_1", 1.0, (0,)),
    )
    found = KernelTimes(kernels, 0.0, ONE).by_operator()
    assert found == {"OpenVINO-EP-subgraph": 2.0, "TRT": 1.5, "My_1": 1.0}


def test_every_kernel_knows_its_nodes() -> None:
    traced = trace(DIGITS)
    found = profile(traced.graph, one_run(traced, "cpu").feeds, ONE)
    assert not found.unknown
    computed = [index for kernel in found.kernels if not kernel.added for index in kernel.nodes]
    assert len(computed) == len(set(computed)), "no node is computed twice"
    layers = {node.index for node, _ in traced.walk.facts.costs}
    assert layers <= set(computed)
    assert sum(found.by_operator().values()) + found.between == pytest.approx(found.us)


def test_nodes_of_branches_and_loops_are_found() -> None:
    """Names are numbered in the order of the view: nested nodes before the node that holds them."""
    text = """
        c = If (cond) <
            then_branch = t () => (float[1,4,8,8] p) { p = Relu (x) },
            else_branch = e () => (float[1,4,8,8] q) { q = Abs (x) }
        >
        y = Conv (c, W)
    """
    built = net(text, inputs="float[1,4,8,8] x, bool cond", W=(16, 4, 1, 1))()
    traced = trace(built)
    found = profile(traced.graph, one_run(traced, "cpu").feeds, ONE)
    for kernel in found.kernels:
        if kernel.op in ("Relu", "Abs", "If"):
            assert traced.graph.nodes[kernel.nodes[0]].op == kernel.op


# Predictions ---------------------------------------------------------------------------------


def two_layers() -> Trace:
    """A convolution of 64 channels, a Relu, a depthwise one, and a convolution behind."""
    text = """
        a = Conv (x, U)
        b = Relu (a)
        c = Conv <group = 64, pads = [1,1,1,1]> (b, V)
        y = Conv (c, W)
    """
    shapes: dict[str, Any] = {"U": (64, 16, 1, 1), "V": (64, 1, 3, 3), "W": (16, 64, 1, 1)}
    return trace(net(text, inputs="float[1,16,8,8] x", **shapes)())


def predicted(traced: Trace, kernels: list[TimedKernel], kept: int, rule: BlockedLayout = AVX512) -> float:
    """Microseconds with so many of the 64 channels."""
    found = LatencyModel(tuple(kernels), 0.0, rule, {})
    sizes = traced.sizes(traced[0].units[: 64 - kept])
    return sum(term(sizes) for term in found.terms(traced)) / 1e6


@pytest.mark.parametrize(
    ("kernel", "kept", "expected"),
    [
        (TimedKernel("Conv", 100.3, (0,), blocked=True), 48, 75),  # what is left of three blocks of four
        (TimedKernel("Conv", 100.3, (0,), blocked=True), 40, 75),  # is computed as 48
        (TimedKernel("Conv", 100.3, (0,), blocked=False), 40, 62.5),
        (TimedKernel("Conv", 100.3, (2,), blocked=True), 40, 75),
        (TimedKernel("Conv", 100.3, (2,), blocked=True), 34, 450),  # out of the layout: 48 / 64, six times as long
        (TimedKernel("Conv", 100.3, (0,), blocked=True), 34, 75),
        (TimedKernel("Conv", 100.3, (3,), blocked=True), 20, 50),  # its inputs are padded alike
        (TimedKernel("Conv", 100.3, (3,), blocked=True), 8, 25),
        (TimedKernel("Relu", 100.3, (1,)), 40, 62.5),
        (TimedKernel("Relu", 100.3, (1,), blocked=True), 40, 75),
        (TimedKernel("ReorderOutput", 100.3, (0,), added=True), 40, 62.5),
        (TimedKernel("Conv", 100.3, (1, 0), blocked=True), 48, 75),  # both fused
    ],
)  # fmt: skip
def test_a_kernel_takes_what_its_channels_say(kernel: TimedKernel, kept: int, expected: float) -> None:
    """0.3 us are there for the kernel itself."""
    assert predicted(two_layers(), [kernel], kept) == pytest.approx(0.3 + expected, rel=1e-6)
    assert predicted(two_layers(), [kernel], 64) == pytest.approx(100.3)


def test_what_a_slim_model_takes_shows_what_stays() -> None:
    """Kernels are found again by what they make; what was put in beside one belongs to it."""
    traced = two_layers()
    removed = traced[0].units[:32]
    slim = Graph(rewrite_trace(traced, removed))
    given = (
        TimedKernel("Conv", 100.3, (1, 0), blocked=True), TimedKernel("Conv", 80.3, (2,), blocked=True),
        TimedKernel("Conv", 10.3, (3,), blocked=True), TimedKernel("ReorderOutput", 10.3, (3,), added=True),
    )  # fmt: skip
    timed = (
        TimedKernel("Conv", 62.65, (1, 0), blocked=True), TimedKernel("Conv", 120.0, (2,), blocked=True),
        TimedKernel("Conv", 5.3, (3,), blocked=True), TimedKernel("ReorderInput", 12.8, (3,), added=True),
    )  # fmt: skip
    before = LatencyModel(given, 0.0, AVX512, ONE.to_dict())
    found = KernelTimes(tuple(replace(kernel, us=2 * kernel.us) for kernel in timed), 0.0, ONE)
    sizes = traced.sizes(removed)
    after = learned(before, traced, sizes, slim, found, found.us / 2 / before.us)
    assert [kernel.stays for kernel in after.kernels] == pytest.approx([0.247, 1.0, 0.5, 0.5], abs=1e-3)
    assert after.left(traced, sizes) * after.us == pytest.approx(62.65 + 80.3 + 5.3 + 12.8, rel=1e-6)
    again = learned(after, traced, sizes, slim, found, found.us / 2 / before.us)
    assert again == after, "what was learned before is no part of what is expected"


def test_a_model_of_latency_survives_a_plan() -> None:
    traced = trace(DIGITS)
    found = measure_model(traced, ONE)
    again = LatencyModel.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert sum(term(traced.sizes()) for term in found.terms(traced)) / 1e6 == pytest.approx(
        found.us, rel=1e-4
    )


@pytest.mark.parametrize(
    ("provider", "times", "fixed"),
    [("openvino", [250, 50, 100, 50], 150), ("cuda", [600 * 16 / 41, 600 * 9 / 41, 600 * 16 / 41], 0)],
)
def test_one_kernel_for_all_is_shared_out(
    monkeypatch: pytest.MonkeyPatch, provider: str, times: list[float], fixed: float
) -> None:
    """On a processor as onnxruntime's own kernels take it, elsewhere by multiply-accumulates."""
    own = (
        TimedKernel("Conv", 25, (0,), blocked=True), TimedKernel("Relu", 5, (1,), blocked=True),
        TimedKernel("ReorderOutput", 5, (1,), added=True),
        TimedKernel("Conv", 10, (2,)), TimedKernel("Conv", 5, (3,)),
    )  # fmt: skip

    def profiled(graph: Any, feeds: Any, machine: Machine) -> KernelTimes:
        whole = (TimedKernel("subgraph", 600.0),)
        return (
            KernelTimes(own, 10.0, machine) if machine.provider == "cpu" else KernelTimes(whole, 0.0, machine)
        )

    monkeypatch.setattr(model, "profile", profiled)
    monkeypatch.setattr(model, "one_run", lambda traced, *_, **__: one_run(traced, "cpu"))
    found = measure_model(two_layers(), Machine(provider, 1))
    assert [kernel.us for kernel in found.kernels] == pytest.approx(times)
    assert all(kernel.blocked for kernel in found.kernels), (
        "all of them convolve, or read what lies in blocks"
    )
    assert found.fixed == pytest.approx(fixed, abs=1e-9)
    assert found.us == pytest.approx(600)
    assert "the profile explains 0% of the time" in found.notes[0]


def test_a_free_batch_is_one_unless_told() -> None:
    traced = trace(DIGITS)
    assert one_run(traced, "cpu").size == 1
    assert one_run(traced, "cpu", batch=3).feeds["image"].shape[0] == 3
    assert one_run(traced, "cpu", IMAGES, 5).feeds["image"].shape[0] == 5


# Budgets -------------------------------------------------------------------------------------


def given_model(traced: Trace) -> LatencyModel:
    """Every layer takes as long as its multiply-accumulates say."""
    whole = traced.sizes()
    layers = [(node, cost(whole)) for node, cost in traced.walk.facts.costs]
    kernels = tuple(TimedKernel(n.op, c / 1e3, (n.index,), blocked=True) for n, c in layers)
    return LatencyModel(kernels, 10.0, AVX512, ONE.to_dict())


def test_a_budget_of_latency_is_met_and_combines() -> None:
    traced = trace(DIGITS)
    latency, scores = given_model(traced), onnxprune.score(traced)

    def left(plan: onnxprune.Plan) -> float:
        sizes = traced.sizes(plan.removed(traced))
        return sum(term(sizes) for term in latency.terms(traced)) / 1e6 / latency.us

    plan = onnxprune.select(traced, scores, keep_latency=0.6, latency=latency)
    assert 0.5 < left(plan) <= 0.6
    again = onnxprune.select(
        traced, scores, keep_latency=0.6, latency=LatencyModel.from_dict(plan.options["latency"])
    )
    assert again.groups == plan.groups
    both = onnxprune.select(traced, scores, keep_latency=0.6, keep_params=0.3, latency=latency)
    assert left(both) <= left(plan)
    assert sum(len(g.keep) for g in both.groups) < sum(len(g.keep) for g in plan.groups)
    with pytest.raises(BudgetError, match=r"keep-latency 0\.001 cannot be met: found 0\.\d+ at the least"):
        onnxprune.select(traced, scores, keep_latency=0.001, latency=latency)


@pytest.mark.parametrize(
    ("times", "share", "kept"),
    [
        ((90.0, 0.0), 0.6, [32, 64]),
        ((0.0, 90.0), 0.6, [64, 32]),
        ((30.0, 60.0), 0.705, [48, 40]),  # they save as many multiply-accumulates
    ],
)
def test_groups_lose_more_where_more_time_is_saved(
    times: tuple[float, float], share: float, kept: list[int]
) -> None:
    text = "a = Conv (x, U)\nb = Conv (a, V)\ny = Conv (b, W)"
    shapes: dict[str, Any] = {"U": (64, 16, 1, 1), "V": (64, 64, 1, 1), "W": (16, 64, 1, 1)}
    traced = trace(net(text, inputs="float[1,16,8,8] x", **shapes)())
    kernels = tuple(TimedKernel("Conv", us, (node,)) for us, node in zip(times, (0, 2), strict=True))
    timed = LatencyModel(kernels, 10.0, BlockedLayout(), ONE.to_dict())
    plan = onnxprune.select(traced, onnxprune.score(traced), keep_latency=share, latency=timed, granularity=4)
    assert [len(group.keep) for group in plan.groups[:2]] == kept


def test_channels_go_in_steps_in_which_the_time_falls() -> None:
    """64 channels are two sets of four blocks, and a third block of a set takes hardly longer than two."""
    shapes: dict[str, Any] = {"U": (96, 16, 1, 1), "V": (96, 96, 1, 1), "W": (16, 96, 1, 1)}
    text = "a = Conv (x, U)\nb = Conv (a, V)\ny = Conv (b, W)"
    traced = trace(net(text, inputs="float[1,16,8,8] x", **shapes)())
    kernels = TimedKernel("Conv", 45.0, (0,), blocked=True), TimedKernel("Conv", 45.0, (1,), blocked=True)
    timed = LatencyModel(kernels, 10.0, BlockedLayout(8, 4, shared=1.0), ONE.to_dict())
    for share, kept in ((0.72, [64, 96]), (0.69, [64, 64])):
        plan = onnxprune.select(
            traced, onnxprune.score(traced), keep_latency=share, latency=timed, granularity=8
        )
        assert [len(group.keep) for group in plan.groups[:2]] == kept


def test_scores_of_all_groups_are_ranked_per_millisecond() -> None:
    """What the second group makes takes twice as long as what the first does."""
    traced = trace(
        net(
            "a = Conv (x, U)\nb = Conv (a, V)\ny = Conv (b, W)",
            inputs="float[1,16,8,8] x",
            U=(64, 16, 1, 1),
            V=(64, 64, 1, 1),
            W=(16, 64, 1, 1),
        )()
    )
    given = {"U": np.linspace(0.25, 0.29, 64), "V": np.linspace(0.3, 0.4, 64)}
    scores = onnxprune.score(traced, criterion=given, normalizer="none")
    kernels = TimedKernel("Conv", 30.0, (0,)), TimedKernel("Conv", 60.0, (2,))
    timed = LatencyModel(kernels, 10.0, BlockedLayout(), ONE.to_dict())
    for budget, kept in (
        ({"keep_latency": 0.74, "latency": timed}, [64, 32]),
        ({"keep_macs": 0.6}, [32, 64]),
    ):
        plan = onnxprune.select(traced, scores, scope="global", granularity=16, **budget)
        assert [len(group.keep) for group in plan.groups[:2]] == kept


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float], float]], list[float]]:
    """Let measurements be a function of the share of MACs that is left; gives those shares."""

    def install(measured: Callable[[float], float]) -> list[float]:
        shares: list[float] = []

        def fastest(original: Any, slim: Any, feeds: Any, machine: Machine, runs: int) -> tuple[float, float]:
            counts = [onnxprune.selection.cost.macs(t, t.sizes()) for t in (trace(original), trace(slim))]
            shares.append(counts[1] / counts[0])
            return 1.0, measured(shares[-1])

        monkeypatch.setattr(aiming, "measure_model", lambda traced, machine, **_: given_model(traced))
        monkeypatch.setattr(aiming, "_fastest", fastest)
        monkeypatch.setattr(aiming, "profile", lambda *_: KernelTimes((), 0.0, ONE))
        return shares

    return install


def test_a_prediction_is_corrected_until_the_budget_holds(measuring: Any) -> None:
    """Three tenths of the time stay whatever goes, which the model of latency does not know."""
    shares = measuring(lambda left: 0.3 + 0.7 * left)
    result = onnxprune.prune(DIGITS, keep_latency=0.6, threads=1, provider="cpu", granularity=1)
    found = result.latency
    assert found is not None
    assert found.holds
    assert 2 <= found.tries <= 3
    assert found.tries == len(shares)
    assert shares[-1] < shares[0]
    assert 0.95 * 0.6 <= found.measured <= 1.03 * 0.6
    assert result.plan.options["latency"]["achieved"]["measured"] == found.measured
    assert str(found).startswith(f"latency: {found.measured:.1%} measured, {found.predicted:.1%} predicted")


def test_the_least_is_that_of_the_steps_that_leave_it() -> None:
    """Twelve channels fill no block; in steps of one, two stay, out of the fast layout."""
    text = "a = Conv (x, U)\nc = Conv <group = 12, pads = [1,1,1,1]> (a, V)\ny = Conv (c, W)"
    shapes: dict[str, Any] = {"U": (12, 16, 1, 1), "V": (12, 1, 3, 3), "W": (16, 12, 1, 1)}
    traced = trace(net(text, inputs="float[1,16,8,8] x", **shapes)())
    timed = LatencyModel((TimedKernel("Conv", 100.0, (1,), blocked=True),), 0.0, AVX512, ONE.to_dict())
    with pytest.raises(BudgetError, match=r"keep-latency 0\.5 cannot be met: found 1 at the least"):
        onnxprune.select(traced, onnxprune.score(traced), keep_latency=0.5, latency=timed)


def test_the_smallest_is_measured_before_a_budget_counts_as_out_of_reach(measuring: Any) -> None:
    """More than a hundredth of the time is predicted to stay whatever goes."""
    how: dict[str, Any] = {"threads": 1, "provider": "cpu", "granularity": 1, "min_share": 0.0}
    shares = measuring(lambda left: 0.0098)
    result = onnxprune.prune(DIGITS, keep_latency=0.01, **how)
    assert result.latency is not None
    assert (result.latency.holds, len(shares)) == (True, 1)
    assert result.plan.options["keep_latency"] == 0.01
    smallest = shares[0]
    shares = measuring(lambda left: 0.5 + 0.5 * left)
    with pytest.raises(BudgetError, match=r"keep-latency 0\.3 cannot be met: measured 0\.5\d* at the least"):
        onnxprune.prune(DIGITS, keep_latency=0.3, **how)
    assert shares[-1] == pytest.approx(smallest, rel=0.05)
    assert len(shares) == 2
    with pytest.raises(BudgetError, match=r"keep-params 0\.0001 cannot be met: found 0\.\d+ at the least"):
        onnxprune.prune(DIGITS, keep_latency=0.01, keep_params=0.0001, **how)


def test_a_result_that_is_faster_than_fewer_channels_explain_keeps_more_of_them(measuring: Any) -> None:
    """Whatever goes, the slim model takes half of the time: layers are fused that were not."""
    shares = measuring(lambda left: 0.5 * left)
    result = onnxprune.prune(DIGITS, keep_latency=0.45, threads=1, provider="cpu", granularity=1)
    assert result.latency is not None
    assert result.latency.measured > 0.85 * 0.45
    assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("points", "target", "expected"),
    [
        ([(1.0, 1.0), (0.5, 0.6)], 0.5, 0.375),  # on along the line from the whole
        ([(1.0, 1.0), (0.5, 0.4)], 0.5, 0.5 + 0.5 / 6),
        ([(1.0, 1.0), (0.5, 0.6), (0.3, 0.4)], 0.5, 0.4),  # between the nearest
        ([(1.0, 1.0), (0.5, 1.2)], 0.5, 0.0),
        (
            [(1.0, 1.0), (0.4, 0.2), (0.6, 0.3)],
            0.35,
            0.7,
        ),  # on, as a slim model gains what the whole does not
        ([(1.0, 1.0), (0.4, 0.2), (0.6, 0.3)], 0.6, 0.8),  # but no further than halfway
        ([(1.0, 1.0), (0.4, 0.3), (0.6, 0.2)], 0.5, 0.75),
    ],
)
def test_the_next_prediction_lies_on_a_line_through_what_was_measured(
    points: list[tuple[float, float]], target: float, expected: float
) -> None:
    assert aiming._between(points, target) == pytest.approx(expected)


def test_one_measurement_is_enough_where_the_prediction_is_right(measuring: Any) -> None:
    shares = measuring(lambda left: left)
    result = onnxprune.prune(DIGITS, keep_latency=0.6, threads=1, provider="cpu", granularity=1)
    assert result.latency is not None
    assert (result.latency.tries, len(shares)) == (1, 1)


def test_a_result_that_is_slower_than_its_original_is_not_written(
    measuring: Any, run: Run, tmp_path: Path
) -> None:
    measuring(lambda left: 1.5 - 0.2 * left)
    out = tmp_path / "slim.onnx"
    outcome = run("prune", DIGITS, "-o", out, "--keep-latency", 0.6, "--provider", "cpu")
    assert outcome.code == 1
    assert "keep-latency 0.6" in outcome.err
    assert not out.exists()


def test_a_budget_of_latency_in_the_command_line(measuring: Any, run: Run, tmp_path: Path) -> None:
    measuring(lambda left: left)
    out, plan = tmp_path / "slim.onnx", tmp_path / "plan.json"
    flags = ("--keep-latency", 0.6, "--threads", 1, "--batch", 2, "--provider", "cpu", "--granularity", 1)
    outcome = run("prune", DIGITS, "-o", out, *flags, "--plan-out", plan)
    assert outcome.code == 0
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("latency: ")]
    assert line.endswith("(cpu, 1 thread, batch 2)")
    document = run("prune", DIGITS, "-o", out, *flags, "--json").document
    assert document["latency"]["target"] == 0.6
    assert document["latency"]["machine"]["threads"] == 1
    explained = run("explain", DIGITS, "stem/conv", "--plan", plan)
    assert explained.code == 0
    (entry,) = [g for g in json.loads(plan.read_text())["groups"] if g["name"] == "/stem/conv/Conv"]
    assert explained.out.startswith(f"/stem/conv/Conv: 32 channels; {len(entry['keep'])} stay")
    replayed = run("prune", DIGITS, "-o", tmp_path / "again.onnx", "--plan", plan, "--provider", "cpu")
    assert replayed.code == 0
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ([0.9], False),
        ([1.05], False),
        ([1.5], True),
        ([1.05, 3.0], False),  # disturbed every other time: its fastest runs tell
        ([1.2, 3.0, 1.2], True),
    ],
)
def test_a_result_that_is_slower_is_not_written_in_silence(
    after: list[float], told: bool, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original takes a second of a clock that only runs of the two move."""
    passed, times, known = [0.0], cycle(after), []

    def timed(session: Any, feeds: Any) -> Any:
        known.extend([session] if session not in known else [])
        passed[0] += 1.0 if session is known[0] else next(times)
        return run_session(session, feeds)

    monkeypatch.setattr(pace, "run", timed)
    monkeypatch.setattr(Machine, "clock", lambda machine: passed[0])
    monkeypatch.setattr(pace, "SECONDS", 1e9)
    out = tmp_path / "slim.onnx"
    outcome = run("prune", DIGITS, "-o", out, "--provider", "cpu", "--json")
    assert (outcome.code, out.exists()) == (0, True)
    assert ("slower than its original" in outcome.err) == told
    assert any("slower" in text for text in outcome.document["notes"]) == told


def test_what_the_checks_took_tells_where_layouts_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """They run convolutions as nobody else does; and a heavy model is not opened once more."""
    traced = trace(DIGITS)
    dense = trace(net("a = MatMul (x, U)\ny = MatMul (a, W)", inputs="float[8,4] x", U=(4, 8), W=(8, 4))())

    def told(traced: Trace, work: tuple[float, float]) -> str:
        return pace.slower(traced.model, traced.model, traced, "cpu", work)

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(pace, "open_session", opened)
    assert not told(dense, (1.0, 0.5))
    for subject, work in ((dense, (1.0, 0.9)), (traced, (1.0, 0.5))):
        with pytest.raises(AssertionError, match="opened"):
            told(subject, work)
    monkeypatch.setattr(pace, "HEAVIEST", 0)
    assert not told(traced, (1.0, 1.2))
    assert "1500.000 against 1000.000 ms (processor time in the checks)" in told(traced, (1.0, 1.5))


# Granularity ---------------------------------------------------------------------------------


def layer(channels: int) -> Trace:
    """A convolution of so many channels and one behind it."""
    text = "a = Conv (x, V)\ny = Conv (a, W)"
    return trace(net(text, inputs="float[1,16,8,8] x", V=(channels, 16, 1, 1), W=(16, channels, 1, 1))())


@pytest.mark.parametrize(
    ("channels", "ratio", "kept", "granule"),
    [
        (64, 0.5, 32, 16),
        (64, 0.3, 48, 16),  # 44.8 should stay
        (64, 0.1, 60, 4),  # 57.6 should: in larger steps nothing would go
        (64, 0.02, 64, 4),  # not for less than what leaves the fast layout
        (32, 0.25, 24, 8),
        (24, 0.5, 16, 16),
        (16, 0.5, 8, 8),
        (12, 0.5, 8, 8),
        (10, 0.5, 6, 2),
        (3, 0.5, 2, 2),
        (3, 0.7, 1, 1),
        (64, 0.0, 64, 16),
    ],
)
def test_a_group_takes_the_largest_step_by_which_half_of_what_is_asked_goes(
    channels: int, ratio: float, kept: int, granule: int
) -> None:
    traced = layer(channels)
    plan = onnxprune.select(traced, onnxprune.score(traced), ratio=ratio)
    assert [len(plan.groups[0].keep)] == [kept]
    assert plan.options["granules"] == {traced[0].name: granule}
    assert (plan.options["granularity"], plan.options["target"]) == ("auto", "ort-cpu")
    assert channels - kept <= channels * ratio


@pytest.mark.parametrize("channels", range(3, 25))
def test_narrow_groups_shrink(channels: int) -> None:
    traced = layer(channels)
    for ratio in (0.5, 0.75):
        plan = onnxprune.select(traced, onnxprune.score(traced), ratio=ratio)
        gone = channels - len(plan.groups[0].keep)
        assert 0 < gone <= channels * ratio
        assert gone >= channels * ratio / 2


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"ratio": 0.4}, 48), ({"ratio": 0.4, "target": "cuda"}, 40),
        ({"ratio": 0.4, "granularity": 1}, 39), ({"ratio": 0.4, "target": "cuda", "granularity": 32}, 64),
        ({"preset": "tao", "threshold": 0.0}, 64), ({"preset": "netspresso"}, 32),
    ],
)  # fmt: skip
def test_a_target_is_a_rule_without_a_measurement(settings: dict[str, Any], kept: int) -> None:
    traced = layer(64)
    result = onnxprune.prune(traced.model, clean=False, **settings)
    assert len(result.plan.groups[0].keep) == kept
    assert ("granules" in result.plan.options) == (result.plan.options["granularity"] == "auto")


@pytest.mark.parametrize(
    ("depthwise", "ratio", "kept"), [(False, 0.4, 48), (False, 0.1, 60), (True, 0.1, 64)]
)
def test_convolutions_of_whole_numbers_fill_blocks(depthwise: bool, ratio: float, kept: int) -> None:
    """A depthwise one between two others never leaves them, not for channels that are zero either."""
    text = """
        a = DequantizeLinear (x, s, z)
        U = DequantizeLinear (V, s, z)
        b = Conv (a, U)
        c = QuantizeLinear (b, s, z)
        d = DequantizeLinear (c, s, z)
        T = DequantizeLinear (W, s, z)
    """
    middle = """
        M = DequantizeLinear (D, s, z)
        e = Conv <group = 64> (d, M)
        f = QuantizeLinear (e, s, z)
        g = DequantizeLinear (f, s, z)
    """
    text += middle + "y = Conv (g, T)" if depthwise else "y = Conv (d, T)"
    weight = np.ones((64, 16, 1, 1), np.int8)
    weight[60:] = 0
    stored: dict[str, Any] = {"V": weight}
    stored |= {"W": np.ones((16, 64, 1, 1), np.int8)}
    stored |= {"D": np.ones((64, 1, 1, 1), np.int8)} if depthwise else {}
    scale: dict[str, Any] = {"s": np.float32(0.1), "z": np.int8(0)}
    source = net(text, inputs="int8[1,16,8,8] x", **stored, **scale)()
    traced = trace(source)
    plan = onnxprune.select(traced, onnxprune.score(traced), ratio=ratio)
    assert len(plan.groups[0].keep) == kept
    cleaned = onnxprune.clean(source, duplicates=False)
    assert len(cleaned.plan.groups[0].keep) == (64 if depthwise else 60)


def test_where_multiples_gain_nothing_single_channels_go() -> None:
    products = trace(
        net("a = MatMul (x, V)\ny = MatMul (a, W)", inputs="float[1,16] x", V=(16, 64), W=(64, 16))()
    )
    plan = onnxprune.select(products, onnxprune.score(products), ratio=0.3)
    assert len(plan.groups[0].keep) == 45
    plan = onnxprune.select(products, onnxprune.score(products), ratio=0.3, target="tensorrt")
    assert len(plan.groups[0].keep) == 48


def test_a_budget_takes_smaller_steps_only_where_it_must() -> None:
    traced = layer(48)
    scores = onnxprune.score(traced)
    granules = {}
    for share in (0.7, 0.3, 0.1):
        plan = onnxprune.select(traced, scores, keep_macs=share, min_share=0.0)
        granules[share] = plan.options["granules"][traced[0].name]
        assert len(plan.groups[0].keep) <= 48 * share
    assert granules == {0.7: 16, 0.3: 8, 0.1: 4}
    with pytest.raises(BudgetError, match=r"found 0\.0834"):
        onnxprune.select(traced, scores, keep_macs=0.02, min_share=0.0)


def test_what_hangs_on_groups_is_shown_in_milliseconds(run: Run) -> None:
    flags = ("--latency", "--threads", 1, "--provider", "cpu")
    outcome = run("inspect", DIGITS, *flags)
    titles = outcome.out.splitlines()[4]
    assert titles.split() == ["group", "channels", "layers", "parameters", "MACs", "ms"]
    document = run("inspect", DIGITS, *flags, "--json").document
    assert document["latency"]["machine"]["threads"] == 1
    assert all(0 < group["ms"] <= document["latency"]["ms"] for group in document["groups"])
    assert "ms" not in run("inspect", DIGITS, "--json").document["groups"][0]


def test_groups_are_ranked_by_harm_per_millisecond(run: Run) -> None:
    flags = ("--latency", "--threads", 1, "--provider", "cpu", "--ratios", "0.25,0.5")
    outcome = run("sensitivity", DIGITS, *flags)
    assert outcome.out.splitlines()[0].split() == ["group", "channels", "-25%", "ms", "-50%", "ms"]
    document = run("sensitivity", DIGITS, *flags, "--json").document
    assert all(one["ms"] >= 0 for one in document["groups"]), "fewer channels of a block save nothing"
    found = EachAlone("net", [
        Sensitivity("dear", 0.5, 8, 4, 0.9, 0.2, ms=0.1), Sensitivity("cheap", 0.5, 8, 4, 0.9, 0.3, ms=0.3),
        Sensitivity("free", 0.5, 8, 4, 0.9, 0.3, ms=0.0),
    ])  # fmt: skip
    (table, *_) = found.page()
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["cheap", "dear", "free"]


def test_a_timed_machine_brings_its_own_rule() -> None:
    traced = layer(64)
    scores, latency = onnxprune.score(traced), given_model(traced)
    other = LatencyModel(latency.kernels, latency.fixed, BlockedLayout(4), latency.machine)
    given: Any = ((latency, {}), (other, {}), (other, {"target": "cuda"}))
    steps = [
        onnxprune.select(traced, scores, keep_latency=0.6, latency=model, **more).options["granules"]
        for model, more in given
    ]
    assert [step[traced[0].name] for step in steps] == [16, 4, 8]


def test_the_profile_alone_orders_latencies() -> None:
    """End to end without a clock: a plan of half of the channels is predicted to take less."""
    traced = trace(DIGITS)
    found = measure_model(traced, ONE)
    half = traced.sizes(np.concatenate([g.units[: len(g) // 2] for g in traced]))
    assert sum(t(half) for t in found.terms(traced)) < sum(t(traced.sizes()) for t in found.terms(traced))
