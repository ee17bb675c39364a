"""One walk over the values of all channels, in the order of the walk over the rules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...labels.facts import Blocked
from ...labels.recorder import MOST_LABELS
from ...labels.walk import Walk
from ...model.node import Node
from ...rules import find
from .registry import find_values
from .state import Values


def analyse_values(walk: Walk, ranges: Mapping[str, tuple[float, float]] | None = None) -> Values:
    """Find the bounds of every channel, and what acts on what.

    Parameters
    ----------
    walk : Walk
        A finished walk.
    ranges : mapping, optional
        Graph input -> least and greatest value that are assumed.
    """
    v = Values(walk, ranges or {})
    for node in walk.graph.main.nodes:
        if node.op != "Constant" and not (node.outputs and node.outputs[0] in walk.graph.folded):
            _apply(v, node)
            v.let_go(node)
    return v


def _apply(v: Values, node: Node) -> None:
    """Let one node's rule say what it does; without one, it mixes everything."""
    v.note_infinite(node)
    if node.bodies:
        v.hold(node)
        return
    found = find_values(node)
    if found is None or node.index in v.c.facts.blocked or not _followed(v, node):
        v.opaque(node)
        return
    try:
        with np.errstate(all="ignore"):  # bounds may be infinite
            found(v, node)
        if _draws(v, node):
            v.leave_open(node)
    except (Blocked, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # A node that its rule cannot read is doubtful, and doubt keeps.
        v.opaque(node)


def _followed(v: Values, node: Node) -> bool:
    """Whether no axis of what a node reads and makes is longer than a walk follows."""
    shapes = (v.c.shapes.get(name) or () for name in (*node.inputs, *node.outputs))
    return all(size <= MOST_LABELS for shape in shapes for size in shape)


def _draws(v: Values, node: Node) -> bool:
    """Whether a node draws random numbers, others for every entry."""
    rule = find(node)
    return rule is not None and rule.random is not None and rule.random(v.c, node)
