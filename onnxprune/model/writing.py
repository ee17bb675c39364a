"""Files in the place of old ones: whole or not at all, whatever ends the process.

A file is written beside its target under a name of its own, flushed, and moved over the target in
one step. Several that belong together are all written before the first one is moved (``together``). While a
file is written it is locked, so that the next run knows what a killed one left behind and removes it. Data files of a model are named by their content, so that no step overwrites what the old
graph reads, and moving the graph alone switches from one set of files to the other.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mmap
import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import BufferedRandom
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from .following import Following

fcntl: Any
try:
    import fcntl
except ImportError:  # not on Windows, where nobody can remove a file that is open: no locks needed
    fcntl = None

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals on which a program may still tidy up."""

PART = "+"
"""Stands in the temporary name of a data file between that of its model's file and its number."""

POURED = 2**26
"""Bytes that are copied at a time from file to file."""

NAME_MAX = 255
"""Bytes of the longest name that file systems take."""

DIGITS = 16
"""Digits of a digest in the name of a data file, in base 32, where there is room for them."""

FEW = 4
"""Digits from which on the name of a data file tells that it is one of ours; then it may be removed."""

TRIES = 256
"""Names of one length that are tried before a longer one."""

Parts: TypeAlias = Iterable[bytes | memoryview]

WriteData: TypeAlias = Callable[[BufferedRandom], None]

Move: TypeAlias = Callable[[], None]
"""Moves what was written over its target."""


@dataclass(frozen=True, slots=True)
class _Later:
    """Files that were written and wait for others."""

    stack: ExitStack
    moves: list[Move] = field(default_factory=list)


_LATER: ContextVar[_Later | None] = ContextVar("later", default=None)


@contextmanager
def together() -> Iterator[None]:
    """All that is written meanwhile is moved over its targets at the end, or nothing if something fails."""
    with ExitStack() as stack:
        later = _Later(stack)
        token = _LATER.set(later)
        try:
            yield
        finally:
            _LATER.reset(token)
        with _Signals():
            for move in later.moves:
                move()


def _finish(written: AbstractContextManager[Move]) -> None:
    """Move a file now, or with those that it waits for."""
    later = _LATER.get()
    if later is not None:
        later.moves.append(later.stack.enter_context(written))
        return
    with written as move, _Signals():
        move()


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it."""
    _finish(_bytes_written(target, data))


@contextmanager
def _bytes_written(target: Path, data: bytes) -> Iterator[Move]:
    with replacement(target) as (file, move, _):
        file.write(data)
        _flush(file)
        yield move


def write_graph(target: Path, graph: Parts) -> None:
    """The same for a model in one file, part by part; the data file of an older one of that name goes."""
    _finish(_graph_written(target, graph))


@contextmanager
def _graph_written(target: Path, graph: Parts) -> Iterator[Move]:
    with replacement(target) as (file, move, _):
        file.writelines(graph)
        _flush(file)

        def switch() -> None:
            with _alone(target.parent):
                move()
                _remove_unread(target)

        yield switch


def write_with_data(
    target: Path,
    data: Sequence[tuple[WriteData, int]],
    graph: Callable[[Sequence[str]], Parts],
    moved: Callable[[list[Path]], None],
) -> None:
    """Write a model and its external data, so that there is a whole set of files at every moment.

    Parameters
    ----------
    data : sequence of (callable, int)
        Writes the content of a data file; bytes of the longest name that this may have.
    graph : callable
        Gives the content of the model's file, part by part, from the names of the data files.
    moved : callable
        Is told the data files once they are there.
    """
    _finish(_set_written(Path(os.path.realpath(target)), data, graph, moved))


@contextmanager
def _set_written(
    target: Path,
    data: Sequence[tuple[WriteData, int]],
    graph: Callable[[Sequence[str]], Parts],
    moved: Callable[[list[Path]], None],
) -> Iterator[Move]:
    with replacement(target) as (file, move, path):
        parts = [path.with_name(f"{path.name}{PART}{number}") for number in range(len(data))]
        try:
            found = [_write_part(part, target, write) for part, (write, _) in zip(parts, data, strict=True)]
            contents = [(content, limit) for content, (_, limit) in zip(found, data, strict=True)]
            named = _places(target, contents)
            _write_anew(file, graph([place.name for place in named]))

            def switch() -> None:
                with _alone(target.parent):
                    places = _places(target, contents)
                    if places != named:  # another run took one of the names meanwhile
                        _write_anew(file, graph([place.name for place in places]))
                    try:
                        for part, place in zip(parts, places, strict=True):
                            os.replace(part, place)
                        move()
                    finally:
                        _remove_unread(target, places)
                moved(places)

            yield switch
        finally:
            for part in parts:
                part.unlink(missing_ok=True)


def _write_anew(file: BufferedRandom, graph: Parts) -> None:
    """Write all that a file holds, down to the disk."""
    file.seek(0)
    file.truncate()
    file.writelines(graph)
    _flush(file)


def _write_part(path: Path, target: Path, write: WriteData) -> bytes:
    """Write a data file under its temporary name and return the digest of its content."""
    with os.fdopen(_open_new(path, target), "w+b") as file:
        if not hasattr(os, "pread"):  # on Windows
            write(file)
            _flush(file)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").digest()
        with Following(file.fileno()) as content:
            write(file)
            _flush(file)
            return content.digest()


def pour(source: Path, offset: int, size: int, out: BufferedRandom) -> bool:
    """Copy a part of a file to the end of another one within the system, which takes half of the time.

    Returns
    -------
    bool
        Whether that was possible; where it was not, the file stands where it did.
    """
    if not hasattr(os, "copy_file_range"):
        return False
    out.flush()
    start = at = out.tell()
    try:
        with source.open("rb") as read:
            while count := os.copy_file_range(read.fileno(), out.fileno(), min(size, POURED), offset, at):
                size, offset, at = size - count, offset + count, at + count
    except OSError:  # between file systems, or there is no room: who writes all of it anew says so
        pass
    out.seek(start if size else at)
    return not size


def _places(target: Path, contents: Iterable[tuple[bytes, int]]) -> list[Path]:
    """Places of data files, from the digest of each and the bytes of its longest name."""
    taken: dict[Path, bytes] = {}
    places = []
    for content, limit in contents:
        places.append(_free(target, content, limit, taken))
        taken[places[-1]] = content
    return places


def _free(target: Path, content: bytes, limit: int, taken: Mapping[Path, bytes]) -> Path:
    """Place of a data file, which is free or has this content already; a longer name if all are taken."""
    digest = content
    for number in count():
        path = target.with_name(data_name(target, digest, limit + number // TRIES))
        there = taken[path] if path in taken else _content(path) if os.path.lexists(path) else content
        if there == content:
            return path
        digest = hashlib.sha256(digest).digest()
    raise AssertionError


def _content(path: Path) -> bytes:
    """Digest of a file; empty where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


def data_name(target: Path, content: bytes, limit: int) -> str:
    """Name of a data file of a model: as telling as it can be in so many bytes.

    Parameters
    ----------
    content : bytes
        Digest of what is in it.
    """
    head, count, tail = _shape_of_name(target, limit)
    return head + _digits(hashlib.sha256(os.fsencode(target.name) + content).digest())[:count] + tail


def _shape_of_name(target: Path, limit: int) -> tuple[str, int, str]:
    """Beginning of the name of a data file, number of digits, and end."""
    room, tail = min(limit, NAME_MAX), ".data"
    if room < len(tail) + FEW:
        tail = ""
    room -= len(tail)
    for head in (f"{target.name}.", f"{target.stem}."):
        left = room - len(os.fsencode(head))
        if left >= 2 * FEW:
            return head, min(left, DIGITS), tail
    head = os.fsencode(target.stem)[: max(room - FEW, 0)].decode(errors="ignore")
    return head, room - len(head.encode()), tail


def _digits(digest: bytes) -> str:
    return base64.b32hexencode(digest).decode().lower()


def _may_be_ours(target: Path, name: str) -> bool:
    """Whether a data file of a model may be called so here; what is in it tells."""
    head, count, tail = _shape_of_name(target, len(os.fsencode(name)))
    form = rf"{re.escape(head)}[0-9a-v]{{{count}}}{re.escape(tail)}"
    return count >= FEW and re.fullmatch(form, name) is not None


@contextmanager
def replacement(target: Path) -> Iterator[tuple[BufferedRandom, Callable[[], None], Path]]:
    """A new file, the function that moves it over the target, and its name until then.

    It is gone if that function is not called.

    A link stays one: the file that it leads to is replaced. Permissions are those of the old file.
    """
    target = Path(os.path.realpath(target))
    remove_abandoned(target)
    with _Signals() as signals:
        handle, path = _create(target)
        file = os.fdopen(handle, "w+b")

        def move() -> None:
            _flush(file)
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
    while True:
        path = target.with_name(_prefix(target) + secrets.token_hex(4))
        handle = _open_new(path, target)
        lock(handle)
        with contextlib.suppress(OSError):  # another run may have taken it for an abandoned one
            if os.path.samestat(path.stat(), os.fstat(handle)):
                return handle, path
        os.close(handle)


def _open_new(path: Path, target: Path) -> int:
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


def _remove_unread(target: Path, made: Collection[Path] = ()) -> None:
    """Remove data files of ours that the model at a place does not name."""
    own = {p for p in target.parent.iterdir() if _may_be_ours(target, p.name) and p.is_file()} | {*made}
    if not own:
        return
    with contextlib.suppress(OSError):  # then they stay
        named: set[Path] = set()
        if target.is_file() and target.stat().st_size:
            with target.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph:
                named = {path for path in own if graph.find(os.fsencode(path.name)) >= 0}
        for path in own - named:
            if path in made or path.name == data_name(target, _content(path), len(os.fsencode(path.name))):
                path.unlink(missing_ok=True)


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
