"""Whole commands against a process that copies the model, and stages against a copy in this process.

Commands are processes, so that imports count; what is compared is the CPU time of all their threads, and
the time on the clock. Of their memory, what a process takes that imports onnxprune and onnxruntime is
subtracted. All of a model's commands take turns with its copy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

import onnxprune

from .record import Measurement
from .subjects import bytes_of, largest_tensor

COPY = "import onnx; onnx.save(onnx.load({path!r}), {out!r})"
IMPORTS = "import onnxprune.passes, onnxruntime"
BOTH = f"{IMPORTS}; {COPY}"
SIMPLIFY = "import onnx, onnxsim; onnx.save(onnxsim.simplify(onnx.load({path!r}))[0], {out!r})"


@dataclass(frozen=True)
class Used:
    """What a process took: seconds of CPU, seconds on the clock, bytes of memory at its peak."""

    cpu: float
    wall: float
    memory: float


LAUNCH = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
cpu = usage.ru_utime + usage.ru_stime
print(json.dumps([process.returncode, cpu, time.perf_counter() - start, 1024.0 * usage.ru_maxrss]))
"""
"""A small process that starts the others: what is started inherits the peak memory of what starts it."""


def used(*command: str) -> Used:
    """Run a process to its end; modules are compiled once, as those of an installed package are.

    Raises
    ------
    RuntimeError
        If it fails, with what it said.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCH, *command], capture_output=True, text=True, check=True, env=kept
    )
    code, cpu, wall, memory = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return Used(cpu, wall, memory)


def processes(path: Path, out: Path) -> dict[str, tuple[str, ...]]:
    """Commands by name; the first is the copy."""
    python = (sys.executable, "-c")
    ours = (sys.executable, "-m", "onnxprune")
    cpu, given = ("--provider", "cpu", "-q"), str(path)
    written = ("-o", str(out))
    return {
        "copy": (*python, COPY.format(path=given, out=str(out))),
        "imports": (*python, IMPORTS),
        "copy with these imports": (*python, BOTH.format(path=given, out=str(out))),
        "inspect": (*ours, "inspect", given),
        "explain": (*ours, "explain", given, "*"),
        "clean": (*ours, "clean", given, *written, *cpu),
        "clean, unverified": (*ours, "clean", given, *written, *cpu, "--no-verify"),
        "prune": (*ours, "prune", given, *written, *cpu, "--ratio", "0.5"),
        "prune, unverified": (*ours, "prune", given, *written, *cpu, "--ratio", "0.5", "--no-verify"),
        "prune alone": (*ours, "prune", given, *written, *cpu, "--ratio", "0.5", "--no-verify", "--no-clean"),
        "verify": (*ours, "verify", given, given, *cpu),
    }


def measured(name: str, path: Path, rounds: int) -> Iterator[Measurement]:
    """Commands on one model, as multiples of a copy, of the file and of the largest tensor."""
    commands = processes(path, path.with_name("out.onnx"))
    taken: dict[str, list[Used]] = {what: [] for what in commands}
    for _ in range(rounds):
        for what, command in commands.items():
            taken[what].append(used(*command))
    base = min(u.memory for u in taken["imports"])
    for what in list(commands)[1:]:
        pairs = list(zip(taken[what], taken["copy"], strict=True))
        for unit, values in (
            ("copies, CPU", [u.cpu / copy.cpu for u, copy in pairs]),
            ("copies, clock", [u.wall / copy.wall for u, copy in pairs]),
        ):
            yield Measurement("commands", name, what, unit, tuple(values))
        if what != "imports":
            over = [u.memory - base for u, _ in pairs]
            for unit, size in (("file", bytes_of(path)), ("largest tensor", largest_tensor(path))):
                yield Measurement("memory", name, what, unit, tuple(b / size for b in over))


def large(name: str, path: Path, rounds: int) -> Iterator[Measurement]:
    """Commands on a model of gigabytes, as multiples of ``cp`` of its data, alone and with ``sync``.

    The system has just read or written all of it, so it lies in memory where there is room, and nothing is
    left to be written when the next one begins; all write files that are not there yet. What ``cp`` writes
    lies in memory as well when it ends; what is saved lies on the disk, as after ``sync``. ``cp`` of a hole
    takes no time: there the multiples are of no use.
    """
    data, copy = path.with_name(f"{path.name}.data"), path.with_name("copied")
    commands = processes(path, path.with_name("out.onnx"))
    base = used(*commands["imports"]).memory
    for what in ("inspect", "clean, unverified", "clean", "prune alone", "prune, unverified", "prune"):
        taken = [(_timed_copy(data, copy), _used_anew(path.parent, commands[what])) for _ in range(rounds)]
        copied, synced = ([found.wall / copies[k] for copies, found in taken] for k in (0, 1))
        memory = [(found.memory - base) / largest_tensor(path) for _, found in taken]
        for unit, values in (
            ("cp of the data, clock", copied),
            ("cp and sync, clock", synced),
            ("seconds, clock", [found.wall for _, found in taken]),
            ("largest tensor, memory", memory),
        ):
            yield Measurement("large models", name, what, unit, tuple(values))


def _used_anew(folder: Path, command: tuple[str, ...]) -> Used:
    """What a command takes that finds nothing of what earlier ones wrote."""
    for old in folder.glob("out*"):
        old.unlink()
    os.sync()
    return used(*command)


def _timed_copy(data: Path, copy: Path) -> tuple[float, float]:
    """Seconds of ``cp``, as a shell runs it, and of that with ``sync`` of the copy; it is gone then."""
    copy.unlink(missing_ok=True)
    os.sync()
    copied = used("cp", str(data), str(copy)).wall
    synced = copied + used("sync", str(copy)).wall
    copy.unlink()
    os.sync()
    return copied, synced


def stages(name: str, path: Path, rounds: int) -> Iterator[Measurement]:
    """The stages of ``prune`` in this process, as multiples of ``onnx.load`` and ``onnx.save``."""
    out = path.with_name("stage.onnx")
    model = onnxprune.load(path)
    traced = onnxprune.trace(model)
    scores = onnxprune.score(traced)
    plan = onnxprune.select(traced, scores, ratio=0.5)
    slim = onnxprune.rewrite(model, plan)
    found: dict[str, Callable[[], object]] = {
        "copy": lambda: onnx.save(onnx.load(path), out),
        "load": lambda: onnxprune.load(path),
        "trace": lambda: onnxprune.trace(model),
        "score": lambda: onnxprune.score(traced),
        "select": lambda: onnxprune.select(traced, scores, ratio=0.5),
        "rewrite": lambda: onnxprune.rewrite(model, plan),
        "save": lambda: slim.save(out),
        "clean": lambda: onnxprune.clean(path),
        "verify": lambda: onnxprune.verify(model, slim, plan=plan, provider="cpu"),
    }
    taken: dict[str, list[float]] = {what: [] for what in found}
    for _ in range(rounds):
        for what, function in found.items():
            start = time.process_time()
            function()
            taken[what].append(time.process_time() - start)
    for what in list(found)[1:]:
        ratios = (a / b for a, b in zip(taken[what], taken["copy"], strict=True))
        yield Measurement("stages", name, what, "copies, CPU", tuple(ratios))
