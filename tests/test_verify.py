"""Verification: planted damage is found at its layer; gates, scores, layers in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.checks import nodes as layers
from onnxprune.checks.compare import Comparison, difference
from onnxprune.checks.gates import check_gates
from onnxprune.checks.report import Report
from onnxprune.coupling.trace import retrace
from onnxprune.data.batches import Batch
from onnxprune.jobs.sensitivity import sensitivity
from onnxprune.reports.result import Result
from onnxprune.runtime import session as runtime

from .building import between, net, positive
from .conftest import DIGITS, IMAGES, Run

Damage = Callable[[onnx.ModelProto], None]


def changed(name: str, edit: Callable[[np.ndarray], None]) -> Damage:
    """Change a stored tensor."""

    def damage(model: onnx.ModelProto) -> None:
        stored = next(t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(stored).copy()
        edit(array)
        stored.CopyFrom(numpy_helper.from_array(array, name))

    return damage


def scale(array: np.ndarray) -> None:
    array[3, 2, 1, 1] *= 1.05


def swap(array: np.ndarray) -> None:
    array[[4, 9]] = array[[9, 4]]


def halve(array: np.ndarray) -> None:
    array /= 2


def drop(array: np.ndarray) -> None:
    array[np.abs(array).argmax()] = 0


def padded(name: str, *pads: int) -> Damage:
    """Change the padding of a convolution."""

    def damage(model: onnx.ModelProto) -> None:
        node = next(n for n in model.graph.node if n.name == name)
        next(a for a in node.attribute if a.name == "pads").ints[:] = pads

    return damage


DAMAGES = [
    pytest.param(changed("stage2.second.conv.weight", scale), "/stage2/second/conv/Conv", id="scaled"),
    pytest.param(changed("stage1.first.conv.weight", swap), "/stage1/first/conv/Conv", id="swapped"),
    pytest.param(changed("inverted.expand.norm.bias", drop), "/inverted/expand/norm/BatchNormalization", id="bias"),
    pytest.param(changed("head.bias", drop), "/head/Gemm", id="last bias"),
    pytest.param(padded("/branches/window/Conv", 0, 1, 2, 1), "/branches/window/Conv", id="pads"),
    # All later layers get another size, but the pooling at the end hides it:
    pytest.param(padded("/stem/conv/Conv", 0, 0, 0, 0), "/stem/conv/Conv", id="no pads"),
]  # fmt: skip


def damaged(pruned: Result, damage: Damage) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(pruned.model.proto)
    damage(model)
    return model


@pytest.mark.parametrize(("damage", "layer"), DAMAGES)
def test_planted_damage_is_found_at_its_layer(pruned: Result, damage: Damage, layer: str) -> None:
    slim = damaged(pruned, damage)
    sampled: dict[str, Any] = {"layers": True, "data": IMAGES, "samples": 4}
    for settings in ({}, sampled):
        report = onnxprune.verify(
            DIGITS, slim, plan=pruned.plan, traced=pruned.trace, provider="cpu", **settings
        )
        assert not report
        assert report.exact is False
        assert report.wrong is not None
        assert report.wrong.layer == layer
        wrong = [d.layer for d in (report.single or report.surgery) if not d]
        assert wrong == [layer], "what is fed with the masked original's tensors is right elsewhere"
    assert f"first layer that was cut wrongly: '{layer}'" in str(report)


@pytest.mark.parametrize(("damage", "layer"), DAMAGES[:2])
def test_the_command_line_names_the_layer(
    run: Run, pruned: Result, tmp_path: Path, damage: Damage, layer: str
) -> None:
    onnx.save(damaged(pruned, damage), tmp_path / "slim.onnx")
    pruned.plan.save(tmp_path / "plan.json")
    files = DIGITS, tmp_path / "slim.onnx", "--plan", tmp_path / "plan.json", "--provider", "cpu"
    outcome = run("verify", *files, "--layers")
    assert outcome.code == 1
    (row,) = [line for line in outcome.out.splitlines() if "WRONG, accepted" in line]
    assert row.startswith(layer)
    assert f"\nsurgery bug: layer '{layer}' is the first that differs" in outcome.out
    assert outcome.err.startswith(f"error: the slim model is wrong at layer '{layer}': ")
    document = run("verify", *files, "--json").document
    assert (document["wrong"], document["exact"], document["passed"]) == (layer, False, False)


def test_pruning_loss_is_no_surgery_bug(pruned: Result) -> None:
    report = onnxprune.verify(
        DIGITS, pruned.model, plan=pruned.plan, layers=True, provider="cpu", min_cosine=0.9999
    )
    assert report.exact
    assert report.wrong is None
    assert report.diverged is not None
    first = next(d for d in report.entire if d.relative > 0)
    assert first.layer == report.diverged.layer == "/stage1/first/conv/Conv"
    assert len(report.entire) == len(report.single) > 30
    assert not report, "the gate fails"


SEQUENCES = [
    ("SequenceConstruct (c)", "seq(float[N,3]) y"),
    ("ai.onnx.ml.ZipMap <classlabels_int64s=[5,6,7]> (c)", "seq(map(int64, float)) y"),
]


@pytest.mark.parametrize(("last", "output"), SEQUENCES)
def test_sequences_and_maps_are_compared(last: str, output: str) -> None:
    text = f"h = MatMul (x, W)\n r = Relu (h)\n c = MatMul (r, V)\n y = {last}"
    dense = net(text, inputs="float[N,5] x", outputs=output, W=(5, 8), V=(8, 3))()
    result = onnxprune.prune(dense, ratio=0.5, granularity=1, verify=True)
    assert result.report is not None
    assert result.report.surgery
    slim = onnx.ModelProto()
    slim.CopyFrom(result.model.proto)
    changed("V", halve)(slim)
    assert not onnxprune.verify(dense, slim, plan=result.plan).exact


def test_layers_take_a_plan(pruned: Result) -> None:
    with pytest.raises(onnxprune.UsageError, match="layers are compared by the plan"):
        onnxprune.verify(DIGITS, pruned.model, layers=True)


def test_unknown_settings(pruned: Result) -> None:
    with pytest.raises(onnxprune.UsageError, match="unknown setting 'min_cosin'\nDid you mean 'min_cosine'"):
        onnxprune.verify(DIGITS, pruned.model, min_cosin=1)  # type: ignore[call-arg]


# Streaming ----------------------------------------------------------------------------------


RESIDUAL = """
    [norm] n = BatchNormalization (h, S, T, M, V)
    r = Relu (n)
"""


def test_portions_and_batches_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = between(RESIDUAL, S=positive(8), T=(8,), M=(8,), V=positive(8))()
    result = onnxprune.prune(model, granularity=1)
    traced = retrace(result.trace, {"x": (4, 3, 8, 8)})
    sizes = traced.sizes(result.plan.removed(traced))
    x = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    halves = [Batch({"x": x[k : k + 4]}, 4) for k in (0, 4)]
    whole = list(layers.compare_entire(traced, sizes, result.model, [Batch({"x": x}, 8)]))
    opened: list[int] = []

    def counted(model: Any, *rest: Any, **options: Any) -> Any:
        opened.append(len(model.proto.graph.output))
        return runtime.open_session(model, *rest, **options)

    monkeypatch.setattr(layers, "PORTION", 1)
    monkeypatch.setattr("onnxprune.checks.alone.open_session", counted)
    parts = list(layers.compare_entire(traced, sizes, result.model, halves))
    assert [d.layer for d in parts] == ["first", "norm", "r", "last"]
    assert set(opened) == {1}, "one tensor at a time"
    assert len(opened) == 2 * len(whole), "sessions serve all batches"
    for a, b in zip(whole, parts, strict=True):
        assert (a.output, a.samples, b.samples) == (b.output, 8, 8)
        np.testing.assert_allclose(
            [b.cosine, b.worst, b.relative, b.max_abs],
            [a.cosine, a.worst, a.relative, a.max_abs],
            rtol=1e-4,
            atol=1e-6,
        )


def test_batches_of_another_size_are_left_out_of_the_layers(pruned: Result) -> None:
    report = onnxprune.verify(
        DIGITS, pruned.model, plan=pruned.plan, data=IMAGES, samples=20, layers=True, provider="cpu"
    )
    assert report.samples == 20
    assert {d.samples for d in report.entire} == {16}


# Zero, NaN and infinity ---------------------------------------------------------------------


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("before", "after", "cosine", "relative", "max_abs", "remark"),
    [
        ([0, 0], [0, 0], 1, 0, 0, "zero: 1 of 1 sample before, 1 after"),
        ([3, 4], [0, 0], 0, 1, 4, "zero: 0 of 1 sample before, 1 after"),
        ([0, 0], [3, 4], 0, INF, 4, "zero: 1 of 1 sample before, 0 after"),
        ([1, NAN], [1, NAN], 1, 0, 0, "not finite: 1 value before, 1 after"),
        ([1, INF], [1, INF], 1, 0, 0, "not finite: 1 value before, 1 after"),
        ([1, INF], [1, -INF], 0, INF, INF, "not finite: 1 value before, 1 after"),
        ([1, 2], [1, NAN], 0, INF, INF, "not finite: 0 values before, 1 after"),
        ([1, NAN], [1, 2], 0, INF, INF, "not finite: 1 value before, 0 after"),
        ([3, 4], [6, 8], 1, 1, 4, ""),
        ([3, 4], [-3, -4], -1, 2, 8, ""),
        ([1, 0], [0, 1], 0, 2**0.5, 1, ""),
        ([], [], 1, 0, 0, ""),
    ],
)
def test_zero_and_nan_are_defined(
    before: list[float], after: list[float], cosine: float, relative: float, max_abs: float, remark: str
) -> None:
    found = difference("y", np.array(before, np.float32), np.array(after, np.float32), 0.5)
    assert found.cosine == found.worst == pytest.approx(cosine)
    assert found.relative == pytest.approx(relative)
    assert found.max_abs == max_abs
    assert found.remark == remark
    assert bool(found) is (relative <= 0.5)


def test_samples_are_told_apart() -> None:
    """The mean and the worst are over samples; the distance is over all values."""
    sums = Comparison("y")
    sums.add(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [1.0, -1.0]]), 2)
    sums.add(np.array([[2.0, 0.0]]), np.array([[2.0, 0.0]]), 1)
    found = sums.difference()
    assert (found.samples, found.worst, found.max_abs) == (3, 0, 2)
    assert found.cosine == pytest.approx(2 / 3)
    assert found.relative == pytest.approx((4 / 7) ** 0.5)
    assert found.snr == pytest.approx(10 * np.log10(7 / 4))


def test_agreement() -> None:
    best = np.eye(8)[[0, 1, 2, 3]] * 9 + np.arange(8)[::-1]
    other = best.copy()
    other[0, 0] = -1  # another best, and four of five left
    other[3] = np.nan
    sums = Comparison("y")
    sums.add(best.reshape(4, 8, 1, 1), other.reshape(4, 8, 1, 1), 4)
    found = sums.difference()
    assert found.top1 == 2 / 4
    assert found.top5 == pytest.approx((0.8 + 1 + 1 + 0) / 4)
    two = Comparison("y")
    two.add(best[:, :2], best[:, :2], 4)
    four = Comparison("y")
    four.add(best[:, :4], best[:, :4], 4)
    assert two.difference().top1 is None
    assert (four.difference().top1, four.difference().top5) == (1, None)


@pytest.mark.parametrize(
    ("value", "remark"),
    [(np.nan, "not finite: 0 values before, 200 after"), (0, "zero: 0 of 20 samples before, 20 after")],
)
def test_zero_and_nan_outputs_are_shown(
    run: Run, pruned: Result, tmp_path: Path, value: float, remark: str
) -> None:
    def fill(array: np.ndarray) -> None:
        array[:] = value

    model = damaged(pruned, changed("head.weight", fill))
    changed("head.bias", fill)(model)
    onnx.save(model, tmp_path / "slim.onnx")
    outcome = run(
        "verify",
        DIGITS,
        tmp_path / "slim.onnx",
        "--data",
        IMAGES,
        "--samples",
        20,
        "--min-cosine",
        0.1,
        "--provider",
        "cpu",
    )
    assert outcome.code == 1
    assert remark in outcome.out
    assert "gate failed: min-cosine of 'logits': found 0, expected at least 0.1 (off by 0.1)" in outcome.err
    assert "samples" in outcome.out.splitlines()[3]


# Accuracy, agreement, gates -----------------------------------------------------------------


def logits(model: Any) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": np.load(IMAGES)["image"]})[0])


@pytest.fixture(scope="module")
def outputs(pruned: Result) -> tuple[np.ndarray, np.ndarray]:
    return logits(DIGITS), logits(pruned.model.proto.SerializeToString())


def digits(slim: onnxprune.Model, **settings: Any) -> Report:
    settings = {"data": IMAGES, "provider": "cpu", **settings}
    return onnxprune.verify(DIGITS, slim, **settings)


@pytest.fixture(scope="module")
def whole(pruned: Result) -> Report:
    return digits(pruned.model)


def test_numbers_on_the_digits(whole: Report, outputs: tuple[np.ndarray, np.ndarray]) -> None:
    before, after = outputs
    labels = np.load(IMAGES)["labels"]
    report = whole
    (change,), (score,) = report.change, report.scores
    cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert (report.samples, change.samples, score.name) == (450, 450, "accuracy")
    assert change.top1 == (before.argmax(1) == after.argmax(1)).mean() < 1
    best = [{*row} for row in np.argsort(-before)[:, :5]], [{*row} for row in np.argsort(-after)[:, :5]]
    assert change.top5 == pytest.approx(np.mean([len(a & b) / 5 for a, b in zip(*best, strict=True)]))
    assert (score.before, score.after) == (1, (after.argmax(1) == labels).mean())
    assert change.cosine == pytest.approx(cosines.mean(), abs=1e-6)
    assert change.worst == pytest.approx(cosines.min(), abs=1e-6)
    assert change.max_abs == pytest.approx(np.abs(before - after).max(), rel=1e-5)
    relative = np.linalg.norm(before - after) / np.linalg.norm(before)
    assert change.relative == pytest.approx(relative, rel=1e-5)


@pytest.mark.parametrize("gate", ["min_cosine", "max_abs", "min_agreement", "max_accuracy_drop"])
def test_gates(whole: Report, gate: str) -> None:
    def judge(limit: float) -> Report:
        limits: Any = {gate: limit}
        return replace(whole, gates=check_gates(limits, whole.change, whole.scores, None))

    found = judge(0.0).gates[0].found
    step = 0.01 if gate.startswith("min_") else -0.01
    passed, failed = judge(found - step), judge(found + step)
    assert passed
    assert not failed
    assert passed.gates[0].excess == pytest.approx(-0.01)
    assert failed.gates[0].excess == pytest.approx(0.01)
    assert str(failed.gates[0]).endswith("(off by 0.01)")
    assert f"FAILED: {gate.replace('_', '-')} of" in str(failed)
    assert judge(found), "the limit itself is kept"


def test_latency_gate(pruned: Result) -> None:
    assert digits(pruned.model, samples=16, max_latency_ratio=1e6)
    report = digits(pruned.model, samples=16, max_latency_ratio=1e-6)
    assert not report
    assert report.latency is not None
    assert report.gates[0].found == report.latency.share


def test_gates_that_cannot_be_checked(pruned: Result) -> None:
    with pytest.raises(
        onnxprune.UsageError, match="gate max-accuracy-drop cannot be checked: the data have no labels"
    ):
        onnxprune.verify(DIGITS, pruned.model, max_accuracy_drop=0.1, provider="cpu")
    with pytest.raises(onnxprune.UsageError, match="min-agreement cannot be checked: no output"):
        check_gates({"min_agreement": 0.5}, [difference("y", np.ones(3), np.ones(3))], [], None)
    with pytest.raises(onnxprune.UsageError, match="unknown gate 'min_cosin'\nDid you mean"):
        check_gates({"min_cosin": 0.5}, [], [], None)  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    ("gate", "limit", "expected"),
    [
        ("min_cosine", 2, "a cosine, -1 to 1"),
        ("min_cosine", float("nan"), "a cosine, -1 to 1"),
        ("max_abs", "a", "a number that is at least 0"),
        ("min_agreement", 95, "a share, 0 to 1"),
        ("max_accuracy_drop", float("nan"), "a number"),
        ("max_latency_ratio", 0, "a number above 0"),
    ],
)
def test_gates_that_say_nothing_are_refused_first(gate: str, limit: Any, expected: str) -> None:
    with pytest.raises(onnxprune.UsageError, match=f"gate {gate.replace('_', '-')}: .*, expected {expected}"):
        onnxprune.verify("no such file", "no such file", **{gate: limit})


def test_failed_gates_in_the_command_line(run: Run, pruned: Result, tmp_path: Path) -> None:
    pruned.model.save(tmp_path / "slim.onnx")
    files = DIGITS, tmp_path / "slim.onnx", "--data", IMAGES, "--provider", "cpu"
    outcome = run("verify", *files, "--min-cosine", 1, "--max-abs", 1e9, "--min-agreement", 1)
    assert outcome.code == 1
    assert "\nmax-abs        logits" in outcome.out
    assert outcome.err.splitlines()[-1].startswith("error: 2 gates failed: min-cosine of 'logits': found 0.")
    assert run("verify", *files, "--min-cosine", -1, "--max-accuracy-drop", 1).code == 0


METRIC = """
import numpy as np

def recall(outputs, labels):
    best = np.concatenate([batch["logits"].argmax(1) for batch in outputs])
    return (best == labels)[labels == 3].mean()

text = "no function"

def word(outputs, labels):
    return "good"
"""


def test_metric(
    pruned: Result, outputs: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metric.py").write_text(METRIC)
    monkeypatch.chdir(tmp_path)
    labels = np.load(IMAGES)["labels"]
    expected = (outputs[1].argmax(1) == 3)[labels == 3].mean()
    _, score = digits(pruned.model, metric="own_metric:recall").scores
    assert (score.name, score.before, score.after) == ("own_metric:recall", 1, expected)
    data = {"image": np.zeros((4, 1, 8, 8), np.float32)}
    for name, text in (
        ("own_metric", "found 'own_metric', expected module:function"),
        ("nowhere:f", "metric 'nowhere:f': ModuleNotFoundError: No module named 'nowhere'"),
        ("own_metric:f", "metric 'own_metric:f': AttributeError: module 'own_metric' has no attribute 'f'"),
        ("own_metric:text", "found str, expected a function"),
        ("own_metric:word", "found str, expected a number"),
    ):
        with pytest.raises(onnxprune.UsageError, match=text):
            digits(pruned.model, metric=name, data=data)


def test_accuracy_takes_class_scores() -> None:
    model = net("y = Relu(x)", inputs="float[N,3,8,8] x")()
    data = {"x": np.ones((2, 3, 8, 8), np.float32), "labels": np.array([0, 1])}
    with pytest.raises(onnxprune.UsageError, match=r"found 'y' \[2, 3, 8, 8\], expected \[2, classes\]"):
        onnxprune.verify(model, model, data=data, provider="cpu")


@pytest.mark.parametrize("form", [np.asarray, np.float32, lambda labels: np.eye(10)[labels]])
def test_accuracy_takes_every_form_of_classes(form: Any) -> None:
    """Labels that were given are used, or refused by name: an accuracy never goes missing."""
    slim = onnxprune.prune(DIGITS, ratio=0.1).model
    data = dict(np.load(IMAGES))
    labels = data.pop("labels")
    report = onnxprune.verify(DIGITS, slim, data=data, labels=form(labels), provider="cpu")
    (score,) = report.scores
    assert (score.name, score.before) == ("accuracy", 1)
    assert 0.5 < score.after <= 1
    with pytest.raises(
        onnxprune.UsageError, match=r"labels: found 0\.5 for sample 0, expected numbers from 0 to 9"
    ):
        onnxprune.verify(DIGITS, slim, data=data, labels=labels * 0 + 0.5, provider="cpu")
    with pytest.raises(onnxprune.UsageError, match=r"labels: found 0\.5 for sample 0"):
        list(sensitivity(DIGITS, data=data, labels=labels * 0 + 0.5, provider="cpu"))


def test_a_metric_may_take_other_labels() -> None:
    model = net("y = Relu(x)", inputs="float[N,3,8,8] x")()
    x = np.ones((2, 3, 8, 8), np.float32)

    def error(outputs: Any, labels: np.ndarray | None) -> float:
        assert labels is not None
        return -float(np.abs(np.concatenate([b["y"] for b in outputs]) - labels).max())

    for labels in (np.full(x.shape, 3.0), np.array([[[[0]]], [[[4]]]]), np.array([[[[5]]]] * 2)):
        data = {"x": x, "labels": labels}
        report = onnxprune.verify(model, model, data=data, metric=error, provider="cpu")
        (score,) = report.scores
        assert (score.name, score.before) == ("error", -np.abs(x - labels).max())


def test_gates_on_what_does_not_run_are_errors() -> None:
    """Made-up inputs that do not fit leave a report without gates; asked for, they must not pass."""
    text = "r = Reshape (x, shape)\ny = MatMul (r, W)"
    model = net(text, inputs="float[N,4] x, int64[2] shape", outputs="float[A,B] y", W=(4, 3))()
    assert onnxprune.verify(model, model, provider="cpu").problem
    with pytest.raises(onnxprune.ModelError, match="the original does not run"):
        onnxprune.verify(model, model, provider="cpu", min_cosine=0.5)
