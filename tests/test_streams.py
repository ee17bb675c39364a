"""A model from standard input and to standard output; models of onnx_ir, onnxscript and torch.onnx."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import ModelError

from .conftest import DIGITS, IMAGES, ROOT, Run, exact


def process(*arguments: object, given: bytes = b"", folder: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "onnxprune", *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, input=given, capture_output=True, cwd=folder, env=environment)


@pytest.mark.parametrize("more", [(), ("--isolate",)], ids=["plain", "isolated"])
def test_from_stdin_to_stdout(tmp_path: Path, more: tuple[str, ...]) -> None:
    """Nothing but the model is printed, and no file is called ``-``."""
    flags = ("--provider", "cpu", *more)
    done = process("prune", "-", "-o", "-", *flags, given=DIGITS.read_bytes(), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == onnxprune.prune(DIGITS, provider="cpu").model.proto.SerializeToString()
    assert not list(tmp_path.iterdir())
    (tmp_path / "slim.onnx").write_bytes(done.stdout)
    compared = process("verify", DIGITS, "-", *flags, given=done.stdout, folder=tmp_path)
    assert compared.returncode == 0, compared.stderr
    cleaned = process("clean", "slim.onnx", "-o", "-", *flags, folder=tmp_path)
    assert cleaned.stdout == done.stdout, "nothing went: the same bytes"


def test_stdin_of_sensitivity(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--ratios", "0.5", "--provider", "cpu")
    with DIGITS.open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        found = run("sensitivity", "-", *flags)
    assert (found.code, found.out) == (0, run("sensitivity", DIGITS, *flags).out)
    small = ("--keep-macs", "0.5", "--data", IMAGES, "--samples", 32, "--provider", "cpu")
    with DIGITS.open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        told = run("sensitivity", "-", *small)
    assert told.code == 0, told.err


def test_stdin_of_inspect(tmp_path: Path) -> None:
    whole = process("inspect", "-", given=DIGITS.read_bytes(), folder=tmp_path)
    assert whole.stdout.startswith(b"416 channels in 7 groups can go")
    cut = process("inspect", "-", given=b"no model", folder=tmp_path)
    assert cut.returncode == 2
    assert cut.stderr.startswith(b"error: the given bytes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "-", "-"], "standard input holds one model"),
        (["prune", DIGITS, "-o", "-", "--json"], "found both -o - and --json, expected one of them"),
        (["prune", DIGITS, "-o", "s.onnx", "--plan-out", "-"], "--plan-out: only a model goes to standard output"),
        (["inspect", DIGITS, "--html", "-"], "--html: only a model goes to standard output"),
    ],
)  # fmt: skip
def test_what_standard_streams_cannot_be(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {message}\n")
    assert not list(tmp_path.iterdir())


# Models of other packages -----------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    return bool(
        one.proto.SerializeToString(deterministic=True) == other.proto.SerializeToString(deterministic=True)
    )


def test_models_of_onnx_ir(tmp_path: Path) -> None:
    ir = pytest.importorskip("onnx_ir", reason="onnx_ir is not installed")
    given = ir.load(DIGITS)
    slim = onnxprune.prune(given, verify=True, provider="cpu")
    assert exact(slim)
    wanted = onnxprune.prune(ir.to_proto(given), provider="cpu")
    assert same(slim.model, wanted.model)
    back = slim.model.to_ir()
    assert isinstance(back, ir.Model)
    kept = {name: value.const_value.numpy() for name, value in back.graph.initializers.items()}
    assert kept["stage1.first.conv.weight"].shape == (16, 16, 3, 3)


def test_weights_of_onnx_ir_that_lie_elsewhere(tmp_path: Path) -> None:
    """They are read from where the model says, and stay there."""
    ir = pytest.importorskip("onnx_ir", reason="onnx_ir is not installed")
    onnx.save_model(
        onnx.load(DIGITS),
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    given = ir.load(tmp_path / "net.onnx")
    slim = onnxprune.prune(given, verify=True, provider="cpu")
    assert exact(slim)
    slim.model.save(tmp_path / "slim.onnx")
    inside = onnxprune.prune(DIGITS, provider="cpu").model
    read = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "slim.onnx").graph.initializer
    }
    for tensor in inside.proto.graph.initializer:
        np.testing.assert_array_equal(read[tensor.name], onnx.numpy_helper.to_array(tensor))


def test_what_hands_out_a_proto() -> None:
    """As functions of onnxscript and programs of torch.onnx do."""

    class Function:
        def to_model_proto(self) -> onnx.ModelProto:
            return onnx.load(DIGITS)

    class Program:
        model_proto = onnx.load(DIGITS)

    for given in (Function(), Program()):
        assert same(onnxprune.load(given), onnxprune.load(onnx.load(DIGITS)))
    with pytest.raises(ModelError, match="cannot load a model from int"):
        onnxprune.load(3)
