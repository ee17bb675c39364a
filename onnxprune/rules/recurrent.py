"""Recurrent layers. All gates and both directions share the labels of the hidden state."""

from __future__ import annotations

import numpy as np
import onnx

from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait, traits_of
from .registry import rule

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@rule("GRU", "LSTM", "RNN", traits=Trait.RECURRENT)
def recurrent(c: Walk, n: Node) -> None:
    """A hidden channel is a row of every gate in W, R and B, and a column of R."""
    cells(c, n, GATES[n.op], 1)


def cells(c: Walk, n: Node, gates: int, made: int) -> None:
    """Couple a recurrent layer; ``made`` is the axis of W and R that the gates are rows of."""
    X, W, R, B, sequence_lens, _, _, P = n.take(8)
    read, layout = 3 - made, n.attr("layout", 0)
    h = c.peek(R, read)
    if h is NONE:
        h = c.fresh(c.shape(R)[read])
    C, batch, rows = c.axis(X, 2), c.axis(X, 1 - layout), c.tiled(h, gates)
    for name, axis, labels in (
        (W, made, rows),
        (W, read, C),
        (R, made, rows),
        (R, read, h),
        (B, 1, c.tiled(h, 2 * gates)),
        (P, 1, c.tiled(h, 3)),
        (sequence_lens, 0, batch),
    ):
        c.meet(name, axis, labels)
    c.pin_axes(X, [layout], f"{n} steps along it")
    for labels in (C, h):
        c.role(labels, "contraction")
    c.kernel(n, W, made)
    c.kernel(n, R, made)
    c.inner()
    for slot in (5, 6):
        _initial_state(c, n, slot, batch, h)
    _outputs(c, n, batch, h)
    if n.attr("hidden_size") is not None:
        c.fix(lambda e: e.set("hidden_size", e.count(h)))
    c.macs(lambda z: z.size(X, 0) * z.size(X, 1) * (z.numel(W) + z.numel(R)))


def _initial_state(c: Walk, n: Node, slot: int, batch: Labels, h: Labels) -> None:
    """Couple an initial state, unless it is zero: several layers may start from one tensor."""
    name = n.take(slot + 1)[slot]
    if not name:
        return
    if _is_zero(c, name):
        if h is not NONE:
            c.fix(lambda e: None if e.mask(h).all() else e.omit_input(slot))
        return
    if h is not NONE and c.axis(name, 2) is NONE:
        c.pin(h, f"{n} starts from '{name}', the size of which is fixed")
    c.meet(name, 1 - n.attr("layout", 0), batch)
    c.meet(name, 2, h)


def _is_zero(c: Walk, name: str) -> bool:
    """Whether a tensor holds nothing but zeros, which is what an absent state means."""
    if c.graph.is_constant(name):
        return not np.any(c.graph.value(name))
    node = c.graph.producers.get(name)
    if node is None or node.domain:
        return False
    if node.op == "ConstantOfShape":
        value = node.attr("value")
        return value is None or not np.any(onnx.numpy_helper.to_array(value))
    return Trait.COPIES in traits_of(node) and _is_zero(c, node.inputs[0])


def _outputs(c: Walk, n: Node, batch: Labels, h: Labels) -> None:
    """Y has an axis of directions behind the sequence; Y_h and Y_c have no sequence."""
    Y, *states = n.give(3)
    layout = n.attr("layout", 0)
    c.out(Y, [batch, NONE, NONE, h] if layout else [NONE, NONE, batch, h])
    for state in states:
        c.out(state, [batch, NONE, h] if layout else [NONE, batch, h])
