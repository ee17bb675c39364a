"""Quantised operators of onnxruntime."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .building import Case
from .building_quantized import MS, Graph, enter

CASES: list[Case] = []

case = partial(enter, CASES)


@case("com.microsoft::DequantizeLinear", "16 bits", (16,), floating=True)
@case("com.microsoft::QuantizeLinear", "16 bits", (16,), floating=True)
def sixteen_bits() -> Graph:
    g = Graph(17)
    x = g.input("N", 6)
    for inputs, outputs in ((6, 16), (16, 4)):
        w = g.store(g.random.integers(-9000, 9000, (inputs, outputs)), np.int16)
        w = g.ms(
            "DequantizeLinear", w, g.scale(outputs, size=1e-4), g.store(np.zeros(outputs), np.int16), axis=1
        )
        x = g.node("MatMul", x, w)
        parameters = g.store(1e-3), g.store(40000, np.uint16)
        x = g.ms("DequantizeLinear", g.ms("QuantizeLinear", x, *parameters), *parameters)
    return g.done(x)


@case("com.microsoft::MatMulIntegerToFloat", "with a bias", (24,))
def product_to_floats() -> Graph:
    g = Graph()
    x = g.input("N", 10)
    for inputs, outputs in ((10, 24), (24, 5)):
        q, scale, zero = g.node("DynamicQuantizeLinear", x, outputs=3)
        parameters = g.scale(outputs), zero, g.store(np.zeros(outputs), np.int8)
        bias = g.floats(outputs)
        x = g.ms("MatMulIntegerToFloat", q, g.integers(inputs, outputs), scale, *parameters, bias)
    return g.done(x)


@case("com.microsoft::DynamicQuantizeMatMul", "one scale per column", (24,), channelwise=True)
@case("com.microsoft::DynamicQuantizeMatMul", "one scale", (24,))
def dynamic_quantize_matmul(channelwise: bool = False) -> Graph:
    g = Graph()
    x = g.input("N", 10)
    for inputs, outputs in ((10, 24), (24, 5)):
        shape = (outputs,) if channelwise else ()
        parameters = g.scale(*shape), g.store(np.zeros(shape), np.int8), g.floats(outputs)
        x = g.ms("DynamicQuantizeMatMul", x, g.integers(inputs, outputs), *parameters)
    return g.done(x)


@case("com.microsoft::DynamicQuantizeLSTM", "one scale", (12, 12), floating=True)
@case("com.microsoft::DynamicQuantizeLSTM", "one scale per gate", (12, 12), floating=True, each=True)
@case("com.microsoft::DynamicQuantizeLSTM", "both directions", (12, 12), floating=True, directions=2)
def dynamic_quantize_lstm(directions: int = 1, each: bool = False) -> Graph:
    """Two layers with their outputs of all steps, in front of a product."""
    g, D = Graph(), directions
    x, inputs = g.input("T", "N", 6), 6
    for hidden in (12, 12):
        shape = (D, 4 * hidden) if each else (D,)
        weights = g.integers(D, inputs, 4 * hidden), g.integers(D, hidden, 4 * hidden)
        zero = g.store(np.full(shape, 3 * (shape == (1,))), np.int8)
        parameters = [g.scale(*shape, size=0.01), zero, g.scale(*shape, size=0.01), zero]
        direction = {"direction": "bidirectional"} if D == 2 else {}
        y, *_ = g.node(
            "DynamicQuantizeLSTM", x, *weights, g.floats(D, 8 * hidden), "", "", "", "", *parameters,
            domain=MS, outputs=3, hidden_size=hidden, **direction,
        )  # fmt: skip
        t = g.node("Transpose", y, perm=[0, 2, 1, 3])
        x, inputs = g.node("Reshape", t, g.store([0, 0, D * hidden], np.int64)), D * hidden
    return g.done(g.node("MatMul", x, g.floats(inputs, 5)))


@case("com.microsoft::QGemm", "float result", (24,), quantized=False)
@case("com.microsoft::QGemm", "transposed weight", (24,), transB=1)
@case("com.microsoft::QGemm", "integer result", (24,))
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


@case("com.microsoft::QLinearAdd", "residual", (16,), op="QLinearAdd")
@case("com.microsoft::QLinearMul", "gate", (16,), op="QLinearMul")
def two_branches(op: str) -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    y = g.qconv(x, 16, 16)
    result = g.store(0.15), g.point(77)
    y = (g.ms(op, *x, *y, *result), *result)
    y = (g.ms(op, *y, g.integers(1, 16, 1, 1, dtype=np.uint8), *result, *result), *result)
    return g.done(g.numbers(g.qconv(y, 16, 4)))


def between_convolutions(
    op: str, name: str, groups: tuple[int, ...] = (16,), blocked: dict[str, str] | None = None, **options: Any
) -> None:
    """Enter an operator with one input, between two convolutions."""
    enter(CASES, f"{MS}::{op}", name, groups, op=op, blocked=blocked or {}, **options)(one_branch)


def one_branch(op: str, scale: float = 0.05, point: int = 60, **attributes: Any) -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    result = g.store(scale), g.point(point)
    y = (g.ms(op, *x, *result, **attributes), *result)
    return g.done(g.numbers(g.qconv(y, 16, 4)))


BESIDE = "between convolutions"
PROBABILITIES: dict[str, Any] = {"scale": 1 / 256, "point": 0, "opset": 13}

between_convolutions("QLinearSigmoid", BESIDE)
between_convolutions("QLinearLeakyRelu", BESIDE, alpha=0.1)
between_convolutions("QLinearAveragePool", BESIDE, kernel_shape=[2, 2], pads=[1, 0, 0, 1])
between_convolutions("QLinearGlobalAveragePool", BESIDE, channels_last=0)
between_convolutions("QLinearReduceMean", "over pixels", reference=True, axes=[2, 3], keepdims=1)
between_convolutions("QLinearSoftmax", "along pixels", axis=-1, **PROBABILITIES)
NORMALIZED = {"qlinearconv1_0": "normalizes along it"}
between_convolutions("QLinearSoftmax", "along channels", (), NORMALIZED, axis=1, **PROBABILITIES)


@case("com.microsoft::QLinearConv", "channels first", (16,))
def convolution() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input(1, 3, 8, 8)), 3, 16, domain=MS)
    return g.done(g.numbers(g.qconv(x, 16, 4, domain=MS)))


@case("com.microsoft::QLinearConv", "channels last", (16, 8))
def channels_last() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input(1, 8, 8, 3)), 3, 16, domain=MS, channels_last=1)
    x = g.qconv(x, 16, 8, domain=MS, channels_last=1)
    for op, window in (("QLinearAveragePool", {"kernel_shape": [2, 2]}), ("QLinearGlobalAveragePool", {})):
        result = g.store(0.05), g.point(60)
        x = (g.ms(op, *x, *result, channels_last=1, **window), *result)
    return g.done(g.node("MatMul", g.numbers(x), g.floats(8, 4)))


@case("com.microsoft::QLinearReduceMean", "over channels", (16,), reference=True)
def mean_over_channels() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    result = g.store(0.05), g.point(60)
    y = g.numbers((g.ms("QLinearReduceMean", *x, *result, axes=[1], keepdims=1), *result))
    return g.done(g.numbers(g.qconv(g.quantized(g.node("Mul", g.numbers(x), y)), 16, 4)))


@case("com.microsoft::QLinearGlobalAveragePool", "over channels", (16,), floating=True)
def pool_over_channels() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    last = g.node("Transpose", x[0], perm=[0, 2, 3, 1]), *x[1:]
    result = g.store(0.05), g.point(60)
    y = g.numbers((g.ms("QLinearGlobalAveragePool", *last, *result, channels_last=0), *result))
    z = g.node("Transpose", g.node("Mul", g.numbers(last), y), perm=[0, 3, 1, 2])
    return g.done(g.node("Conv", z, g.floats(4, 16, 1, 1)))


@case("com.microsoft::QLinearConcat", "two scales", (16, 8))
def concatenation() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    y = g.qconv(x, 16, 8)
    result = g.store(0.12), g.point(80)
    z = (g.ms("QLinearConcat", *result, *x, *y, axis=1), *result)
    return g.done(g.numbers(g.qconv(z, 24, 4)))


@case("com.microsoft::QLinearWhere", "two branches", (16,))
def choice() -> Graph:
    g = Graph()
    x = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    y = g.qconv(x, 16, 16)
    result = g.store(0.12), g.point(80)
    condition = g.store(g.random.random((1, 16, 8, 8)) < 0.5, np.bool_)
    z = (g.ms("QLinearWhere", condition, *x, *y, *result), *result)
    return g.done(g.numbers(g.qconv(z, 16, 4)))


@case("com.microsoft::QAttention", "int8 weights", (16, 4))
@case("com.microsoft::QAttention", "uint8 weights", (16, 4), dtype=np.uint8, zero=130)
def attention(dtype: npt.DTypeLike = np.int8, zero: int = 0) -> Graph:
    g = Graph()
    x, *parameters = g.quantized(g.node("MatMul", g.input(2, 5, 6), g.floats(6, 16)))
    weight, scale = g.integers(16, 72, dtype=dtype), g.scale(size=0.01)
    points = parameters[1], g.point(zero, dtype)
    y = g.ms("QAttention", x, weight, g.floats(72), parameters[0], scale, "", *points, num_heads=4)
    return g.done(g.node("MatMul", y, g.floats(24, 7)))


@case("com.microsoft::MatMulNBits", "4 bits", (5, 6), floating=True)
@case("com.microsoft::MatMulNBits", "8 bits", (5, 6), bits=8, floating=True)
@case("com.microsoft::MatMulNBits", "packed zero points", (5, 6), zeros="packed", floating=True)
@case(
    "com.microsoft::MatMulNBits",
    "float zero points and a bias",
    (5, 6),
    zeros="float",
    bias=True,
    floating=True,
)
@case("com.microsoft::MatMulNBits", "flat scales", (5, 6), zeros="packed", flat=True, floating=True)
def packed(bits: int = 4, zeros: str = "", bias: bool = False, flat: bool = False) -> Graph:
    g = Graph()
    x = g.input("N", 48)
    for K, N in ((48, 80), (80, 96), (96, 7)):
        x = nbits(g, x, (K, N), bits, zeros, bias, flat)
    return g.done(x)


def nbits(g: Graph, x: str, sizes: tuple[int, int], bits: int, zeros: str, bias: bool, flat: bool) -> str:
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
        inputs[3] = g.store(g.random.integers(0, 256, (N * width,) if flat else (N, width)), np.uint8)
    if bias:
        inputs[5] = g.floats(N)
    while not inputs[-1]:
        inputs.pop()
    return g.ms("MatMulNBits", *inputs, K=K, N=N, bits=bits, block_size=16)
