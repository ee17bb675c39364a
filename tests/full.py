"""Which rows of a test run by default, and which wait for the full battery (``pytest -m full``).

Every behaviour is shown by default. What waits shows it again: on more operators' cases, on more
networks, with more seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


def sampled(values: Iterable[T], keep: Callable[[int, T], bool]) -> list[Any]:
    """All values as parameters; by default only those run for which ``keep(position, value)`` holds."""
    return [
        value if keep(number, value) else pytest.param(value, marks=pytest.mark.full)
        for number, value in enumerate(values)
    ]


def first_of_each(values: Iterable[T], key: Callable[[T], Hashable]) -> list[Any]:
    """All values as parameters; by default only the first of each kind runs."""
    seen: set[Hashable] = set()

    def new(_: int, value: T) -> bool:
        known = key(value) in seen
        seen.add(key(value))
        return not known

    return sampled(values, new)


def in_turn(values: Iterable[T], variants: Iterable[Any], step: int = 1) -> list[Any]:
    """Every value with every variant as parameters; by default one value of ``step``, with one variant, in turn."""
    every = list(variants)
    return [
        pytest.param(
            value,
            variant,
            id=f"{value}-{variant}",
            marks=[] if number % step == 0 and number // step % len(every) == which else [pytest.mark.full],
        )
        for number, value in enumerate(values)
        for which, variant in enumerate(every)
    ]
