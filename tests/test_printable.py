"""Names are data: whatever a file calls its nodes, output is lines of text and nothing else."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.printable import json_text, printable

from .building import net
from .conftest import Run

EVIL = [
    "a\n::error file=x::owned",
    "::warning::owned",
    "##vso[task.setvariable variable=x]owned",
    "b\r##[error]owned",
    "x\x1b[2J\x1b]0;owned\x07",
    "c\u009b31m",
    "d\u202egnp.exe",
    "e\u2066f\u2069",
    "f\u2028g\u2029h\x85",
    "$\\frac{1}$ <script>&amp;|`*_",
    "]]>\x00\x01\ufffe",
]

UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]")

COMMAND = re.compile(r"^\s*::[a-z]|##\[|##vso\[", re.MULTILINE)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A chain of convolutions in which every name is one of them."""
    rng = np.random.default_rng(0)
    nodes, stored, x = [], [], "input" + EVIL[0]
    for k, name in enumerate(EVIL):
        shape = (16, 3 if k == 0 else 16, 1, 1)
        stored.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), f"w{name}"))
        nodes.append(helper.make_node("Conv", [x, f"w{name}"], [f"{name}y"], name))
        x = f"{name}y"
    graph = helper.make_graph(
        nodes,
        EVIL[0],
        [helper.make_tensor_value_info("input" + EVIL[0], TensorProto.FLOAT, ["batch" + EVIL[0], 3, 8, 8])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)],
        stored,
    )
    path = tmp_path / "evil.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def harmless(text: str) -> str:
    assert not UNSAFE.search(text), ascii(text)
    assert not COMMAND.search(text), ascii(text)
    return text


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_every_command(run: Run, evil: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    slim, plan, junit, markdown = (tmp_path / n for n in ("slim.onnx", "plan.json", "j.xml", "m.md"))
    commands: list[tuple[object, ...]] = [
        ("inspect", evil),
        ("prune", evil, "-o", slim, "--plan-out", plan, "--ratio", "0.5"),
        ("clean", evil, "-o", tmp_path / "clean.onnx"),
        ("explain", evil, "*", "--ratio", "0.5"),
        ("sensitivity", evil, "--ratios", "0.5"),
        ("verify", evil, slim, "--plan", plan, "--layers", "--junit", junit, "--markdown", markdown,
         "--min-cosine", "0.9999"),
    ]  # fmt: skip
    for command in commands:
        outcome = run(*command, *flags)
        assert outcome.code == (1 if command[0] == "verify" else 0), outcome.err
        harmless(outcome.out)
        harmless(outcome.err)
        if flags:
            names = json.dumps(outcome.document, ensure_ascii=False)
            assert "owned" in names or command[0] == "clean"
    for path in (plan, junit, markdown):
        harmless(path.read_text())
    assert {g.name for g in onnxprune.Plan.load(plan).groups} & set(EVIL), "the plan has the true names"
    ElementTree.parse(junit)


def test_drawings(run: Run, evil: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    slim, plan = tmp_path / "slim.onnx", tmp_path / "plan.json"
    assert run("explain", evil, "*", "--plot", tmp_path / "scores.svg").code == 0
    assert run("prune", evil, "-o", slim, "--plan-out", plan).code == 0
    assert run("verify", evil, slim, "--plan", plan, "--plot", tmp_path / "layers.svg").code == 0
    for name in ("scores.svg", "layers.svg"):
        ElementTree.parse(tmp_path / name)
        assert not UNSAFE.search((tmp_path / name).read_text())


def test_errors(run: Run, evil: Path, tmp_path: Path) -> None:
    model = onnx.load(evil)
    model.graph.node[3].input[1] = "nowhere" + EVIL[0]
    onnx.save(model, evil)
    outcome = run("inspect", evil)
    assert outcome.code == 2
    assert harmless(outcome.err).count("\n") == 1
    for name in EVIL:
        if "\0" in name:
            continue
        outcome = run("explain", tmp_path / name, name)
        assert outcome.code == 2
        assert len(harmless(outcome.err).splitlines()) <= 2


def test_the_python_side(evil: Path) -> None:
    groups = onnxprune.trace(evil)
    harmless(str(groups))
    result = onnxprune.prune(evil, verify=True)
    harmless(str(result.report))
    harmless(str(onnxprune.explain(evil, "*")))
    harmless(str(onnxprune.ModelError(EVIL[0], EVIL[2])))


@pytest.mark.parametrize("text", ["layer1.0.conv1/Conv", "größe", "层", "a b", "torch::nn", "#1", "x:y::z"])
def test_ordinary_names_are_shown_as_they_are(text: str) -> None:
    assert printable(text) == text
    assert json.loads(json_text(text)) == text


@pytest.mark.parametrize("text", EVIL)
def test_json_keeps_the_name(text: str) -> None:
    assert json.loads(json_text({text: [text]})) == {text: [text]}
    harmless(json_text({text: [text]}))
    assert os.linesep not in printable(text)


def test_results_are_shown_briefly() -> None:
    """In a notebook, the last line of a cell is shown: the outcome, and no arrays."""
    dense = net("h = Conv (x, W)\nr = Relu (h)\n[last] y = Conv (r, V)", W=(16, 3, 3, 3), V=(4, 16, 1, 1))()
    result = onnxprune.prune(dense, ratio=0.5, granularity=1)
    shown = [
        (result, "Result(Plan(12 of 20 channels kept in 2 groups), not verified)"),
        (result.trace, "Trace(1 groups, 16 channels can go; 1 blocked)"),
        (result.trace[0], "Group('h', 16 channels in 2 axes)"),
        (result.model, "Model(3 nodes, opset 17)"),
        (onnxprune.score(result.trace), "ScoreTable(h)"),
    ]
    for thing, text in shown:
        assert repr(thing) == text
    assert str(result).splitlines()[1:] == [
        "  h: 8 of 16",
        "  last: 4 of 4, graph output 'y'",
        "not verified",
    ]
