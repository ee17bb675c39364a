"""The digest of a file that is being written."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from onnxprune.files import following
from onnxprune.files.following import Following

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pread"), reason="there files are hashed once they are written"
)


def test_it_is_that_of_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BLOCK", 7)
    parts = [bytes([number]) * number for number in (100, 3, 0, 255)]
    with (tmp_path / "data").open("w+b", buffering=0) as file, Following(file.fileno()) as content:
        for part in parts:
            file.write(part)
            time.sleep(2 * following.PAUSE)
        assert content.digest() == hashlib.sha256(b"".join(parts)).digest()
        assert file.tell() == sum(map(len, parts))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with (
        (tmp_path / "data").open("wb") as file,
        Following(file.fileno()) as content,
        pytest.raises(OSError, match="Bad file"),
    ):
        content.digest()
