"""Names of a model's data files: they tell the content, so that no step overwrites what the old graph reads."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mmap
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from .state import State

NAME_MAX = 255
"""Bytes of the longest name that file systems take."""

DIGITS = 16
"""Digits of a digest in the name of a data file, in base 32, where there is room for them."""

FEW = 4
"""Digits from which on the name of a data file tells that it is one of ours; then it may be removed."""

BLOCK = 2**20
"""Bytes of two files that are compared at a time."""

TRIES = 256
"""Names of one length that are tried before a longer one."""


@dataclass(frozen=True, slots=True)
class Written:
    """A data file under its temporary name.

    Parameters
    ----------
    path : pathlib.Path
    content : bytes
        Digest of what is in it.
    limit : int
        Bytes of the longest name that it may have.
    """

    path: Path
    content: bytes
    limit: int


class DataNames:
    """Places of the data files of a model.

    Parameters
    ----------
    target : pathlib.Path
        Place of the model.
    files : sequence of Written
    """

    def __init__(self, target: Path, files: Sequence[Written]) -> None:
        self._target, self._files = target, files
        self._compared: dict[tuple[State, bytes], bool] = {}

    def places(self) -> list[Path]:
        """A place for each that is free, or has the same content already; a longer name if all are taken.

        What was compared with a file is read again only if that was touched since.
        """
        taken: dict[Path, bytes] = {}
        places = []
        for file in self._files:
            place = next(p for p in self._tried(file) if self._may_be_at(p, file, taken))
            taken[place] = file.content
            places.append(place)
        return places

    def _tried(self, file: Written) -> Iterator[Path]:
        digest = file.content
        for number in count():
            yield self._target.with_name(data_name(self._target, digest, file.limit + number // TRIES))
            digest = hashlib.sha256(digest).digest()

    def _may_be_at(self, place: Path, file: Written, taken: Mapping[Path, bytes]) -> bool:
        if place in taken:
            return taken[place] == file.content
        try:
            key = State.of(place.stat()), file.content
        except OSError:
            return not os.path.lexists(place)
        if key not in self._compared:
            self._compared[key] = _alike(place, file.path)
        return self._compared[key]


def _alike(one: Path, other: Path) -> bool:
    """Whether two files can be read and hold the same."""
    try:
        if one.stat().st_size != other.stat().st_size:
            return False
        with one.open("rb") as a, other.open("rb") as b:
            return all(block == b.read(BLOCK) for block in iter(partial(a.read, BLOCK), b""))
    except OSError:
        return False


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


def remove_unread(target: Path, made: Collection[Path] = ()) -> None:
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
