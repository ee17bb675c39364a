"""Work in a process of its own: what crashes, or takes all there is, takes nobody along.

onnx and onnxruntime are native code, and a broken model can end the process that they run in. Where a
file is not trusted the work is done by a child, and its death is one sentence. The child is a fork, made
before anything heavy is imported, so that it costs next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import OnnxPruneError, Terminated
from .ending import ended

LOOK = 0.05
"""Seconds between two looks at the memory of a child."""

MOST_SECONDS = 3600.0
"""Seconds that a child may take by default."""

PATIENCE = 3.0
"""Seconds that a child gets to tidy up."""


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What a child may take.

    Attributes
    ----------
    seconds : float
    gigabytes : float or None
        Of memory; None for nine tenths of what the machine has.
    """

    seconds: float
    gigabytes: float | None = None

    @property
    def bytes(self) -> float:
        """Memory in bytes; infinite where that of the machine is unknown."""
        if self.gigabytes is not None:
            return self.gigabytes * 1e9
        try:
            return 0.9 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            return float("inf")


def possible() -> bool:
    """Whether this process can be forked: it has a single thread, on a system that forks."""
    return hasattr(os, "fork") and threading.active_count() == 1


def in_child(work: Callable[[], object], limits: ChildLimits) -> int:
    """Exit code of some work that a child does.

    Raises
    ------
    OnnxPruneError
        If the child dies, takes more than it may, or ends before the work does.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    folder = tempfile.mkdtemp(prefix="onnxprune-")
    working = Path(folder, "working")
    working.touch()
    child = os.fork()
    if not child:
        tempfile.tempdir = folder
        code = ended(work)
        working.unlink()
        os._exit(code)
    try:
        code = _watched(child, limits)
        if working.exists():  # a metric, say, called os._exit: its code must not pass for ours
            raise OnnxPruneError(f"something that was called ended the process with {code}")
        return code
    except (KeyboardInterrupt, Terminated) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else error.number
        return _stopped(child, number)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watched(child: int, limits: ChildLimits) -> int:
    """Wait for a child, and end one that takes too much."""
    end = time.monotonic() + limits.seconds
    most = limits.bytes
    with _Watch(child) as watch:
        while (status := watch.status(LOOK)) is None:
            if time.monotonic() > end:
                _kill(child)
                raise OnnxPruneError(
                    f"this takes longer than {limits.seconds:g} s, which is the limit",
                    "--time-limit sets another one.",
                )
            if _memory(child) > most:
                _kill(child)
                raise OnnxPruneError(
                    f"this takes more than {most / 1e9:.3g} GB of memory, which is the limit",
                    "--memory-limit sets another one.",
                )
    return _code(status)


def _code(status: int) -> int:
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGKILL":
        raise OnnxPruneError(
            "the process that did the work was killed from outside", "Often that is for lack of memory."
        )
    raise OnnxPruneError(
        f"onnx or onnxruntime crashed on this model ({name})", "Nothing was written. The model is broken."
    )


class _Watch:
    """Waits for a child without asking again and again, where the system can."""

    def __init__(self, child: int) -> None:
        self.child = child
        self.handle = -1
        with contextlib.suppress(AttributeError, OSError):  # elsewhere than on Linux
            self.handle = os.pidfd_open(child)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self.handle >= 0:
            os.close(self.handle)

    def status(self, seconds: float) -> int | None:
        """How the child ended, None where it has not after so long."""
        if self.handle >= 0:
            select.select([self.handle], [], [], seconds)
        else:
            time.sleep(seconds / 5)
        found, status = os.waitpid(self.child, os.WNOHANG)
        return status if found else None


def _memory(child: int) -> float:
    """Bytes of memory that a process holds; zero where the system does not tell."""
    try:
        pages = Path(f"/proc/{child}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0.0
    return float(pages) * os.sysconf("SC_PAGE_SIZE")


def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _stopped(child: int, number: int) -> int:
    """Hand a signal on, and wait; a terminal sends it to both."""
    with _Watch(child) as watch:
        status = watch.status(0.2)
        if status is None:
            os.kill(child, number)
            status = watch.status(PATIENCE)
    if status is None:
        _kill(child)
        return 128 + number
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + number
