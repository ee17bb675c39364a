"""Files of safetensors."""

from __future__ import annotations

from pathlib import Path

from ...plugins import needed
from ..recipes import State
from .format import Format

PACKAGE = "safetensors.numpy"


def _read(path: Path) -> State:
    return dict(needed(PACKAGE, "torch").load_file(path))


def _write(state: State, *_: Path) -> bytes:
    data: bytes = needed(PACKAGE, "torch").save(state)
    return data


FORMAT = Format((".safetensors",), _read, _write, PACKAGE, "torch")
