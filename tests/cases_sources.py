"""Operators that make tensors of their own, from scalars, shapes, seeds or positions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from .building import Case
from .cases_operators import Graph, enter

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)


def weighted(
    op: str, *scalars: Any, steps: int = 8, contrib: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """A made vector weighs the steps of a computed [batch, channels, steps]."""
    net = Graph()
    x = net.conv("a", net.input("x", 2, 3, steps), 3, 6, rank=1)
    inputs = [net.constant(f"s{k}", np.array(v)) for k, v in enumerate(scalars)]
    y = (net.ms if contrib else net.node)(op, *inputs, **attributes)
    y = net.reshape(net.node("Cast", y, to=TensorProto.FLOAT), steps)
    y = net.node("Mul", x, y)
    return net.done(net.conv("b", y, 6, 4, rank=1), rank=3)


for _op in ("BlackmanWindow", "HammingWindow", "HannWindow"):
    case(_op, "weighs steps", weighted, _op, 8, groups=(6,))
case("Range", "weighs steps", weighted, "Range", 0, 8, 1, groups=(6,))
case("com.microsoft::Range", "weighs steps", weighted, "Range", 0, 8, 1, contrib=True, groups=(6,))
case(
    "MelWeightMatrix",
    "weighs steps",
    weighted,
    "MelWeightMatrix",
    1,
    14,
    8000,
    np.float32(0),
    np.float32(3000),
    groups=(6,),
)


def noise(op: str, seed: float | None = None) -> onnx.ModelProto:
    """Random numbers of the shape of the input, times zero: the result is known."""
    net = Graph(17)
    x = net.conv("a", net.input("x", 2, 3, 8), 3, 6, rank=1)
    chance = net.node("Sigmoid", x)
    extra: dict[str, Any] = {} if seed is None else {"seed": seed}
    nothing = net.node("Mul", net.node(op, chance, **extra), net.scalar(0.0))
    return net.done(net.conv("b", net.node("Add", x, nothing), 6, 4, rank=1))


for _op in ("Bernoulli", "RandomNormalLike", "RandomUniformLike"):
    case(_op, "any numbers", noise, _op, groups=(6,))
    case(_op, "from a seed", noise, _op, seed=1.0, blocked={"a": "draws numbers from a seed"}, groups=())


def drawn() -> onnx.ModelProto:
    """Classes drawn from computed probabilities, times zero."""
    net = Graph(21)
    x = net.input("x", 2, 3)
    logits = net.linear("c", x, 3, 5)
    y = net.node("Cast", net.node("Multinomial", logits, sample_size=1), to=TensorProto.FLOAT)
    y = net.node("Mul", y, net.scalar(0.0))
    y = net.node("Add", net.relu(net.linear("a", x, 3, 8)), y)
    return net.done(net.linear("head", y, 8, 4))


case("Multinomial", "classes", drawn, blocked={"c.matmul": "draws positions along it"}, groups=(8,))


def diagonal() -> onnx.ModelProto:
    """A diagonal of the shape of a computed matrix, which blocks that matrix alone."""
    net = Graph()
    x = net.input("x", 6, 6)
    y = net.node("MatMul", net.node("EyeLike", net.linear("shape", x, 6, 6)), x)
    return net.done(net.linear("head", net.relu(net.linear("a", y, 6, 8)), 8, 4))


case("EyeLike", "diagonal", diagonal, blocked={"shape.matmul": "makes a diagonal of its size"}, groups=(8,))


def transformed() -> onnx.ModelProto:
    """A grid of places from computed matrices samples a computed image."""
    net = Graph()
    image = net.input("x", 2, 3, 6, 6)
    theta = net.linear("theta", net.input("t", 2, 3), 3, 6)
    theta = net.node("Tanh", net.reshape(theta, 2, 2, 3))
    grid = net.node("AffineGrid", theta, net.integers(2, 8, 5, 5))
    y = net.node("GridSample", net.conv("a", image, 3, 8), grid)
    return net.done(net.conv("b", y, 8, 4, kernel=1))


case("AffineGrid", "computed matrices", transformed, blocked={"theta.matmul": "makes a grid"}, groups=(8,))


def classes() -> onnx.ModelProto:
    """One-hot codes of positions that were found along another axis than the channels."""
    net = Graph()
    x = net.conv("a", net.input("x", 2, 3, 5), 3, 8, rank=1)
    y = net.node("ArgMax", x, axis=2, keepdims=0)
    y = net.node("OneHot", y, net.constant("depth", np.array(5)), net.initializer("values", [0.0, 1.0]))
    return net.done(net.conv("b", y, 8, 4, rank=1))


case("OneHot", "positions per channel", classes, groups=(8,))


def scattered() -> onnx.ModelProto:
    """Scatter, as it was before ScatterElements."""
    net = Graph(10)
    x = net.conv("a", net.input("x", 2, 3, 5), 3, 8, rank=1)
    u = net.conv("u", net.input("z", 2, 3, 2), 3, 8, rank=1)
    index = np.broadcast_to(np.array([4, 1]), (2, 8, 2))
    y = net.node("Scatter", x, net.constant("index", index), u, axis=2)
    return net.done(net.conv("b", y, 8, 4, rank=1))


case("Scatter", "steps", scattered, groups=(8,))


def held() -> onnx.ModelProto:
    """Weights in Constant nodes."""
    net = Graph()
    x = net.node("MatMul", net.input("x", 2, 3), net.node("Constant", value=net.loose("W", 3, 8)), name="a")
    x = net.node("MatMul", net.relu(x), net.node("Constant", value=net.loose("V", 8, 4)), name="b")
    return net.done(x)


case("Constant", "weights", held, groups=(8,))


def contributed(op: str) -> onnx.ModelProto:
    """Operators of com.microsoft that have a twin in ONNX, on images."""
    net = Graph()
    x = net.conv("a", net.input("x", 2, 3, 6, 6), 3, 8)
    if op == "GridSample":
        grid = np.random.default_rng(0).uniform(-1, 1, (2, 4, 5, 2)).astype("f4")
        y = net.ms(op, x, net.constant("grid", grid))
    elif op == "CropAndResize":
        boxes = np.array([[0, 0, 0.5, 0.6], [0.2, 0.1, 0.9, 1]], "f4")
        owners, size = np.array([0, 1], "i4"), np.array([3, 4], "i4")
        y = net.ms(op, x, *(net.constant(f"c{k}", v) for k, v in enumerate((boxes, owners, size))))
    elif op == "GatherND":
        y = net.ms(op, x, net.constant("at", np.array([[1], [0]])))
    else:
        y = net.ms(op, x)
    return net.done(net.conv("b", y, 8, 4, kernel=1), rank=4)


for _op in ("CropAndResize", "GatherND", "GridSample", "SampleOp", "Trilu"):
    case(f"com.microsoft::{_op}", "images", contributed, _op, groups=(8,))


def pooled() -> onnx.ModelProto:
    """A channels-last pool between linear layers."""
    net = Graph()
    x = net.linear("a", net.input("x", 2, 4, 4, 3), 3, 8)
    y = net.known(net.ms("NhwcMaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 2, 2, 2, 8)
    return net.done(net.linear("head", y, 8, 4))


reference("com.microsoft::NhwcMaxPool", "images", pooled, groups=(8,))
