"""The command line as a process: files it must not harm, errors, signals, the terminal."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onnxprune.cli import progress

from .conftest import DIGITS, ROOT, Run

# Safety of files ----------------------------------------------------------------------------


def wrong_surgery(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("onnxprune.jobs.verify")
    check = module.check_surgery

    def wrong(*arguments: Any) -> Any:
        pair, surgery = check(*arguments)
        return pair, replace(surgery, found=tuple(replace(d, relative=0.25) for d in surgery.found))

    monkeypatch.setattr(module, "check_surgery", wrong)


def test_wrong_surgery_writes_nothing(prune: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_surgery(monkeypatch)
    (tmp_path / "slim.onnx").write_text("old")
    outcome = prune("--plan-out", tmp_path / "plan.json")
    assert (outcome.code, outcome.out) == (1, "")
    message, hint = outcome.err.splitlines()
    assert message.startswith(
        "error: the slim model is wrong: cpu: surgery WRONG (2.5e-01, accepted 1e-05); "
    )
    assert hint == "hint: Nothing was written. This is a bug in onnxprune; please report it with the model."
    assert [p.name for p in tmp_path.iterdir()] == ["slim.onnx"]
    assert (tmp_path / "slim.onnx").read_text() == "old"


def test_wrong_surgery_in_json(prune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_surgery(monkeypatch)
    outcome = prune("--json")
    assert outcome.code == 1
    assert outcome.document["written"] is False
    assert outcome.document["verification"]["exact"] is False


def test_a_failed_write_leaves_the_target(
    prune: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    (tmp_path / "slim.onnx").write_text("old")
    outcome = prune()
    said = f"error: no space left on the device: '{tmp_path / 'slim.onnx'}'\n"
    assert (outcome.code, outcome.err) == (2, said)
    assert [p.name for p in tmp_path.iterdir()] == ["slim.onnx"]
    assert (tmp_path / "slim.onnx").read_text() == "old"


@pytest.mark.parametrize("alias", ["same", "dotted", "symlink", "hardlink"])
@pytest.mark.parametrize("flag", ["-o", "--plan-out"])
def test_the_input_is_never_overwritten(run: Run, tmp_path: Path, alias: str, flag: str) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(DIGITS.read_bytes())
    target = tmp_path / "link.onnx"
    if alias == "symlink":
        target.symlink_to(source)
    elif alias == "hardlink":
        target.hardlink_to(source)
    else:
        target = source if alias == "same" else tmp_path / ".." / tmp_path.name / "model.onnx"
    rest = [] if flag == "-o" else ["-o", tmp_path / "out.onnx"]
    outcome = run("prune", source, flag, target, *rest)
    assert outcome.code == 2
    assert outcome.err == (
        f"error: refusing to overwrite the input '{source}'\nhint: Choose another name for the output.\n"
    )
    assert source.read_bytes() == DIGITS.read_bytes()
    assert not (tmp_path / "out.onnx").exists()


def test_results_do_not_share_a_file(prune: Run, tmp_path: Path) -> None:
    outcome = prune("--plan-out", tmp_path / "slim.onnx")
    assert outcome.code == 2
    assert outcome.err == f"error: '{tmp_path}/slim.onnx' is given for two outputs\n"


# The process --------------------------------------------------------------------------------


def test_module_and_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "onnxprune", "inspect", "nowhere.onnx"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: cannot read 'nowhere.onnx': no such file or directory\n"


@pytest.mark.skipif(os.name == "nt", reason="signals of a POSIX shell")
def test_a_closed_pipe_ends_quietly() -> None:
    command = [sys.executable, "-m", "onnxprune", "ops"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "\nerror: interrupted\n"),
        (
            MemoryError(),
            2,
            "error: out of memory\nhint: The model or the data is too large for this machine.\n",
        ),
        (PermissionError(13, "Permission denied", "x.onnx"), 2, "error: permission denied: 'x.onnx'\n"),
        (
            ImportError("No module named 'onnx'"),
            2,
            "error: a package cannot be imported: No module named 'onnx'\nhint: Install onnxprune again with pip.\n",
        ),
    ],
)
def test_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("onnxprune.load", fail)
    outcome = run("inspect", DIGITS)
    assert (outcome.code, outcome.out, outcome.err) == (code, "", message)


def test_an_internal_error_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("lost\nthings")

    monkeypatch.setattr("onnxprune.load", fail)
    outcome = run("inspect", DIGITS)
    message, hint = outcome.err.splitlines()
    assert outcome.code == 2
    assert message.startswith("error: internal error in test_cli_process.py, line ")
    assert message.endswith(r": KeyError: 'lost\nthings'")
    assert hint == "hint: This is a bug in onnxprune; please report it together with the model."


def test_the_bar_appears_on_a_terminal_only(prune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    assert prune().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    shown = prune()
    assert "━" in shown.err
    assert "\x1b" not in shown.out
    assert prune("--quiet").err == ""
