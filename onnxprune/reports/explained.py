"""What is said of one group."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..moments.consumers import Readers
from ..printable import page
from .page import Table, layout, numbers, words


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a group.

    Attributes
    ----------
    raw, normalized : tuple of float
        Score in each measured layer; the mean where the channel has several entries there.
    merged : float
        What decided.
    rank : int or None
        1 stays longest; None where the clean-up removed the channel before any had a score.
    """

    index: int
    raw: tuple[float, ...]
    normalized: tuple[float, ...]
    merged: float
    rank: int | None
    kept: bool
    why: str
    block: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened to one group, and why.

    Attributes
    ----------
    status : {"pruned", "kept", "blocked"}
    layers : tuple of str
        The coupled layers that were measured, in the order of the scores.
    story : tuple of str
        Sentences, from the question to the count.
    channels : tuple of Channel
        Empty for a blocked group.
    chain : tuple of str
        Nodes from a blocked layer to what pins it.
    cut : float or None
        Score between what the strategy would keep and what it would not.
    readers : Readers or None
        What becomes of the channels, with axes and offsets of the input file; None for a blocked group.
    """

    group: str
    status: str
    layers: tuple[str, ...]
    story: tuple[str, ...]
    channels: tuple[Channel, ...] = ()
    chain: tuple[str, ...] = ()
    cut: float | None = None
    readers: Readers | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        found = asdict(replace(self, readers=None))
        del found["readers"]
        return {**found, **(self.readers.to_dict() if self.readers is not None else {})}

    def __str__(self) -> str:
        lines = list(self.story)
        if self.readers is not None:
            lines += str(self.readers).splitlines()
        if self.chain:
            lines.append("  " + " -> ".join(self.chain))
        if self.channels:
            lines += [f"  ({k}) {layer}" for k, layer in enumerate(self.layers, 1)]
            lines += ["  " + line for line in _table(self)]
        return page(lines)


def _table(explained: Explanation) -> list[str]:
    """Aligned columns, best channel first."""
    count = len(explained.layers)
    titles = ["rank", "channel"]
    if explained.channels[0].block is not None:
        titles.append("block")
    titles += [f"raw({k})" for k in range(1, count + 1)]
    titles += [f"norm({k})" for k in range(1, count + 1)]
    rows = []
    for c in sorted(explained.channels, key=lambda c: (c.rank is None, c.rank, c.index)):
        block = [] if c.block is None else [str(c.block)]
        values = (*c.raw, *c.normalized, c.merged)
        measured = ["-" if c.rank is None else f"{v:.5g}" for v in values]
        rows.append(
            [
                "-" if c.rank is None else str(c.rank),
                str(c.index),
                *block,
                *measured,
                "yes" if c.kept else "no",
                c.why,
            ]
        )
    table = Table((*numbers(*titles, "merged", "kept"), *words("why")), tuple(map(tuple, rows)))
    return [line for lines in layout(table, table.rows, sys.maxsize) for line in lines]
