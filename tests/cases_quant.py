"""Quantised operators of ONNX."""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from .building import Case
from .building_quantized import Graph, enter

CASES: list[Case] = []

case = partial(enter, CASES)


@case("DequantizeLinear", "weights and activations per tensor", (16, 12), channelwise=False)
@case("DequantizeLinear", "weights per channel", (16, 12))
@case("QuantizeLinear", "int8 activations", (16, 12), dtype=np.int8, zero=-20)
def fake_quantized(channelwise: bool = True, dtype: npt.DTypeLike = np.uint8, zero: int = 100) -> Graph:
    """Conv, Relu, Conv with QuantizeLinear and DequantizeLinear around every operator."""
    g = Graph()
    x = g.numbers(g.quantized(g.input("N", 3, 8, 8), zero=zero, dtype=dtype))
    for inputs, outputs in ((3, 16), (16, 12), (12, 5)):
        scale, shape = 0.02, (outputs,) if channelwise else ()
        weight = (
            g.integers(outputs, inputs, 3, 3),
            g.scale(*shape, size=scale),
            g.store(np.zeros(shape), np.int8),
        )
        parameters = weight[1], g.store(np.zeros(shape), np.int32)
        bias = g.store(g.random.integers(-20, 20, outputs), np.int32), *parameters
        numbers = [g.node("DequantizeLinear", *w, axis=0) for w in (weight, bias)]
        x = g.node("Relu", g.node("Conv", x, *numbers, pads=[1] * 4))
        x = g.numbers(g.quantized(x, size=0.2, zero=zero, dtype=dtype))
    return g.done(g.node("GlobalAveragePool", x))


@case("QuantizeLinear", "behind one of two parts", (12, 12), floating=True)
def partly_quantized() -> Graph:
    g = Graph()
    x = g.node("MatMul", g.numbers(g.quantized(g.input("N", 6))), g.floats(6, 24))
    a, b = g.node("Split", x, g.store([12, 12], np.int64), axis=1, outputs=2)
    a = g.numbers(g.quantized(g.node("Relu", a)))
    return g.done(g.node("Add", g.node("MatMul", a, g.floats(12, 4)), g.node("MatMul", b, g.floats(12, 4))))


@case("QuantizeLinear", "one scale per channel of an activation", (16,), floating=True)
def activation_per_channel() -> Graph:
    g = Graph()
    x = g.node("Conv", g.input("N", 3, 8, 8), g.floats(16, 3, 3, 3, scale=0.3))
    parameters = g.scale(16, size=0.05), g.store(g.random.integers(90, 130, 16), np.uint8)
    x = g.node("QuantizeLinear", x, *parameters, axis=1)
    x = g.node("DequantizeLinear", x, *parameters, axis=1)
    return g.done(g.node("Conv", x, g.floats(4, 16, 1, 1)))


@case("QuantizeLinear", "weights stored as floats", (16,), floating=True)
def weights_stored_as_floats() -> Graph:
    g = Graph()
    x = g.input("N", 6)
    for inputs, outputs in ((6, 16), (16, 4)):
        parameters = g.scale(outputs), g.store(np.zeros(outputs), np.int8)
        w = g.node("QuantizeLinear", g.floats(inputs, outputs), *parameters, axis=1)
        x = g.node("MatMul", x, g.node("DequantizeLinear", w, *parameters, axis=1))
    return g.done(x)


@case("DequantizeLinear", "blocks of inputs", (8, 4), axis=0, floating=True)
@case("DequantizeLinear", "blocks of outputs", (8, 4), axis=1, floating=True)
@case(
    "DequantizeLinear", "blocks of int4", (8, 4), axis=0, dtype=ml_dtypes.int4, low=-8, high=8, floating=True
)
@case(
    "DequantizeLinear",
    "blocks of uint4",
    (8, 4),
    axis=0,
    dtype=ml_dtypes.uint4,
    low=0,
    high=16,
    floating=True,
)
def blocked_weights(axis: int, dtype: npt.DTypeLike = np.int8, low: int = -60, high: int = 60) -> Graph:
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


@case("DequantizeLinear", "int4 per tensor", (15, 9), dtype=ml_dtypes.int4, floating=True)
@case("DequantizeLinear", "float8 weights", (15, 9), dtype=ml_dtypes.float8_e4m3fn, floating=True)
def short_weights(dtype: npt.DTypeLike) -> Graph:
    g = Graph()
    x = g.input("N", 7)
    for inputs, outputs in ((7, 15), (15, 9), (9, 3)):
        w = g.store(g.random.integers(-7, 8, (inputs, outputs)), dtype)
        x = g.node("Relu", g.node("MatMul", x, g.node("DequantizeLinear", w, g.scale())))
    return g.done(x)


@case("QuantizeLinear", "float8 activations", (16,), floating=True)
def float8_activations() -> Graph:
    g = Graph()
    x = g.node("MatMul", g.input("N", 6), g.floats(6, 16))
    parameters = g.store(0.02), g.store(0, ml_dtypes.float8_e4m3fn)
    x = g.node("DequantizeLinear", g.node("QuantizeLinear", x, *parameters), *parameters)
    return g.done(g.node("MatMul", x, g.floats(16, 4)))


@case("DynamicQuantizeLinear", "between convolutions", (16,))
@case("ConvInteger", "one scale", (16,))
@case("ConvInteger", "depthwise", (16,), widths=((3, 16, 1), (16, 16, 16), (16, 6, 1)))
@case("ConvInteger", "grouped", (2, 2), widths=((3, 16, 1), (16, 16, 8), (16, 6, 1)))
def dynamic_convolution(widths: Any = ((3, 16, 1), (16, 6, 1))) -> Graph:
    """What ``quantize_dynamic`` writes: integers, Cast, Mul by both scales, Add."""
    g = Graph()
    x = g.input("N", 3, 8, 8)
    for inputs, outputs, group in widths:
        q, scale, zero = g.node("DynamicQuantizeLinear", x, outputs=3)
        w = g.integers(outputs, inputs // group, 3, 3, dtype=np.uint8), zero, g.point(125)
        y = g.node("Cast", g.node("ConvInteger", q, *w, group=group), to=TensorProto.FLOAT)
        y = g.node("Mul", y, g.node("Mul", scale, g.scale()))
        x = g.node("Relu", g.node("Add", y, g.floats(1, outputs, 1, 1, scale=0.2)))
    return g.done(x)


@case("MatMulInteger", "two activations", (4,))
def dynamic_product_of_activations() -> Graph:
    """Queries times keys, in heads."""
    g = Graph()
    x, parts = g.input("N", 5, 12), []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1]):
        y = g.node("Reshape", g.node("MatMul", x, g.floats(12, 24)), g.store([0, 0, 4, 6], np.int64))
        y = g.node("Transpose", y, perm=perm)
        parts.append(g.node("DynamicQuantizeLinear", y, outputs=3))
    (a, _, a_zero), (b, _, b_zero) = parts
    y = g.node("Cast", g.node("MatMulInteger", a, b, a_zero, b_zero), to=TensorProto.FLOAT)
    return g.done(g.node("ReduceSum", y, g.store([1], np.int64), keepdims=0))


@case("MatMulInteger", "one scale per column", (24, 12))
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


@case("QLinearConv", "one scale", (16, 16), channelwise=False)
@case("QLinearConv", "one scale per kernel", (16, 16))
@case("QLinearConv", "depthwise", (16,), middle=16)
@case("QLinearConv", "grouped", (2, 2), middle=8)
@case("QLinearConv", "int8", (16, 16), dtype=np.int8)
def convolutions(channelwise: bool = True, middle: int = 1, dtype: npt.DTypeLike = np.uint8) -> Graph:
    g = Graph()
    x = g.quantized(g.input("N", 3, 8, 8), zero=70, dtype=dtype)
    x = g.qconv(x, 3, 16, channelwise=channelwise, dtype=dtype)
    x = g.qconv(x, 16, 16, group=middle, channelwise=channelwise, dtype=dtype)
    return g.done(g.numbers(g.qconv(x, 16, 4, channelwise=channelwise, dtype=dtype)))


@case("QLinearConv", "views and pools of integers", (8, 8))
def moved_integers() -> Graph:
    """A zero point is handed on by operators that only move what is quantised."""
    g = Graph()
    x, *parameters = g.qconv(g.quantized(g.input("N", 3, 8, 8)), 3, 16)
    x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    a, b = g.node("Split", x, g.store([8, 8], np.int64), axis=1, outputs=2)
    x = g.node("Transpose", g.node("Concat", b, a, axis=1), perm=[0, 2, 3, 1])
    x = g.node("Reshape", x, g.store([0, 16, 16], np.int64))
    return g.done(g.numbers(g.qmatmul((x, *parameters), 16, 6)))


@case("QLinearMatMul", "stored weights", (24, 16))
def products() -> Graph:
    g = Graph()
    x = g.qmatmul(g.quantized(g.input("N", 5, 12)), 12, 24)
    return g.done(g.numbers(g.qmatmul(g.qmatmul(x, 24, 16), 16, 6)))


@case("QuantizeLinear", "behind a recurrent network", (8,), floating=True)
def quantised_states() -> Graph:
    """A mask could wait for QuantizeLinear, but not that of the states inside."""
    g = Graph()
    weights = g.floats(1, 24, 6), g.floats(1, 24, 8), g.floats(1, 48)
    y = g.node("GRU", g.input(5, 2, 6), *weights, hidden_size=8)
    y = g.node("Squeeze", g.numbers(g.quantized(y, size=0.02)), g.store([1], np.int64))
    return g.done(g.node("MatMul", y, g.floats(8, 4)))


@case("QLinearMatMul", "rows of a stored table", (12, 16))
def product_of_a_quantised_embedding() -> Graph:
    """What reads the rows says which integer is zero."""
    g = Graph()
    table = g.store(g.random.integers(70, 190, (9, 12)), np.uint8)
    rows = g.node("Gather", table, g.input("N", 4, dtype=TensorProto.INT64), axis=0)
    x = g.qmatmul((rows, g.store(0.02), g.point(137)), 12, 16)
    return g.done(g.numbers(g.qmatmul(x, 16, 6)))


@case("QLinearMatMul", "two activations", (4,))
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
