"""Archives of arrays by name: ``.npz`` files, of whoever wrote them."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import OnnxPruneError, reason

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member that is written, so that equal arrays are equal bytes."""


def archive_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz file of some arrays, in their order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), member.getvalue())
    return buffer.getvalue()


def read_archive(
    path: str | os.PathLike[str], what: str, kind: type[OnnxPruneError], hint: str = ""
) -> dict[str, np.ndarray]:
    """Arrays by name from an .npz file.

    Parameters
    ----------
    what : str
        What a message calls it.
    kind : type
        Of the error.

    Raises
    ------
    OnnxPruneError
        If the file cannot be read, or holds anything else.
    """
    try:
        return _arrays(path)
    except OSError as error:
        detail = reason(error)
    except (EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        detail = "it is damaged or cut short"
    except RuntimeError as error:
        if "password" not in str(error):
            raise
        detail = "it is encrypted"
    except ValueError as error:
        pickled = "pickle" in str(error).lower()
        detail = "it is no archive of plain arrays" if pickled else str(error).lower()
    raise kind(f"cannot read {what} '{os.fspath(path)}': {detail}", hint)


def _arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    from ..settings.schema import regular

    regular(path)
    with Path(path).open("rb") as file:
        data = np.load(file, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise ValueError("it holds a single array")
        arrays = {name: data[name] for name in data.files}
    foreign = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
    if foreign is not None:
        raise ValueError(f"its member '{foreign}' is no array")
    return arrays
