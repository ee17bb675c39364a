"""Signals, and tensors made from scalars, shapes, seeds or positions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from .building import Case
from .building_nodes import Graph, enter, microsoft, signal

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)


case("DFT", "newer", signal, "DFT", [], np.array(2), groups=(6,))
case("DFT", "older", signal, "DFT", opset=17, axis=2, groups=(6,))
case("Trilu", "matrices", signal, "Trilu", upper=0, groups=(6,))
reference("CumProd", "steps", signal, "CumProd", np.array(2), opset=26, groups=(6,))
reference("CumProd", "channels", signal, "CumProd", np.array(1), opset=26, groups=(6,))


def determinants() -> onnx.ModelProto:
    """Determinant of the images of all channels."""
    net = Graph()
    x = net.node("Det", net.conv("a", net.input("x", 2, 3, 4, 4), 3, 8))
    return net.done(net.linear("head", x, 8, 4))


case("Det", "matrices", determinants, groups=(8,))


def spectrogram(**attributes: Any) -> onnx.ModelProto:
    """A given signal in frames with a window, then a mel filter bank; layers read its bins."""
    net = Graph()
    window = net.node("HannWindow", net.constant("size", np.array(8)))
    y = net.node("STFT", net.input("x", 2, 32, 1), net.constant("step", np.array(4)), window, **attributes)
    y = net.node("Gather", y, net.constant("real", np.array(0)), axis=3)
    sizes = [net.constant(f"m{k}", np.array(v)) for k, v in enumerate((6, 8, 1000))]
    edges = [net.constant(f"e{k}", np.array(v, "f4")) for k, v in enumerate((0.0, 400.0))]
    y = net.node("MatMul", y, net.node("MelWeightMatrix", *sizes, *edges))
    return net.done(net.linear("head", net.relu(net.linear("a", y, 6, 8)), 8, 4), rank=3)


case("STFT", "spectrogram", spectrogram, onesided=1, groups=(6, 8))


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


def unit_matrix() -> onnx.ModelProto:
    """A diagonal of the shape of a computed matrix, which blocks that matrix alone."""
    net = Graph()
    x = net.input("x", 6, 6)
    y = net.node("MatMul", net.node("EyeLike", net.linear("shape", x, 6, 6)), x)
    return net.done(net.linear("head", net.relu(net.linear("a", y, 6, 8)), 8, 4))


case(
    "EyeLike", "diagonal", unit_matrix, blocked={"shape.matmul": "makes a diagonal of its size"}, groups=(8,)
)
case("com.microsoft::Trilu", "images", microsoft, "Trilu", groups=(8,))
