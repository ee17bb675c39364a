"""Work in a process of its own: crashes, limits and signals end in one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import DIGITS, ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

CRASH = """
import sys

class Crash:
    def find_spec(self, name, *_):
        if name == "onnxprune.model.loading":
            {body}

sys.meta_path.insert(0, Crash())
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "onnxprune", *map(str, arguments)]


def environment(folder: Path, body: str = "", **more: str) -> dict[str, str]:
    """One in which something happens once models are about to be read."""
    (folder / "hook").mkdir(exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(CRASH.format(body=body or "pass"))
    path = f"{folder / 'hook'}{os.pathsep}{ROOT}"
    return {**os.environ, "CI": "", "PYTHONPATH": path, "TMPDIR": str(folder), **more}


def run(folder: Path, *arguments: object, body: str = "", **more: str) -> Any:
    return subprocess.run(
        command(*arguments),
        env=environment(folder, body, **more),
        capture_output=True,
        text=True,
        check=False,
    )


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("hook", ".ses"))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT])
def test_a_crash_is_one_sentence(tmp_path: Path, number: signal.Signals) -> None:
    body = f"import os; os.kill(os.getpid(), {int(number)})"
    done = run(tmp_path, "clean", DIGITS, "-o", tmp_path / "out.onnx", "--isolate", body=body)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: onnx or onnxruntime crashed on this model ({number.name})\n"
        "hint: Nothing was written. The model is broken.\n"
    )
    assert not left(tmp_path)


def test_no_code_but_ours(tmp_path: Path) -> None:
    """``os._exit(0)`` in a metric let a build pass whose gates nobody had judged."""
    done = run(tmp_path, "verify", DIGITS, DIGITS, body="import os; os._exit(0)")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: something that was called ended the process with 0\n"
    assert not left(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "more", "isolated"),
    [
        (("inspect", DIGITS), {}, False),
        (("inspect", DIGITS, "--isolate"), {}, True),
        (("inspect", DIGITS), {"CI": "true"}, True),
        (("inspect", DIGITS, "--no-isolate"), {"CI": "true"}, False),
        (("verify", DIGITS, DIGITS), {}, True),
        (("verify", DIGITS, DIGITS, "--no-isolate"), {}, False),
    ],
)
def test_when(tmp_path: Path, arguments: tuple[object, ...], more: dict[str, str], isolated: bool) -> None:
    done = run(tmp_path, *arguments, body="import os; os.abort()", **more)
    assert done.returncode == (2 if isolated else -signal.SIGABRT)


def test_the_result_is_the_same(tmp_path: Path) -> None:
    found = []
    for flag in ("--isolate", "--no-isolate"):
        out = tmp_path / "out.onnx"
        done = run(tmp_path, "prune", DIGITS, "-o", out, "--ratio", "0.5", flag)
        found.append((done.returncode, done.stdout, done.stderr, out.read_bytes()))
    assert found[0] == found[1]
    assert found[0][0] == 0
    assert left(tmp_path) == ["out.onnx"]
    failed = run(tmp_path, "verify", DIGITS, out, "--min-cosine", "0.99")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: 1 gate failed: ")


@pytest.mark.parametrize(
    ("flags", "body", "message"),
    [
        (("--time-limit", "0.5"), "import time; time.sleep(60)",
         "error: this takes longer than 0.5 s, which is the limit\nhint: --time-limit sets another one.\n"),
        (("--memory-limit", "0.3"), "self.held = b'x' * 600_000_000; import time; time.sleep(60)",
         "error: this takes more than 0.3 GB of memory, which is the limit\n"
         "hint: --memory-limit sets another one.\n"),
    ],
)  # fmt: skip
def test_limits(tmp_path: Path, flags: tuple[str, ...], body: str, message: str) -> None:
    done = run(tmp_path, "inspect", DIGITS, "--isolate", *flags, body=body)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("group", [True, False], ids=["terminal", "parent alone"])
def test_signals(tmp_path: Path, number: signal.Signals, code: int, group: bool) -> None:
    body = f"open({str(tmp_path / 'ready')!r}, 'w').close(); import time; time.sleep(60)"
    process = subprocess.Popen(
        command("inspect", DIGITS, "--isolate"),
        env=environment(tmp_path, body),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.killpg(process.pid, number) if group else process.send_signal(number)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "")
    assert said.count("error: ") == 1
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
