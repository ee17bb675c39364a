"""Small models that the fuzzer breaks: each holds a kind of structure that analysis follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

F, I = TensorProto.FLOAT, TensorProto.INT64

Arrays = dict[str, np.ndarray]


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node named after its first output; names are separated by blanks, ``-`` is an absent one."""
    sources, made = (["" if name == "-" else name for name in names.split()] for names in (inputs, outputs))
    return helper.make_node(op, sources, made, f"{op}_{made[0]}", **attributes)


def value(name: str, *shape: int | str, dtype: int = F) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def weights(**shapes: tuple[int, ...]) -> Arrays:
    rng = np.random.default_rng(len(shapes))
    return {name: (rng.standard_normal(shape) / 4).astype(np.float32) for name, shape in shapes.items()}


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def model(
    nodes: list[NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[str],
    stored: Arrays,
    opset: int = 17,
    functions: list[onnx.FunctionProto] | None = None,
    **shapes: tuple[int, ...],
) -> onnx.ModelProto:
    """A model; the outputs' shapes are those that inference finds, or are given by name."""
    graph = helper.make_graph(
        nodes,
        "seed",
        inputs,
        [helper.make_tensor_value_info(name, F, shapes.get(name)) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("own", 1)] if functions else [])
    made = helper.make_model(graph, opset_imports=imports, ir_version=9, functions=functions or [])
    for output, found in zip(
        made.graph.output, onnx.shape_inference.infer_shapes(made).graph.output, strict=True
    ):
        output.CopyFrom(found)
    return made


def residual() -> onnx.ModelProto:
    stored = weights(w0=(16, 3, 3, 3), w1=(16, 16, 3, 3), w2=(16, 16, 1, 1), b=(16,), f=(5, 16), g=(5,))
    stored |= {
        "scale": np.ones(16, np.float32),
        "shift": np.zeros(16, np.float32),
        "var": np.ones(16, np.float32),
    }
    return model(
        [
            node("Conv", "x w0 b", "c0", pads=[1, 1, 1, 1]), node("Relu", "c0", "r0"),
            node("Conv", "r0 w1", "c1", pads=[1, 1, 1, 1]),
            node("BatchNormalization", "c1 scale shift shift var", "n1"),
            node("Conv", "r0 w2", "c2"), node("Add", "n1 c2", "a"), node("Relu", "a", "r1"),
            node("GlobalAveragePool", "r1", "p"), node("Flatten", "p", "q", axis=1),
            node("Gemm", "q f g", "y", transB=1),
        ],
        [value("x", 1, 3, 8, 8)], ["y"], stored,
    )  # fmt: skip


def grouped() -> onnx.ModelProto:
    stored = weights(w0=(16, 3, 1, 1), w1=(16, 4, 3, 3), w2=(16, 1, 3, 3), w3=(4, 16, 1, 1))
    return model(
        [
            node("Conv", "x w0", "c0"), node("Conv", "c0 w1", "c1", group=4, pads=[1, 1, 1, 1]),
            node("Clip", "c1 low high", "r1"), node("Conv", "r1 w2", "c2", group=16, pads=[1, 1, 1, 1]),
            node("Sigmoid", "c2", "s"), node("Mul", "s c2", "m"), node("MaxPool", "m", "p", kernel_shape=[2, 2]),
            node("Conv", "p w3", "y"),
        ],
        [value("x", "N", 3, 8, 8)], ["y"],
        stored | {"low": np.float32(0) * np.ones((), np.float32), "high": np.full((), 6, np.float32)},
    )  # fmt: skip


def attention() -> onnx.ModelProto:
    stored = weights(q=(16, 16), k=(16, 16), v=(16, 16), o=(16, 16), up=(16, 32), down=(32, 16))
    stored |= {"heads": ints(0, 0, 4, 4), "flat": ints(0, 0, 16), "one": np.ones(16, np.float32)}
    nodes = [node("LayerNormalization", "x one", "n")]
    for name in "qkv":
        nodes += [
            node("MatMul", f"n {name}", f"{name}0"), node("Reshape", f"{name}0 heads", f"{name}1"),
            node("Transpose", f"{name}1", f"{name}2", perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]  # fmt: skip
    nodes += [
        node("MatMul", "q2 k2", "s"), node("Softmax", "s", "p", axis=-1), node("MatMul", "p v2", "c0"),
        node("Transpose", "c0", "c1", perm=[0, 2, 1, 3]), node("Reshape", "c1 flat", "c2"),
        node("MatMul", "c2 o", "c3"), node("Add", "x c3", "r"), node("MatMul", "r up", "u"),
        node("Relu", "u", "a"), node("MatMul", "a down", "d"), node("Add", "r d", "y"),
    ]  # fmt: skip
    return model(nodes, [value("x", "B", 6, 16)], ["y"], stored)


def recurrent() -> onnx.ModelProto:
    stored = weights(W=(1, 32, 6), R=(1, 32, 8), B=(1, 64), W2=(1, 24, 8), R2=(1, 24, 8), out=(8, 3))
    return model(
        [
            node("LSTM", "x W R B", "h0 - -", hidden_size=8), node("Squeeze", "h0 axis", "h1"),
            node("GRU", "h1 W2 R2", "g0 -", hidden_size=8), node("Squeeze", "g0 axis", "g1"),
            node("MatMul", "g1 out", "y"),
        ],
        [value("x", 5, 2, 6)], ["y"], stored | {"axis": ints(1)},
    )  # fmt: skip


def dynamic() -> onnx.ModelProto:
    stored = weights(w0=(16, 3, 3, 3), w1=(8, 16, 1, 1), f=(8, 4))
    stored |= {"zero": ints(0), "rest": ints(-1), "first": ints(0), "eight": ints(8), "flat": ints(0, -1)}
    return model(
        [
            node("Conv", "x w0", "c0", strides=[2, 2]), node("Relu", "c0", "r0"), node("Conv", "r0 w1", "c1"),
            node("Shape", "c1", "s"), node("Gather", "s first", "n", axis=0),
            node("Concat", "n eight rest", "t", axis=0), node("Reshape", "c1 t", "e"),
            node("ReduceMean", "e", "m", axes=[2], keepdims=0), node("MatMul", "m f", "y"),
        ],
        [value("x", "N", 3, "H", "W")], ["y"], stored,
    )  # fmt: skip


def pieces() -> onnx.ModelProto:
    stored = weights(w0=(16, 3, 1, 1), w1=(8, 8, 1, 1), w2=(4, 24, 1, 1))
    stored |= {
        "parts": ints(8, 8), "starts": ints(0), "ends": ints(8), "axes": ints(1), "steps": ints(1),
        "pads": ints(0, 0, 1, 1, 0, 0, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32),
        "repeats": ints(1, 1, 1, 1), "index": ints(*range(24)),
    }  # fmt: skip
    return model(
        [
            node("Conv", "x w0", "c0"), node("Split", "c0 parts", "a b", axis=1), node("Conv", "a w1", "c1"),
            node("Slice", "c0 starts ends axes steps", "d"), node("Concat", "c1 b d", "e", axis=1),
            node("Gather", "e index", "g", axis=1), node("Pad", "g pads", "h"),
            node("Resize", "h - scales", "i", mode="nearest"), node("Tile", "i repeats", "j"),
            node("Conv", "j w2", "k"), node("DepthToSpace", "k", "y", blocksize=2),
        ],
        [value("x", 1, 3, 4, 4)], ["y"], stored,
    )  # fmt: skip


def embedding() -> onnx.ModelProto:
    stored = weights(table=(20, 16), w=(16, 16), f=(16, 4))
    stored |= {"two": np.full((), 2, np.float32), "eps": np.full((), 1e-5, np.float32), "last": ints(-1),
               "shape": ints(1, 5, 16)}  # fmt: skip
    return model(
        [
            node("Gather", "table x", "e"), node("ReduceMean", "e", "m", axes=[-1]), node("Sub", "e m", "d"),
            node("Pow", "d two", "p"), node("ReduceMean", "p", "v", axes=[-1]), node("Add", "v eps", "u"),
            node("Sqrt", "u", "s"), node("Div", "d s", "n"), node("Einsum", "n w", "g", equation="bsi,io->bso"),
            node("Expand", "g shape", "h"), node("Cast", "h", "i", to=F), node("MatMul", "i f", "y"),
        ],
        [value("x", 1, 5, dtype=I)], ["y"], stored,
    )  # fmt: skip


def branches() -> onnx.ModelProto:
    def branch(op: str) -> onnx.GraphProto:
        inner = [node("MatMul", "h w1", "t"), node(op, "t", "o")]
        return helper.make_graph(inner, op, [], [helper.make_empty_tensor_value_info("o")])

    stored = weights(w0=(6, 16), w1=(16, 16), w2=(16, 3)) | {"limit": np.zeros((), np.float32)}
    return model(
        [
            node("MatMul", "x w0", "h"), node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s limit", "c"),
            node("If", "c", "i", then_branch=branch("Relu"), else_branch=branch("Tanh")),
            node("MatMul", "i w2", "y"),
        ],
        [value("x", 2, 6)], ["y"], stored,
    )  # fmt: skip


def loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("MatMul", "state w1", "t"), node("Tanh", "t", "next"), node("Identity", "go", "on")],
        "body",
        [value("k", dtype=I), value("go", dtype=TensorProto.BOOL), value("state", 2, 16)],
        [value("on", dtype=TensorProto.BOOL), value("next", 2, 16)],
    )
    stored = weights(w0=(6, 16), w1=(16, 16), w2=(16, 3)) | {"trips": np.array(3), "yes": np.array(True)}
    return model(
        [
            node("MatMul", "x w0", "h"),
            node("Loop", "trips yes h", "last", body=body),
            node("MatMul", "last w2", "y"),
        ],
        [value("x", 2, 6)],
        ["y"],
        stored,
        y=(2, 3),
    )


def scan() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("MatMul", "piece w1", "t"), node("Add", "t state", "next"), node("Identity", "next", "out")],
        "body",
        [value("state", 2, 16), value("piece", 2, 16)],
        [value("next", 2, 16), value("out", 2, 16)],
    )
    stored = weights(w0=(6, 16), w1=(16, 16), w2=(16, 3), start=(2, 16))
    return model(
        [node("MatMul", "x w0", "h"), node("Scan", "start h", "last all", body=body, num_scan_inputs=1),
         node("MatMul", "all w2", "y")],
        [value("x", 4, 2, 6)], ["y"], stored,
    )  # fmt: skip


def functions() -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    silu = helper.make_function(
        "own", "Silu", ["a"], ["b"], [node("Sigmoid", "a", "s"), node("Mul", "a s", "b")], imports
    )
    inner = NodeProto(op_type="Silu", domain="own", input=["c"], output=["d"], name="call")
    block = helper.make_function(
        "own", "Block", ["a", "w"], ["d"], [node("MatMul", "a w", "c"), inner], imports
    )
    calls = [
        NodeProto(op_type="Block", domain="own", input=[a, w], output=[b], name=f"call_{b}")
        for a, w, b in (("x", "w0", "h"), ("h", "w1", "i"))
    ]
    stored = weights(w0=(6, 16), w1=(16, 16), w2=(16, 3))
    return model(
        [*calls, node("MatMul", "i w2", "y")], [value("x", 2, 6)], ["y"], stored, functions=[silu, block]
    )


def quantized() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    stored: Arrays = {}
    nodes, x = [], "x"
    for k, (o, i) in enumerate(((16, 3), (16, 16), (4, 16))):
        stored |= {
            f"w{k}": rng.integers(-100, 100, (o, i, 1, 1)).astype(np.int8),
            f"s{k}": np.full(o, 0.01, np.float32), f"z{k}": np.zeros(o, np.int8),
            f"a{k}": np.full((), 0.1, np.float32), f"b{k}": np.full((), 128, np.uint8),
        }  # fmt: skip
        nodes += [
            node("QuantizeLinear", f"{x} a{k} b{k}", f"q{k}"), node("DequantizeLinear", f"q{k} a{k} b{k}", f"d{k}"),
            node("DequantizeLinear", f"w{k} s{k} z{k}", f"v{k}", axis=0), node("Conv", f"d{k} v{k}", f"c{k}"),
            node("Relu", f"c{k}", f"r{k}"),
        ]  # fmt: skip
        x = f"r{k}"
    return model(nodes, [value("x", 1, 3, 4, 4)], [x], stored)


def folded() -> onnx.ModelProto:
    """Weights that are computed from constants, as exporters leave them."""
    stored = weights(w0=(16, 3, 1, 1), w1=(4, 16, 1, 1))
    stored |= {"shape": ints(16), "n": np.array(16), "zero": np.array(0), "one": np.array(1),
               "to": ints(1, 16, 1, 1), "axes": ints(1, 2, 3)}  # fmt: skip
    return model(
        [
            node("ReduceMean", "w0", "mean", axes=[1, 2, 3]), node("Sub", "w0 mean", "w"),
            node("ConstantOfShape", "shape", "bias"), node("Range", "zero n one", "range"),
            node("Cast", "range", "ramp", to=F), node("Conv", "x w bias", "c0"),
            node("Reshape", "ramp to", "offset"), node("Expand", "offset to", "wide"),
            node("Add", "c0 wide", "a"), node("Relu", "a", "r"), node("Conv", "r w1", "y"),
        ],
        [value("x", 1, 3, 4, 4)], ["y"], stored,
    )  # fmt: skip


SEEDS: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        residual,
        grouped,
        attention,
        recurrent,
        dynamic,
        pieces,
        embedding,
        branches,
        loop,
        scan,
        functions,
        quantized,
        folded,
    )
}
