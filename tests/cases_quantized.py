"""Small quantised graphs, one or more per operator: (operator, name, builder).

Weights use 7 of their 8 bits: with all of them onnxruntime's kernels for older processors add
neighbouring products in 16 bits and saturate, so that sums depend on which channels are neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Builder = Callable[[], onnx.ModelProto]
CASES: list[tuple[str, str, Builder]] = []
FLOATING: set[tuple[str, str]] = set()
"""Rows whose arithmetic is floating: exact to rounding, all others bit for bit."""

MS = "com.microsoft"


def case(op: str, name: str, /, *, floating: bool = False, **options: Any) -> Callable[[Callable[..., Graph]], Callable[..., Graph]]:  # fmt: skip
    """Enter a graph into the table, once per use; the function stays what it is."""

    def enter(build: Callable[..., Graph]) -> Callable[..., Graph]:
        CASES.append((op, name, lambda: build(**options).model()))
        if floating:
            FLOATING.add((op, name))
        return build

    return enter


class Graph:
    """Collects nodes; constants and results are passed around as names."""

    def __init__(self, opset: int = 21) -> None:
        self.opset = opset
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.result = ""

    def input(self, *shape: int | str, dtype: int = TensorProto.FLOAT) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def store(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(value).astype(dtype), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{op.lower()}{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, names[0], **attributes))
        return names[0] if outputs == 1 else names

    def ms(self, op: str, *inputs: str, **attributes: Any) -> str:
        return str(self.node(op, *inputs, domain=MS, **attributes))

    def floats(self, *shape: int, scale: float = 1.0) -> str:
        return self.store(self.random.normal(0, scale, shape))

    def integers(self, *shape: int, dtype: npt.DTypeLike = np.int8) -> str:
        """Weights of 7 bits, around 128 where they are unsigned."""
        middle = 128 if np.dtype(dtype) == np.uint8 else 0
        return self.store(self.random.integers(-60, 61, shape) + middle, dtype)

    def scale(self, *shape: int, size: float = 0.02) -> str:
        return self.store(self.random.uniform(0.5, 1.5, shape) * size)

    def point(self, value: int = 0, dtype: npt.DTypeLike = np.uint8) -> str:
        return self.store(value, dtype)

    def quantized(self, x: str, size: float = 0.05, zero: int = 100, dtype: npt.DTypeLike = np.uint8) -> tuple[str, str, str]:  # fmt: skip
        """A tensor with its scale and zero point."""
        parameters = self.store(size), self.point(zero, dtype)
        return str(self.node("QuantizeLinear", x, *parameters)), *parameters

    def numbers(self, x: tuple[str, str, str]) -> str:
        return str(self.node("DequantizeLinear", *x))

    def qconv(self, x: tuple[str, str, str], inputs: int, outputs: int, group: int = 1, channelwise: bool = True, dtype: npt.DTypeLike = np.uint8) -> tuple[str, str, str]:  # fmt: skip
        """QLinearConv 3x3 with a bias, of weights with zero points other than 0."""
        weight = self.integers(outputs, inputs // group, 3, 3)
        shape = (outputs,) if channelwise else ()
        parameters = self.scale(*shape), self.store(np.zeros(shape) if channelwise else 3, np.int8)
        result = self.store(0.1), self.point(90, dtype)
        bias = self.store(self.random.integers(-500, 500, outputs), np.int32)
        y = self.node("QLinearConv", *x, weight, *parameters, *result, bias, group=group, pads=[1] * 4)  # fmt: skip
        return str(y), *result

    def qmatmul(self, x: tuple[str, str, str], inputs: int, outputs: int) -> tuple[str, str, str]:
        weight = self.integers(inputs, outputs)
        parameters = self.scale(outputs), self.store(np.zeros(outputs), np.int8)
        result = self.store(0.2), self.point(110)
        return str(self.node("QLinearMatMul", *x, weight, *parameters, *result)), *result

    def done(self, result: str) -> Graph:
        self.result = result
        return self

    def model(self) -> onnx.ModelProto:
        output = helper.make_empty_tensor_value_info(self.result)
        graph = helper.make_graph(self.nodes, "case", self.inputs, [output], self.stored)
        domains = sorted({n.domain for n in self.nodes} - {""})
        opsets = [("", self.opset), *((d, 1) for d in domains)]
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=10
        )
        found = onnx.shape_inference.infer_shapes(model).graph.output[0]
        if not found.type.tensor_type.HasField("shape"):  # behind an operator of onnxruntime
            rank = len(self.inputs[0].type.tensor_type.shape.dim)
            found = helper.make_tensor_value_info(self.result, TensorProto.FLOAT, [None] * rank)
        model.graph.output[0].CopyFrom(found)
        return model


# Quantise and dequantise -------------------------------------------------------------------------


@case("DequantizeLinear", "weights and activations per tensor", channelwise=False)
@case("DequantizeLinear", "weights per channel")
@case("QuantizeLinear", "int8 activations", dtype=np.int8, zero=-20)
def fake_quantized(channelwise: bool = True, dtype: npt.DTypeLike = np.uint8, zero: int = 100) -> Graph:  # fmt: skip
    """Conv, Relu, Conv with QuantizeLinear and DequantizeLinear around every operator."""
    g = Graph()
    x = g.numbers(g.quantized(g.input("N", 3, 8, 8), zero=zero, dtype=dtype))
    for inputs, outputs in ((3, 16), (16, 12), (12, 5)):
        scale, shape = 0.02, (outputs,) if channelwise else ()
        weight = (g.integers(outputs, inputs, 3, 3), g.scale(*shape, size=scale), g.store(np.zeros(shape), np.int8))  # fmt: skip
        parameters = weight[1], g.store(np.zeros(shape), np.int32)
        bias = g.store(g.random.integers(-20, 20, outputs), np.int32), *parameters
        numbers = [g.node("DequantizeLinear", *w, axis=0) for w in (weight, bias)]
        x = g.node("Relu", g.node("Conv", x, *numbers, pads=[1] * 4))
        x = g.numbers(g.quantized(x, size=0.2, zero=zero, dtype=dtype))
    return g.done(g.node("GlobalAveragePool", x))


@case("QuantizeLinear", "behind one of two parts", floating=True)
def partly_quantized() -> Graph:
    g = Graph()
    x = g.node("MatMul", g.numbers(g.quantized(g.input("N", 6))), g.floats(6, 24))
    a, b = g.node("Split", x, g.store([12, 12], np.int64), axis=1, outputs=2)
    a = g.numbers(g.quantized(g.node("Relu", a)))
    return g.done(g.node("Add", g.node("MatMul", a, g.floats(12, 4)), g.node("MatMul", b, g.floats(12, 4))))  # fmt: skip


@case("QuantizeLinear", "one scale per channel of an activation", floating=True)
def activation_per_channel() -> Graph:
    g = Graph()
    x = g.node("Conv", g.input("N", 3, 8, 8), g.floats(16, 3, 3, 3, scale=0.3))
    parameters = g.scale(16, size=0.05), g.store(g.random.integers(90, 130, 16), np.uint8)
    x = g.node("QuantizeLinear", x, *parameters, axis=1)
    x = g.node("DequantizeLinear", x, *parameters, axis=1)
    return g.done(g.node("Conv", x, g.floats(4, 16, 1, 1)))


@case("QuantizeLinear", "weights stored as floats", floating=True)
def weights_stored_as_floats() -> Graph:
    g = Graph()
    x = g.input("N", 6)
    for inputs, outputs in ((6, 16), (16, 4)):
        parameters = g.scale(outputs), g.store(np.zeros(outputs), np.int8)
        w = g.node("QuantizeLinear", g.floats(inputs, outputs), *parameters, axis=1)
        x = g.node("MatMul", x, g.node("DequantizeLinear", w, *parameters, axis=1))
    return g.done(x)


@case("com.microsoft::DequantizeLinear", "16 bits", floating=True)
@case("com.microsoft::QuantizeLinear", "16 bits", floating=True)
def sixteen_bits() -> Graph:
    g = Graph(17)
    x = g.input("N", 6)
    for inputs, outputs in ((6, 16), (16, 4)):
        w = g.store(g.random.integers(-9000, 9000, (inputs, outputs)), np.int16)
        w = g.ms("DequantizeLinear", w, g.scale(outputs, size=1e-4), g.store(np.zeros(outputs), np.int16), axis=1)  # fmt: skip
        x = g.node("MatMul", x, w)
        parameters = g.store(1e-3), g.store(40000, np.uint16)
        x = g.ms("DequantizeLinear", g.ms("QuantizeLinear", x, *parameters), *parameters)
    return g.done(x)


@case("DequantizeLinear", "blocks of inputs", axis=0, floating=True)
@case("DequantizeLinear", "blocks of outputs", axis=1, floating=True)
@case(
    "DequantizeLinear",
    "blocks of int4",
    axis=0,
    dtype=ml_dtypes.int4,
    low=-8,
    high=8,
    floating=True,
)
@case(
    "DequantizeLinear",
    "blocks of uint4",
    axis=0,
    dtype=ml_dtypes.uint4,
    low=0,
    high=16,
    floating=True,
)
def blocked_weights(axis: int, dtype: npt.DTypeLike = np.int8, low: int = -60, high: int = 60) -> Graph:  # fmt: skip
    """Three products whose weights have a scale for every 8 entries of an axis."""
    g = Graph()
    x = g.input("N", 16)
    for inputs, outputs in ((16, 64), (64, 32), (32, 8)):
        w = g.store(g.random.integers(low, high, (inputs, outputs)), dtype)
        count = [inputs, outputs]
        count[axis] //= 8
        zeros = g.store(g.random.integers(max(low, -8) // 2, min(high, 8) // 2, count), dtype)
        parameters = g.scale(*count), zeros
        x = g.node("MatMul", x, g.node("DequantizeLinear", w, *parameters, axis=axis, block_size=8))
    return g.done(x)


@case("DequantizeLinear", "int4 per tensor", dtype=ml_dtypes.int4, floating=True)
@case("DequantizeLinear", "float8 weights", dtype=ml_dtypes.float8_e4m3fn, floating=True)
def short_weights(dtype: npt.DTypeLike) -> Graph:
    g = Graph()
    x = g.input("N", 7)
    for inputs, outputs in ((7, 15), (15, 9), (9, 3)):
        w = g.store(g.random.integers(-7, 8, (inputs, outputs)), dtype)
        x = g.node("Relu", g.node("MatMul", x, g.node("DequantizeLinear", w, g.scale())))
    return g.done(x)


@case("QuantizeLinear", "float8 activations", floating=True)
def float8_activations() -> Graph:
    g = Graph()
    x = g.node("MatMul", g.input("N", 6), g.floats(6, 16))
    parameters = g.store(0.02), g.store(0, ml_dtypes.float8_e4m3fn)
    x = g.node("DequantizeLinear", g.node("QuantizeLinear", x, *parameters), *parameters)
    return g.done(g.node("MatMul", x, g.floats(16, 4)))


@case("DynamicQuantizeLinear", "between convolutions")
@case("ConvInteger", "one scale")
def dynamic_convolution() -> Graph:
    """What ``quantize_dynamic`` writes: integers, Cast, Mul by both scales, Add."""
    g = Graph()
    x = g.input("N", 3, 8, 8)
    for inputs, outputs in ((3, 16), (16, 6)):
        q, scale, zero = g.node("DynamicQuantizeLinear", x, outputs=3)
        w = g.integers(outputs, inputs, 3, 3, dtype=np.uint8), zero, g.point(125)
        y = g.node("Cast", g.node("ConvInteger", q, *w), to=TensorProto.FLOAT)
        y = g.node("Mul", y, g.node("Mul", scale, g.scale()))
        x = g.node("Relu", g.node("Add", y, g.floats(1, outputs, 1, 1, scale=0.2)))
    return g.done(x)


@case("MatMulInteger", "one scale per column")
def dynamic_product() -> Graph:
    g = Graph()
    x = g.input("N", 4, 10)
    for inputs, outputs in ((10, 24), (24, 12), (12, 5)):
        q, scale, zero = g.node("DynamicQuantizeLinear", x, outputs=3)
        b_zero = g.store(np.zeros(outputs), np.int8)
        y = g.node("MatMulInteger", q, g.integers(inputs, outputs), zero, b_zero)
        y = g.node("Cast", y, to=TensorProto.FLOAT)
        x = g.node("Mul", y, g.node("Mul", scale, g.scale(outputs)))
    return g.done(x)


@case("com.microsoft::MatMulIntegerToFloat", "with a bias")
def product_to_floats() -> Graph:
    g = Graph()
    x = g.input("N", 10)
    for inputs, outputs in ((10, 24), (24, 5)):
        q, scale, zero = g.node("DynamicQuantizeLinear", x, outputs=3)
        parameters = g.scale(outputs), zero, g.store(np.zeros(outputs), np.int8)
        bias = g.floats(outputs)
        x = g.ms("MatMulIntegerToFloat", q, g.integers(inputs, outputs), scale, *parameters, bias)
    return g.done(x)


@case("com.microsoft::DynamicQuantizeMatMul", "one scale per column", channelwise=True)
@case("com.microsoft::DynamicQuantizeMatMul", "one scale")
def dynamic_quantize_matmul(channelwise: bool = False) -> Graph:
    g = Graph()
    x = g.input("N", 10)
    for inputs, outputs in ((10, 24), (24, 5)):
        shape = (outputs,) if channelwise else ()
        parameters = g.scale(*shape), g.store(np.zeros(shape), np.int8), g.floats(outputs)
        x = g.ms("DynamicQuantizeMatMul", x, g.integers(inputs, outputs), *parameters)
    return g.done(x)


# Integer convolutions and products ---------------------------------------------------------------


@case("QLinearConv", "one scale", channelwise=False)
@case("QLinearConv", "one scale per kernel")
@case("QLinearConv", "depthwise", middle=16)
@case("QLinearConv", "grouped", middle=4)
@case("QLinearConv", "int8", dtype=np.int8)
def convolutions(channelwise: bool = True, middle: int = 1, dtype: npt.DTypeLike = np.uint8) -> Graph:  # fmt: skip
    g = Graph()
    x = g.quantized(g.input("N", 3, 8, 8), zero=70, dtype=dtype)
    x = g.qconv(x, 3, 16, channelwise=channelwise, dtype=dtype)
    x = g.qconv(x, 16, 16, group=middle, channelwise=channelwise, dtype=dtype)
    return g.done(g.numbers(g.qconv(x, 16, 4, channelwise=channelwise, dtype=dtype)))


@case("QLinearConv", "views and pools of integers")
def moved_integers() -> Graph:
    """A zero point is handed on by operators that only move what is quantised."""
    g = Graph()
    x, *parameters = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    a, b = g.node("Split", x, g.store([8, 8], np.int64), axis=1, outputs=2)
    x = g.node("Transpose", g.node("Concat", b, a, axis=1), perm=[0, 2, 3, 1])
    x = g.node("Reshape", x, g.store([0, 16, 16], np.int64))
    return g.done(g.numbers(g.qmatmul((x, *parameters), 16, 6)))


@case("QLinearMatMul", "stored weights")
def products() -> Graph:
    g = Graph()
    x = g.qmatmul(g.quantized(g.input("N", 5, 12)), 12, 24)
    return g.done(g.numbers(g.qmatmul(g.qmatmul(x, 24, 16), 16, 6)))


@case("QLinearMatMul", "two activations")
def product_of_activations() -> Graph:
    """Queries times keys, in heads."""
    g = Graph()
    x = g.quantized(g.input("N", 5, 12))
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1]):
        y, *parameters = g.qmatmul(x, 12, 24)
        y = g.node("Reshape", y, g.store([0, 0, 4, 6], np.int64))
        heads += [g.node("Transpose", y, perm=perm), *parameters]
    y = g.node("QLinearMatMul", *heads, g.store(2.0), g.point(128))
    y = g.node("DequantizeLinear", y, g.store(2.0), g.point(128))
    return g.done(g.node("ReduceSum", y, g.store([1], np.int64), keepdims=0))


@case("com.microsoft::QGemm", "float result", quantized=False)
@case("com.microsoft::QGemm", "transposed weight", transB=1)
@case("com.microsoft::QGemm", "integer result")
def gemm(quantized: bool = True, transB: int = 0) -> Graph:
    g = Graph()
    x = g.quantized(g.input(3, 12))
    for inputs, outputs in ((12, 24), (24, 6)):
        w = g.integers(*((outputs, inputs) if transB else (inputs, outputs)))
        parameters = g.scale(outputs), g.store(np.zeros(outputs), np.int8)
        c = g.store(g.random.integers(-500, 500, outputs), np.int32)
        result = (g.store(0.3), g.point(100)) if quantized else ()
        y = g.ms("QGemm", *x, w, *parameters, c, *result, transB=transB)
        x = (y, *result) if quantized else g.quantized(y)
    return g.done(g.numbers(x))


# Integer operators of onnxruntime ----------------------------------------------------------------


@case("com.microsoft::QLinearAdd", "residual", op="QLinearAdd")
@case("com.microsoft::QLinearMul", "gate", op="QLinearMul")
def two_branches(op: str) -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    y = g.qconv(x, 16, 16)
    result = g.store(0.15), g.point(77)
    y = (g.ms(op, *x, *y, *result), *result)
    y = (g.ms(op, *y, g.integers(1, 16, 1, 1, dtype=np.uint8), *result, *result), *result)
    return g.done(g.numbers(g.qconv(y, 16, 4)))


@case("com.microsoft::QLinearSigmoid", "between convolutions", op="QLinearSigmoid")
@case("com.microsoft::QLinearLeakyRelu", "between convolutions", op="QLinearLeakyRelu", alpha=0.1)
@case("com.microsoft::QLinearAveragePool", "between convolutions", op="QLinearAveragePool", kernel_shape=[2, 2], pads=[1, 0, 0, 1])  # fmt: skip
@case("com.microsoft::QLinearGlobalAveragePool", "between convolutions", op="QLinearGlobalAveragePool", channels_last=0)  # fmt: skip
def one_branch(op: str, **attributes: Any) -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    result = g.store(0.05), g.point(60)
    y = (g.ms(op, *x, *result, **attributes), *result)
    return g.done(g.numbers(g.qconv(y, 16, 4)))


@case("com.microsoft::QLinearSoftmax", "along pixels")
def softmax() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    result = g.store(1 / 256), g.point(0)
    y = (g.ms("QLinearSoftmax", *x, *result, axis=-1, opset=13), *result)
    return g.done(g.numbers(g.qconv(y, 16, 4)))


@case("com.microsoft::QLinearConcat", "two scales")
def concatenation() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    y = g.qconv(x, 16, 8)
    result = g.store(0.12), g.point(80)
    z = (g.ms("QLinearConcat", *result, *x, *y, axis=1), *result)
    return g.done(g.numbers(g.qconv(z, 24, 4)))


@case("com.microsoft::QLinearWhere", "two branches")
def choice() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    y = g.qconv(x, 16, 16)
    result = g.store(0.12), g.point(80)
    condition = g.store(g.random.random((1, 16, 8, 8)) < 0.5, np.bool_)
    z = (g.ms("QLinearWhere", condition, *x, *y, *result), *result)
    return g.done(g.numbers(g.qconv(z, 16, 4)))


# Packed weights ----------------------------------------------------------------------------------


@case("com.microsoft::MatMulNBits", "4 bits", floating=True)
@case("com.microsoft::MatMulNBits", "8 bits", bits=8, floating=True)
@case("com.microsoft::MatMulNBits", "packed zero points", zeros="packed", floating=True)
@case(
    "com.microsoft::MatMulNBits",
    "float zero points and a bias",
    zeros="float",
    bias=True,
    floating=True,
)
@case("com.microsoft::MatMulNBits", "flat scales", zeros="packed", flat=True, floating=True)
def packed(bits: int = 4, zeros: str = "", bias: bool = False, flat: bool = False) -> Graph:
    g = Graph()
    x = g.input("N", 48)
    for K, N in ((48, 80), (80, 96), (96, 7)):
        x = nbits(g, x, (K, N), bits, zeros, bias, flat)
    return g.done(x)


def nbits(g: Graph, x: str, sizes: tuple[int, int], bits: int, zeros: str, bias: bool, flat: bool) -> str:  # fmt: skip
    """MatMulNBits with blocks of 16 rows."""
    K, N = sizes
    count, each = K // 16, 8 // bits
    b = g.store(g.random.integers(0, 256, (N, count, 16 // each)), np.uint8)
    shape = (N * count,) if flat else (N, count)
    inputs = [x, b, g.store(g.random.uniform(0.5, 1.5, shape) * 0.01), "", "", ""]
    if zeros == "float":
        inputs[3] = g.store(g.random.uniform(7, 9, shape))
    elif zeros:
        width = -(-count // each)
        inputs[3] = g.store(g.random.integers(0, 256, (N * width,) if flat else (N, width)), np.uint8)  # fmt: skip
    if bias:
        inputs[5] = g.floats(N)
    while not inputs[-1]:
        inputs.pop()
    return g.ms("MatMulNBits", *inputs, K=K, N=N, bits=bits, block_size=16)


def names() -> Sequence[str]:
    """One name per row, for test reports."""
    return [f"{op}-{name}".replace(" ", "-") for op, name, _ in CASES]
