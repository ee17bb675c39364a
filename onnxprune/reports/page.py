"""What a verb reports: sentences and tables of texts, which every renderer takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

SEPARATED = re.compile(r"[^/._]*[/._]+|[^/._]+")
"""Pieces of a name, each with the separators behind it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    title : str
    number : bool
        Whether it holds numbers: then it is aligned to the right, and never folded.
    """

    title: str
    number: bool = False


def words(*titles: str) -> tuple[Column, ...]:
    """Columns of text."""
    return tuple(Column(title) for title in titles)


def numbers(*titles: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(title, number=True) for title in titles)


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in columns.

    Attributes
    ----------
    columns : tuple of Column
    rows : tuple of tuple of str
    rest : str
        How to see the rows that a short report leaves out; empty where it shows all of them.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    rest: str = ""

    @property
    def titles(self) -> list[str]:
        """Titles of the columns."""
        return [column.title for column in self.columns]


Part = Table | str
"""A table, or one line; an empty line parts what stands above it from what is below."""


class Reported(Protocol):
    """What a verb has to say, once: every way to show it starts here."""

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""

    def page(self) -> Iterator[Part]:
        """All of it, for people."""


Width = Callable[[str], int]
"""How many cells of a terminal a text takes."""


def fold(text: str, width: int, measure: Width = len) -> list[str]:
    """Lines of a text, folded between words, and inside of a word that is too long behind ``/ . _``.

    A piece between two separators that is still too long is cut where the line ends.
    """
    lines = [""]
    for word in text.split(" "):
        gap = " " if lines[-1] else ""
        if measure(lines[-1]) + len(gap) + measure(word) <= width:
            lines[-1] += gap + word
            continue
        lines += [""] if lines[-1] else []
        for piece in _pieces(word, width, measure):
            if lines[-1] and measure(lines[-1]) + measure(piece) > width:
                lines.append("")
            lines[-1] += piece
    return lines


def _pieces(word: str, width: int, measure: Width) -> Iterator[str]:
    """Parts of a word that fit in a line."""
    for piece in SEPARATED.findall(word):
        start = 0
        for end in range(1, len(piece)):
            if measure(piece[start : end + 1]) > width and end > start:
                yield piece[start:end]
                start = end
        yield piece[start:]


NARROWEST = 12
"""Cells that a folded column has at least."""

GAP = "  "


def layout(
    table: Table, rows: Sequence[Sequence[str]], width: int, measure: Width = len
) -> Iterator[list[str]]:
    """Lines of every row of a table, those of its titles first where it has some.

    The widest of the columns that may be folded give way until all fits.

    Parameters
    ----------
    rows : sequence of sequence of str
        Those of the table that are shown.
    width : int
        Cells of a line.
    """
    right = [column.number for column in table.columns]
    shown = [table.titles, *rows] if any(table.titles) else list(rows)
    widths = [max(map(measure, column), default=0) for column in zip(*shown, strict=True)]
    _narrow(widths, [k for k, fixed in enumerate(right) if not fixed], width)
    for row in shown:
        columns = list(zip(row, right, widths, strict=True))
        cells = [[cell] if fixed else fold(cell, size, measure) for cell, fixed, size in columns]
        yield [
            GAP.join(
                _aligned(text, fixed, size - measure(text))
                for text, (_, fixed, size) in zip(line, columns, strict=True)
            ).rstrip()
            for line in zip_longest(*cells, fillvalue="")
        ]


def _narrow(widths: list[int], foldable: Sequence[int], width: int) -> None:
    """Take cells from the widest of the columns that may be folded, until all fit."""
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    for _ in range(excess if foldable else 0):
        widest = max(foldable, key=lambda k: widths[k])
        widths[widest] = max(widths[widest] - 1, min(widths[widest], NARROWEST))


def _aligned(text: str, right: bool, space: int) -> str:
    return " " * space + text if right else text + " " * space


def share(part: float, whole: float) -> str:
    """A fraction as a percentage."""
    return f"{part / whole:.1%}" if whole else "-"
