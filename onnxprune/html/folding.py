"""Repeated blocks of a network, found in the sequence of its operators.

A network of thousands of nodes is a few blocks, again and again. A *tandem repeat* of period ``p`` is a
stretch in which every operator is the one ``p`` places before; its copies become one box each, which can
be opened. What repeats nowhere and is still too long is cut into sections. Boxes are stretches of one
topological order, so that a picture of boxes has no circle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..labels.vector import Ints

SHOWN = 40
"""Boxes that a picture has at most before something is folded."""

LEAST, MOST = 3, 2000
"""Nodes of a block: fewer are not worth a box, and longer ones are not looked for."""


@dataclass(frozen=True, slots=True)
class Box:
    """A stretch of the nodes, drawn as one.

    Attributes
    ----------
    start, stop : int
    number, copies : int
        Which of how many equal blocks; 0 of some for all of them together, 0 of 0 for a section, 1 of 1
        for a single node.
    inside : tuple of Box
        What is seen when it is opened; empty for a single node.
    """

    start: int
    stop: int
    number: int = 1
    copies: int = 1
    inside: tuple[Box, ...] = ()

    def __len__(self) -> int:
        return self.stop - self.start


def fold(kinds: Sequence[str]) -> tuple[Box, ...]:
    """Boxes of a sequence of operators; at most ``SHOWN`` on every level."""
    numbers: dict[str, int] = {}
    sequence = np.array([numbers.setdefault(kind, len(numbers)) for kind in kinds], np.int64)
    return _level(sequence, 0)


def _level(sequence: Ints, offset: int) -> tuple[Box, ...]:
    """Boxes of one level."""
    if len(sequence) <= SHOWN:
        return tuple(Box(k, k + 1) for k in range(offset, offset + len(sequence)))
    boxes = list(_blocks(sequence, offset))
    return _sections(boxes if len(boxes) <= SHOWN else list(_together(boxes)))


def _blocks(sequence: Ints, offset: int) -> Iterator[Box]:
    """The longest repeat as blocks, and what is left and right of it in the same way."""
    found = _repeat(sequence) if len(sequence) >= 2 * LEAST else None
    if found is None:
        yield from (Box(k, k + 1) for k in range(offset, offset + len(sequence)))
        return
    start, period, copies = found
    yield from _blocks(sequence[:start], offset)
    for copy in range(copies):
        first = start + copy * period
        inside = _level(sequence[first : first + period], offset + first)
        yield Box(offset + first, offset + first + period, copy + 1, copies, inside)
    end = start + copies * period
    yield from _blocks(sequence[end:], offset + end)


def _together(boxes: list[Box]) -> Iterator[Box]:
    """All copies of a block as one box."""
    left = iter(boxes)
    for box in left:
        if box.copies < 2:
            yield box
            continue
        copies = [box, *(next(left) for _ in range(box.copies - 1))]
        yield Box(box.start, copies[-1].stop, 0, box.copies, _sections(copies))


def _repeat(sequence: Ints) -> tuple[int, int, int] | None:
    """Start, period and copies of the repeat that covers most nodes; of those the shortest period."""
    best, most = None, 0
    for period in range(LEAST, min(MOST, len(sequence) // 2) + 1):
        same = np.zeros(len(sequence) - period + 2, np.int8)
        same[1:-1] = sequence[period:] == sequence[:-period]
        edges = np.diff(same)
        starts = np.flatnonzero(edges == 1)
        lengths = np.flatnonzero(edges == -1) - starts
        if not len(lengths):
            continue
        copies = lengths // period + 1
        widest = int(copies.argmax())
        if copies[widest] > 1 and period * int(copies[widest]) > most:
            most = period * int(copies[widest])
            best = int(starts[widest]), period, int(copies[widest])
    return best


def _sections(boxes: list[Box]) -> tuple[Box, ...]:
    """The same boxes where they are few, else sections of them."""
    while len(boxes) > SHOWN:
        size = max(2, -(-len(boxes) // SHOWN))
        parts = [boxes[k : k + min(size, SHOWN)] for k in range(0, len(boxes), min(size, SHOWN))]
        boxes = [_section(part) for part in parts]
    return tuple(boxes)


def _section(part: list[Box]) -> Box:
    if len(part) == 1:
        return part[0]
    return Box(part[0].start, part[-1].stop, 0, 0, tuple(part))
