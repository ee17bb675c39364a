"""Quantised operators. Each acts as the standard operator that it computes (``PLAIN``).

What is particular to them: scales and zero points follow the axis that they scale, removed entries
of a quantised tensor are its zero point, and scores are computed on the numbers that stored
integers stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from onnx import TensorProto

from ..labels.facts import Blocked
from ..labels.pen import Pen
from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.graph import Graph
from ..model.node import Node
from ..model.operators import Trait
from ..model.quantization import MICROSOFT, dequantize, pack, unpack
from ..shapes.inference import FLOATS
from ..shapes.quantized import PLAIN, PLAIN_OPSET
from .recurrent import GATES, cells
from .registry import RULES, pinned, rule


def scaled(c: Walk, n: Node, vector: str, x: str, axis: int, block: int = 0) -> None:
    """Couple scales or zero points with the axes of the tensor that they belong to.

    There is one number, one per index of ``axis``, one per block of it, or an array with the axes
    of ``x``, some of size 1.
    """
    if not vector or np.prod(c.shape(vector)) == 1:
        return
    if c.rank(vector) == 1 and not block:
        c.meet(vector, 0, c.axis(x, axis))
        return
    if c.rank(vector) != c.rank(x):
        raise Blocked(f"'{vector}' and '{x}' differ in rank")
    for k, count in enumerate(c.shape(vector)):
        labels = c.axis(x, k)
        if block and k == axis % c.rank(x):
            labels = blocks(c, n, labels, count, block)
        c.meet(vector, k, labels)


def blocks(c: Walk, n: Node, labels: Labels, count: int, block: int) -> Labels:
    """Labels of the blocks of an axis that share a scale: a block goes as a whole."""
    if labels is NONE or count == 1:
        return NONE
    if len(labels) != count * block:
        c.pin(labels, f"{n} quantises it in blocks of {block}, which do not divide it")
        return NONE
    whole, inside = c.split(labels, (count, block))
    c.pin(inside, f"{n} quantises it in blocks of {block}, which go as a whole")
    return whole


def stored_as(c: Walk, n: Node, W: str, axis: int, scale: str, zero_point: str) -> None:
    """A stored operand with one scale for each index of an axis: scores see what it stands for."""
    for vector in (scale, zero_point):
        scaled(c, n, vector, W, axis)
    decoded(c, W, axis, scale, zero_point)


def decoded(c: Walk, W: str, axis: int, scale: str, zero_point: str) -> None:
    """How stored integers are read as numbers."""
    if all(c.stored(name) for name in (W, scale, zero_point) if name):
        value = c.graph.value
        c.facts.decoded[W] = lambda: dequantize(
            value(W),
            value(scale) if scale else np.ones((), np.float32),
            value(zero_point) if zero_point else None,
            axis,
        )


def decoded_sign(c: Walk, n: Node) -> int:
    """Unsigned integers whose zero point is 0 stand for numbers that are not negative."""
    x, scale, zero_point = n.take(3)
    unsigned = c.shapes.first.dtypes.get(x) in (TensorProto.UINT8, TensorProto.UINT16)
    zero = c.value(zero_point) if zero_point else np.zeros(1)
    return int(unsigned and zero is not None and not zero.any() and c.sign(scale) == 1)


@rule("QuantizeLinear", traits=Trait.MOVES | Trait.FUSED)
@rule("DequantizeLinear", sign=decoded_sign, traits=Trait.MOVES)
@rule("QuantizeLinear", domain=MICROSOFT, traits=Trait.MOVES | Trait.FUSED)
@rule("DequantizeLinear", domain=MICROSOFT, sign=decoded_sign, traits=Trait.MOVES)
def linear(c: Walk, n: Node) -> None:
    """Carries the labels; scale and zero point follow their axis or its blocks."""
    x, scale, zero_point = n.take(3)
    axis = n.attr("axis", 1) if c.rank(x) > 1 else 0
    for vector in (scale, zero_point):
        scaled(c, n, vector, x, axis, n.attr("block_size", 0))
    c.same(n)
    source = c.graph.producers.get(x)
    if n.op == "QuantizeLinear":
        c.zero(n.output, zero_point)
        return
    read_as(c, n)
    if source is not None and source.op == "Gather" and np.prod(c.shape(scale)) == 1:
        decoded(c, source.inputs[0], 0, scale, zero_point)  # a quantised embedding


@rule("DynamicQuantizeLinear", along="exact", traits=Trait.NONE)
def dynamic_quantize(c: Walk, n: Node) -> None:
    """Carries the labels; its range always holds zero, so removed entries do not widen it."""
    c.same(n, n.output)
    c.zero(n.output, n.outputs[2])


@rule("QLinearSoftmax", domain=MICROSOFT, along="pinned", traits=Trait.NONE)
@rule("QLinearGlobalAveragePool", "QLinearReduceMean", domain=MICROSOFT, along="statistic", traits=Trait.NONE)
@rule(
    "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearLeakyRelu", "QLinearMul",
    "QLinearSigmoid", "QLinearWhere",
    domain=MICROSOFT,
    traits=Trait.NONE,
)  # fmt: skip
def acting(c: Walk, n: Node) -> None:
    """Acts as the operator that it quantises."""
    plain = PLAIN[n.domain, n.op]
    kind = (MICROSOFT, CHANNELS_LAST[plain.op]) if n.attr("channels_last", 0) else ("", plain.op)
    act_as(c, n, kind, plain.inputs(n.inputs))
    read_as(c, n)
    if plain.like is not None:
        c.zero(n.output, n.take(plain.like + 1)[plain.like])


def read_as(c: Walk, n: Node) -> None:
    """Where nothing says the zero point of an input (rows of a stored table), its reader does."""
    dtypes = c.shapes.first.dtypes
    for x, scale, zero_point in zip(n.inputs, n.inputs[1:], n.inputs[2:], strict=False):
        same = dtypes.get(x) == dtypes.get(zero_point) and dtypes.get(scale) in FLOATS
        if same and x not in c.facts.zeros and not c.stored(x):
            c.zero(x, zero_point)


CHANNELS_LAST = {"AveragePool": "NhwcMaxPool", "Conv": "NhwcConv", "GlobalAveragePool": "NhwcMaxPool"}


def act_as(c: Walk, n: Node, kind: tuple[str, str], inputs: list[str]) -> None:
    """Apply the rule of another operator to some of the inputs."""
    before = len(c.facts.kernels)
    RULES[kind].apply(c, replace(n, inputs=inputs, opset=n.attr("opset", PLAIN_OPSET)))
    c.facts.kernels[before:] = [replace(k, node=n) for k in c.facts.kernels[before:]]


@rule("QLinearConv", traits=Trait.CONVOLUTION)
@rule("QLinearConv", domain=MICROSOFT, traits=Trait.CONVOLUTION)
def qlinear_conv(c: Walk, n: Node) -> None:
    """Conv; one scale for the weight or one per kernel."""
    acting(c, n)
    stored_as(c, n, n.inputs[3], 0, *n.inputs[4:6])


@rule("QLinearMatMul", traits=Trait.MATRIX)
def qlinear_matmul(c: Walk, n: Node) -> None:
    """MatMul; one scale per operand, or one per row of A and of Y and per column of B."""
    acting(c, n)
    A, a_scale, a_zero_point, B, b_scale, b_zero_point, y_scale, y_zero_point = n.inputs
    stored_as(c, n, A, -2, a_scale, a_zero_point)
    stored_as(c, n, B, -1, b_scale, b_zero_point)
    for vector in (y_scale, y_zero_point):
        scaled(c, n, vector, n.output, -2)


@rule("QGemm", domain=MICROSOFT, traits=Trait.NONE)
def qgemm(c: Walk, n: Node) -> None:
    """Gemm; one scale per operand, or one per column of B."""
    acting(c, n)
    stored_as(c, n, n.inputs[3], 0 if n.attr("transB", 0) else 1, *n.inputs[4:6])


@rule("ConvInteger", traits=Trait.CONVOLUTION)
def conv_integer(c: Walk, n: Node) -> None:
    """Conv of integers; the scale follows as a Mul."""
    acting(c, n)
    _, w, _, w_zero_point = n.take(4)
    scaled(c, n, w_zero_point, w, 0)
    decoded(c, w, 0, scale_behind(c, n, c.shape(w)[0]), w_zero_point)


@rule("MatMulInteger", traits=Trait.MATRIX)
def matmul_integer(c: Walk, n: Node) -> None:
    """MatMul of integers; the scale follows as a Mul."""
    acting(c, n)
    A, B, a_zero_point, b_zero_point = n.take(4)
    scaled(c, n, a_zero_point, A, -2)
    scaled(c, n, b_zero_point, B, -1)
    decoded(c, B, -1, scale_behind(c, n, c.shape(B)[-1]), b_zero_point)


@rule("MatMulIntegerToFloat", domain=MICROSOFT, traits=Trait.NONE)
def matmul_integer_to_float(c: Walk, n: Node) -> None:
    """MatMul of integers with its scales; one for B or one per column."""
    acting(c, n)
    _, B, _, b_scale, _, b_zero_point, bias = n.take(7)
    stored_as(c, n, B, -1, b_scale, b_zero_point)
    c.meet(bias, 0, c.axis(B, -1))


@rule("DynamicQuantizeMatMul", domain=MICROSOFT, traits=Trait.NONE)
def dynamic_quantize_matmul(c: Walk, n: Node) -> None:
    """MatMul that quantises A as a whole; one scale for B or one per column."""
    acting(c, n)
    _, B, b_scale, b_zero_point, bias = n.take(5)
    stored_as(c, n, B, -1, b_scale, b_zero_point)
    c.meet(bias, 0, c.axis(B, -1))


@rule("DynamicQuantizeLSTM", domain=MICROSOFT, traits=Trait.RECURRENT | Trait.SHARED_OUT)
def dynamic_quantize_lstm(c: Walk, n: Node) -> None:
    """LSTM that quantises input and state as a whole; gates are columns, with one scale or one each."""
    cells(c, n, GATES["LSTM"], 2)
    _, W, R, *_, w_scale, w_zero_point, r_scale, r_zero_point = n.take(12)
    for weight, scale, zero_point in ((W, w_scale, w_zero_point), (R, r_scale, r_zero_point)):
        if np.prod(c.shape(zero_point)) > 1 and c.known(zero_point).any():
            raise Blocked(f"{n} has a zero point for each direction or gate, and they are not 0")
        c.zero(weight, zero_point)
        for vector in (scale, zero_point):
            if c.rank(vector) == 2:
                c.meet(vector, 1, c.axis(weight, 2))
        if all(map(c.stored, (weight, scale, zero_point))):
            c.facts.decoded[weight] = partial(_by_direction, c.graph.value, weight, scale, zero_point)


def _by_direction(value: Callable[[str], np.ndarray], weight: str, scale: str, zero_point: str) -> np.ndarray:
    """Weights with one scale for each direction, or for each gate's row of each."""
    step, zero = (value(name).reshape(len(value(name)), 1, -1) for name in (scale, zero_point))
    return dequantize(value(weight), step, zero)


def scale_behind(c: Walk, n: Node, size: int) -> str:
    """Constant vector of ``size`` that scales an integer output, behind a Cast; "" without one."""
    name = n.output
    for _ in range(2):
        steps = [m for m in c.graph.consumers.get(name, ()) if m.op in ("Cast", "Mul")]
        if len(steps) != 1:
            return ""
        if steps[0].op == "Mul":
            factors = [x for x in steps[0].inputs if x != name]
            source = c.graph.producers.get(factors[0]) if factors else None
            if source is not None and source.op == "Mul":  # scale of A times scale of B
                factors = source.inputs
            return next((x for x in factors if c.graph.is_constant(x) and c.shape(x) == (size,)), "")
        name = steps[0].output
    return ""


@rule("QAttention", domain=MICROSOFT, traits=Trait.NONE)
def qattention(c: Walk, n: Node) -> None:
    """Attention that projects with integers; query, key and value have equal sizes."""
    x, weight, bias, _, weight_scale, mask_index, _, weight_zero_point, past = n.take(9)
    act_as(c, n, (MICROSOFT, "Attention"), [x, weight, bias, mask_index, past])
    columns, heads = c.axis(weight, 1), n.attr("num_heads")
    if columns is not NONE:
        query, _, value = np.split(columns, 3)
        size = heads, len(query) // heads
        c.unify(c.split(query, size)[1], c.split(value, size)[1])
    stored_as(c, n, weight, 1, weight_scale, weight_zero_point)
    c.zero(weight, weight_zero_point)


@rule("MatMulNBits", domain=MICROSOFT, traits=Trait.NONE)
def matmul_nbits(c: Walk, n: Node) -> None:
    """MatMul with packed columns in blocks: columns are free, rows go in whole blocks."""
    A, B, scales, zero_points, g_idx, bias = n.take(6)
    if n.attr("weight_prepacked", 0):
        raise Blocked("its weight is packed for one kind of device; prune the model before that")
    N, count, _ = c.shape(B)
    O, K = c.axis(B, 0), c.axis(A, -1)
    c.role(K, "contraction")
    if g_idx or count == 1:
        c.pin(K, f"{n} orders its rows by g_idx" if g_idx else f"{n} quantises it as one block")
        K = NONE
    whole = blocks(c, n, K, count, n.attr("block_size"))
    c.meet(B, 1, whole)
    bits = n.attr("bits", 4)
    packed = bits < 8 and c.shapes.first.dtypes.get(zero_points) == TensorProto.UINT8
    for vector in (scales, "" if packed else zero_points):
        if vector and c.rank(vector) == 1:
            c.meet(vector, 0, c.grid(O, whole, (N, count)))
        elif vector:
            c.meet(vector, 0, O)
            c.meet(vector, 1, whole)
    c.meet(bias, 0, O)
    c.kernel(n, B, 0)
    graph = c.graph
    c.facts.decoded[B] = lambda: unpacked(graph, n)
    c.out(n.output, [*c.labels(A)[:-1], O])
    c.macs(lambda z: z.output(n) * z.size(A, -1))

    def mend(e: Pen) -> None:
        e.set("N", e.size(B, 0))
        e.set("K", e.size(A, -1))
        if packed:
            rows, columns = e.living(O, N), e.living(whole, count)
            e.constant_input(3, _repacked(graph.value(zero_points), N, bits, rows, columns))

    c.fix(mend)


def _repacked(value: np.ndarray, count: int, bits: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some rows and columns of packed zero points, of which there are ``count`` rows."""
    kept = unpack(value.reshape(count, -1), bits)[rows][:, columns]
    return pack(kept, bits).reshape((-1,) if value.ndim == 1 else (len(rows), -1))


def unpacked(graph: Graph, n: Node) -> np.ndarray:
    """Weight of a MatMulNBits as numbers, [N, K]."""
    _, B, scales, zero_points = n.inputs[:4] if len(n.inputs) > 3 else [*n.inputs[:3], ""]
    bits, value = n.attr("bits", 4), graph.value
    stored = value(B)
    N, count, _ = stored.shape
    values = unpack(stored, bits).astype(np.float32)
    zero: np.ndarray = np.full((N, count), 2 ** (bits - 1))
    if zero_points:
        zero = value(zero_points).reshape(N, -1)
        zero = unpack(zero, bits)[:, :count] if zero.dtype == np.uint8 else zero
    scale = value(scales).reshape(N, count).astype(np.float32)
    numbers = (values - zero[..., None].astype(np.float32)) * scale[..., None]
    return numbers.reshape(N, -1)[:, : n.attr("K")]


pinned(
    "DequantizeBFP", "DequantizeWithOrder", "GatherBlockQuantized",
    "MatMulBlockQuantizedFp4Weight", "MatMulBlockQuantizedFp8Weight", "MatMulBnb4", "MatMulFpQ4",
    "MatMulInteger16", "MatMulNBitsQkv", "MulInteger", "QEmbedLayerNormalization", "QMoE",
    "QOrderedAttention", "QOrderedGelu", "QOrderedLayerNormalization", "QOrderedLongformerAttention",
    "QOrderedMatMul", "QuantizeBFP", "QuantizeWithOrder", "ReduceSumInteger",
    why="only onnxruntime knows how it is packed; prune the model before it is quantised",
    domain=MICROSOFT,
)  # fmt: skip
