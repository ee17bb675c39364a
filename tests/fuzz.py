"""Files from strangers: broken models by number, and what becomes of each.

    python -m tests.fuzz 0 10000      the table of outcomes, and a line for every file that fails
    python -m tests.fuzz 4711 --keep  write that file here
    python -m tests.fuzz 0 500 --peer onnxsim   what another tool makes of the same files

A number says everything: the seed, what is changed in it, and the command that reads it. Every file is
read in a process of its own, so that whatever it does there is seen.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from .fuzz_files import broken

CPU_SECONDS, BYTES, WALL_SECONDS = 20, 1.5e9, 120
"""What a file may cost."""


GOOD = ("fine", "refused")


class Outcome(NamedTuple):
    """What became of one file."""

    number: int
    kind: str
    seconds: float
    megabytes: float
    story: str
    said: str = ""


def arguments(verb: str, folder: Path) -> list[str]:
    path, out = str(folder / "broken.onnx"), str(folder / "out.onnx")
    if verb in ("prune", "clean"):
        return [verb, path, "-o", out, "--provider", "cpu", "-q"]
    if verb == "explain":
        return [verb, path, "*", "--provider", "cpu"]
    return [verb, path, *([path, "--provider", "cpu", "-q"] if verb == "verify" else [])]


def prepare(folder: Path, data: bytes) -> None:
    (folder / "broken.onnx").write_bytes(data)
    (folder / "data.bin").write_bytes(bytes(range(256)) * 64)
    (folder / "link").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")


def peer(name: str) -> Callable[[list[str]], int]:
    """A simplifier as a program: it reads the broken file, and writes what it makes of it."""

    def simplify(arguments: list[str]) -> int:
        model = onnx.load(arguments[1])
        if name == "onnxsim":
            made, valid = importlib.import_module("onnxsim").simplify(model)
        else:
            made, valid = importlib.import_module("onnxslim").slim(model), True
        onnx.save(made, str(Path(arguments[1]).with_name("out.onnx")))
        return 0 if valid else 1

    def program(arguments: list[str]) -> int:
        try:
            return simplify(arguments)
        except Exception as error:  # which is the fair way of a library to refuse a file
            print("error:", " ".join(f"{type(error).__name__}: {error}".split()), file=sys.stderr)
            return 2

    return program


def attempt(number: int, other: str = "") -> Outcome:
    """Read one file in a process of its own."""
    file = broken(number)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        prepare(folder, file.data)
        before = set(folder.iterdir())
        status, usage = _run(folder, file.verb, peer(other) if other else main_of_onnxprune())
        said = (folder / "err.txt").read_text(errors="replace")
        left = {path.name for path in folder.iterdir() if path not in before} - {"out.txt", "err.txt"}
        written = (folder / "out.onnx").read_bytes() if "out.onnx" in left else b""
        left = {name for name in left if name.encode() not in written}
    finally:
        shutil.rmtree(folder)
    kind = _kind(status, usage, said, left)
    cpu = usage.ru_utime + usage.ru_stime
    story = f"{file.verb} {file.story}"
    return Outcome(number, kind, cpu, usage.ru_maxrss / 1e3, story, said[:400])


def _run(folder: Path, verb: str, program: Callable[[list[str]], int]) -> tuple[int, Any]:
    child = os.fork()
    if child:
        return _wait(child)
    code = 99
    try:
        for number, name in ((1, "out.txt"), (2, "err.txt")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = program(arguments(verb, folder))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main_of_onnxprune() -> Callable[[list[str]], int]:
    """Imported late: peers are tried where onnxprune is not installed."""
    from onnxprune.cli import main

    return main


def _wait(child: int) -> tuple[int, Any]:
    end = time.monotonic() + WALL_SECONDS
    pause = 0.002
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return status, usage
        if time.monotonic() > end:
            os.kill(child, signal.SIGXCPU)
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)


def _kind(status: int, usage: Any, said: str, left: set[str]) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        over = number in (signal.SIGXCPU, signal.SIGKILL)
        return "over time" if over else f"native crash ({signal.Signals(number).name})"
    code = os.WEXITSTATUS(status)
    if usage.ru_maxrss * 1e3 > BYTES:
        return "over memory"
    if "internal error" in said:
        return "internal error"
    if "bug in onnxprune" in said or "Traceback" in said:
        return "called a bug"
    if code == 0:
        return "fine" if all(name.startswith("out.onnx") for name in left) else "stray files"
    lines = said.strip().splitlines()
    if code == 1:
        return "failed check"
    if code != 2:
        return f"exit code {code}"
    if left:
        return "refused, but wrote"
    one = (
        1 <= len(lines) <= 2
        and lines[0].startswith("error: ")
        and all(x.startswith("hint: ") for x in lines[1:])
    )
    return "refused" if one else "more than a sentence"


def attempts(numbers: Iterable[int], processes: int = 2, other: str = "") -> Iterator[Outcome]:
    """Outcomes of many files, in their order, of onnxprune or another tool."""
    with ProcessPoolExecutor(processes, get_context("spawn"), _warm, (other,)) as pool:
        yield from pool.map(partial(attempt, other=other), numbers, chunksize=8)


def _warm(other: str) -> None:
    """Import what every file needs, but start no thread: a process that has some does not fork well."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if other:
        importlib.import_module(other)
    else:
        import onnxprune.cli

        for verb in onnxprune.cli.verbs():
            importlib.import_module(f"onnxprune.cli.{verb}")
        for room in ("jobs.prune", "jobs.clean", "jobs.explain", "jobs.verify", "passes", "reports.tables"):
            importlib.import_module(f"onnxprune.{room}")
        importlib.import_module("rich.cells")
    gc.freeze()  # a collection in a child would copy the pages of all that is imported


def table(outcomes: Iterable[Outcome]) -> str:
    counts = Counter(o.kind for o in outcomes)
    return "\n".join(f"{count:7,}  {kind}" for kind, count in counts.most_common())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("start", type=int)
    parser.add_argument("stop", type=int, nargs="?")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--peer", choices=["onnxsim", "onnxslim"], default="")
    given = parser.parse_args()
    if given.keep:
        file = broken(given.start)
        Path(f"{given.start}.onnx").write_bytes(file.data)
        print(file.verb, file.story)
        return
    found = []
    for outcome in attempts(range(given.start, given.stop or given.start + 1), other=given.peer):
        found.append(outcome)
        if outcome.kind not in GOOD:
            print(
                outcome.number,
                outcome.kind,
                f"{outcome.seconds:.1f}s {outcome.megabytes:.0f}MB",
                outcome.story,
                "|",
                " ".join(outcome.said.split()),
                flush=True,
            )
    print(table(found))
    print(f"most: {max(o.seconds for o in found):.1f} s, {max(o.megabytes for o in found):.0f} MB")


if __name__ == "__main__":
    main()
