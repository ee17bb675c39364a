"""Arrays that are mapped from files: what is kept of one is read some rows at a time, and no more is held."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np

from .cut import Cut, in_blocks


def mapped(array: np.ndarray) -> mmap.mmap | None:
    """The mapping that an array is a view of; None for one in memory of its own."""
    found: mmap.mmap | None = getattr(array, "_mmap", None)
    return found


def let_go(array: np.ndarray) -> None:
    """Give back the memory of an array that is mapped from a file; it is read again if needed."""
    found = mapped(array)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)


def kept_blocks(array: np.ndarray, cut: Cut) -> Iterator[np.ndarray]:
    """What is kept of an array, some at a time; of what is mapped from a file no more is held."""
    for block in in_blocks(array, cut):
        yield block
        let_go(array)


def in_memory(array: np.ndarray, cut: Cut, dims: list[int]) -> np.ndarray:
    """What is kept of an array, in memory of its own.

    Parameters
    ----------
    dims : list of int
        Its sizes once it is cut.
    """
    found, done = np.empty(dims, array.dtype), 0
    for block in kept_blocks(array, cut):
        found[done : done + len(block)] = block
        done += len(block)
    return found
