"""Files in the place of old ones: whole or not at all, whatever ends the process.

A file is written beside its target under a name of its own, flushed, and moved over the target in
one step. While it is written it is locked, so that the next run knows what a killed one left behind
and removes it. A model with external data is two files: the data file is named by its content, so
that no step overwrites what the old graph reads, and moving the graph alone switches from one pair
to the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from types import FrameType
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows, where nobody can remove a file that is open: no locks needed
    fcntl = None

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals on which a program may still tidy up."""

DIGITS = 16
"""Hexadecimal digits of a digest in the name of a data file."""


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it."""
    with replacement(target) as (file, move):
        file.write(data)
        move()


def write_graph(target: Path, graph: bytes) -> None:
    """The same for a model in one file; the data file of an older one of that name goes."""
    with replacement(target) as (file, move):
        file.write(graph)
        with _alone(target.parent):
            move()
            _remove_unread(target)


def write_pair(
    target: Path, write_data: Callable[[BufferedRandom], None], graph: Callable[[str], bytes]
) -> Path:
    """Write a model and its external data, so that there is a whole pair at every moment.

    Parameters
    ----------
    write_data : callable
        Writes the content of the data file.
    graph : callable
        Gives the content of the model's file from the name of the data file.

    Returns
    -------
    pathlib.Path
        The data file.
    """
    target = Path(os.path.realpath(target))
    with replacement(target) as (data, move_data), replacement(target) as (file, move):
        write_data(data)
        name = f"{target.name}.{_digest(data)}.data"
        file.write(graph(name))
        _flush(file)
        with _alone(target.parent):
            try:
                move_data(target.with_name(name))
                move()
            finally:
                _remove_unread(target)
    return target.with_name(name)


def data_file_of(target: Path, name: str) -> bool:
    """Whether a name is one that the data file of a model gets here."""
    return bool(re.fullmatch(rf"{re.escape(target.name)}\.[0-9a-f]{{{DIGITS}}}\.data", name))


def _digest(file: BufferedRandom) -> str:
    """Digest of what was written to a file."""
    _flush(file)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0, os.SEEK_END)
    return digest[:DIGITS]


@contextmanager
def replacement(target: Path) -> Iterator[tuple[BufferedRandom, Callable[..., None]]]:
    """A new file, and the function that moves it over the target; it is gone if that is not called.

    A link stays one: the file that it leads to is replaced. Permissions are those of the old file.
    """
    target = Path(os.path.realpath(target))
    remove_abandoned(target)
    with _Signals() as signals:
        handle, path = _create(target)
        file = os.fdopen(handle, "w+b")

        def move(to: Path = target) -> None:
            _flush(file)
            if fcntl is None:
                file.close()
            os.replace(path, to)
            _flush_folder(to.parent)

        try:
            try:
                signals.let_through()
                yield file, move
            finally:
                signals.hold()
        finally:
            path.unlink(missing_ok=True)
            file.close()


class _Signals:
    """Signals that end the process wait while a temporary file is made or removed.

    Handlers of Python run in the main thread only: elsewhere nothing can come in between.
    """

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.held = True
        self.old: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
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
    old = target.stat() if target.is_file() else None
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = target.with_name(_prefix(target) + secrets.token_hex(4))
        handle = os.open(path, flags, mode)
        lock(handle)
        with contextlib.suppress(OSError):  # another run may have taken it for an abandoned one
            if os.path.samestat(path.stat(), os.fstat(handle)):
                break
        os.close(handle)
    if old is not None and hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):  # only root gives files away
            os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, mode)
    return handle, path


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
        if path.name.startswith(prefix):
            with contextlib.suppress(OSError), path.open("rb") as file:
                if lock(file.fileno()):
                    path.unlink()


def _remove_unread(target: Path) -> None:
    """Remove data files of ours that the model at a place does not name."""
    own = [p for p in target.parent.iterdir() if data_file_of(target, p.name)]
    if not own:
        return
    with contextlib.suppress(OSError):  # then they stay
        named = b""
        if target.is_file() and target.stat().st_size:
            with target.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph:
                named = b"\n".join(os.fsencode(p.name) for p in own if graph.find(os.fsencode(p.name)) >= 0)
        for path in own:
            if os.fsencode(path.name) not in named:
                path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
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


def _flush(file: BufferedRandom) -> None:
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
