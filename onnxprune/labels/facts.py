"""Labels: the one idea of the project.

Every axis of every tensor carries a 1-D int64 vector of *labels*, one per index, or ``NONE``: not
an axis of channels. One walk in topological order applies a rule per node, labels in, labels out.
Rules record facts about labels and change nothing:

========================== ================================================================
``unify(a, b)``            two equally long vectors live and die together, entry by entry
``pin(a, reason)``         must survive; the reason is shown to the user
``product(r, c, L)``       ``L[i, j]`` lives if and only if ``r[i]`` and ``c[j]`` live
``stat(node, a)``          the node computes statistics along ``a``
========================== ================================================================

Weights are tensors like any other. A weight axis is labelled when a rule asks for it, or *adopts*
the labels that it meets, per (tensor, axis): labelling all axes early would tie what need not be
tied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..model.node import Node
from .pen import Pen
from .sizes import Term
from .vector import Labels


class Blocked(Exception):
    """A rule cannot say what its node does to the labels; all of them are pinned."""


@dataclass(slots=True)
class Product:
    """``labels[i, j]`` lives if and only if ``rows[i]`` and ``columns[j]`` live.

    ``place`` is what a message calls the node that cuts or joins the axis.
    """

    rows: Labels
    columns: Labels
    labels: Labels
    node: int
    place: str = ""


@dataclass(frozen=True, slots=True)
class Pin:
    """Labels that must survive, and why."""

    labels: Labels
    reason: str
    node: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """A stored tensor whose slices along ``axis`` each produce one channel."""

    node: Node
    tensor: str
    axis: int


@dataclass(slots=True)
class Facts:
    """All that the rules recorded; integers are indices of nodes, and say who recorded what.

    Attributes
    ----------
    pairs, pins, products, stats : list
        The four facts: ``pairs`` are vectors that were unified.
    roles : list
        Labels, and what a computation uses their axis for.
    broadcast : list
        Labels of axes made by repetition, which lose in a product.
    kernels, fed : list
        Stored tensors whose slices produce channels, and layers whose weight is a graph input, which
        nobody can cut.
    fixes, costs : list
        How the rewriter mends a node, and how many multiply-accumulate operations it takes.
    inner : set
        Nodes inside of which removed entries act, not only at their outputs.
    blocked : dict
        Node that could not be followed -> why.
    ragged : dict
        Axis of a stored tensor that every block of its first axis has for itself -> the blocks.
    grids : list
        Stored axes that list a table row by row.
    zeros, decoded : dict
        Quantised tensor -> the name of its zero point, and stored tensor of integers -> the numbers
        that they stand for.
    """

    pairs: list[tuple[Labels, Labels, int]] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    stats: list[tuple[Node, Labels]] = field(default_factory=list)
    roles: list[tuple[Labels, str]] = field(default_factory=list)
    broadcast: list[Labels] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    fed: list[tuple[Node, str]] = field(default_factory=list)
    fixes: list[tuple[Node, Callable[[Pen], None]]] = field(default_factory=list)
    costs: list[tuple[Node, Term]] = field(default_factory=list)
    inner: set[int] = field(default_factory=set)
    blocked: dict[int, str] = field(default_factory=dict)
    ragged: dict[tuple[str, int], Labels] = field(default_factory=dict)
    grids: list[Product] = field(default_factory=list)
    zeros: dict[str, str] = field(default_factory=dict)
    decoded: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)
