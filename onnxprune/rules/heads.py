"""What all attention operators have in common: axes of heads, and the dimensions inside."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from ..labels.pen import Pen
from ..labels.sizes import SizeView
from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.node import Node


@dataclass(frozen=True, slots=True)
class Heads:
    """A query, key or value: its heads, and the dimensions of each."""

    count: int
    size: int
    heads: Labels
    inside: Labels

    def merged(self, c: Walk) -> Labels:
        """Labels of the axis that holds the dimensions of all heads."""
        return c.merge([self.heads, self.inside], [self.count, self.size])

    def kept(self, z: SizeView) -> int:
        """Dimensions that are left of each."""
        return self.size if self.inside is NONE else z.count(self.inside)


def packed(c: Walk, labels: Labels, width: int, count: int) -> Heads:
    """An axis of ``width`` entries seen as ``count`` heads."""
    size = width // count
    if labels is NONE:
        return Heads(count, size, NONE, NONE)
    heads, inside = c.split(labels, (count, size))
    return Heads(count, size, heads, inside)


def hidden(c: Walk, name: str, count: int) -> Heads:
    """Heads on the last axis of a tensor [batch, sequence, hidden]."""
    return packed(c, c.axis(name, -1), c.shape(name)[-1], count)


def unpacked(c: Walk, name: str, heads: int, inside: int) -> Heads:
    """Heads and dimensions on axes of their own."""
    shape = c.shape(name)
    return Heads(shape[heads], shape[inside], c.axis(name, heads), c.axis(name, inside))


def couple(c: Walk, a: Labels, b: Labels) -> None:
    """Unify two vectors, either of which may be absent."""
    if a is not NONE or b is not NONE:
        c.unify(a, b)


def attend(c: Walk, n: Node, q: Heads, k: Heads, v: Heads) -> Heads:
    """Couple a query with its key and value; the heads and dimensions of the result.

    Where several query heads share a key head, they go with it; of a single key head's, any goes.
    """
    couple(c, k.heads, v.heads)
    couple(c, q.inside, k.inside)
    if q.count == k.count:
        couple(c, q.heads, k.heads)
    elif q.heads is NONE:
        c.pin(k.heads, f"{n} shares it between query heads that cannot go")
    else:
        blocks, shared = c.split(q.heads, (k.count, q.count // k.count))
        couple(c, blocks, k.heads)
        c.role(blocks, "batch")
        if k.count > 1 and shared is not NONE:
            c.facts.broadcast.append(shared)  # as if every key head were repeated for its queries
    for labels in (q.heads, k.heads):
        c.role(labels, "batch")
    c.role(q.inside, "contraction")
    c.role(v.inside, "free")
    c.inner()
    return Heads(q.count, v.size, q.heads, v.inside)


def follow_heads(c: Walk, n: Node, **attributes: Heads) -> None:
    """Attributes that count heads follow them."""

    def mend(e: Pen) -> None:
        for name, value in attributes.items():
            if value.heads is not NONE:
                e.set(name, e.count(value.heads))

    c.fix(mend)


def keep_scale(c: Walk, n: Node, q: Heads) -> None:
    """The default scale is that of the original head size."""
    if not n.attr("scale") and q.inside is not NONE:
        c.fix(lambda e: None if e.mask(q.inside).all() else e.set("scale", 1 / sqrt(q.size)))


def rotate(c: Walk, n: Node, x: Heads, caches: tuple[str, str], width: int, interleaved: bool) -> None:
    """Couple the dimensions that are rotated together, and the caches of their angles.

    Parameters
    ----------
    width : int
        How many dimensions are rotated; those behind them pass through.
    interleaved : bool
        Whether neighbours are rotated together, in place of the two halves.
    """
    if x.inside is NONE:
        for cache in caches:
            c.pin_axes(cache, [-1], f"{n} rotates dimensions that cannot go")
        return
    turned = x.inside[:width]
    pairs = turned.reshape(-1, 2).T if interleaved else turned.reshape(2, -1)
    c.unify(pairs[0], pairs[1])
    for cache in caches:
        c.meet(cache, -1, pairs[0])
