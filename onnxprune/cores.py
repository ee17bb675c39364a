"""Work that all cores share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextvars import copy_context
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

BLOCK = 2**18
"""Elements of a block: more do not stay in the cache of a core, with fewer threads wait for each other."""

LEAST = 2**20
"""Elements that are worth a thread."""

MOST = 8
"""Parts that work is divided into: as many on every machine, so that sums are the same on all."""


def cores() -> int:
    """Processors that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available is not None else os.cpu_count() or 1


def spread(work: Callable[[Sequence[slice]], T], rows: int, elements: int) -> list[T]:
    """Results of some work on the rows of an array, each on contiguous ones, in their order.

    Parameters
    ----------
    work : callable
        Takes rows in blocks of which the first is the longest. It lets other threads run meanwhile, as numpy
        does with large arrays, and is safe in several.
    rows : int
    elements : int
        Numbers of a row.
    """
    size = max(1, elements)
    parts = max(1, min(MOST, rows // max(1, LEAST // size)))
    ends = [rows * part // parts for part in range(parts + 1)]
    shares = [_in_blocks(start, stop, max(1, BLOCK // size)) for start, stop in pairwise(ends)]
    if parts == 1:
        return [work(share) for share in shares]
    from concurrent.futures import ThreadPoolExecutor  # takes as long to import as most models to trace

    with ThreadPoolExecutor(min(cores(), parts)) as pool:  # numpy's handling of errors is part of the context
        results = [pool.submit(copy_context().run, work, share) for share in shares]
        return [result.result() for result in results]


def _in_blocks(start: int, stop: int, step: int) -> list[slice]:
    return [slice(k, min(k + step, stop)) for k in range(start, max(stop, start + 1), step)]
