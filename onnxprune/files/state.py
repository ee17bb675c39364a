"""What tells a file from another one of the same name, without reading it."""

from __future__ import annotations

import os
from typing import NamedTuple


class State(NamedTuple):
    """A file as it stands at some time."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, found: os.stat_result) -> State:
        """From what the system says of it."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
