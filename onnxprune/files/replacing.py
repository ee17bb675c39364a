"""A file in the place of an old one: whole or not at all, whatever ends the process.

It is written beside its target under a name of its own, flushed, and moved over the target in one step. While it
is written it is locked, so that the next run knows what a killed one left behind and removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows, where nobody can remove a file that is open: no locks needed
    fcntl = None

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals on which a program may still tidy up."""

PART = "+"
"""Stands in the temporary name of a data file between that of its model's file and its number."""

Move: TypeAlias = Callable[[], None]
"""Moves what was written over its target."""


@contextmanager
def replacement(target: Path) -> Iterator[tuple[BufferedRandom, Move, Path]]:
    """A new file, the function that moves it over the target, and its name until then.

    It is gone if that function is not called.

    A link stays one: the file that it leads to is replaced. Permissions are those of the old file.
    """
    target = Path(os.path.realpath(target))
    remove_abandoned(target)
    with Signals() as signals:
        handle, path = _create(target)
        file = os.fdopen(handle, "w+b")

        def move() -> None:
            """Move the file over its target, and see that this lasts."""
            flush(file)
            if fcntl is None:
                file.close()
            os.replace(path, target)
            _flush_folder(target.parent)

        try:
            try:
                signals.let_through()
                yield file, move, path
            except OSError as error:  # a file that is full or too large does not say which one it is
                error.filename = error.filename or os.fspath(target)
                raise
            finally:
                signals.hold()
        finally:
            path.unlink(missing_ok=True)
            file.close()


class Signals:
    """Signals that end the process wait while a temporary file is made or removed.

    Handlers of Python run in the main thread only: elsewhere nothing can come in between.
    """

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.held = True
        self.old: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in filter(None, (getattr(signal, name, None) for name in ENDING)):
                if callable(signal.getsignal(number)):
                    self.old[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.held:
            self.waiting.append(number)
        else:
            self.old[number](number, frame)

    def hold(self) -> None:
        """Let signals wait."""
        self.held = True

    def let_through(self) -> None:
        """Handle those that wait, and further ones at once."""
        self.held = False
        while self.waiting:
            signal.raise_signal(self.waiting.pop())

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)
        for number in self.waiting:
            signal.raise_signal(number)


def _prefix(target: Path) -> str:
    """What the temporary names for one target begin with; short, whatever the length of its name."""
    return f".onnxprune-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:10]}-"


def _create(target: Path) -> tuple[int, Path]:
    """An empty, locked file beside the target."""
    while True:
        path = target.with_name(_prefix(target) + secrets.token_hex(4))
        handle = open_new(path, target)
        lock(handle)
        with contextlib.suppress(OSError):  # another run may have taken it for an abandoned one
            if os.path.samestat(path.stat(), os.fstat(handle)):
                return handle, path
        os.close(handle)


def open_new(path: Path, target: Path) -> int:
    """Make a file with the permissions that the target has."""
    old = target.stat() if target.is_file() else None
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    if old is not None and hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):  # only root gives files away
            os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, mode)
    return handle


def lock(handle: int) -> bool:
    """Lock a file until it is closed; whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_abandoned(target: Path) -> None:
    """Remove what runs left behind that were killed while they wrote to the same target."""
    prefix = _prefix(target)
    for path in target.parent.iterdir() if fcntl is not None else ():
        if path.name.startswith(prefix) and not _in_use(path.with_name(path.name.partition(PART)[0])):
            path.unlink(missing_ok=True)


def _in_use(path: Path) -> bool:
    """Whether a run holds the lock of its temporary file."""
    try:
        with path.open("rb") as file:
            return not lock(file.fileno())
    except FileNotFoundError:
        return False
    except OSError:
        return True


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs from switching pairs in the same folder meanwhile."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def flush(file: BufferedRandom) -> None:
    """Write a file down to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make a move last; where folders cannot be flushed, the system does that in its own time."""
    if fcntl is None:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
