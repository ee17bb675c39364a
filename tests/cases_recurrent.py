"""Recurrent layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx

from .building import Case
from .building_nodes import Graph, enter

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    op: str,
    dirs: int = 1,
    layout: int = 0,
    state: str = "",
    peephole: bool = False,
    lengths: bool = False,
    hidden: int = 6,
    free: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """Linear, recurrent layer, linear on what the layer returns."""
    g, net = GATES[op], Graph()
    x = net.input("x", *(("steps", "batch") if free else (5, 2)), 3)
    x = net.linear("into", x, 3, 8)
    W = net.weight("W", dirs, g * hidden, 8, fan_in=8)
    R = net.weight("R", dirs, g * hidden, hidden, fan_in=hidden)
    B = net.bias("B", dirs, 2 * g * hidden)
    batch = 5 if layout else 2
    sequence = net.constant("lengths", np.array([2, 1, 2, 2, 1][:batch], "i4")) if lengths else ""
    dims = (batch, dirs, hidden) if layout else (dirs, batch, hidden)
    start = net.bias("start", *dims) if state == "random" else ""
    if state == "zero":
        start = net.initializer("start", np.zeros(dims))
    P = net.bias("P", dirs, 3 * hidden) if peephole else ""
    inputs = [x, W, R, B, sequence, start, *([start, P] if op == "LSTM" else [])]
    names = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    direction = "bidirectional" if dirs == 2 else attributes.pop("direction", "forward")
    extra = {"layout": layout} if layout else {}
    net.node(
        op,
        *inputs,
        name="cell",
        outputs=names,
        hidden_size=hidden,
        direction=direction,
        **extra,
        **attributes,
    )
    y = net.linear("from_y", "Y", hidden, 4)
    h = net.linear("from_h", "Y_h", hidden, 4)
    return net.done(y, h)


for _op in GATES:
    case(_op, "plain", recurrent, op=_op, groups=(8, 6))
    case(_op, "two directions, initial state", recurrent, op=_op, dirs=2, state="random", groups=(8, 6))
    case(_op, "zero state, lengths", recurrent, op=_op, state="zero", lengths=True, groups=(8, 6))
    case(_op, "free sizes", recurrent, op=_op, dirs=2, free=True, groups=(8, 6))
    case(_op, "reverse", recurrent, op=_op, direction="reverse", groups=(8, 6))
    case(_op, "single hidden channel", recurrent, op=_op, hidden=1, groups=(8,))

case("LSTM", "peepholes", recurrent, op="LSTM", dirs=2, state="random", peephole=True, groups=(8, 6))
case("LSTM", "coupled gates", recurrent, op="LSTM", input_forget=1, groups=(8, 6))
case("GRU", "linear before reset", recurrent, op="GRU", dirs=2, linear_before_reset=1, groups=(8, 6))
case("RNN", "sigmoid", recurrent, op="RNN", activations=["Sigmoid"], groups=(8, 6))

for _op in GATES:
    reference(_op, "batch first", recurrent, op=_op, layout=1, state="random", groups=(8, 6))
