"""Two models side by side, and groups pruned one at a time."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune.checks import latency as module
from onnxprune.checks import sessions
from onnxprune.checks.latency import measure_latency
from onnxprune.checks.sessions import measure_sessions
from onnxprune.jobs.bench import bench, peak_activations
from onnxprune.jobs.sensitivity import sensitivity

from .building import net
from .conftest import DIGITS, IMAGES, Run

ALONE = ("--provider", "cpu", "--threads", 1)
"""Several threads wait for each other where other tests run beside them."""


class FakeSession:
    """Takes so many seconds of a clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def test_counts_are_those_of_pruning() -> None:
    result = onnxprune.prune(DIGITS)
    assert bench(DIGITS, DIGITS, provider="cpu", runs=1).batch == 1
    found = bench(DIGITS, result.model, provider="cpu", runs=3, batch=2)
    assert (found.before, found.after) == (result.before, result.after)
    assert found.batch == 2
    assert len(found.latency.runs.before) == len(found.latency.runs.after) >= 3
    low, high = found.latency.spread
    assert low <= found.latency.share <= high
    assert (found.providers, found.threads) == (("cpu", "cpu"), 0)
    whole = bench(DIGITS, result.model, data=IMAGES, provider="cpu", runs=1, batch=16, threads=1)
    assert (whole.batch, whole.threads, whole.after.macs) == (16, 1, 8 * result.after.macs)


def test_models_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    clock = iter(range(1000))
    monkeypatch.setattr(module, "run", lambda session, feeds, what: ran.append(session))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    before: Any = "a"
    after: Any = "b"
    found = measure_latency(before, after, {}, 4)
    assert "".join(ran) == "baab" * 3 + "ba"
    assert found.before == found.after == (1000,) * 4
    assert found.ratio == 1


@pytest.mark.parametrize(
    ("ratios", "bounds", "pairs", "share"),
    [
        ([0.5] * 3, (), 3, 0.5),
        ([0.5, 0.504, 0.508], (), 3, 0.504),
        ([0.5, 0.59, 0.5, 0.59, 0.5, 0.59, 0.5, 0.59, 0.55], (), 9, 0.55),  # they never agree
        ([0.5, 0.59, 0.5, 0.5, 0.5], (), 5, 0.5),  # but for one
        ([0.5, 0.59, 0.55], (0.7,), 3, 0.55),  # clearly below
        ([0.5, 0.59, 0.55], (0.3, 0.8), 3, 0.55),
    ],
)
def test_pairs_of_sessions_are_opened_until_it_is_clear(
    ratios: list[float], bounds: tuple[float, ...], pairs: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, opened = [0.0], [0]

    def opener(times: Iterator[float]) -> Any:
        @contextmanager
        def session() -> Iterator[Any]:
            opened[0] += 1
            yield FakeSession(next(times))
            opened[0] -= 1

        return session

    def ran(session: Any, *_: Any) -> None:
        assert opened == [2], "no others are open meanwhile"
        passed[0] += session.seconds

    monkeypatch.setattr(module, "run", ran)
    found = measure_sessions(
        opener(repeat(1.0)), opener(iter(ratios)), {}, 10, lambda pair: pair.ratio, bounds=bounds,
        clock=lambda: passed[0],
    )  # fmt: skip
    assert len(found.pairs) == len(found.shares) == pairs
    assert found.share == pytest.approx(share)
    assert found.spread == pytest.approx((min(ratios), max(ratios)))
    assert len(found.runs.before) == len(found.runs.after) == 4 * pairs


def test_no_further_pairs_are_opened_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of a large model take long to open: those that do not agree are as few as they can be."""
    monkeypatch.setattr(sessions, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "run", lambda *_: None)
    pairs: list[Any] = []

    def session() -> Any:
        return nullcontext(FakeSession(0))

    def share(pair: Any) -> float:
        if pair not in pairs:
            pairs.append(pair)
        return (0.2, 0.5, 0.9, 0.3)[pairs.index(pair)]

    found = measure_sessions(session, session, {}, 10, share)
    assert found.shares == (0.2, 0.5, 0.9)


def test_peak_of_activations() -> None:
    """While Add runs, both branches and the sum are alive; the input is not counted."""
    text = """
        a = Relu (x)
        b = Conv (a, W)
        c = Conv (b, V)
        d = Add (a, c)
        y = Relu (d)
    """
    model = net(text, inputs="float[1,4,8,8] x", W=(16, 4, 1, 1), V=(4, 16, 1, 1))()
    size = 8 * 8 * 4
    assert peak_activations(onnxprune.trace(model)) == size * (4 + 16 + 4)
    slim = onnxprune.prune(model, ratio=0.5, granularity=1).model
    assert peak_activations(onnxprune.trace(slim)) == size * (4 + 8 + 4)


def test_bench_in_the_command_line(run: Run) -> None:
    outcome = run("bench", DIGITS, DIGITS, "--runs", 3, *ALONE)
    assert (outcome.code, outcome.err) == (0, "")
    names = [line[:20].strip() for line in outcome.out.splitlines()]
    assert names[1:3] == ["latency (ms)", "10 % to 90 % of the"]
    assert names[3].endswith("pairs of sessions")
    assert names[4:8] == ["parameters", "MACs", "file size (bytes)", "activations (bytes)"]
    assert outcome.out.splitlines()[4].split() == ["parameters", "136,302", "136,302", "100.0%"]
    assert "Conv (blocked)" in outcome.out or "Conv  " in outcome.out
    (last,) = outcome.out.splitlines()[-1:]
    assert re.search(r"batch 1: median of \d runs of each, in turns; onnxruntime's default options", last)
    document = run("bench", DIGITS, DIGITS, "--runs", 3, *ALONE, "--json").document
    assert document["before"] == document["after"]
    assert set(document["latency"]) == {
        "before", "after", "before_10_90", "after_10_90", "ratio", "spread", "pairs", "runs"
    }  # fmt: skip
    low, high = document["latency"]["before_10_90"]
    assert low <= document["latency"]["before"] <= high
    assert document["operators"]["before"].keys() == document["operators"]["after"].keys()


def test_bench_writes_markdown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bench.md"
    assert run("bench", DIGITS, DIGITS, "--runs", 1, *ALONE, "--markdown", path).code == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith(
        "### onnxprune bench\n\n|  | dense | slim | left |\n| --- | ---: | ---: | ---: |\n"
    )
    assert "| parameters | 136,302 | 136,302 | 100.0% |" in text


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_memory_is_that_of_a_process_that_runs_the_model_alone() -> None:
    def ballast(size: int) -> Any:
        text = "a = MatMul (x, V)\ny = MatMul (a, W)"
        return net(text, inputs="float[1,64] x", V=(64, size), W=(size, 64))()

    found = bench(ballast(100_000), ballast(16), provider="cpu", runs=1, threads=1)
    dense, slim = found.memory
    assert dense is not None
    assert slim is not None
    assert dense - slim > 2 * 64 * 100_000 * 4, "the weights are in it"


def test_convolutions_that_leave_the_fast_layout_are_named() -> None:
    """A layer that reads 17 channels, which are no multiple of 4."""

    def layers(count: int) -> Any:
        shapes: dict[str, Any] = {"V": (count, 16, 3, 3), "W": (16, count, 3, 3)}
        text = "a = Conv <pads = [1,1,1,1]> (x, V)\ny = Conv <pads = [1,1,1,1]> (a, W)"
        return net(text, inputs="float[1,16,8,8] x", **shapes)()

    found = bench(layers(32), layers(17), provider="cpu", runs=1, threads=1).operators
    assert found is not None
    if "Conv (blocked)" not in found.before:
        pytest.skip("onnxruntime has no blocked layout on this processor")
    assert found.left == ("y",)
    aligned = bench(layers(32), layers(16), provider="cpu", runs=1, threads=1).operators
    assert aligned is not None
    assert not aligned.left


# Sensitivity --------------------------------------------------------------------------------


def test_sensitivity_is_that_of_one_group_pruned_alone() -> None:
    traced = onnxprune.trace(DIGITS)
    data = {name: array[:32] for name, array in np.load(IMAGES).items()}
    found = list(sensitivity(DIGITS, ratios=[0.25, 0.75], data=data, provider="cpu"))
    assert [(s.group, s.ratio) for s in found] == [(g.name, r) for g in traced for r in (0.25, 0.75)]
    for s in found[::5]:
        plan = onnxprune.select(traced, onnxprune.score(traced), ratio={s.group: s.ratio}, granularity=1)
        report = onnxprune.verify(DIGITS, onnxprune.rewrite(traced.model, plan), data=data, provider="cpu")
        (change,), (score,) = report.change, report.scores
        assert (s.cosine, s.relative) == (change.cosine, change.relative)
        assert (s.agreement, s.accuracy, s.drop) == (change.top1, score.after, score.drop)
        assert s.channels - s.kept == len(plan.removed(traced)) == round(s.channels * s.ratio)


def test_sensitivity_in_the_command_line(run: Run) -> None:
    flags = "--data", IMAGES, "--samples", 16, "--ratios", "0.5", "--provider", "cpu"
    lines = run("sensitivity", DIGITS, *flags).out.splitlines()
    assert lines[0].split() == ["group", "channels", "-50%"]
    assert len(lines) == 1 + 7 + 2
    assert lines[-1] == "accuracy when one group alone loses that share of its channels"
    shown = run("sensitivity", DIGITS, *flags, "--measure", "relative").out.splitlines()
    document = run("sensitivity", DIGITS, *flags, "--json").document
    assert [f"{s['relative']:.3g}" for s in document["groups"]] == [line.split()[-1] for line in shown[1:8]]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--ratios", "a"], "error: ratios: found 'a', expected numbers with commas between\n"),
        (["--ratios", "0,1"], "error: ratios: found 0, expected 0 < ratio < 1\n"),
        (
            ["--measure", "accuracy", "--ratios", "0.5"],
            "error: there is no accuracy to show\nhint: Accuracy takes labels, agreement an output of class scores.\n",
        ),
    ],
)
def test_sensitivity_refuses(run: Run, flags: list[str], text: str) -> None:
    outcome = run("sensitivity", DIGITS, "--provider", "cpu", *flags)
    assert (outcome.code, outcome.err) == (2, text)
