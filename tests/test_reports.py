"""Reports as tables, Markdown and JUnit XML, and the assertion for test suites."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.checks.accuracy import Score
from onnxprune.checks.compare import difference
from onnxprune.checks.gates import Gate
from onnxprune.checks.report import Report
from onnxprune.reports import tables as reports
from onnxprune.testing import assert_parity

from .conftest import DIGITS, IMAGES, ROOT, Run
from .test_pipelines import flipped
from .test_verify import changed, damaged, drop

GOOD = difference("y", np.ones(3), np.ones(3), 1e-5)
BAD = difference("y|<b>\x07", np.ones(3), np.zeros(3), 1e-5)


def report(**changes: object) -> Report:
    whole = Report(
        (GOOD,),
        (replace(GOOD, tolerance=None, top1=0.5, top5=0.75, samples=4),),
        "cpu",
        "",
        "end to end",
        scores=(Score("accuracy", 0.9, 0.75),),
        gates=(Gate("min_cosine", "y", 1.0, 0.9), Gate("max_accuracy_drop", "accuracy", 0.15, 0.1)),
        data="test.npz",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_junit() -> None:
    text = reports.junit(report(surgery=(BAD,)))
    root = ElementTree.fromstring(text.encode())
    (suite,) = root.findall("testsuite")
    assert root.attrib == {"tests": "3", "failures": "2", "errors": "0"}
    assert suite.attrib == {"name": "onnxprune verify", **root.attrib}
    cases = {case.attrib["name"]: case.find("failure") for case in suite.findall("testcase")}
    assert list(cases) == ["surgery", "min-cosine", "max-accuracy-drop"]
    assert cases["min-cosine"] is None
    surgery, accuracy = cases["surgery"], cases["max-accuracy-drop"]
    assert surgery is not None
    assert accuracy is not None
    assert surgery.attrib["message"] == r"'y|<b>\x07' differs by 1 from the masked original, accepted 1e-05"
    assert accuracy.attrib["message"] == (
        "max-accuracy-drop of 'accuracy': found 0.15, expected at most 0.1 (off by 0.05)"
    )
    numbers = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert (numbers["cosine of y"], numbers["top1 of y"], numbers["accuracy after"]) == ("1", "0.5", "0.75")


def test_junit_of_what_could_not_run() -> None:
    text = reports.junit(Report((), (), "cpu", "the original does not run"))
    assert ElementTree.fromstring(text.encode()).attrib["failures"] == "1"


def rows(markdown: str) -> list[list[str]]:
    """Cells of all tables; a bar that is escaped divides nothing."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert all(line.endswith(" |") for line in lines)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_markdown() -> None:
    layers = tuple(replace(BAD, layer=f"layer {k % 50}") for k in range(60))
    text = reports.markdown(report(entire=layers, single=layers[:2]))
    assert text.startswith("### onnxprune verify: FAILED on cpu, 4 samples from 'test.npz'\n")
    assert "\n- surgery bug: layer 'layer 0' is the first that differs" in text
    assert "\n- pruning loss or the bug: layer 'layer 0' is the first to diverge" in text
    blocks = [rows(block) for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 7
    for block in blocks:
        assert {len(row) for row in block} == {len(block[0])}, "a ragged table is not rendered"
        assert all(re.fullmatch(r"---:?", cell) for cell in block[1])
    (entire,) = [block for block in blocks if block[0][0].startswith("entire")]
    assert len(entire) == 2 + reports.LIMIT + 1
    assert entire[-1][0] == "and 20 more"
    assert entire[2][0] == r"layer 0: y\|\<b\>\\x07"
    gates = {row[0]: row for row in blocks[-1]}
    assert gates["max-accuracy-drop"][1:] == ["accuracy", "0.15", "0.1", "FAILED by 0.05"]


def test_headlines() -> None:
    assert reports.headline(report(gates=())) == "passed on cpu, 4 samples from 'test.npz'"
    made_up = Report((), (GOOD,), "cpu", slim_provider="cuda")
    assert reports.headline(made_up) == "passed on cpu and cuda, 1 sample made up"
    assert reports.headline(Report((), (), "cpu", "why")) == "not verified on cpu, 0 samples made up"


def test_what_is_equal_bit_for_bit_is_said_so_where_nothing_else_was_compared() -> None:
    """An integer that is equal is no closer to what is accepted than a float, which accepts something."""
    whole, off = replace(GOOD, output="n", tolerance=0.0), replace(GOOD, relative=3e-7)
    assert "surgery exact (3.0e-07, accepted 1e-05)" in report(surgery=(whole, off)).headline
    assert "'y' differs by 3.0e-07" in str(report(surgery=(off, whole)))
    integers = report(surgery=(whole,), single=(whole,))
    assert "surgery exact (bit for bit)" in integers.headline
    assert "'n' equals the masked original (bit for bit)" in str(integers)
    wrong = replace(whole, relative=1e-6)
    assert "surgery WRONG (1.0e-06, accepted 0e+00)" in report(surgery=(off, wrong)).headline


def test_files_of_the_command_line(run: Run, tmp_path: Path) -> None:
    """A report that fails is written, too, and everything says the same."""
    result = onnxprune.prune(DIGITS, ratio=0.06, granularity=1)
    result.plan.save(tmp_path / "plan.json")
    onnx.save(damaged(result, changed("head.bias", drop)), tmp_path / "slim.onnx")
    files = {kind: tmp_path / f"report.{kind}" for kind in ("junit", "markdown", "plot")}
    files["plot"] = tmp_path / "layers.svg"
    flags = [value for kind, path in files.items() for value in (f"--{kind}", path)]
    outcome = run(
        "verify",
        DIGITS,
        tmp_path / "slim.onnx",
        "--plan",
        tmp_path / "plan.json",
        "--data",
        IMAGES,
        "--samples",
        4,
        "--max-abs",
        0,
        "--provider",
        "cpu",
        *flags,
    )
    assert outcome.code == 1
    assert ElementTree.parse(files["junit"]).getroot().attrib["failures"] == "2"
    assert "surgery bug: layer '/head/Gemm'" in files["markdown"].read_text()
    drawing = files["plot"].read_text()
    ElementTree.fromstring(drawing)
    assert "/stage1/first/conv/Conv" in drawing
    text = " ".join(outcome.out.split())
    assert "surgery bug: layer '/head/Gemm'" in text
    assert "max-abs logits" in text


@pytest.mark.parametrize("flag", ["--junit", "--markdown", "--plot"])
def test_files_that_cannot_be_written(run: Run, flag: str) -> None:
    outcome = run("verify", DIGITS, DIGITS, flag, "nowhere/file.svg", "--provider", "cpu")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: cannot write 'nowhere/file.svg': there is no folder 'nowhere'\n"
    assert run("verify", DIGITS, DIGITS, flag, DIGITS).err.startswith("error: refusing to overwrite")


# onnxprune.testing --------------------------------------------------------------------------


def test_assert_parity(tmp_path: Path) -> None:
    result = onnxprune.prune(DIGITS, ratio=0.06, granularity=1)
    result.plan.save(tmp_path / "plan.json")
    found = assert_parity(
        DIGITS, result.model, plan=tmp_path / "plan.json", data=IMAGES, max_accuracy_drop=0.9, provider="cpu"
    )
    assert found.exact
    with pytest.raises(
        AssertionError, match=r"FAILED: min-cosine of 'logits': found 0\.\d+, expected at least 1"
    ):
        assert_parity(DIGITS, result.model, provider="cpu", min_cosine=1.0)
    wrong = damaged(result, changed("head.bias", drop))
    with pytest.raises(AssertionError, match="surgery bug: layer '/head/Gemm'"):
        assert_parity(DIGITS, wrong, plan=result.plan, provider="cpu")


SUITE = """
def test_slim(parity):
    parity(MODEL, SLIM, plan="plan.json", provider="cpu")
"""


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_the_fixture_records_what_it_measured(tmp_path: Path, family: str) -> None:
    """Where the family of the XML has room for it, and without a warning: those end a run here.

    One weight of the bad model has another sign.
    """
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["onnxprune.testing"]\n')
    made = onnxprune.prune(DIGITS, provider="cpu")
    made.plan.save(tmp_path / "plan.json")
    for name in ("good", "bad"):
        made.model.save(tmp_path / f"{name}.onnx")
        text = SUITE.replace("MODEL", repr(str(DIGITS))).replace("SLIM", repr(f"{name}.onnx"))
        (tmp_path / f"test_{name}.py").write_text(text)
    flipped(tmp_path / "bad.onnx")
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-o", f"junit_family={family}"),
        *("--junitxml=out.xml", "--rootdir=.", "."),
    ]  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "surgery WRONG" in done.stdout
    assert "gate" not in done.stderr
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    found = {p.attrib["name"]: p.attrib["value"] for p in root.iter("property")}
    of_tests = {p.attrib["name"] for case in root.iter("testcase") for p in case.iter("property")}
    if family == "xunit1":
        assert of_tests == found.keys() == {"cosine of logits"}
    else:
        assert not of_tests
        assert found.keys() == {
            "test_good.py::test_slim: cosine of logits",
            "test_bad.py::test_slim: cosine of logits",
        }
    assert all(-1 <= float(value) <= 1 for value in found.values())
