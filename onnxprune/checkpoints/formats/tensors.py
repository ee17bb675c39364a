"""Files of safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..recipes import State
from .format import Format, needed

PACKAGE = "safetensors.numpy"


def _library() -> Any:
    return needed(PACKAGE, "torch")


def _read(path: Path) -> State:
    return dict(_library().load_file(path))


def _write(state: State, *_: Path) -> bytes:
    data: bytes = _library().save(state)
    return data


FORMAT = Format((".safetensors",), _read, _write, PACKAGE, "torch")
