"""The exact text of every error that a user can cause. The text is the interface."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.runtime.conversion import in_ort_format

from .building import net
from .conftest import DIGITS, ROOT, Fails, Run

MODELS = Path(os.environ.get("ONNXPRUNE_MODELS", ROOT.parent / "shared" / "models"))


def small(opset: int = 17, **changes: Any) -> onnx.ModelProto:
    """A convolution and a Relu."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node(
                changes.get("op", "Relu"), ["c"], ["y"], "last", domain=changes.get("domain", "")
            ),
        ],
        "small",
        [value("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [value("y", TensorProto.FLOAT, ["n", 16, 8, 8])],
        [numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", opset)]
    if changes.get("domain"):
        opsets.append(helper.make_opsetid(changes["domain"], 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


# Models that cannot be loaded ---------------------------------------------------------------


def test_no_such_file(fails: Fails) -> None:
    text = fails("prune", "nowhere.onnx", "-o", "out.onnx")
    assert text == "cannot read 'nowhere.onnx': no such file or directory"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("prune", "", "-o", "out.onnx"), "'MODEL...'"),
        (("prune", DIGITS, "-o", ""), "'-o' / '--output'"),
        (("prune", DIGITS, "-o", "out.onnx", "--data", ""), "'--data'"),
        (("prune", DIGITS, "-o", "out.onnx", "--exclude", ""), "'--exclude'"),
    ],
)
def test_a_variable_that_is_not_set(fails: Fails, arguments: tuple[Any, ...], name: str) -> None:
    """It is not the working directory."""
    assert fails(*arguments) == f"{name}: found an empty value"


def test_a_folder(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert fails("inspect", "folder") == "cannot read 'folder': is a directory"


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_an_unreadable_file(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch(mode=0o000)
    assert fails("inspect", "model.onnx") == "cannot read 'model.onnx': permission denied"


def test_not_onnx(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("These are notes, not a model.")
    assert fails("inspect", "notes.txt") == "'notes.txt' is not an ONNX model, or is cut short"


def test_files_of_other_kinds(fails: Fails, tmp_path: Path) -> None:
    """A pointer of Git LFS, and what onnxruntime saves in its own format."""
    (tmp_path / "slim.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    said = fails("inspect", "slim.onnx")
    assert said.startswith(
        "'slim.onnx' is not an ONNX model, or is cut short\nhint: It stands for a file of Git LFS"
    )
    (tmp_path / "slim.ort").write_bytes(in_ort_format(onnxprune.load(DIGITS)).data)
    said = "'slim.ort' is in the ORT format of onnxruntime, expected ONNX\nhint: Give the file that it was"
    assert fails("inspect", "slim.ort").startswith(said)
    assert fails("verify", "slim.ort", "slim.ort").startswith(said), "only the second may be"


def test_an_empty_file(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    assert fails("inspect", "empty.onnx") == "'empty.onnx': found no bytes, expected an ONNX model"
    onnx.save(onnx.ModelProto(ir_version=8), tmp_path / "empty.onnx")
    assert fails("inspect", "empty.onnx") == "not an ONNX model: it has no graph"


def test_a_model_without_layers(fails: Fails, tmp_path: Path) -> None:
    onnx.save(net("y = Relu (x)")(), tmp_path / "relu.onnx")
    assert fails("explain", "relu.onnx", "head") == "unknown layer 'head'\nhint: There is no layer."


@pytest.mark.parametrize("name", ["net.pt", "net.SafeTensors", "net.h5", "net.keras", "net.tflite"])
def test_files_of_frameworks(fails: Fails, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 whatever they hold")
    said, hint = fails("inspect", name).split("\n")
    assert said == f"'{name}' is not an ONNX model, or is cut short"
    assert hint.startswith("hint: Export it to ONNX first")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_short(fails: Fails, tmp_path: Path, share: float) -> None:
    data = DIGITS.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: int(len(data) * share)])
    assert fails("inspect", "cut.onnx") == "'cut.onnx' is not an ONNX model, or is cut short"


def test_every_cut_of_a_small_model_is_an_error(tmp_path: Path) -> None:
    """Wherever a file ends early, the loader says so or finds something missing."""
    data = small().SerializeToString()
    for end in range(len(data)):
        with pytest.raises(onnxprune.ModelError):
            onnxprune.load(data[:end])


@pytest.mark.parametrize("verb", ["prune", "clean"])
@pytest.mark.parametrize("share", [0, 0.125, 0.5, 0.999])
def test_a_damaged_weight(fails: Fails, tmp_path: Path, verb: str, share: float) -> None:
    model = onnx.load(DIGITS)
    weight = next(t for t in model.graph.initializer if list(t.dims) == [32, 32, 3, 3])
    weight.raw_data = weight.raw_data[: int(len(weight.raw_data) * share) // 4 * 4]
    onnx.save(model, tmp_path / "damaged.onnx")
    assert fails(verb, "damaged.onnx", "-o", "out.onnx") == (
        f"tensor '{weight.name}': its data does not fill the shape [32, 32, 3, 3]"
    )
    assert not (tmp_path / "out.onnx").exists()


def test_an_old_opset(fails: Fails, tmp_path: Path) -> None:
    onnx.save(small(opset=6), tmp_path / "old.onnx")
    assert fails("inspect", "old.onnx") == (
        "opset 6 is older than 7, the oldest that is supported\n"
        "hint: Convert it first with onnx.version_converter.convert_version."
    )


def test_the_checker_refuses(fails: Fails, tmp_path: Path) -> None:
    onnx.save(small(op="Relux"), tmp_path / "bad.onnx")
    assert fails("inspect", "bad.onnx") == (
        "the ONNX checker refuses the model: No Op registered for Relux with domain_version of 17"
    )


def test_the_checker_refuses_what_nothing_runs(fails: Fails, tmp_path: Path) -> None:
    """Unlike a deprecated operator that has a definition by others: GroupNormalization."""
    onnx.save(small(op="Upsample"), tmp_path / "bad.onnx")
    text = fails("inspect", "bad.onnx")
    assert text.startswith("the ONNX checker refuses the model: Op registered for Upsample is deprecated")


def test_experimental_operators_run_without_a_warning_of_the_checker(run: Run, tmp_path: Path) -> None:
    """It goes past Python to the terminal."""
    build = net(
        "c = Conv (x, W)\ny = Affine <alpha = 2.0, beta = 1.0> (c)",
        outputs="float[N,8,8,8] y",
        opset=7,
        W=(8, 3, 1, 1),
    )
    onnx.save(build(), tmp_path / "old.onnx")
    outcome = run("inspect", tmp_path / "old.onnx")
    assert (outcome.code, outcome.err) == (0, "")


def external(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(small(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def test_missing_external_data(fails: Fails, tmp_path: Path) -> None:
    external(tmp_path)
    (tmp_path / "w.bin").unlink()
    assert fails("prune", "model.onnx", "-o", "out.onnx") == (
        f"tensor 'w': external data 'w.bin' not found beside the model\nhint: Put it into {tmp_path}."
    )


def test_external_data_cut_short(fails: Fails, tmp_path: Path) -> None:
    external(tmp_path)
    (tmp_path / "w.bin").write_bytes(b"\0" * 100)
    assert fails("prune", "model.onnx", "-o", "out.onnx") == "tensor 'w': external data 'w.bin' is cut short"


def test_external_data_outside_the_folder(fails: Fails, tmp_path: Path) -> None:
    external(tmp_path)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../w.bin"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    text = fails("prune", "model.onnx", "-o", "out.onnx")
    assert text.startswith("tensor 'w': external data '../w.bin' not found beside the model\n")


def test_onnxruntime_cannot_load_the_original(fails: Fails, tmp_path: Path) -> None:
    onnx.save(small(op="Own", domain="my.ops"), tmp_path / "own.onnx")
    text = fails("prune", "own.onnx", "-o", "out.onnx", "--provider", "cpu")
    assert text.startswith("onnxruntime cannot load the original: ")
    assert "my.ops:Own(-1) is not a registered function/op" in text


@pytest.mark.skipif(not (MODELS / "refused").is_dir(), reason=f"no models in {MODELS} (set ONNXPRUNE_MODELS)")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "deeploy_resnet8",
            "the ONNX checker refuses the model: No Op registered for RequantShift with domain_version of 10",
        ),
        ("pcb_aoi", "opset 1 is older than 7, the oldest that is supported"),
        (
            "superres_espcn",
            "onnxruntime cannot load the original: Fatal error: ai.onnx.contrib:SuperResolutionPreProcess(-1) is not a registered function/op",
        ),
    ],
)
def test_refused_models(fails: Fails, name: str, text: str) -> None:
    source = MODELS / "refused" / f"{name}.onnx"
    assert fails("prune", source, "-o", "out.onnx", "--provider", "cpu").splitlines()[0] == text


# Outputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("nowhere/out.onnx", "there is no folder 'nowhere'"),
        ("file/out.onnx", "there is no folder 'file'"),
        pytest.param(
            os.devnull,
            "it is no regular file",
            marks=pytest.mark.skipif(os.name == "nt", reason="POSIX devices"),
        ),
    ],
)
@pytest.mark.parametrize("flag", ["-o", "--plan-out"])
def test_outputs_that_cannot_be_written(
    fails: Fails, tmp_path: Path, flag: str, target: str, problem: str
) -> None:
    (tmp_path / "file").touch()
    rest = [] if flag == "-o" else ["-o", "out.onnx"]
    assert fails("prune", DIGITS, flag, target, *rest) == f"cannot write '{target}': {problem}"


def test_a_plan_is_no_folder(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    text = fails("prune", DIGITS, "-o", "out.onnx", "--plan-out", "folder")
    assert text == "cannot write 'folder': it is a folder"


def test_a_folder_that_is_not_writable(fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    text = fails("prune", DIGITS, "-o", "out.onnx")
    assert text == "cannot write 'out.onnx': the folder '.' is not writable"


# Arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["prun"], "unknown command 'prun'\nhint: Did you mean 'prune'?"),
        (["prune"], "missing argument 'MODEL...'\nhint: Try 'onnxprune prune --help'."),
        (["prune", "a"], "missing option '-o' / '--output'\nhint: Try 'onnxprune prune --help'."),
        (["inspect", "a", "b"], "got unexpected extra argument (b)\nhint: Try 'onnxprune inspect --help'."),
        (["--jsn"], "no such option '--jsn'\nhint: Try 'onnxprune --help'."),
        (["prune", "--ratoi", "1"], "no such option '--ratoi'\nhint: Did you mean '--ratio'?"),
        (
            ["prune", "a", "-o", "b", "--ratio"],
            "option '--ratio' requires an argument\nhint: Try 'onnxprune prune --help'.",
        ),
        (
            ["prune", "a", "-o", "b", "--ratio", "half"],
            "invalid value for '--ratio': 'half' is neither a number nor a .toml file\nhint: Try 'onnxprune prune --help'.",
        ),
        (
            ["prune", "a", "-o", "b", "--keep-macs", "50%"],
            "invalid value for '--keep-macs': '50%' is not a number\nhint: Try 'onnxprune prune --help'.",
        ),
        (
            ["prune", "a", "-o", "b", "--samples", "1.5"],
            "invalid value for '--samples': '1.5' is not a whole number\nhint: Try 'onnxprune prune --help'.",
        ),
        (
            ["prune", "a", "-o", "b", "--granularity", "8.5"],
            "granularity: found 8.5, expected a number, or auto",
        ),
        (
            ["prune", "a", "-o", "b", "--criterion", "l3"],
            "unknown value of --criterion 'l3'\nhint: Did you mean 'l2'?",
        ),
        (
            ["prune", "a", "-o", "b", "--normalizer", "maxx"],
            "unknown value of --normalizer 'maxx'\nhint: Did you mean 'max'?",
        ),
        (
            ["prune", "a", "-o", "b", "--policy", "averge"],
            "unknown value of --policy 'averge'\nhint: Did you mean 'average'?",
        ),
        (
            ["prune", "a", "-o", "b", "--rounding", "upp"],
            "unknown value of --rounding 'upp'\nhint: Did you mean 'up'?",
        ),
        (
            ["prune", "a", "-o", "b", "--norm", "prun"],
            "unknown value of --norm 'prun'\nhint: Did you mean 'prune'?",
        ),
        (
            ["prune", "a", "-o", "b", "--provider", "gpu"],
            "unknown value of --provider 'gpu'\nhint: Did you mean 'cpu'?",
        ),
        (
            ["prune", "a", "-o", "b", "--reshape-channel-axis", "7"],
            "unknown value of --reshape-channel-axis '7'\nhint: Known: -1, -2, 0, 1, both.",
        ),
    ],
)
def test_arguments(fails: Fails, arguments: list[str], text: str) -> None:
    assert fails(*arguments) == text


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ["--ratio", 1],
            "ratio: found 1, expected 0 <= ratio < 1\nhint: It is the fraction of channels removed, such as 0.5.",
        ),
        (
            ["--ratio", -0.5],
            "ratio: found -0.5, expected 0 <= ratio < 1\nhint: It is the fraction of channels removed, such as 0.5.",
        ),
        (
            ["--ratio", "nan"],
            "ratio: found nan, expected 0 <= ratio < 1\nhint: It is the fraction of channels removed, such as 0.5.",
        ),
        (["--granularity", 0], "granularity: found 0, expected at least 1"),
        (["--min-channels", 0], "min-channels: found 0, expected at least 1"),
        (
            ["--exclude", "/stem/conv/Cnv"],
            "unknown layer '/stem/conv/Cnv'\nhint: Did you mean '/stem/conv/Conv'?",
        ),
        (
            ["--exclude", "*x"],
            "unknown layer '*x'\nhint: Known: /branches/point/Conv, /branches/window/Conv, /head/Gemm, /inverted/expand/conv/Conv, /stage1/first/conv/Conv, /stage2/first/conv/Conv, /stage2/second/conv/Conv, /stem/conv/Conv.",
        ),
    ],
)
def test_values(fails: Fails, flags: list[object], text: str) -> None:
    assert fails("prune", DIGITS, "-o", "out.onnx", *flags) == text


def test_long_lists_of_names_are_cut() -> None:
    error = onnxprune.errors.unknown_name("thing", "?", (f"name{k:02}" for k in range(30)))
    assert error.hint == f"Known: {', '.join(f'name{k:02}' for k in range(12))} and 18 more."


def test_settings_of_the_api() -> None:
    with pytest.raises(onnxprune.UsageError, match="unknown norm 'pinn'"):
        onnxprune.trace(DIGITS, norm="pinn")
    with pytest.raises(onnxprune.UsageError, match="unknown reshape-channel-axis '2'"):
        onnxprune.trace(DIGITS, reshape_channel_axis=2)


def test_cuda_that_does_not_run(fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.runtime.providers.cuda_problem", lambda: "there is no GPU")
    text = fails("prune", DIGITS, "-o", "out.onnx", "--provider", "cuda")
    assert text == "cannot run on CUDA: there is no GPU\nhint: Run 'onnxprune doctor' for details."
