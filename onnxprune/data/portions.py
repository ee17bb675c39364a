"""Work in portions that memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def portions(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Items in portions of which the sizes add up to a bound at most; one item alone may be larger.

    Examples
    --------
    >>> list(portions([3, 1, 9, 2, 2], int, 4))
    [[3, 1], [9], [2, 2]]
    """
    portion: list[T] = []
    held = 0
    for item in items:
        need = size(item)
        if portion and held + need > most:
            yield portion
            portion, held = [], 0
        portion.append(item)
        held += need
    if portion:
        yield portion
