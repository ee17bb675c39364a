"""Work that all cores share."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import copy_context
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

MOST = 8
"""Parts that work is divided into: as many on every machine, so that sums are the same on all."""


def cores() -> int:
    """Processors that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available is not None else os.cpu_count() or 1


def spread(work: Callable[[range], T], count: int, least: int) -> list[T]:
    """Results of some work on the numbers below a count, in contiguous ranges, in their order.

    Parameters
    ----------
    work : callable
        Lets other threads run meanwhile, as numpy does with large arrays; it is safe in several.
    count : int
    least : int
        Numbers of a range that are worth a thread.
    """
    parts = max(1, min(MOST, count // max(1, least)))
    ends = [count * part // parts for part in range(parts + 1)]
    ranges = [range(start, stop) for start, stop in pairwise(ends)]
    if parts == 1:
        return [work(some) for some in ranges]
    from concurrent.futures import ThreadPoolExecutor  # takes as long to import as most models to trace

    with ThreadPoolExecutor(min(cores(), parts)) as pool:  # numpy's handling of errors is part of the context
        results = [pool.submit(copy_context().run, work, some) for some in ranges]
        return [result.result() for result in results]
