"""Files and models, written in the place of old ones: each whole or not at all.

Several that belong together are all written before the first one is moved (``together``). Data files have names
of their own, so moving the graph alone switches from one set of files to the other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from typing import TypeAlias

from .data_names import DataNames, Written, remove_unread
from .following import Following
from .replacing import PART, Move, Signals, alone, flush, open_new, replacement

POURED = 2**26
"""Bytes that are copied at a time from file to file."""

Parts: TypeAlias = Iterable[bytes | memoryview]

WriteData: TypeAlias = Callable[[BufferedRandom], None]


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
        with Signals():
            for move in later.moves:
                move()


def _finish(written: AbstractContextManager[Move]) -> None:
    """Move a file now, or with those that it waits for."""
    later = _LATER.get()
    if later is not None:
        later.moves.append(later.stack.enter_context(written))
        return
    with written as move, Signals():
        move()


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it."""
    _finish(_bytes_written(target, data))


@contextmanager
def _bytes_written(target: Path, data: bytes) -> Iterator[Move]:
    with replacement(target) as (file, move, _):
        file.write(data)
        flush(file)
        yield move


def write_graph(target: Path, graph: Parts) -> None:
    """The same for a model in one file, part by part; the data file of an older one of that name goes."""
    _finish(_graph_written(target, graph))


@contextmanager
def _graph_written(target: Path, graph: Parts) -> Iterator[Move]:
    with replacement(target) as (file, move, _):
        file.writelines(graph)
        flush(file)

        def switch() -> None:
            """Move the model, and remove what it does not read."""
            with alone(target.parent):
                move()
                remove_unread(target)

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
            found = [
                Written(part, _write_part(part, target, write), limit)
                for part, (write, limit) in zip(parts, data, strict=True)
            ]
            names = DataNames(target, found)
            named = names.places()
            _write_anew(file, graph([place.name for place in named]))

            def switch() -> None:
                """Move the data files, then the graph that names them."""
                with alone(target.parent):
                    places = names.places()
                    if places != named:  # another run took one of the names meanwhile
                        _write_anew(file, graph([place.name for place in places]))
                    try:
                        for part, place in zip(parts, places, strict=True):
                            os.replace(part, place)
                        move()
                    finally:
                        remove_unread(target, places)
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
    flush(file)


def _write_part(path: Path, target: Path, write: WriteData) -> bytes:
    """Write a data file under its temporary name and return the digest of its content."""
    with os.fdopen(open_new(path, target), "w+b") as file:
        if not hasattr(os, "pread"):  # on Windows
            write(file)
            flush(file)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").digest()
        with Following(file.fileno()) as content:
            write(file)
            flush(file)
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
