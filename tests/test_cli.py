"""The command line: what is printed, written and returned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.cli import HELPERS, help_line, verbs
from onnxprune.cli.output import print_json
from onnxprune.cli.verb import TOPICS
from onnxprune.runtime import providers as runtime

from .conftest import DIGITS, IMAGES, ROOT, Run, digest


def unprunable() -> bytes:
    """A model of which nothing can go, in bytes that protobuf itself would order differently."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], "head")],
        "unprunable",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )
    body = onnx.ModelProto(graph=graph)
    rest = onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
    return body.SerializeToString() + rest.SerializeToString()


# Help ---------------------------------------------------------------------------------------


INNER = {"tao": ("prune",), "netspresso": ("compress",)}
"""What another tool calls a command of its own, and what that is called there."""


def test_every_module_is_a_verb_with_help_or_a_helper(run: Run) -> None:
    modules = {p.stem for p in (ROOT / "onnxprune" / "cli").glob("*.py")} - {"__init__"}
    assert set(verbs()) == modules - HELPERS
    assert all(help_line(verb).endswith(".") for verb in verbs())
    for verb in verbs():
        path = verb, *INNER.get(verb, ())
        outcome = run(*path, "--help")
        assert outcome.code == 0
        assert outcome.out.startswith(f"Usage: onnxprune {' '.join(path)} ")
        assert "--json" in outcome.out


def test_help_lists_the_verbs_in_the_order_of_use(run: Run) -> None:
    outcome = run("--help")
    listed = [
        line.split()[0] for line in outcome.out.partition("Commands:\n")[2].splitlines() if line[2:3].strip()
    ]
    assert outcome.code == 0
    assert listed == verbs()
    assert listed[0] == "prune"


def test_help_is_a_command_too_and_has_headings(run: Run) -> None:
    assert run("help", "verify").out == run("verify", "--help").out
    assert run("help").out == run("--help").out
    headings = [
        line for line in run("prune", "--help").out.splitlines() if line.endswith(":") and line[0] != " "
    ]
    assert headings == [f"{topic}:" for topic in TOPICS if topic != "Gates"]
    assert "Options:" in run("doctor", "--help").out


def test_no_command_is_bad_usage(run: Run) -> None:
    outcome = run()
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: onnxprune" in outcome.err


def test_version(run: Run) -> None:
    assert run("--version").out == f"onnxprune, version {onnxprune.__version__}\n"


def test_help_names_the_registered_passes(run: Run) -> None:
    text = " ".join(run("prune", "--help").out.split())
    assert "One of: arithmetic_mean, average, backward," in text


# prune --------------------------------------------------------------------------------------


def test_prune_prints_the_table_and_writes_a_model_that_runs(prune: Run, tmp_path: Path) -> None:
    outcome = prune()
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:2] == ["pruned                       channels", "/stem/conv/Conv              32 -> 16"]
    assert "/head/Gemm        10  graph output 'logits'" in lines
    assert "parameters           136,302     35,390  26.0%" in lines
    assert lines[-2].startswith("cpu: surgery exact (")
    assert lines[-1] == f"wrote '{tmp_path}/slim.onnx'"
    assert not any(line.endswith(" ") for line in lines)
    assert max(map(len, lines[:-1])) <= 82
    session = ort.InferenceSession(tmp_path / "slim.onnx", providers=["CPUExecutionProvider"])
    image = np.load(IMAGES)["image"]
    assert session.run(None, {"image": image})[0].shape == (len(image), 10)
    size = (tmp_path / "slim.onnx").stat().st_size
    assert f"{size:,}" in next(line for line in lines if line.startswith("file size"))


def test_same_command_same_bytes(prune: Run, tmp_path: Path) -> None:
    prune("--criterion", "random", "--seed", 3, out="a.onnx")
    prune("--criterion", "random", "--seed", 3, out="b.onnx")
    prune("--criterion", "random", "--seed", 4, out="c.onnx")
    assert digest(tmp_path / "a.onnx") == digest(tmp_path / "b.onnx") != digest(tmp_path / "c.onnx")


def test_plan_replay_gives_the_same_bytes(prune: Run, tmp_path: Path) -> None:
    plan, again = tmp_path / "plan.json", tmp_path / "again.json"
    prune("--plan-out", plan, "--ratio", 0.3, "--norm", "pin", out="a.onnx")
    outcome = prune("--plan", plan, "--plan-out", again, out="b.onnx")
    assert outcome.code == 0
    assert digest(tmp_path / "a.onnx") == digest(tmp_path / "b.onnx")
    assert plan.read_bytes() == again.read_bytes()
    assert json.loads(plan.read_text())["options"]["ratio"] == 0.3


def test_json_document(prune: Run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    outcome = prune("--json", "--plan-out", plan, "--data", IMAGES, "--samples", 64)
    document = outcome.document
    assert (outcome.code, outcome.err) == (0, "")
    assert list(document) == [
        "command", "version", "model", "output", "plan", "options", "cleaned", "groups",
        "obstacles", "notes", "cost", "latency", "recovery", "quantized", "verification", "written",
    ]  # fmt: skip
    assert document["model"] == {
        "path": str(DIGITS), "sha256": digest(DIGITS), "nodes": 40, "opset": 17,
    }  # fmt: skip
    assert document["output"] == str(tmp_path / "slim.onnx")
    assert document["plan"] == str(plan)
    assert document["groups"][0] == {
        "name": "/stem/conv/Conv", "channels": 32, "kept": 16, "status": "pruned", "reason": "",
    }  # fmt: skip
    assert document["groups"][-1]["status"] == "blocked"
    assert document["groups"][-1]["reason"] == "graph output 'logits'"
    assert set(document["cost"]["after"]) == {"parameters", "macs", "bytes"}
    assert document["verification"]["exact"] is True
    assert document["verification"]["provider"] == "cpu"
    assert document["obstacles"] == []
    assert document["written"] is True
    assert document["options"] == json.loads(plan.read_text())["options"]


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        (["--ratio", 0.25], 24),
        (["--ratio", 0.3, "--granularity", 1], 23),
        (["--ratio", 0.3, "--granularity", 1, "--rounding", "nearest"], 22),
        (["--ratio", 0.9, "--granularity", 1, "--min-channels", 9], 9),
        (["--exclude", "stem/conv"], 32),
        (["--exclude", "*first*", "--exclude", "stem.conv.weight"], 32),
        (["--ratio", 0], 32),
    ],
)
def test_selection_flags(prune: Run, flags: list[object], kept: int) -> None:
    document = prune("--json", "--no-verify", *flags).document
    assert document["groups"][0]["kept"] == kept
    assert document["verification"] is None


def test_kept_groups_say_why(prune: Run) -> None:
    text = prune("--exclude", "stem/conv").out
    assert "kept             channels  why\n/stem/conv/Conv        32  excluded by 'stem/conv'\n" in text


def test_scoring_flags_reach_the_plan(prune: Run) -> None:
    flags = ("--criterion", "l1", "--normalizer", "none", "--policy", "sum", "--norm", "pin")
    options = prune("--json", "--no-verify", "--reshape-channel-axis", -1, *flags).document["options"]
    wanted = {
        "criterion": "l1", "normalizer": "none", "policy": "sum", "norm": "pin",
        "reshape_channel_axis": -1,
    }  # fmt: skip
    assert wanted.items() <= options.items()


def test_long_tables_are_cut_and_say_so(prune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.cli.output.LIMIT", 5)
    text = prune("--no-verify").out
    assert "... and 2 more; --json lists all\n" in text
    assert "/inverted/expand/conv/Conv" in text
    assert "/branches/point/Conv" not in text


def test_quiet_prints_nothing(prune: Run, tmp_path: Path) -> None:
    outcome = prune("--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert (tmp_path / "slim.onnx").is_file()


def test_without_verification_nothing_is_run(prune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.InferenceSession", None)
    outcome = prune("--no-verify")
    assert outcome.code == 0
    assert "not verified (--no-verify)\n" in outcome.out


def test_a_model_of_which_nothing_can_go_is_copied(run: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    source.write_bytes(unprunable())
    outcome = run("prune", source, "-o", target, "--provider", "cpu")
    assert outcome.code == 0
    assert target.read_bytes() == source.read_bytes()
    assert "head            3  graph output 'y'\n" in outcome.out
    assert outcome.out.endswith(f"nothing was removed: '{target}' is a copy of '{source}'\n")


def test_ratio_zero_copies(prune: Run, tmp_path: Path) -> None:
    assert prune("--ratio", 0).code == 0
    assert digest(tmp_path / "slim.onnx") == digest(DIGITS)


def test_an_existing_output_is_replaced(prune: Run, tmp_path: Path) -> None:
    (tmp_path / "slim.onnx").write_text("old")
    assert prune().code == 0
    assert onnx.load(tmp_path / "slim.onnx").graph.node


def test_synthetic_inputs_that_do_not_fit_are_reported(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    source.write_bytes(picky())
    outcome = run("prune", source, "-o", tmp_path / "out.onnx", "--provider", "cpu")
    assert outcome.code == 0
    assert outcome.err == "the result is not verified; give inputs with --data\n"
    assert "not verified: the original does not run on these inputs: " in outcome.out


def picky() -> bytes:
    """A model whose made-up inputs, a shape of ones among them, do not fit together."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["r"], "reshape"),
            helper.make_node("MatMul", ["r", "w"], ["y"], "head"),
        ],
        "picky",
        [value("x", TensorProto.FLOAT, ["n", 4]), value("shape", TensorProto.INT64, [2])],
        [value("y", TensorProto.FLOAT, [None, None])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


# The other verbs ----------------------------------------------------------------------------


@pytest.fixture
def pair(prune: Run, tmp_path: Path) -> tuple[Path, Path]:
    """A slim model and its plan."""
    prune("--plan-out", tmp_path / "plan.json")
    return tmp_path / "slim.onnx", tmp_path / "plan.json"


def test_verify_with_a_plan(run: Run, pair: tuple[Path, Path]) -> None:
    slim, plan = pair
    outcome = run("verify", DIGITS, slim, "--plan", plan, "--data", IMAGES, "--provider", "cpu")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].split() == [
        "output", "surgery", "accepted", "cosine", "worst", "rel.", "L2", "max-abs", "SNR", "(dB)",
    ]  # fmt: skip
    assert lines[1].split()[0] == "logits"
    assert lines[1].split()[2] == "1e-05"


def test_verify_without_a_plan(run: Run, pair: tuple[Path, Path]) -> None:
    outcome = run("verify", DIGITS, pair[0], "--json", "--provider", "cpu")
    assert outcome.code == 0
    assert outcome.err == "surgery not checked: it takes the plan (--plan FILE)\n"
    document = outcome.document
    assert list(document) == [
        "command", "version", "dense", "slim", "surgery", "change", "exact", "verdict", "left_out", "not_finite", "unrun", "method", "structure",
        "passed",
        "provider", "slim_provider", "format", "precision", "elsewhere", "problem", "data", "samples", "scores", "gates", "entire",
        "single", "wrong", "diverged",
    ]  # fmt: skip
    assert (document["surgery"], document["exact"], document["passed"]) == ([], None, True)
    assert list(document["change"][0]) == [
        "output", "cosine", "relative", "max_abs", "tolerance", "worst", "snr", "top1", "top5",
        "samples", "remark", "layer", "part",
    ]  # fmt: skip


def test_verify_finds_a_scaled_weight(run: Run, pair: tuple[Path, Path]) -> None:
    slim, plan = pair
    damaged = onnx.load(slim)
    weight = next(t for t in damaged.graph.initializer if t.name == "stem.conv.weight")
    array = numpy_helper.to_array(weight).copy()
    array[0] *= 1.01
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(damaged, slim)
    outcome = run("verify", DIGITS, slim, "--plan", plan, "--provider", "cpu")
    assert outcome.code == 1
    assert "\nwrong layer        cosine  rel. L2  max-abs\n/stem/conv/Conv  " in outcome.out
    verdict = "cpu: surgery WRONG layer by layer ("
    assert f"\n{verdict}" in outcome.out
    start = f"error: the slim model is wrong at layer '/stem/conv/Conv': {verdict}"
    assert outcome.err.startswith(start)
    quiet = run("verify", DIGITS, slim, "--plan", plan, "--provider", "cpu", "--quiet")
    assert (quiet.code, quiet.out) == (1, "")


def test_inspect(run: Run) -> None:
    lines = run("inspect", DIGITS).out.splitlines()
    second = next(k for k, line in enumerate(lines) if line.startswith("read by"))
    after = lines.index("", second)
    assert after == second + 16, "11 readers, four of them on two lines, and the titles"
    assert lines[:second] + lines[after + 1 :] == [
        "416 channels in 7 groups can go",
        "of 136,302 parameters, 6,039,424 MACs (batch=2), 554,856 bytes",
        "",
        "group                       channels  layers  parameters   MACs",
        "/stem/conv/Conv                   32       2       28.9%  50.5%",
        "/stage1/first/conv/Conv           32       1       13.6%  39.1%",
        "/stage2/first/conv/Conv           64       1       40.8%  29.3%",
        "/stage2/second/conv/Conv          64       3       69.7%  49.9%",
        "/inverted/expand/conv/Conv       128       2       13.6%   9.3%",
        "/branches/point/Conv              32       1        1.8%   1.1%",
        "/branches/window/Conv             64       1       27.7%  19.6%",
        "",
        "blocked     channels  why",
        "/head/Gemm        10  graph output 'logits'",
        "",
    ]


def test_inspect_json(run: Run) -> None:
    document = run("inspect", DIGITS, "--json", "--norm", "pin").document
    assert list(document) == [
        "command", "version", "model", "options", "cost", "channels", "groups", "blocked",
        "obstacles", "notes",
    ]  # fmt: skip
    assert document["options"] == {
        "norm": "pin", "reshape_channel_axis": None, "group_policy": "average", "parts": "free",
    }  # fmt: skip
    group = document["groups"][5]
    assert group["name"] == "/branches/point/Conv"
    assert group["layers"] == ["/branches/point/Conv"]
    assert group["members"][0] == {"tensor": "branches.point.weight", "axis": 0}
    # 32 filters of 64 x 1 x 1, four BatchNormalization vectors, 32 columns of the 10 x 96 head.
    assert group["parameters"] == 32 * 64 + 4 * 32 + 32 * 10
    # At batch 2: the 1x1 convolution on 4x4 positions, and the head.
    assert group["macs"] == 2 * (32 * 64 * 16 + 32 * 10)


def test_obstacles_are_named(run: Run, tmp_path: Path) -> None:
    """The checker prints a warning about such operators to stdout, natively: not into the JSON."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("ImageScaler", ["x"], ["s"], "scale", scale=1.0, bias=[0.0, 0.0, 0.0]),
        helper.make_node("Mystery", ["s"], ["m"], "mystery", domain="acme"),
        helper.make_node("Relu", ["m"], ["y"], "relu"),
    ]
    inputs = [value("x", TensorProto.FLOAT, [1, 3, 4, 4])]
    graph = helper.make_graph(nodes, "old", inputs, [value("y", TensorProto.FLOAT, [1, 3, 4, 4])])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 8), helper.make_opsetid("acme", 1)], ir_version=4
    )
    source = tmp_path / "old.onnx"
    source.write_bytes(model.SerializeToString())
    outcome = run("inspect", source)
    assert outcome.code == 0
    assert "operators without a rule: acme::Mystery 1\n" in outcome.out
    assert run("inspect", source, "--json").document["obstacles"][0] == (
        "acme::Mystery 'mystery': there is no rule for this operator"
    )


def test_weights_that_are_held_on_purpose_are_named(run: Run, tmp_path: Path) -> None:
    """Nothing can go, and no group is there to say why."""
    text = """
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft.nchwc" : 1]>
        g (float[1,16,8,8] x, float[16,16,1,1] W) => (float[1,16,8,8] y) {
          y = com.microsoft.nchwc.Conv (x, W)
        }"""
    model = onnx.parser.parse_model(text)
    array = np.zeros((16, 16, 1, 1), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(array, "W"))
    source = tmp_path / "nchwc.onnx"
    source.write_bytes(model.SerializeToString())
    why = "its channels are in blocks for one processor; prune before onnxruntime rewrites the model"
    outcome = run("inspect", source)
    assert f"\ncom.microsoft.nchwc::Conv 1 keeps its weights: {why}\n" in outcome.out
    (obstacle,) = run("inspect", source, "--json").document["obstacles"]
    assert obstacle == f"com.microsoft.nchwc::Conv 'y': {why}"


def test_names_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    """Brackets and colons of a name are no markup and no emoji."""
    model = onnx.load_from_string(unprunable())
    model.graph.node[0].name = "[bold]head[/red]:dog:"
    onnx.save(model, tmp_path / "odd.onnx")
    assert (
        "\n[bold]head[/red]:dog:         3  graph output 'y'\n" in run("inspect", tmp_path / "odd.onnx").out
    )


def test_long_names_are_folded_not_cut(run: Run, tmp_path: Path) -> None:
    model = onnx.load_from_string(unprunable())
    model.graph.node[0].name = "/".join(f"part{k}" for k in range(30))
    onnx.save(model, tmp_path / "long.onnx")
    lines = run("inspect", tmp_path / "long.onnx").out.splitlines()
    assert max(map(len, lines)) <= 80
    printed = "".join(line[:60].split("  ")[0].strip() for line in lines[4:])
    assert printed.startswith("part0/part1/part2")
    assert printed.endswith("part28/part29")


def test_numbers_that_are_not_finite_are_null(capfd: pytest.CaptureFixture[str]) -> None:
    print_json("test", {"a": [float("nan"), (1.5, float("inf"))], "b": {"c": -float("inf")}})
    assert json.loads(capfd.readouterr().out) == {
        "command": "test", "version": onnxprune.__version__, "a": [None, [1.5, None]], "b": {"c": None},
    }  # fmt: skip


def test_ops(run: Run) -> None:
    assert "Conv" in run("ops").out
    document = run("ops", "--json").document
    rules = {row["operator"]: row for row in document["rules"] if not row["domain"]}
    assert rules["Conv"]["status"] == "carried"
    assert rules["Conv"]["rule"].startswith("One kernel makes one output channel")


def test_ops_of_some_operators(run: Run) -> None:
    def shown(*patterns: str) -> list[str]:
        rules = run("ops", "--json", *patterns).document["rules"]
        return [f"{row['domain']}::{row['operator']}" for row in rules]

    assert shown("convinteger", "Reduce*l1") == ["::ConvInteger", "::ReduceL1"]
    assert shown("com.microsoft::FusedC*") == ["com.microsoft::FusedConv"]
    assert "com.microsoft::FusedMatMul" in shown("*matmul")
    outcome = run("ops", "Conf")
    assert (outcome.code, outcome.err) == (2, "error: unknown operator 'Conf'\nhint: Did you mean 'Conv'?\n")


def test_doctor(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing CUDA library is called by its name."""

    def preload() -> None:
        print("Failed to load libcublasLt.so.99: libcublasLt.so.99: cannot open shared object")

    runtime.cuda_problem.cache_clear()
    runtime.tensorrt_problem.cache_clear()
    monkeypatch.setattr(ort, "preload_dlls", preload)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(runtime, "_runs_on_cuda", lambda: False)
    outcome = run("doctor")
    document = run("doctor", "--json").document
    runtime.cuda_problem.cache_clear()
    runtime.tensorrt_problem.cache_clear()
    assert "CUDA               does not run: missing libraries: libcublasLt.so.99\n" in outcome.out
    assert outcome.out.endswith("pip install 'onnxprune[cuda]' installs the CUDA libraries.\n")
    assert list(document) == [
        "command",
        "version",
        "versions",
        "providers",
        "onnxruntime",
        "cuda",
        "tensorrt",
        "openvino",
    ]
    assert document["cuda"] == {"runs": False, "problem": "missing libraries: libcublasLt.so.99"}
    assert document["versions"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("onnxprune pru", "prune"), ("onnxprune prune model.onnx --crit", "--criterion"), ("onnxprune inspect --norm p", "pin")],
)  # fmt: skip
def test_shells_complete(words: str, wanted: str) -> None:
    shell = {
        "_ONNXPRUNE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = [sys.executable, "-m", "onnxprune"]
    done = subprocess.run(command, env={**os.environ, **shell}, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"plain,{wanted}" in done.stdout.splitlines()
