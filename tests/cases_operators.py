"""Small graphs, one or more per operator: (operator, name, builder)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from models.build import Net

Builder = Callable[[], onnx.ModelProto]

CASES: list[tuple[str, str, Builder]] = []
BY_REFERENCE: set[tuple[str, str]] = set()


def case(op: str, name: str, builder: Callable[..., onnx.ModelProto], /, **options: Any) -> None:
    """Enter a graph into the table."""
    CASES.append((op, name, partial(builder, **options)))


def reference(op: str, name: str, builder: Callable[..., onnx.ModelProto], /, **options: Any) -> None:  # fmt: skip
    """Enter a graph that onnxruntime does not run on a CPU; onnx's reference implementation does."""
    case(op, name, builder, **options)
    BY_REFERENCE.add((op, name))


class Graph(Net):
    """A ``Net`` that may use contributed operators and inputs of any type."""

    def __init__(self, opset: int = 22, seed: int = 0) -> None:
        super().__init__("case", seed, opset, ir_version=10)

    def feed(self, name: str, dtype: int, *shape: int | str) -> str:
        """Declare an input of another type."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def ms(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of the domain com.microsoft."""
        return self.node(op, *inputs, domain="com.microsoft", **attributes)

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        """Store values in their own type."""
        array = np.asarray(values)
        return self.initializer(name, array, array.dtype)

    def done(self, *outputs: str, ranks: Sequence[int] = ()) -> onnx.ModelProto:
        """The finished model; ``ranks`` of outputs behind operators that inference cannot see."""
        graph = helper.make_graph(self.nodes, "case", self.inputs, [], self.initializers)
        domains = sorted({node.domain for node in self.nodes} - {""})
        opsets = [
            helper.make_opsetid("", self.opset),
            *(helper.make_opsetid(d, 1) for d in domains),
        ]
        values = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph.output.extend(values)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version)
        known = onnx.shape_inference.infer_shapes(model).graph.output
        for k, name in enumerate(outputs):
            shape = [None] * ranks[k] if ranks else None
            given = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            model.graph.output[k].CopyFrom(given if ranks else known[k])
        return model


# Recurrent layers.

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(op: str, dirs: int = 1, layout: int = 0, state: str = "", peephole: bool = False, lengths: bool = False, hidden: int = 6, **attributes: Any) -> onnx.ModelProto:  # fmt: skip
    """Linear, recurrent layer, linear on what the layer returns."""
    g, net = GATES[op], Graph()
    x = net.linear("into", net.input("x", 5, 2, 3), 3, 8)
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
    net.node(op, *inputs, name="cell", outputs=names, hidden_size=hidden, direction=direction, **extra, **attributes)  # fmt: skip
    y = net.linear("from_y", "Y", hidden, 4)
    h = net.linear("from_h", "Y_h", hidden, 4)
    return net.done(y, h)


for _op in GATES:
    case(_op, "plain", recurrent, op=_op)
    case(_op, "two directions, initial state", recurrent, op=_op, dirs=2, state="random")
    case(_op, "zero state, lengths", recurrent, op=_op, state="zero", lengths=True)
    case(_op, "reverse", recurrent, op=_op, direction="reverse")
    case(_op, "single hidden channel", recurrent, op=_op, hidden=1)
case("LSTM", "peepholes", recurrent, op="LSTM", dirs=2, state="random", peephole=True)
case("LSTM", "coupled gates", recurrent, op="LSTM", input_forget=1)
case("GRU", "linear before reset", recurrent, op="GRU", dirs=2, linear_before_reset=1)
case("RNN", "sigmoid", recurrent, op="RNN", activations=["Sigmoid"])
for _op in GATES:
    reference(_op, "batch first", recurrent, op=_op, layout=1, state="random")


# Einsum.


def einsum(equation: str, x: tuple[int, ...], w: tuple[int, ...] = (), prepare: str = "") -> onnx.ModelProto:  # fmt: skip
    """A product of a computed tensor with a stored or another computed one."""
    net = Graph()
    a = net.linear("a", net.input("x", *x[:-1], 3), 3, x[-1])
    operands = [a]
    if prepare == "second":
        operands.append(net.linear("b", "x", 3, x[-1]))
    elif w:
        operands.append(net.weight("w", *w, fan_in=8))
    y = net.node("Einsum", *operands, name="einsum", equation=equation)
    y = net.relu(y)
    out = onnx.shape_inference.infer_shapes(net.done(y)).graph.output[0].type.tensor_type.shape.dim
    last = out[-1].dim_value if out else 0
    return net.done(net.linear("head", y, last, 4) if last > 1 else y)


def diagonal() -> onnx.ModelProto:
    """The diagonal of an outer product, which couples both of its axes."""
    net = Graph()
    x = net.input("x", 5, 3)
    a, b = net.linear("a", x, 3, 8), net.linear("b", x, 3, 8)
    y = net.node("Einsum", a, b, equation="bi,bj->bij")
    y = net.node("Einsum", y, equation="bii->bi")
    return net.done(net.linear("head", net.relu(y), 8, 4))


case("Einsum", "linear", einsum, equation="bti,io->bto", x=(2, 5, 8), w=(8, 6))
case("Einsum", "heads", einsum, equation="bti,ihd->bthd", x=(2, 5, 8), w=(8, 3, 6))
case("Einsum", "ellipsis", einsum, equation="...i, oi -> ...o", x=(2, 5, 8), w=(6, 8))
case("Einsum", "implicit output", einsum, equation="bi,io", x=(5, 8), w=(8, 6))
case("Einsum", "batch letter", einsum, equation="bhi,hio->bho", x=(2, 5, 8), w=(5, 8, 6))
case("Einsum", "scores", einsum, equation="bqc,bkc->bqk", x=(2, 5, 8), prepare="second")
case("Einsum", "elementwise", einsum, equation="btc,btc->btc", x=(2, 5, 8), prepare="second")
case("Einsum", "outer product", einsum, equation="bi,bj->bij", x=(5, 8), prepare="second")
case("Einsum", "diagonal", diagonal)
case("Einsum", "sum to a scalar per row", einsum, equation="btc->bt", x=(2, 5, 8))
