"""Archives of numpy arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.archives import archive_bytes
from ..recipes import State
from .format import Format


def _read(path: Path) -> State:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _write(state: State, *_: Path) -> bytes:
    return archive_bytes(state)


FORMAT = Format((".npz",), _read, _write)
