"""Places of data files: what lies there already is read as seldom as it can be."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from onnxprune.files import data_names
from onnxprune.files.data_names import NAME_MAX, DataNames, Written


def written(folder: Path, name: str, content: bytes) -> Written:
    path = folder / name
    path.write_bytes(content)
    return Written(path, sha256(content).digest(), NAME_MAX)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were compared with others."""
    seen: list[Path] = []
    alike = data_names._alike

    def _alike(one: Path, other: Path) -> bool:
        seen.append(one)
        return alike(one, other)

    monkeypatch.setattr(data_names, "_alike", _alike)
    return seen


def test_the_same_content_keeps_its_place(tmp_path: Path, compared: list[Path]) -> None:
    names = DataNames(tmp_path / "m.onnx", [written(tmp_path, "part", b"weights")])
    (place,) = names.places()
    place.write_bytes(b"weights")
    assert names.places() == names.places() == [place]
    assert compared == [place]  # once, though it was asked for twice


def test_a_file_that_was_touched_is_read_again(tmp_path: Path, compared: list[Path]) -> None:
    names = DataNames(tmp_path / "m.onnx", [written(tmp_path, "part", b"weights")])
    (place,) = names.places()
    place.write_bytes(b"weights")
    assert names.places() == [place]
    place.write_bytes(b"WEIGHTS")
    os.utime(place, ns=(1, 1))
    assert names.places() != [place]
    assert compared == [place, place]


@pytest.mark.parametrize("there", [b"", b"other", b"WEIGHTS", b"weights and more"])
def test_other_content_is_left_alone(there: bytes, tmp_path: Path) -> None:
    names = DataNames(tmp_path / "m.onnx", [written(tmp_path, "part", b"weights")])
    (place,) = names.places()
    place.write_bytes(there)
    assert names.places() != [place]
    assert place.read_bytes() == there


def test_what_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    names = DataNames(tmp_path / "m.onnx", [written(tmp_path, "part", b"weights")])
    (place,) = names.places()
    place.symlink_to(tmp_path / "nowhere")
    assert names.places() != [place]


def test_equal_files_of_one_model_share_a_place(tmp_path: Path) -> None:
    files = [written(tmp_path, name, content) for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2"))]
    first, second, third = DataNames(tmp_path / "m.onnx", files).places()
    assert first == second != third
