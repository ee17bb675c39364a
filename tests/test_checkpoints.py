"""Checkpoints are cut as the files that were exported from them, and give their weights back.

Small pairs of a state dict and an ONNX file, in the forms that exporters write. The oracle is the
"exporter" of the case: run on the cut checkpoint, it has to give the slim model.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.checkpoints.cutting import cut_state
from onnxprune.checkpoints.mapping import map_constants
from onnxprune.checkpoints.recipes import State
from onnxprune.checkpoints.reweighting import reweight
from onnxprune.checkpoints.stores import write_state
from onnxprune.checkpoints.uses import uses_of
from onnxprune.errors import PlanError

from .checkpoint_forms import (
    CASES,
    CONV,
    FEATURES,
    LINEAR,
    Case,
    File,
    conv_folded,
    conv_named,
    gathered,
    transposed,
)
from .conftest import Run


def outputs(model: bytes) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    given = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    return np.asarray(session.run(None, {"x": given})[0])


def close(one: onnxprune.Model, other: bytes) -> bool:
    """Equal to rounding: folding again rounds once more, at 6e-8 of the largest term of a sum."""
    first, second = outputs(one.proto.SerializeToString()), outputs(other)
    return bool(np.abs(first - second).max() <= 2e-6 * np.abs(second).max())


def trained(state: State) -> State:
    rng = np.random.default_rng(9)
    return {
        name: (array * rng.uniform(0.5, 1.5, array.shape)).astype(np.float32) for name, array in state.items()
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_checkpoint_is_cut_as_its_export(case: Case) -> None:
    dense = case.export(case.state)
    result = onnxprune.prune(dense, ratio=0.5, granularity=1)
    found = cut_state(onnxprune.load(dense), result.plan, case.state)
    assert len(found.cuts) == case.cut
    assert not found.unread
    assert [note.rpartition(": ")[2] for note in found.notes] == [case.changed] * bool(case.changed)
    assert result.model.proto.ByteSize() < len(dense)
    assert close(result.model, case.export(found.state))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_trained_checkpoint_gives_its_weights_back(case: Case) -> None:
    dense = case.export(case.state)
    result = onnxprune.prune(dense, ratio=0.5, granularity=1)
    before = cut_state(onnxprune.load(dense), result.plan, case.state).state
    after = trained(before)
    found = reweight(result.model, after, before)
    assert not found.kept
    assert close(found.model, case.export(after))
    assert not close(result.model, case.export(after))


def test_recovered_weights_come_along() -> None:
    """What the slim file holds instead of cut weights goes back through every recipe."""
    for case in CASES.values():
        dense = case.export(case.state)
        result = onnxprune.prune(dense, ratio=0.5, granularity=1)
        before = cut_state(onnxprune.load(dense), result.plan, case.state).state
        fitted = reweight(result.model, trained(before), before).model
        if case.export is gathered:
            continue  # of a table, rows that nothing looks up have no new value
        found = cut_state(onnxprune.load(dense), result.plan, case.state, fitted)
        assert found.notes
        assert close(fitted, case.export(found.state))


def test_what_is_ambiguous_is_named() -> None:
    """Two biases of zeros, under names that say nothing."""
    state = {**CONV, "a.bias": np.zeros(8, np.float32), "c.bias": np.zeros(8, np.float32)}
    f = File([1, 3, 5, 5])
    x = f.node("Conv", "x", f.put("w", state["a.weight"]), name="first")
    x = f.node("Add", x, f.put("77", state["a.bias"].reshape(1, 8, 1, 1)), name="second")
    dense = f.model(f.node("Conv", f.node("Relu", x), f.put("v", state["b.weight"])))
    plan = onnxprune.prune(dense, ratio=0.5, granularity=1).plan
    with pytest.raises(PlanError) as raised:
        cut_state(onnxprune.load(dense), plan, state)
    assert raised.value.message == (
        "constant '77' (read by Add 'second') shrinks, and where it comes from is open: "
        "its values are those of 'a.bias', 'c.bias'"
    )


def test_a_weight_that_is_normalized_by_all_of_it_is_named() -> None:
    """A standardized weight: once an input is gone, the module standardizes what is left."""
    weight = LINEAR["down.weight"]
    weight = (weight - weight.mean(1, keepdims=True)) / weight.std(1, keepdims=True)
    dense = transposed({**LINEAR, "down.weight": weight})
    plan = onnxprune.prune(dense, ratio=0.5, granularity=1).plan
    said = r"'val_3' .* it is 'down.weight', normalized by what depends on all of it"
    with pytest.raises(PlanError, match=said) as raised:
        cut_state(onnxprune.load(dense), plan, LINEAR)
    name = next(group.name for group in plan.groups if group.status == "pruned")
    assert f"'--exclude {name}' leaves what shrinks it whole" in str(raised.value.hint)
    whole = onnxprune.prune(dense, ratio=0.5, granularity=1, exclude=[name]).plan
    assert not cut_state(onnxprune.load(dense), whole, LINEAR).cuts


@pytest.mark.parametrize("hint", ["name", "module", "neighbour"])
def test_names_decide_between_equal_values(hint: str) -> None:
    state = {**CONV, "a.bias": np.zeros(8, np.float32), "c.bias": np.zeros(8, np.float32)}
    f = File([1, 3, 5, 5])
    name = "a.bias" if hint == "name" else "onnx::Conv_9"
    weight = f.put("w", state["a.weight"] if hint == "neighbour" else state["a.weight"] + 1)
    node = "/a/Conv" if hint == "module" else "n"
    x = f.node("Conv", "x", weight, f.put(name, state["a.bias"]), name=node)
    dense = f.model(f.node("Conv", x, f.put("v", state["b.weight"])))
    links = {link.use.name: link for link in map_constants(uses_of(onnxprune.load(dense)), state).links}
    assert str(links[name].recipe) == "a.bias"


def test_one_vector_can_be_two_entries() -> None:
    """Exporters store equal vectors once; the modules of the nodes tell them apart, and so do new weights."""
    ones = np.ones(8, np.float32)
    state = {**CONV, "a.bias": ones, "c.weight": CONV["a.weight"] + 1, "c.bias": ones.copy()}
    f = File([1, 3, 5, 5])
    shared = f.put("a.bias", ones)
    one = f.node("Conv", "x", f.put("a.weight", state["a.weight"]), shared, name="/a/Conv")
    two = f.node("Conv", "x", f.put("c.weight", state["c.weight"]), shared, name="/c/Conv")
    joint = f.node("Concat", f.node("Relu", one), f.node("Relu", two), axis=1)
    both = np.concatenate([state["b.weight"], state["b.weight"]], 1)
    state |= {"b.weight": both}
    dense = f.model(f.node("Conv", joint, f.put("b.weight", both)))
    plan = onnxprune.prune(dense, ratio={"/a/Conv": 0.5, "/c/Conv": 0.25}, granularity=1).plan
    found = cut_state(onnxprune.load(dense), plan, state)
    assert found.state["a.bias"].shape == (4,)
    assert found.state["c.bias"].shape == (6,)
    after = trained(found.state)
    model = reweight(onnxprune.rewrite(dense, plan), after, found.state).model
    held = {array.shape: array for array in map(numpy_helper.to_array, model.proto.graph.initializer)}
    assert np.array_equal(held[4,], after["a.bias"])
    assert np.array_equal(held[6,], after["c.bias"])


def test_tied_entries_are_cut_together() -> None:
    state = {**LINEAR, "again.weight": LINEAR["up.weight"]}
    dense = transposed(state)
    plan = onnxprune.prune(dense, ratio=0.5, granularity=1).plan
    found = cut_state(onnxprune.load(dense), plan, state)
    assert found.state["again.weight"] is found.state["up.weight"]
    assert found.state["up.weight"].shape == (4, FEATURES)


def test_what_only_a_name_tells() -> None:
    """The older exporter updates running statistics while it exports in training mode."""
    dense = conv_named({**CONV, "bn.running_mean": CONV["bn.running_mean"] + 1})
    plan = onnxprune.prune(dense, ratio=0.5, granularity=1).plan
    found = cut_state(onnxprune.load(dense), plan, CONV)
    assert close(found.model, conv_named(found.state))
    assert [link.use.name for link in found.origins.links if link.reason] == ["bn.running_mean"]


def test_another_checkpoint_is_refused() -> None:
    dense = conv_folded(CONV)
    plan = onnxprune.prune(dense, ratio=0.5, granularity=1).plan
    with pytest.raises(
        PlanError,
        match=r"constant 'onnx::Conv_11' .* no entry of the checkpoint holds its values, and 2 more",
    ):
        cut_state(onnxprune.load(dense), plan, trained(CONV))


def test_the_command_line_takes_weights_there_and_back(run: Run, tmp_path: Path) -> None:
    dense, state, plan = tmp_path / "dense.onnx", tmp_path / "state.npz", tmp_path / "plan.json"
    slim, cut, out = tmp_path / "slim.onnx", tmp_path / "slim.npz", tmp_path / "out.onnx"
    dense.write_bytes(conv_folded(CONV))
    write_state(state, CONV)
    flags = ("--ratio", "0.5", "--granularity", "1", "--provider", "cpu")
    assert run("prune", dense, "-o", slim, "--plan-out", plan, *flags).code == 0
    done = run("checkpoint", state, "--model", dense, "--plan", plan, "-o", cut)
    assert done.code == 0, done.err
    assert "4 of 4 constants come from the checkpoint; 7 of 8 entries cut" in done.out
    with zipfile.ZipFile(cut) as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}  # equal weights, equal bytes
    with np.load(cut) as found:
        after = trained(dict(found))
    write_state(tmp_path / "trained.npz", after)
    failed = run("reweight", slim, tmp_path / "trained.npz", "-o", out)
    assert failed.code == 2
    assert "Give the checkpoint as it was before training with --before" in failed.err
    done = run("reweight", slim, tmp_path / "trained.npz", "--before", cut, "-o", out, "--json")
    assert done.code == 0, done.err
    assert done.document["taken"] == 4
    assert close(onnxprune.load(out), conv_folded(after))


def test_a_checkpoint_that_cannot_be_read_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    (tmp_path / "dense.onnx").write_bytes(conv_named(CONV))
    files = ("--model", tmp_path / "dense.onnx", "--plan", tmp_path / "no.json")
    for name, said in (
        ("bad.npz", "cannot read"),
        ("none.npz", "no such file"),
        ("dense.onnx", "no known ending"),
    ):
        failed = run("checkpoint", tmp_path / name, *files, "-o", tmp_path / "out.npz")
        assert failed.code == 2
        assert said in failed.err
        assert "Traceback" not in failed.err


def test_a_retrained_model_is_judged_by_its_structure(run: Run, tmp_path: Path) -> None:
    dense, plan, slim = tmp_path / "dense.onnx", tmp_path / "plan.json", tmp_path / "slim.onnx"
    dense.write_bytes(conv_folded(CONV))
    flags = ("--ratio", "0.5", "--granularity", "1", "--provider", "cpu")
    assert run("prune", dense, "-o", slim, "--plan-out", plan, *flags).code == 0
    found = cut_state(onnxprune.load(dense), onnxprune.Plan.load(plan), CONV)
    ways = {"by name": conv_folded, "by their sizes": conv_named}
    for said, export in ways.items():
        slim.write_bytes(export(trained(found.state)))
        verify = ("verify", dense, slim, "--plan", plan, "--provider", "cpu")
        assert run(*verify).code
        done = run(*verify, "--retrained")
        assert done.code == 0, done.err
        assert "retrained: " in done.out
        assert f"as planned, {said}" in done.out
        slim.write_bytes(export(trained(CONV)))
        failed = run(*verify, "--retrained")
        assert failed.code == 1
        assert "retrained model" in failed.err


def test_a_missing_package_is_one_sentence(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "state.pt").write_bytes(b"")
    (tmp_path / "dense.onnx").write_bytes(conv_named(CONV))
    files = ("--model", tmp_path / "dense.onnx", "--plan", "plan.json", "-o", tmp_path / "out.npz")
    failed = run("checkpoint", tmp_path / "state.pt", *files)
    assert failed.code == 2
    assert failed.err == (
        "error: torch is not installed\nhint: Install it with: pip install 'onnxprune[torch]'\n"
    )


@pytest.mark.parametrize("form", ["named", "folded", "misnamed"])
def test_a_clean_up_before_comes_along(form: str) -> None:
    """Channels that are constant go first, and what they did goes into the bias behind them."""
    state = {name: array.copy() for name, array in CONV.items()}
    state["a.weight"][[1, 6]] = 0
    state["a.bias"][[1, 6]] = (3, -9)
    state["bn.weight"][[1, 6]], state["bn.running_mean"][[1, 6]] = 1, 0
    case = Case(state, CASES[form].export, 7)
    dense = case.export(state)
    result = onnxprune.prune(dense, ratio=0.5, granularity=1)
    assert "clean" in result.plan.options
    found = cut_state(onnxprune.load(dense), result.plan, state)
    assert found.state["a.weight"].shape[0] == 3
    assert found.notes == ("took new values of 1 entry from the slim file: b.bias",)
    assert close(result.model, case.export(found.state))
