"""Checkpoints as files, whatever wrote them.

What they hold are arrays by name; what else a file holds (an optimizer, a number of epochs) belongs to the
network as it was, and does not come along.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import OnnxPruneError, UsageError
from ..files.writing import write_atomically
from ..plugins import needed
from .formats import archive, keras, pytorch, tensors
from .formats.format import Format
from .recipes import State

FORMATS = (pytorch.FORMAT, tensors.FORMAT, keras.FORMAT, archive.FORMAT)


def format_of(path: str | Path) -> Format:
    """The format of a file, by its ending.

    Raises
    ------
    UsageError
        If its ending says nothing.
    InstallationError
        If a package is missing that reads and writes it.
    """
    for found in FORMATS:
        if Path(path).suffix.lower() in found.endings:
            if found.package:
                needed(found.package, found.extra)
            return found
    endings = [ending for found in FORMATS for ending in found.endings]
    raise UsageError(f"'{path}': found no known ending, expected one of {', '.join(endings)}")


def read_state(path: str | Path) -> State:
    """Arrays of a checkpoint by the names of its entries.

    Raises
    ------
    UsageError
        If it cannot be read, or holds no arrays by name.
    InstallationError
        If a package is missing that reads it.
    """
    if not Path(path).is_file():
        raise UsageError(f"cannot read '{path}': no such file", "Expected a checkpoint.")
    kind = format_of(path)
    try:
        return kind.read(Path(path))
    except (MemoryError, OnnxPruneError):
        raise
    except Exception as error:  # readers share no base of their exceptions
        said = " ".join(str(error).split())[:200]
        raise UsageError(f"cannot read '{path}': {type(error).__name__}: {said}", kind.hint) from None


def write_state(path: str | Path, state: Mapping[str, np.ndarray], like: str | Path = "") -> None:
    """Write a checkpoint, atomically.

    Parameters
    ----------
    like : path
        The checkpoint that it was cut from, of which some formats make a copy.

    Raises
    ------
    UsageError
        If its ending says nothing, or the format cannot hold it.
    InstallationError
        If a package is missing that writes it.
    """
    kind = check_target(path, like)
    whole = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in state.items()}
    write_atomically(Path(path), kind.write(whole, Path(path), Path(like)))


def check_target(path: str | Path, like: str | Path) -> Format:
    """Refuse a file that cannot be written, before any work is done.

    Raises
    ------
    UsageError, InstallationError
    """
    kind = format_of(path)
    if kind.copies and Path(like).suffix.lower() not in kind.endings:
        raise UsageError(
            f"'{path}' is written as a copy of the file that was cut, with smaller weights: found '{like}', expected one of {', '.join(kind.endings)}"
        )
    return kind
