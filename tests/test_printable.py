"""Names are data: whatever a file calls its nodes, output is lines of text and nothing else."""

from __future__ import annotations

import ast
import json
import os
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.printable import json_text, plural, printable

from .building import net
from .conftest import Run
from .test_rooms import MODULES

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


THINGS = re.compile(
    r" (?:stored |free |fixed )?"
    r"(axes|batches|blocks|bytes|channels|columns|cores|entries|gates|groups|inputs|layers|models|nodes"
    r"|numbers|outputs|pairs|parameters|pieces|results|rows|samples|scores|shapes|tensors|threads|units|values"
    r"|versions|weights)\b"
)


def bounded(value: ast.expr, text: ast.expr) -> bool:
    """Whether a number is none that is counted, or one that is said to be beyond a bound."""
    above = isinstance(text, ast.Constant) and "expected at most" in str(text.value)
    return above or any(isinstance(n, ast.Name) and n.id.isupper() for n in ast.walk(value))


def uncounted(source: str) -> list[str]:
    """Sentences in which one thing would be called several."""
    found = []
    for text in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)):
        for value, rest in pairwise(text.values):
            if not isinstance(value, ast.FormattedValue) or not isinstance(rest, ast.Constant):
                continue
            by_name = isinstance(value.value, ast.Call) and ast.unparse(value.value.func) == "plural"
            if THINGS.match(str(rest.value)) and not by_name and not bounded(value.value, rest):
                found.append(ast.unparse(text))
    return found


def test_one_thing_is_not_called_several() -> None:
    """Numbers of things go through ``plural``: "from 1 samples" was said in many places."""
    assert uncounted('f"from {len(x)} samples"')
    assert not uncounted("f\"from {plural(x, 'sample')}\"")
    found = {name: uncounted(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    assert {name: texts for name, texts in found.items() if texts} == {}
    assert plural(1, "sample") == "1 sample"


def test_results_are_shown_briefly() -> None:
    """In a notebook, the last line of a cell is shown: the outcome, and no arrays."""
    dense = net("h = Conv (x, W)\nr = Relu (h)\n[last] y = Conv (r, V)", W=(16, 3, 3, 3), V=(4, 16, 1, 1))()
    result = onnxprune.prune(dense, ratio=0.5, granularity=1)
    shown = [
        (result, "Result(Plan(12 of 20 channels kept in 2 groups), not verified)"),
        (result.trace, "Trace(1 group, 16 channels can go; 1 blocked)"),
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
