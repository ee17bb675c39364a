"""Making labels and recording facts: what a walk does without looking at the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..model.node import Node
from ..printable import plural
from .facts import Blocked, Facts, Pin, Product
from .pen import Pen
from .sizes import Term
from .vector import NONE, Labels

MOST_LABELS = 2**26
"""Labels of one walk: tables with a number for each of them take half a gigabyte. Axes beyond are not followed."""


class Recorder:
    """Labels and facts of one walk.

    Attributes
    ----------
    facts : Facts
    count : int
        Number of labels that there are, label 0 included.
    node : Node or None
        The node whose rule is at work.
    """

    def __init__(self) -> None:
        self.facts = Facts()
        self.count = 1
        self.node: Node | None = None
        self._merged: dict[tuple[bytes, bytes], Labels] = {}
        self._split: dict[tuple[bytes, int], tuple[Labels, Labels]] = {}

    # Labels -------------------------------------------------------------------------------

    def tiled(self, labels: Labels, count: int) -> Labels:
        """Labels repeated as a whole: the gates of a recurrent cell."""
        return NONE if labels is NONE else np.tile(labels, count)

    def fresh(self, size: int) -> Labels:
        """New labels for an axis; ``NONE`` for an axis of size 1, which cannot shrink."""
        return NONE if size <= 1 else self.allot(size)

    def allot(self, size: int) -> Labels:
        """New labels for an axis of any size."""
        if size > MOST_LABELS - self.count:
            raise Blocked(
                f"an axis of {plural(size, 'entry', 'entries')} is longer than what can be followed"
            )
        labels = np.arange(self.count, self.count + size, dtype=np.int64)
        self.count += size
        return labels

    def broadcast(self, size: int) -> Labels:
        """Fresh labels of an axis made by repetition: free to shrink, but loses in a product."""
        labels = self.fresh(size)
        if labels is not NONE:
            self.facts.broadcast.append(labels)
        return labels

    # Facts --------------------------------------------------------------------------------

    def pin(self, labels: Labels, reason: str) -> None:
        """Labels must survive."""
        if labels is not NONE:
            self.facts.pins.append(Pin(labels, reason, self._index))

    def product(self, rows: Labels, columns: Labels, labels: Labels) -> None:
        """``labels[i, j]`` lives if and only if ``rows[i]`` and ``columns[j]`` live."""
        if len(rows) * len(columns) != len(labels):
            raise Blocked("its sizes contradict each other")
        self.facts.products.append(Product(rows, columns, labels, self._index, str(self.node)))

    def stat(self, *vectors: Labels) -> None:
        """The node computes statistics along these axes: those of the kept entries."""
        assert self.node is not None
        self.facts.stats.extend((self.node, v) for v in vectors if v is not NONE)

    def inner(self) -> None:
        """Removed entries act inside the current node (a recurrent state), not only at its outputs."""
        self.facts.inner.add(self._index)

    def role(self, labels: Labels, role: str) -> None:
        """What a computation uses an axis for; see ``coupling/factors.py`` for what follows."""
        if labels is not NONE:
            self.facts.roles.append((labels, role))

    def ragged(self, name: str, axis: int, rows: Labels) -> None:
        """An axis of a stored tensor that every block (``rows``) of its first axis has for itself."""
        self.facts.ragged[name, axis] = rows

    def fix(self, edit: Callable[[Pen], None]) -> None:
        """How the rewriter mends the current node once sizes are known."""
        assert self.node is not None
        self.facts.fixes.append((self.node, edit))

    def macs(self, cost: Term) -> None:
        """Multiply-accumulate operations of the current node, from any view of the sizes."""
        assert self.node is not None
        self.facts.costs.append((self.node, cost))

    @property
    def _index(self) -> int:
        return -1 if self.node is None else self.node.index

    # Factors of an axis -------------------------------------------------------------------

    def split(self, labels: Labels, sizes: Sequence[int]) -> list[Labels]:
        """One vector per factor of an axis; ``NONE`` for factors along which nothing varies."""
        grid = labels.reshape(tuple(sizes))
        varying = []
        for k, size in enumerate(sizes):
            edge = grid[(slice(None),) * k + (slice(0, 1),)]
            if size > 1 and (grid != edge).any():
                varying.append(k)
            else:
                grid = edge
        result = [NONE] * len(sizes)
        rest = grid.reshape(-1)
        for k in varying[:-1]:
            result[k], rest = self._split_once(rest, sizes[k])
        if varying:
            result[varying[-1]] = rest
        return result

    def _split_once(self, labels: Labels, rows: int) -> tuple[Labels, Labels]:
        key = labels.tobytes(), rows
        if key not in self._split:
            r, c = self.fresh(rows), self.fresh(len(labels) // rows)
            self._relate(r, c, labels)
        return self._split[key]

    def merge(self, factors: Sequence[Labels], sizes: Sequence[int]) -> Labels:
        """Labels of an axis made of several factors."""
        varying = [k for k, f in enumerate(factors) if f is not NONE]
        if not varying:
            return NONE
        merged = factors[varying[-1]]
        for k in reversed(varying[:-1]):
            merged = self._merge_once(factors[k], merged)
        if len(varying) == len(factors):
            return merged
        dims = [size if k in varying else 1 for k, size in enumerate(sizes)]
        return np.broadcast_to(merged.reshape(dims), tuple(sizes)).reshape(-1)

    def _merge_once(self, rows: Labels, columns: Labels) -> Labels:
        key = rows.tobytes(), columns.tobytes()
        if key not in self._merged:
            self._relate(rows, columns, self.allot(len(rows) * len(columns)))
        return self._merged[key]

    def grid(self, rows: Labels, columns: Labels, sizes: tuple[int, int]) -> Labels:
        """Labels of a stored axis that lists a table row by row.

        Nothing else has these labels, so an entry lives if and only if its row and column do, and
        neither factor needs to be held (compare ``merge``).
        """
        if rows is NONE and columns is NONE:
            return NONE
        full = [
            np.zeros(s, np.int64) if v is NONE else v for v, s in zip((rows, columns), sizes, strict=True)
        ]
        labels = self.allot(sizes[0] * sizes[1])
        self.facts.grids.append(Product(full[0], full[1], labels, self._index))
        return labels

    def _relate(self, rows: Labels, columns: Labels, labels: Labels) -> None:
        """Record a product; equal factors give equal products and back again."""
        self.product(rows, columns, labels)
        self._merged[rows.tobytes(), columns.tobytes()] = labels
        self._split[labels.tobytes(), len(rows)] = rows, columns
