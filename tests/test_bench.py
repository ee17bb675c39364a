"""Two models side by side, and groups pruned one at a time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune.checks import latency as module
from onnxprune.checks.latency import measure_latency
from onnxprune.jobs.bench import bench, peak_activations
from onnxprune.jobs.sensitivity import sensitivity

from .building import net
from .conftest import DIGITS, IMAGES, Run


def test_counts_are_those_of_pruning() -> None:
    result = onnxprune.prune(DIGITS)
    found = bench(DIGITS, result.model, provider="cpu", runs=3)
    assert (found.before, found.after) == (result.before, result.after)
    assert found.batch == 2
    assert len(found.latency.before) == len(found.latency.after) == 3
    assert found.latency.ratio == found.latency.medians[1] / found.latency.medians[0]
    whole = bench(DIGITS, result.model, data=IMAGES, provider="cpu", runs=1)
    assert (whole.batch, whole.after.macs) == (16, 8 * result.after.macs)


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
    outcome = run("bench", DIGITS, DIGITS, "--runs", 3, "--provider", "cpu")
    assert (outcome.code, outcome.err) == (0, "")
    names = [line[:20].strip() for line in outcome.out.splitlines()]
    assert names[1:6] == ["latency (ms)", "parameters", "MACs", "file size (bytes)", "activations (bytes)"]
    assert outcome.out.splitlines()[2].split() == ["parameters", "136,302", "136,302", "100.0%"]
    assert outcome.out.endswith("cpu, batch 2, median of 3 runs\n")
    document = run("bench", DIGITS, DIGITS, "--runs", 3, "--provider", "cpu", "--json").document
    assert document["before"] == document["after"]
    assert set(document["latency"]) == {"before", "after", "ratio", "runs"}


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
