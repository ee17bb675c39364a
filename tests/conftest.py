"""What tests of many files share: the digits network, and the command line."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import onnxprune
from onnxprune.cli import main
from onnxprune.reports.result import Result

# One test per core runs already: threads of numpy's BLAS would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "models" / "digits.onnx"
IMAGES = ROOT / "models" / "digits_test.npz"

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit it ignored
os.environ.pop("CI", None)  # on a build server verbs work in a child: tests that are about it set it


def exact(result: Result) -> bool:
    """Whether the surgery of a result was checked, and is right."""
    return result.report is not None and result.report.exact is True


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


SINCE = {
    "com.microsoft::LinearAttention-gated-delta,-grouped": (1, 29),
    "com.microsoft::CausalConvWithState-channels-last": (1, 30),
    "com.microsoft::GatedAdd-": (1, 30),
    "com.microsoft::ScaledSiLU-": (1, 31),
}
"""Rows of the tables about what onnxruntime has only from some version on."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what an older onnxruntime does not have."""
    import onnxruntime

    installed = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    for item in items:
        row = getattr(item, "callspec", None)
        for name, version in SINCE.items():
            if row is not None and name in row.id and installed < version:
                wanted = ".".join(map(str, version))
                item.add_marker(pytest.mark.skip(reason=f"{name} is in onnxruntime from {wanted} on"))


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]
Fails = Callable[..., str]


@pytest.fixture(autouse=True, scope="session")
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is found out about this machine stays in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; native output is captured, too."""

    def call(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return call


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Fails:
    """Run a command that must fail in an empty folder; its text without the leading ``error:``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, code: int = 2) -> str:
        before = sorted(p.name for p in tmp_path.iterdir())
        found = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert (found, out) == (code, "")
        assert err.startswith("error: ")
        assert err.count("\n") <= 2, "one sentence and a hint"
        assert "Traceback" not in err
        assert sorted(p.name for p in tmp_path.iterdir()) == before, "nothing is written"
        return err.removeprefix("error: ").rstrip("\n")

    return call


@pytest.fixture(scope="session")
def pruned() -> Result:
    """The digits network, a little smaller; nobody changes it."""
    return onnxprune.prune(DIGITS, ratio=0.06, granularity=1)


@pytest.fixture
def prune(run: Run, tmp_path: Path) -> Run:
    """Prune the digits network on the CPU."""

    def call(*flags: object, out: str = "slim.onnx") -> Outcome:
        return run("prune", DIGITS, "-o", tmp_path / out, "--provider", "cpu", *flags)

    return call
