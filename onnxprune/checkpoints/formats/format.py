"""What a format of checkpoints is: endings, and how arrays by name are read and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..recipes import State


@dataclass(frozen=True)
class Format:
    """Files with some endings.

    Attributes
    ----------
    endings : tuple of str
        In lower case.
    read : callable
        Path -> arrays by name.
    write : callable
        Arrays by name, the path to write to, and that of the checkpoint that they were cut from -> bytes.
    package, extra : str
        What has to be importable, and the extra of this package that installs it; empty for nothing.
    copies : bool
        Whether a file is written as a copy of the one that was cut, because it holds more than arrays.
    hint : str
        What to do about a file that cannot be read.
    """

    endings: tuple[str, ...]
    read: Callable[[Path], State]
    write: Callable[[State, Path, Path], bytes]
    package: str = ""
    extra: str = ""
    copies: bool = False
    hint: str = ""
