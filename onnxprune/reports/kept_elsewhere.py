"""What another tool kept of a group, and the scores that tell it best."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..printable import first_of, plural
from .page import Part, Table, numbers, words

SHOWN = 8
"""Channels that a cell names."""


@dataclass(frozen=True, slots=True)
class Match:
    """How well one score tells what was kept.

    Attributes
    ----------
    score : str
    member : str
        The layer that it is of, or the policy that merges all of them.
    same : int
        Kept channels that are among as many of the highest scores.
    others : tuple of int
        Channels that were kept although the score would not.
    instead : tuple of int
        Those that it would keep in their place.
    """

    score: str
    member: str
    same: int
    others: tuple[int, ...]
    instead: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeptElsewhere:
    """What another tool kept of a group, and the scores that tell it best.

    Attributes
    ----------
    kept : tuple of int
    ours : tuple of int
        What the settings given here would keep.
    matches : tuple of Match
        The best first.
    """

    group: str
    channels: int
    kept: tuple[int, ...]
    ours: tuple[int, ...]
    layers: tuple[str, ...]
    matches: tuple[Match, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    def page(self) -> Iterator[Part]:
        """For people."""
        count = len(self.kept)
        yield f"{self.group}: {count} of {plural(self.channels, 'channel')} were kept elsewhere"
        for number, layer in enumerate(self.layers, 1):
            yield f"  ({number}) {layer}"
        yield ""
        rows = tuple(
            (m.score, m.member, f"{m.same} of {count}", _listed(m.others), _listed(m.instead))
            for m in self.matches
        )
        titles = (*words("score", "of"), *numbers("same"), *words("kept all the same", "in place of"))
        yield Table(titles, rows, "--json lists all")
        best = self.matches[0]
        told = "exactly the highest" if best.same == count else "nearest to the highest"
        yield f"{told} by {best.score} of {best.member}"
        there, here = set(self.kept) - set(self.ours), set(self.ours) - set(self.kept)
        if there or here:
            yield f"these settings would keep {len(self.ours)}: without {_listed(there)}, with {_listed(here)}"
        else:
            yield "these settings would keep the same"


def _listed(channels: Collection[int]) -> str:
    return first_of([str(channel) for channel in sorted(channels)], SHOWN) or "-"
