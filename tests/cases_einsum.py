"""Einsum."""

from __future__ import annotations

from functools import partial

import onnx

from .building import Case
from .building_nodes import Graph, enter

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)


def einsum(
    equation: str, x: tuple[int | str, ...], w: tuple[int, ...] = (), prepare: str = ""
) -> onnx.ModelProto:
    """A product of a computed tensor [*x, 8] with a stored or another computed one."""
    net = Graph()
    a = net.linear("a", net.input("x", *x, 3), 3, 8)
    operands = [a]
    if prepare == "second":
        operands.append(net.linear("b", "x", 3, 8))
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


case("Einsum", "linear", einsum, equation="bti,io->bto", x=(2, 5), w=(8, 6), groups=(8, 6))
case(
    "Einsum", "free sizes", einsum, equation="bti,ihd->bthd", x=("batch", "steps"), w=(8, 3, 6), groups=(8, 6)
)
case("Einsum", "heads", einsum, equation="bti,ihd->bthd", x=(2, 5), w=(8, 3, 6), groups=(8, 6))
case("Einsum", "ellipsis", einsum, equation="...i, oi -> ...o", x=(2, 5), w=(6, 8), groups=(8, 6))
case("Einsum", "implicit output", einsum, equation="bi,io", x=(5,), w=(8, 6), groups=(8, 6))
case("Einsum", "batch letter", einsum, equation="bhi,hio->bho", x=(2, 5), w=(5, 8, 6), groups=(8, 6))
case("Einsum", "scores", einsum, equation="bqc,bkc->bqk", x=(2, 5), prepare="second", groups=(8,))
case("Einsum", "elementwise", einsum, equation="btc,btc->btc", x=(2, 5), prepare="second", groups=(8,))
case("Einsum", "outer product", einsum, equation="bi,bj->bij", x=(5,), prepare="second", groups=(8,))
case("Einsum", "diagonal", diagonal, groups=(8,))
case("Einsum", "sum to a scalar per row", einsum, equation="btc->bt", x=(2, 5), groups=(8,))
