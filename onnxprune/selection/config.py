"""Settings from a TOML file.

    preset = "netspresso"
    granularity = 16
    exclude = ["head"]

    [ratio]
    "layer1.0.conv1" = 0.3
    "layer1.1.conv1" = 0.5

Names are those of the command line without the leading dashes; ``-`` and ``_`` are the same.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UsageError, reason, unknown_name
from ..settings.schema import ConfigFile, checked, regular


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of a TOML file.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    try:
        regular(path)
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        detail = reason(error)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        detail = str(error)
    raise UsageError(f"cannot read '{os.fspath(path)}': {detail}", "Expected a TOML file.")


def read_config(path: str | os.PathLike[str], known: Iterable[str]) -> dict[str, Any]:
    """Settings of a configuration file, with ``_`` in their names.

    Parameters
    ----------
    path : path
    known : iterable of str
        Names that are allowed.

    Raises
    ------
    UsageError
        If the file cannot be read, or holds a name that is not allowed, with the nearest that is.
    """
    found = {name.replace("-", "_"): value for name, value in read_toml(path).items()}
    valid = set(known)
    for name in found:
        if name not in valid:
            raise unknown_name(f"setting of '{os.fspath(path)}'", name, valid)
    checked(found, ConfigFile, f"'{os.fspath(path)}'", UsageError)
    return found
