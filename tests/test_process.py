"""What the process does when it is interrupted, when its output is cut off, and what plugins do to it."""

from __future__ import annotations

import importlib
import mmap
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pytest

import onnxprune
from onnxprune.cli import interrupts
from onnxprune.cli.ending import ended
from onnxprune.cli.interrupts import interruptible
from onnxprune.cli.output import errors_shown
from onnxprune.errors import InstallationError, Terminated, blamed
from onnxprune.model import engine
from onnxprune.scoring.registry import PASSES

from .conftest import DIGITS, IMAGES, ROOT, Run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and shells of POSIX")


def onnxprune_process(*arguments: object, options: tuple[str, ...] = (), **settings: Any) -> Any:
    command = [sys.executable, *options, "-m", "onnxprune", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **settings)


@pytest.mark.parametrize("given", [{}, {"OMP_NUM_THREADS": "3"}, {"OPENBLAS_NUM_THREADS": "3"}])
def test_matrix_products_take_one_thread_unless_told_otherwise(given: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    script = (
        "import os, sys; from onnxprune.__main__ import main; sys.argv = ['onnxprune', '--version']; main();"
        "print(*(f'{k}={v}' for k, v in os.environ.items() if k.endswith('_NUM_THREADS')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "PYTHONPATH": str(ROOT), **given},
        capture_output=True,
        text=True,
        check=True,
    )
    name, value = next(iter((given or {"OPENBLAS_NUM_THREADS": "1"}).items()))
    assert found.stdout.splitlines()[-1] == f"{name}={value}"


def last_number(script: str) -> int:
    """What a script in a process of its own prints last."""
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout.splitlines()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_memory_of_a_tensor_is_there_for_the_next_one() -> None:
    script = (
        "import resource, sys; from onnxprune.__main__ import main; sys.argv = ['onnxprune', '--version'];"
        "main(); bytearray(2**26); faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt;"
        "before = faults(); bytearray(2**26); print(faults() - before)"
    )
    assert last_number(script) < 2**26 / mmap.PAGESIZE / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_the_first_tensor_lies_in_large_pages() -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("this system hands out no large pages")
    script = (
        "import resource, sys; from onnxprune.__main__ import main; sys.argv = ['onnxprune', '--version'];"
        "main(); faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt;"
        "before = faults(); bytearray(b'1') * 2**25; print(faults() - before)"
    )
    assert last_number(script) < 2**25 / mmap.PAGESIZE / 10


# Metrics and passes ---------------------------------------------------------------------------

METRICS = {
    "raises": ("raise ValueError('no\\nlabels')", r"metric 'own:raises': ValueError: no labels"),
    "exits": ("import sys; sys.exit(0)", "metric 'own:exits': it exits with 0"),
    "exits_silently": ("raise SystemExit", "metric 'own:exits_silently': it exits with None"),
    "leaves": ("import click; raise click.exceptions.Exit(0)", "metric 'own:leaves': Exit: 0"),
    "aborts": ("import asyncio; raise asyncio.CancelledError", "metric 'own:aborts': CancelledError: "),
    "text": ("return 'good'", "metric 'own:text': found str, expected a number"),
    "nothing": ("return None", "metric 'own:nothing': found NoneType, expected a number"),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("gate", [(), ("--max-accuracy-drop", "0.1")])
def test_metrics_that_fail(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, gate: tuple[str, ...]
) -> None:
    """``sys.exit(0)`` let a build pass whose gates nobody had judged."""
    monkeypatch.chdir(tmp_path)
    body, message = METRICS[name]
    Path("own.py").write_text(f"def {name}(outputs, labels):\n    {body}\n")
    monkeypatch.delitem(sys.modules, "own", raising=False)
    importlib.invalidate_caches()
    outcome = run("verify", DIGITS, DIGITS, "--data", IMAGES, "--metric", f"own:{name}", *gate)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    assert (outcome.code, outcome.out, outcome.err.rstrip()) == (2, "", f"error: {message.rstrip()}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; sys.exit(0)", "it exits with 0"),
        ("raise ValueError('x')", "ValueError: x"),
        ("def f(:", "SyntaxError: invalid syntax (own.py, line 1)"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_metrics_that_do_not_import(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(text)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    importlib.invalidate_caches()
    outcome = run("verify", DIGITS, DIGITS, "--metric", "own:f", "--data", IMAGES)
    assert (outcome.code, outcome.err) == (2, f"error: metric 'own:f': {message}\n")


def test_what_ends_the_process_is_nobodys_mistake() -> None:
    """A pass that was at work when SIGTERM came was blamed for it."""
    with pytest.raises(Terminated), blamed("pass 'own'"):
        raise Terminated(signal.SIGTERM)


def _made_another_error() -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except BaseException:
        raise ImportError("initialisation failed") from None


class _Finalised:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)


def _lost() -> None:
    _Finalised()
    time.sleep(60)


def _made_another_error_of_a_verb() -> None:
    with errors_shown(click.Context(click.Command("inspect")), as_json=True):
        _made_another_error()


@pytest.mark.parametrize("work", [_made_another_error, _lost, _made_another_error_of_a_verb])
def test_no_signal_is_lost(capfd: pytest.CaptureFixture[str], work: Callable[[], None]) -> None:
    """An import made an error of SIGTERM that blamed onnxruntime; a finaliser printed a traceback."""
    assert ended(work) == 143
    assert capfd.readouterr() == ("", "error: ended by SIGTERM\n")


@pytest.fixture
def registered() -> Iterator[dict[str, dict[str, Any]]]:
    importlib.import_module("onnxprune.passes")
    before = {kind: dict(found) for kind, found in PASSES.items()}
    yield PASSES
    for kind, found in before.items():
        PASSES[kind] = found


@pytest.mark.parametrize("kind", ["criterion", "normalizer", "policy"])
@pytest.mark.parametrize("how", ["raises", "exits", "shape"])
def test_passes_that_fail(
    run: Run, tmp_path: Path, registered: dict[str, dict[str, Any]], kind: str, how: str
) -> None:
    def own(given: Any) -> Any:
        if how == "raises":
            raise KeyError("lost")
        if how == "exits":
            sys.exit(0)
        return np.zeros(3)

    registered[kind]["own"] = own
    outcome = run("prune", DIGITS, "-o", tmp_path / "out.onnx", f"--{kind}", "own")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {kind} 'own'")
    expected = {"raises": ": KeyError: 'lost'\n", "exits": ": it exits with 0\n", "shape": "expected [32]\n"}
    assert outcome.err.endswith(expected[how])
    assert not (tmp_path / "out.onnx").exists()


def test_nothing_that_is_called_decides_how_it_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.load", lambda *_: sys.exit(0))
    outcome = run("inspect", DIGITS)
    assert (outcome.code, outcome.err) == (2, "error: something that was called exits with 0\n")


# Interrupts and pipes -------------------------------------------------------------------------

INTERRUPT = """
import sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
"""


IMPORTED = (
    "onnxprune.cli", "click", "onnxprune.cli.prune", "onnxprune.errors", "numpy", "onnx", "onnxruntime",
    "onnxprune.model.loading", "onnxprune.rules", "onnxprune.passes", "rich.cells",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "ci"), [*((name, "") for name in IMPORTED), ("onnx", "true"), ("rich.cells", "true")]
)
def test_interrupted_while_packages_are_imported(tmp_path: Path, name: str, ci: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT.format(name=name))
    done = onnxprune_process(
        "prune",
        DIGITS,
        "-o",
        tmp_path / "out.onnx",
        env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "CI": ci},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nerror: interrupted\n")
    assert (tmp_path / "out.onnx").exists() == (name == "rich.cells")  # which shows what was written


def test_an_interrupt_waits_until_a_native_module_is_initialised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some crash on it. What is asked of a spec is asked while one is."""

    class Spec:
        name = "nowhere"

        @property
        def origin(self) -> str:
            signal.raise_signal(signal.SIGINT)
            done.append("waited")
            return "/nowhere.so"

    def work() -> None:
        with interruptible():
            with pytest.raises(ImportError, match="nowhere"):
                ExtensionFileLoader("nowhere", "/nowhere.so").create_module(cast(ModuleSpec, Spec()))
            time.sleep(60)

    done: list[str] = []
    monkeypatch.setattr(interrupts, "AGAIN", 0.1)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert set(done) == {"waited"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("ci", ["", "true"])
def test_signals_at_any_moment(tmp_path: Path, number: signal.Signals, code: int, ci: str) -> None:
    """A run that is told to end does so in one line, and leaves nothing behind.

    The time counts from where Python has begun to run it.
    """
    script = "import os, sys; from onnxprune.__main__ import main; os.write(2, b'begun'); sys.exit(main())"
    command = [sys.executable, "-c", script, "prune", str(DIGITS), "-o", str(tmp_path / "out.onnx")]
    for delay in (0.35, 0.6, 0.9):
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        assert process.stderr.read(5) == b"begun"
        time.sleep(delay)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1].decode()
        assert "Traceback" not in said
        assert process.returncode in (code, 0, -number), said
        assert {path.name for path in tmp_path.iterdir()} <= {"out.onnx"}


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("ops",), ("inspect", DIGITS), ("inspect", DIGITS, "--json"),
     ("prune", "--help"), ("explain", DIGITS, "*")],
)  # fmt: skip
def test_nobody_reads(arguments: tuple[object, ...]) -> None:
    command = [sys.executable, "-m", "onnxprune", *map(str, arguments)]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_nobody_reads_the_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "onnxprune", "inspect", "nowhere.onnx"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=writer, check=False)
    os.close(writer)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_the_output_is_full() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "onnxprune", "inspect", str(DIGITS)]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: no space left on the device\n")


# Python and onnxruntime -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("ops",), ("--help",), ("prune", "--help"), ("inspect", DIGITS), ("explain", DIGITS, "stem")],
)
def test_python_without_docstrings(arguments: tuple[object, ...]) -> None:
    plain, stripped = (onnxprune_process(*arguments, options=given) for given in ((), ("-OO",)))
    assert (stripped.returncode, stripped.stdout, stripped.stderr) == (0, plain.stdout, plain.stderr)


def test_pruning_without_docstrings(tmp_path: Path) -> None:
    outputs = []
    for options in ((), ("-OO",)):
        assert onnxprune_process("prune", DIGITS, "-o", tmp_path / "o.onnx", options=options).returncode == 0
        outputs.append((tmp_path / "o.onnx").read_bytes())
    assert outputs[0] == outputs[1]


BUILDS = {
    "missing": ("raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')", [],
                "onnxruntime is not installed", "pip install onnxruntime"),
    "broken": ("raise ImportError('DLL load failed')", ["onnxruntime-gpu"],
               "onnxruntime-gpu is installed but cannot be imported: DLL load failed",
               "pip install --force-reinstall --no-deps onnxruntime-gpu."),
    "half": ("", ["onnxruntime-gpu"],
             "onnxruntime-gpu is installed but cannot be imported: files of it are missing",
             "pip install --force-reinstall --no-deps onnxruntime-gpu."),
    "doubled": ("raise AttributeError('no capi')", ["onnxruntime", "onnxruntime-gpu"],
                "onnxruntime and onnxruntime-gpu are installed but cannot be imported: no capi",
                "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install onnxruntime"),
    "chosen": ("raise AttributeError('no capi')", ["onnxruntime-gpu", "onnxruntime-openvino"],
               "onnxruntime-gpu and onnxruntime-openvino are installed but cannot be imported: no capi",
               "pip uninstall --yes onnxruntime-gpu onnxruntime-openvino && pip install onnxruntime-openvino"),
}  # fmt: skip


@pytest.mark.parametrize("case", BUILDS)
def test_onnxruntime_that_is_not_whole(tmp_path: Path, case: str) -> None:
    text, names, message, hint = BUILDS[case]
    (tmp_path / "onnxruntime.py").write_text(text)
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        from importlib import metadata
        version = metadata.version
        def pretended(name):
            if name.startswith("onnxruntime") and name not in {names}:
                raise metadata.PackageNotFoundError(name)
            return "1.0" if name.startswith("onnxruntime") else version(name)
        metadata.version = pretended
    """)
    )
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = onnxprune_process("inspect", DIGITS, env=env)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first == f"error: {message}"
    assert second.startswith(f"hint: {hint}")
    doctor = onnxprune_process("doctor", env=env)
    assert doctor.returncode == 0
    assert message in doctor.stderr


def test_two_builds_of_onnxruntime(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "builds", lambda: {"onnxruntime": "1.30", "onnxruntime-gpu": "1.31"})
    for outcome in (run("doctor"), run("inspect", DIGITS)):
        assert outcome.code == 0
        assert outcome.err.startswith("onnxruntime and onnxruntime-gpu are installed together: ")
        assert "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install onnxruntime" in outcome.err


def test_no_build_of_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "builds", dict)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InstallationError, match="onnxruntime is not installed"):
        engine.load()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("[ONNXRuntimeError] : 1 : FAIL : Load model from x failed:/onnxruntime_src/onnxruntime/core/graph/"
         "model.cc:182 onnxruntime::Model::Model(onnx::ModelProto&&, const PathString&, bool (*)(int)) "
         "Unsupported model IR version: 99, max supported IR version: 13",
         "Load model from x failed:Unsupported model IR version: 99, max supported IR version: 13"),
        ("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Reshape "
         "node. Name:'r' Status Message: /a/b/core/providers/cpu/tensor/reshape_helper.h:47 "
         "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) "
         "input_shape_size == size was false.",
         "Non-zero status code returned while running Reshape node. Name:'r' Status Message: "
         "input_shape_size == size was false."),
        ("[ONNXRuntimeError] : 1 : FAIL : inference_session.cc:2226 operator() ORT model verification failed.",
         "ORT model verification failed."),
        ("plain text (as it is)", "plain text (as it is)"),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
def test_source_paths_are_cut_out_of_messages(said: str, shown: str) -> None:
    from onnxprune.runtime.session import first_line

    assert first_line(RuntimeError(said)) == shown


def test_a_real_message() -> None:
    import onnx

    model = onnx.load(DIGITS)
    model.ir_version = 99
    with pytest.raises(onnxprune.OnnxPruneError) as caught:
        onnxprune.prune(model, verify=True)
    assert "/onnxruntime" not in str(caught.value)
    assert ".cc:" not in str(caught.value)
