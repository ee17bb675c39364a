"""``onnxprune clean``, and the clean-up that ``prune`` begins with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.selection.plan import Plan

from .conftest import DIGITS, Run, digest, exact
from .planting import cleaned, graph, inputs_of, log, normal, outputs_of, worst


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Sixteen channels: 1 is zero, 2 is a constant, 3 is not weighted, 5 equals 4."""
    W, V = normal(16, 3, 3, 3), normal(8, 16, 1, 1)
    W[[1, 2]] = 0
    V[:, 3] = 0
    W[5] = W[4]
    bias = np.zeros(16, np.float32)
    bias[2] = 0.5
    built = graph(
        "[first] h = Conv(x, W, b)\n[act] r = Relu(h)\n[second] s = Conv(r, V, c)\n[last] y = Conv(s, U)",
        W=W,
        b=bias,
        V=V,
        c=normal(8),
        U=normal(4, 8, 1, 1),
    )
    path = tmp_path / "model.onnx"
    onnx.save(built, path)
    return path


def gap(before: Path | onnx.ModelProto, after: Path) -> float:
    """Relative difference of two models."""
    models = [onnx.load(m) if isinstance(m, Path) else m for m in (before, after)]
    feeds = inputs_of(models[0])
    return worst(outputs_of(models[0], feeds), outputs_of(models[1], feeds))


def test_clean_writes_a_smaller_model_and_says_what_went(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.onnx"
    found = run("clean", model, "-o", out, "--provider", "cpu")
    assert found.code == 0
    assert found.err == ""
    lines = found.out.splitlines()
    assert lines[0] == "removed 4 of 24 channels: 1 zero, 1 constant, 1 unused, 1 duplicate"
    table = [line.split() for line in lines[2:7]]
    assert table[:4] == [
        ["constant", "bytes", "before", "after", "difference"],
        ["W", "1,728", "1,296", "-432"],
        ["b", "64", "48", "-16"],
        ["V", "512", "384", "-128"],
    ]
    assert ["c", "32", "32", "+0"] in [line.split() for line in lines]
    assert "surgery exact" in lines[-2]
    assert lines[-1] == f"wrote '{out}'"
    assert gap(model, out) < 1e-6


def test_json(run: Run, model: Path, tmp_path: Path) -> None:
    document = run("clean", model, "-o", tmp_path / "c.onnx", "--json", "--provider", "cpu").document
    assert document["command"] == "clean"
    assert document["removed"] == {"zero": 1, "constant": 1, "unused": 1, "duplicate": 1}
    assert document["looked_at"] == 24
    assert {"tensor": "b", "before": 64, "after": 48} in document["constants"]
    assert document["verification"]["exact"] is True
    assert document["written"] is True


def test_nothing_dead_is_copied(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "clean.onnx"
    found = run("clean", DIGITS, "-o", out, "--provider", "cpu")
    assert found.code == 0
    assert found.out.startswith(
        "nothing to remove: none of 416 channels is zero, constant, unused or a duplicate\n"
    )
    assert f"nothing was removed: '{out}' is a copy of '{DIGITS}'" in found.out
    assert digest(out) == digest(DIGITS)


def test_quiet(run: Run, model: Path, tmp_path: Path) -> None:
    found = run("clean", model, "-o", tmp_path / "c.onnx", "--quiet", "--provider", "cpu")
    assert (found.code, found.out, found.err) == (0, "", "")


def test_duplicates_can_stay(run: Run, model: Path, tmp_path: Path) -> None:
    flags = "--no-duplicates", "--granularity", 1, "--provider", "cpu"
    found = run("clean", model, "-o", tmp_path / "c.onnx", *flags)
    assert found.out.startswith("removed 3 of 24 channels: 1 zero, 1 constant, 1 unused\n")


@pytest.mark.parametrize("text", ["0,1", "x=0,1"])
def test_assumed_range(run: Run, tmp_path: Path, text: str) -> None:
    W = np.abs(normal(8, 3, 1, 1))
    W[3] *= -1
    path = tmp_path / "model.onnx"
    onnx.save(graph("h = Conv(x, W)\nr = Relu(h)\ny = Conv(r, V)", W=W, V=normal(4, 8, 1, 1)), path)
    flags = "--assume-range", text, "--granularity", 1, "--provider", "cpu"
    found = run("clean", path, "-o", tmp_path / "c.onnx", *flags)
    assert found.code == 0
    assert found.out.splitlines()[:2] == ["removed 1 of 8 channels: 1 assumed", "assumed: 'x' lies in [0, 1]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "--assume-range: found '1', expected LOW,HIGH or INPUT=LOW,HIGH"),
        ("z=0,1", "unknown input 'z'"),
        ("x=1,0", "input 'x': found the range [1, 0], expected LOW <= HIGH"),
    ],
)
def test_impossible_ranges(run: Run, model: Path, tmp_path: Path, text: str, message: str) -> None:
    out = tmp_path / "clean.onnx"
    found = run("clean", model, "-o", out, "--assume-range", text)
    assert found.code == 2
    assert found.err.splitlines()[0] == f"error: {message}"
    assert not out.exists()


def test_input_is_not_overwritten(run: Run, model: Path) -> None:
    before = digest(model)
    assert run("clean", model, "-o", model).code == 2
    assert digest(model) == before


def test_plan_of_a_cleaning_is_replayed(run: Run, model: Path, tmp_path: Path) -> None:
    one, two, plan = tmp_path / "one.onnx", tmp_path / "two.onnx", tmp_path / "plan.json"
    assert run("clean", model, "-o", one, "--plan-out", plan, "--provider", "cpu").code == 0
    assert run("prune", model, "-o", two, "--plan", plan, "--provider", "cpu").code == 0
    assert digest(one) == digest(two)
    assert run("verify", model, one, "--plan", plan, "--provider", "cpu").code == 0


# In front of pruning ----------------------------------------------------------------------------


def test_prune_cleans_first(run: Run, model: Path, tmp_path: Path) -> None:
    out, plan = tmp_path / "slim.onnx", tmp_path / "plan.json"
    found = run("prune", model, "-o", out, "--granularity", 1, "--plan-out", plan, "--provider", "cpu")
    assert found.code == 0
    assert found.out.startswith(
        "cleaned first: removed 4 of 24 channels: 1 zero, 1 constant, 1 unused, 1 duplicate\n"
    )
    assert ["first", "16", "->", "6"] in [line.split() for line in found.out.splitlines()]
    assert "surgery exact" in found.out
    document = json.loads(plan.read_text())
    first = next(g for g in document["groups"] if g["name"] == "first")
    assert first["channels"] == 16
    assert not {1, 2, 3, 5} & set(first["keep"])
    assert len(first["keep"]) == 6
    assert len(first["scores"]) == 16
    assert document["constants"]["W"] == {"shape": [16, 3, 3, 3], "keep": {"0": first["keep"]}}
    again = tmp_path / "again.onnx"
    assert run("prune", model, "-o", again, "--plan", plan, "--provider", "cpu").code == 0
    assert digest(again) == digest(out)
    assert run("verify", model, out, "--plan", plan, "--provider", "cpu").code == 0
    assert onnxprune.rewrite(model, Plan.load(plan)).proto == onnx.load(out)


def test_prune_without_cleaning(run: Run, model: Path, tmp_path: Path) -> None:
    found = run(
        "prune",
        model,
        "-o",
        tmp_path / "s.onnx",
        "--granularity",
        1,
        "--no-clean",
        "--json",
        "--provider",
        "cpu",
    )
    assert found.document["cleaned"] is None
    kept = {g["name"]: g["kept"] for g in found.document["groups"]}
    assert kept["first"] == 8


def test_ratio_zero_cleans_alone(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "slim.onnx"
    found = run("prune", model, "-o", out, "--ratio", 0, "--provider", "cpu")
    assert found.code == 0
    assert f"wrote '{out}'" in found.out
    assert gap(model, out) < 1e-6
    assert onnx.load(out).graph.initializer[0].dims[0] == 12


def test_costs_are_those_of_the_original(model: Path) -> None:
    whole = onnxprune.clean(model)
    result = onnxprune.prune(model, granularity=1)
    assert result.before == whole.before
    assert result.after.parameters < whole.after.parameters
    assert log(result).removed == log(whole).removed


def test_numbered_channels_are_those_of_the_file(model: Path) -> None:
    """Who names channels by number means the file, so nothing goes before."""
    result = onnxprune.prune(model, remove={"first": [0, 7]})
    assert result.log is None
    first = next(g for g in result.plan.groups if g.name == "first")
    assert set(range(16)) - set(first.keep) == {0, 7}
    scores = {"W": np.arange(16.0)}
    assert onnxprune.prune(model, criterion=scores, include=["first"], granularity=1).log is None


def test_plan_fits_a_retrained_copy(model: Path) -> None:
    """The clean-up is part of the plan: a copy without dead channels gets the same structure."""
    plan = onnxprune.prune(model, granularity=1).plan
    retrained = onnx.load(model)
    rng = np.random.default_rng(1)
    for tensor in retrained.graph.initializer:
        tensor.raw_data = rng.normal(size=list(tensor.dims)).astype(np.float32).tobytes()
    slim = onnxprune.rewrite(retrained, Plan.from_dict(plan.to_dict()))
    assert list(slim.proto.graph.initializer[0].dims) == [6, 3, 3, 3]


def test_a_group_that_shrinks_to_one_channel(tmp_path: Path) -> None:
    """The only channel that is left cannot be pruned further, and stays in the plan."""
    W = np.zeros((8, 3, 3, 3), np.float32)
    W[5] = 1
    built = graph(
        "[first] h = Conv(x, W)\n[second] s = Conv(h, V)\n[last] y = Conv(s, U)",
        W=W,
        V=normal(8, 8, 1, 1),
        U=normal(4, 8, 1, 1),
    )
    cleaned(built)
    result = onnxprune.prune(built, granularity=1, verify=True, provider="cpu")
    assert exact(result)
    groups = {g.name: g for g in result.plan.groups}
    assert groups["first"].keep == (5,)
    assert len(groups["second"].keep) == 4
    assert onnxprune.rewrite(built, result.plan).proto == result.model.proto
