"""Archives of numpy arrays."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from ..recipes import State
from .format import Format


def _read(path: Path) -> State:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _write(state: State, *_: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in state.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


FORMAT = Format((".npz",), _read, _write)
