"""What predicts milliseconds: rules of blocks, profiles, and predictions from them.

Nothing here depends on how fast the machine is: times are given, or only shares of them are looked at.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxprune import trace
from onnxprune.coupling.trace import Trace
from onnxprune.data.one_run import one_run
from onnxprune.model.graph import Graph
from onnxprune.surgery.surgeon import rewrite_trace
from onnxprune.timing import blocks, model, store
from onnxprune.timing.blocks import FULL, HALF, STEPS, BlockedLayout, from_times
from onnxprune.timing.kernels import KernelTimes, TimedKernel, _alone, profile
from onnxprune.timing.learning import learned
from onnxprune.timing.machine import Machine
from onnxprune.timing.model import LatencyModel, measure_model

from .building import net
from .conftest import DIGITS, IMAGES

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
    assert asked == [0] * 3 + [1] * 4, "what makes no sense is timed again, with one thread"
    assert blocks.find_blocks(ONE) == found
    assert len(asked) == 7
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text("{")
    rules[1] = [None]
    assert blocks.find_blocks(ONE) == blocks.KNOWN["ort-cpu"]


@pytest.mark.parametrize(
    ("measured", "block"),
    [([8, 8], 8), ([2, 8, 8], 8), ([8, 2, 8], 8), ([1, 2, 8], 16), ([None, 8, None], 16)],
)
def test_a_rule_that_is_kept_was_found_twice(
    measured: list[int | None], block: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store, "folder", lambda: tmp_path / "cache")
    rules = iter([n if n is None else BlockedLayout(n, 1) for n in measured])
    monkeypatch.setattr(blocks, "_times", lambda machine, chains, counts: [{} for _ in chains])
    monkeypatch.setattr(blocks, "shared_in", lambda *_: 0.0)
    monkeypatch.setattr(blocks, "from_times", lambda *_: next(rules))
    assert blocks.find_blocks(ONE).block == block
    assert next(rules, "all were needed") == "all were needed"
    assert (tmp_path / "cache").exists() == (block == 8), "what is only known is found out the next time"


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
