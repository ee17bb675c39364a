"""Names of a model's data files: they tell the content, so that no step overwrites what the old graph reads."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mmap
import os
import re
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from pathlib import Path

NAME_MAX = 255
"""Bytes of the longest name that file systems take."""

DIGITS = 16
"""Digits of a digest in the name of a data file, in base 32, where there is room for them."""

FEW = 4
"""Digits from which on the name of a data file tells that it is one of ours; then it may be removed."""

TRIES = 256
"""Names of one length that are tried before a longer one."""


def data_places(target: Path, contents: Iterable[tuple[bytes, int]]) -> list[Path]:
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
