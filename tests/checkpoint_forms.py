"""Pairs of a state dict and an ONNX file, in the forms that exporters write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxprune.checkpoints.recipes import State

FEATURES = 6


class File:
    """An ONNX file in the making."""

    def __init__(self, shape: list[int | str]) -> None:
        self._shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def put(self, name: str, array: np.ndarray) -> str:
        self.stored.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> str:
        number = len(self.nodes)
        made = [f"t{number}" if outputs == 1 else f"t{number}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, [*inputs], made, name or f"n{number}", **attributes))
        return made[0]

    def model(self, result: str) -> bytes:
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, self._shape)
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        self.nodes.append(helper.make_node("Identity", [result], ["y"], "last"))
        graph = helper.make_graph(self.nodes, "case", [given], [out], self.stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model).SerializeToString()


def entries(**shapes: tuple[int, ...]) -> State:
    rng = np.random.default_rng(0)
    state = {}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape) if "var" not in name else rng.uniform(0.5, 2, shape)
        state[name.replace("__", ".")] = array.astype(np.float32)
    return state


CONV = entries(
    a__weight=(8, 3, 3, 3),
    a__bias=(8,),
    bn__weight=(8,),
    bn__bias=(8,),
    bn__running_mean=(8,),
    bn__running_var=(8,),
    b__weight=(4, 8, 1, 1),
    b__bias=(4,),
)

NORM = [f"bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def conv_named(s: State) -> bytes:
    f = File([1, 3, 5, 5])
    x = f.node("Conv", "x", f.put("a.weight", s["a.weight"]), f.put("a.bias", s["a.bias"]))
    x = f.node("BatchNormalization", x, *(f.put(name, s[name]) for name in NORM))
    x = f.node("Relu", x)
    return f.model(f.node("Conv", x, f.put("b.weight", s["b.weight"]), f.put("b.bias", s["b.bias"])))


def folded(s: State) -> tuple[np.ndarray, np.ndarray]:
    scale = s["bn.weight"] / np.sqrt(s["bn.running_var"] + np.float32(1e-5))
    weight = s["a.weight"] * scale[:, None, None, None]
    return weight, (s["a.bias"] - s["bn.running_mean"]) * scale + s["bn.bias"]


def conv_folded(s: State) -> bytes:
    """As the older exporter writes it: nothing bears a name that a checkpoint knows."""
    f = File([1, 3, 5, 5])
    weight, bias = folded(s)
    x = f.node("Conv", "x", f.put("onnx::Conv_11", weight), f.put("onnx::Conv_12", bias))
    x = f.node("Relu", x)
    return f.model(f.node("Conv", x, f.put("onnx::Conv_13", s["b.weight"]), f.put("14", s["b.bias"])))


def conv_misnamed(s: State) -> bytes:
    """As the newer exporter writes it: what is folded bears the name of the weight alone."""
    f = File([1, 3, 5, 5])
    weight, bias = folded(s)
    x = f.node("Conv", "x", f.put("a.weight", weight), f.put("a.weight_bias", bias))
    x = f.node("Relu", x)
    return f.model(f.node("Conv", x, f.put("b.weight", s["b.weight"]), f.put("b.bias", s["b.bias"])))


LINEAR = entries(up__weight=(8, FEATURES), up__bias=(8,), down__weight=(FEATURES, 8), down__bias=(FEATURES,))


def transposed(s: State) -> bytes:
    """Square matrices would be ambiguous by shape; values tell which way round they are."""
    f = File([2, FEATURES])
    x = f.node(
        "Add",
        f.node("MatMul", "x", f.put("onnx::MatMul_7", s["up.weight"].T)),
        f.put("up.bias", s["up.bias"]),
    )
    x = f.node("MatMul", f.node("Relu", x), f.put("val_3", s["down.weight"].T))
    return f.model(f.node("Add", x, f.put("down.bias", s["down.bias"])))


PACKED = entries(in_weight=(24, FEATURES), in_bias=(24,), out__weight=(FEATURES, 8))


def split(s: State) -> bytes:
    """One entry for q, k and v; three constants."""
    f = File([2, FEATURES])
    parts = zip(np.split(s["in_weight"], 3), np.split(s["in_bias"], 3), strict=True)
    q, k, v = (
        f.node("Add", f.node("MatMul", "x", f.put(f"w{n}", w.T)), f.put(f"b{n}", b))
        for n, (w, b) in enumerate(parts)
    )
    return f.model(f.node("MatMul", f.node("Mul", f.node("Mul", q, k), v), f.put("o", s["out.weight"].T)))


APART = entries(
    q__weight=(8, FEATURES),
    k__weight=(8, FEATURES),
    v__weight=(8, FEATURES),
    q__bias=(8,),
    k__bias=(8,),
    v__bias=(8,),
    out__weight=(FEATURES, 8),
)


def joined(s: State) -> bytes:
    """Three entries for q, k and v; one constant."""
    f = File([2, FEATURES])
    weight = np.concatenate([s[f"{n}.weight"] for n in "qkv"])
    x = f.node("MatMul", "x", f.put("w", weight.T))
    x = f.node("Add", x, f.put("b", np.concatenate([s[f"{n}.bias"] for n in "qkv"])))
    sizes = f.put("sizes", np.array([len(s[f"{n}.bias"]) for n in "qkv"], np.int64))
    first = f.node("Split", x, sizes, outputs=3, axis=1)
    k, v = first.replace("_0", "_1"), first.replace("_0", "_2")
    return f.model(f.node("MatMul", f.node("Mul", f.node("Mul", first, k), v), f.put("o", s["out.weight"].T)))


TABLE = entries(up__weight=(8, FEATURES), table=(5, 8), down__weight=(FEATURES, 8))


def gathered(s: State) -> bytes:
    """Rows of a table at constant places, as a relative position bias."""
    f = File([7, FEATURES])
    x = f.node("MatMul", "x", f.put("w", s["up.weight"].T))
    x = f.node("Add", x, f.put("place", s["table"][[0, 3, 1, 1, 4, 2, 0]]))
    return f.model(f.node("MatMul", f.node("Relu", x), f.put("o", s["down.weight"].T)))


KERAS = entries(
    stem__kernel=(3, 3, 3, 8),
    bn__gamma=(8,),
    bn__beta=(8,),
    bn__moving_mean=(8,),
    bn__moving_variance=(8,),
    wide__kernel=(3, 3, 8, 2),
    slope__alpha=(1, 1, 16),
    head__kernel=(16, 4),
    head__bias=(4,),
)


def keras(s: State) -> bytes:
    """As tf2onnx writes it: kernels with their axes moved or joined, a normalization as product and sum."""
    f = File([1, 3, 5, 5])
    scale = s["bn.gamma"] / np.sqrt(s["bn.moving_variance"] + np.float32(1e-3))
    shift = s["bn.beta"] - s["bn.moving_mean"] * scale
    x = f.node("Conv", "x", f.put("c1", s["stem.kernel"].transpose(3, 2, 0, 1)))
    x = f.node("Mul", x, f.put("c2", scale.reshape(1, -1, 1, 1)))
    x = f.node("Add", x, f.put("c3", shift.reshape(1, -1, 1, 1)))
    deep = s["wide.kernel"].transpose(2, 3, 0, 1)
    deep = deep.reshape(-1, 1, 3, 3)
    x = f.node("Conv", x, f.put("c4", deep), group=s["wide.kernel"].shape[2])
    down = f.node("Relu", f.node("Neg", x))
    down = f.node("Mul", down, f.put("c5", -s["slope.alpha"].transpose(2, 0, 1)))
    x = f.node("GlobalAveragePool", f.node("Add", f.node("Relu", x), down))
    return f.model(
        f.node("Gemm", f.node("Flatten", x), f.put("c6", s["head.kernel"]), f.put("c7", s["head.bias"]))
    )


BIASES = entries(w=(24, FEATURES), q=(8,), v=(8,), out__weight=(FEATURES, 8))


def keyless(s: State) -> bytes:
    """Queries and values have a bias, and keys one of zeros that no entry holds."""
    f = File([2, FEATURES])
    x = f.node("MatMul", "x", f.put("w", s["w"].T))
    bias = np.concatenate([s["q"], np.zeros_like(s["q"]), s["v"]])
    x = f.node("Add", x, f.put("b", bias))
    sizes = f.put("sizes", np.array([len(s["q"])] * 3))
    q = f.node("Split", x, sizes, outputs=3, axis=1)
    k, v = q.replace("_0", "_1"), q.replace("_0", "_2")
    return f.model(f.node("MatMul", f.node("Mul", f.node("Mul", q, k), v), f.put("o", s["out.weight"].T)))


ROWS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

RECURRENT = entries(
    up__weight=(8, FEATURES),
    **{f"r__{name}{end}": (24, 8)[: 1 + ("weight" in name)] for end in ("", "_back") for name in ROWS},
    down__weight=(FEATURES, 16),
)


def directions(s: State) -> bytes:
    """A recurrent layer in both directions: gates in another order, biases of both kinds side by side."""

    def gates(name: str) -> np.ndarray:
        reset, update, new = np.split(s[f"r.{name}"], 3)
        return np.concatenate([update, reset, new])

    f = File([5, 2, FEATURES])
    sides = [[gates(name + end) for name in ROWS] for end in ("", "_back")]
    size = sides[0][1].shape[1]
    w, r = (f.put(f"w{k}", np.stack([side[k] for side in sides])) for k in range(2))
    b = f.put("b", np.stack([np.concatenate(side[2:]) for side in sides]))
    x = f.node("MatMul", "x", f.put("u", s["up.weight"].T))
    x = f.node("GRU", x, w, r, b, hidden_size=size, direction="bidirectional", linear_before_reset=1)
    x = f.node("Transpose", x, perm=[0, 2, 1, 3])
    x = f.node("Reshape", x, f.put("shape", np.array([5, 2, 2 * size])))
    return f.model(f.node("MatMul", x, f.put("o", s["down.weight"].T)))


LENGTHS = entries(
    a__weight_g=(8, 1, 1, 1), a__weight_v=(8, 3, 3, 3), b__weight_g=(4, 1, 1, 1), b__weight_v=(4, 8, 1, 1)
)


def lengths(s: State) -> bytes:
    """Weights of a direction and a length, as exporters fold them."""
    f, x = File([1, 3, 5, 5]), "x"
    for n in "ab":
        v, g = s[f"{n}.weight_v"], s[f"{n}.weight_g"]
        weight = v * (g / np.sqrt(np.square(v).sum((1, 2, 3), keepdims=True)))
        x = f.node("Relu", f.node("Conv", x, f.put(f"onnx::Conv_{n}", weight)))
    return f.model(x)


def computed(s: State) -> bytes:
    """The same, as exporters leave them: the network computes its weights."""
    f, x = File([1, 3, 5, 5]), "x"
    for n in "ab":
        v, g = f.put(f"{n}.weight_v", s[f"{n}.weight_v"]), f.put(f"{n}.weight_g", s[f"{n}.weight_g"])
        norm = f.node("ReduceL2", v, axes=[1, 2, 3], keepdims=1)
        x = f.node("Relu", f.node("Conv", x, f.node("Mul", v, f.node("Div", g, norm))))
    return f.model(x)


COLUMNS = entries(up__weight=(12, FEATURES), left=(FEATURES, 5), right=(FEATURES, 11))


def columns(s: State) -> bytes:
    """All columns of one entry, and some of another, side by side in a constant that is transposed."""
    f = File([2, FEATURES])
    x = f.node("Relu", f.node("MatMul", "x", f.put("w", s["up.weight"].T)))
    some = s["right"][:, 4 : 4 + len(s["up.weight"]) - s["left"].shape[1]]
    return f.model(f.node("MatMul", x, f.put("v", np.concatenate([s["left"], some], 1).T)))


class Case(NamedTuple):
    """A checkpoint, its exporter, how many entries are cut, and which one is not merely cut: a norm shrinks."""

    state: State
    export: Callable[[State], bytes]
    cut: int
    changed: str = ""


CASES = {
    "named": Case(CONV, conv_named, 7),
    "folded": Case(CONV, conv_folded, 7),
    "misnamed": Case(CONV, conv_misnamed, 7),
    "transposed": Case(LINEAR, transposed, 3),
    "split": Case(PACKED, split, 3),
    "joined": Case(APART, joined, 7),
    "gathered": Case(TABLE, gathered, 3),
    "keras": Case(KERAS, keras, 8),
    "directions": Case(RECURRENT, directions, 10),
    "lengths": Case(LENGTHS, lengths, 3, "b.weight_v"),
    "computed": Case(LENGTHS, computed, 3, "b.weight_v"),
    "keyless": Case(BIASES, keyless, 4),
    "columns": Case(COLUMNS, columns, 3),
}
