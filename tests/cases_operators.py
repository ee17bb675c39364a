"""Recurrent layers, Einsum, indexing, images, signals: what the text format is too short for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.net import Net

from .building import Case

CASES: list[Case] = []

Build = Callable[..., onnx.ModelProto]


def enter(
    table: list[Case],
    op: str,
    name: str,
    build: Build,
    /,
    *values: Any,
    reference: bool = False,
    blocked: dict[str, str] | None = None,
    groups: tuple[int, ...] | None = None,
    **options: Any,
) -> None:
    """Enter a graph, built from the given values and options, into a table."""
    build = partial(build, *values, **options)
    table.append(Case(op, name, build, groups, blocked=blocked or {}, zero=False, reference=reference))


case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)


class Graph(Net):
    """A ``Net`` that may use contributed operators and inputs of any type."""

    def __init__(self, opset: int = 22, seed: int = 0) -> None:
        super().__init__("case", seed, opset, ir_version=10)
        self.recorded: list[onnx.ValueInfoProto] = []

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

    def loose(self, name: str, *shape: int) -> TensorProto:
        """A weight that is not stored in the graph."""
        return numpy_helper.from_array(self.random.normal(0, 0.5, shape).astype("f4"), name)

    def known(self, name: str, *shape: int) -> str:
        """Record a shape behind an operator that neither inference nor onnxruntime knows here."""
        self.recorded.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def done(self, *outputs: str, rank: int = 0) -> onnx.ModelProto:
        """The finished model; ``rank`` of outputs behind operators that inference cannot see."""
        graph = helper.make_graph(self.nodes, "case", self.inputs, [], self.initializers)
        domains = sorted({node.domain for node in self.nodes} - {""})
        opsets = [
            helper.make_opsetid("", self.opset),
            *(helper.make_opsetid(d, 1) for d in domains),
        ]
        graph.value_info.extend(self.recorded)
        values = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph.output.extend(values)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.ir_version)
        known = onnx.shape_inference.infer_shapes(model).graph.output
        for value, found in zip(model.graph.output, known, strict=True):
            if rank and not found.type.tensor_type.HasField("shape"):
                found = helper.make_tensor_value_info(found.name, TensorProto.FLOAT, [None] * rank)
            value.CopyFrom(found)
        return model


# Recurrent layers.

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    op: str,
    dirs: int = 1,
    layout: int = 0,
    state: str = "",
    peephole: bool = False,
    lengths: bool = False,
    hidden: int = 6,
    free: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """Linear, recurrent layer, linear on what the layer returns."""
    g, net = GATES[op], Graph()
    x = net.input("x", *(("steps", "batch") if free else (5, 2)), 3)
    x = net.linear("into", x, 3, 8)
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
    net.node(
        op,
        *inputs,
        name="cell",
        outputs=names,
        hidden_size=hidden,
        direction=direction,
        **extra,
        **attributes,
    )
    y = net.linear("from_y", "Y", hidden, 4)
    h = net.linear("from_h", "Y_h", hidden, 4)
    return net.done(y, h)


for _op in GATES:
    case(_op, "plain", recurrent, op=_op, groups=(8, 6))
    case(_op, "two directions, initial state", recurrent, op=_op, dirs=2, state="random", groups=(8, 6))
    case(_op, "zero state, lengths", recurrent, op=_op, state="zero", lengths=True, groups=(8, 6))
    case(_op, "free sizes", recurrent, op=_op, dirs=2, free=True, groups=(8, 6))
    case(_op, "reverse", recurrent, op=_op, direction="reverse", groups=(8, 6))
    case(_op, "single hidden channel", recurrent, op=_op, hidden=1, groups=(8,))
case("LSTM", "peepholes", recurrent, op="LSTM", dirs=2, state="random", peephole=True, groups=(8, 6))
case("LSTM", "coupled gates", recurrent, op="LSTM", input_forget=1, groups=(8, 6))
case("GRU", "linear before reset", recurrent, op="GRU", dirs=2, linear_before_reset=1, groups=(8, 6))
case("RNN", "sigmoid", recurrent, op="RNN", activations=["Sigmoid"], groups=(8, 6))
for _op in GATES:
    reference(_op, "batch first", recurrent, op=_op, layout=1, state="random", groups=(8, 6))


# Einsum.


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


# Reading and writing by index.


def indexed(
    op: str,
    index: npt.ArrayLike,
    updates: tuple[int, ...] = (),
    rank: int = 3,
    channels_last: bool = True,
    batch: int = 2,
    feed: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """Read from, or write to, a computed [batch, 5, 8] by constant or given indices."""
    net = Graph()
    x = net.linear("a", net.input("x", batch, 5, 3), 3, 8)
    if not channels_last:
        x = net.node("Transpose", x, perm=[0, 2, 1])
    array = np.asarray(index, "i8")
    i = net.feed("i", TensorProto.INT64, *array.shape) if feed else net.constant("i", array)
    inputs = [x, i]
    if updates:
        width = updates[-1] if channels_last else updates[-2]
        lead = updates[:-1] if channels_last else (*updates[:-2], updates[-1])
        u = net.linear("u", net.input("u_in", *lead, 3), 3, width)
        if not channels_last:
            order = list(range(len(updates)))
            u = net.node("Transpose", u, perm=[*order[:-2], order[-1], order[-2]])
        inputs.append(u)
    y = net.node(op, *inputs, name="indexed", **attributes)
    out = onnx.shape_inference.infer_shapes(net.done(y)).graph.output[0].type.tensor_type.shape.dim
    if not channels_last:
        order = list(range(len(out)))
        y = net.node("Transpose", y, perm=[*order[:-2], order[-1], order[-2]])
        return net.done(net.linear("head", y, out[-2].dim_value, 4))
    return net.done(net.linear("head", y, out[-1].dim_value, 4))


def grid(*positions: Sequence[int]) -> npt.NDArray[np.int64]:
    """Index tensor that addresses every combination of the given positions."""
    return np.stack(np.meshgrid(*positions, indexing="ij"), axis=-1)


ROWS = np.array([[0], [3], [1]])
ELEMENTS = np.broadcast_to(np.array([0, 3, 1]).reshape(1, 3, 1), (2, 3, 8))

case("GatherND", "rows of a batch", indexed, op="GatherND", index=[[0, 3], [1, 1]], groups=(8,))
case("GatherND", "rows by data", indexed, op="GatherND", index=[[0, 3], [1, 1]], feed=True, groups=(8,))
case(
    "ScatterND",
    "rows by data",
    indexed,
    op="ScatterND",
    index=[[0, 3], [1, 1]],
    updates=(2, 8),
    feed=True,
    groups=(8,),
)
case(
    "GatherElements",
    "by data",
    indexed,
    op="GatherElements",
    index=ELEMENTS,
    axis=1,
    feed=True,
    blocked={"a.matmul": "carries no channels"},
    groups=(),
)
case(
    "GatherND",
    "batch dimension",
    indexed,
    op="GatherND",
    index=[[[0], [3]], [[1], [1]]],
    batch_dims=1,
    groups=(8,),
)
case(
    "GatherND",
    "constant channels",
    indexed,
    op="GatherND",
    index=grid([0, 1], [0, 3], [1, 2, 5, 7]),
    groups=(4, 4),
)
case("ScatterND", "whole rows", indexed, op="ScatterND", index=[[0], [1]], updates=(2, 5, 8), groups=(8,))
case(
    "ScatterND",
    "rows of a batch",
    indexed,
    op="ScatterND",
    index=[[0, 3], [1, 1]],
    updates=(2, 8),
    groups=(8,),
)
case(
    "ScatterND",
    "added",
    indexed,
    op="ScatterND",
    index=[[0, 3], [1, 1]],
    updates=(2, 8),
    reduction="add",
    groups=(8,),
)
case(
    "ScatterND",
    "slice of channels",
    indexed,
    op="ScatterND",
    index=grid([0, 1], [0, 1, 2, 3, 4], [1, -6, 3]),
    updates=(2, 5, 3),
    groups=(5, 3),
)
case(
    "ScatterND",
    "one channel",
    indexed,
    op="ScatterND",
    index=grid([0, 1], [0, 3], [5])[..., 0, :],
    updates=(2, 2, 8)[:2],
    groups=(7,),
    blocked={"a.matmul#2": "addresses this entry alone", "u.matmul": "carries no channels"},
)
case("GatherElements", "tokens", indexed, op="GatherElements", index=ELEMENTS, axis=1, groups=(8,))
case(
    "GatherElements",
    "channels first",
    indexed,
    op="GatherElements",
    index=ELEMENTS.transpose(0, 2, 1),
    channels_last=False,
    axis=-1,
    groups=(8,),
)
case(
    "GatherElements",
    "part of the channels",
    indexed,
    op="GatherElements",
    index=ELEMENTS[..., :4],
    axis=1,
    blocked={"a.matmul": "reads a part of it"},
    groups=(),
)
case(
    "ScatterElements",
    "tokens",
    indexed,
    op="ScatterElements",
    index=ELEMENTS,
    updates=(2, 3, 8),
    axis=1,
    groups=(8,),
)
case(
    "ScatterElements",
    "added",
    indexed,
    op="ScatterElements",
    index=ELEMENTS,
    updates=(2, 3, 8),
    axis=1,
    reduction="add",
    groups=(8,),
)
case(
    "ScatterElements",
    "part of the channels",
    indexed,
    op="ScatterElements",
    index=ELEMENTS[..., :4],
    updates=(2, 3, 4),
    axis=1,
    blocked={f"{x}.matmul": "writes to a part of it" for x in "au"},
    groups=(),
)


def steps(op: str, *more: str, **attributes: Any) -> onnx.ModelProto:
    """An operator on a computed [steps, batch, channels] and a constant, then a linear layer."""
    net = Graph(attributes.pop("opset", 22))
    x = net.linear("a", net.input("x", 4, 3, 3), 3, 8)
    values = {
        "lengths": np.array([4, 2, 3]),
        "keep": np.array([True, False, True, True]),
        "past": np.zeros((4, 6, 8), "f4"),
        "at": np.array([0, 2, 1, 3]),
    }
    constants = [net.constant(name, values[name]) for name in more]
    inputs = [*constants[:1], x, *constants[1:]] if op == "TensorScatter" else [x, *constants]
    return net.done(net.linear("head", net.node(op, *inputs, **attributes), 8, 4))


case("ReverseSequence", "steps", steps, "ReverseSequence", "lengths", time_axis=0, batch_axis=1, groups=(8,))
case("Compress", "along an axis", steps, "Compress", "keep", axis=0, groups=(8,))
case("TensorScatter", "cache", steps, "TensorScatter", "past", "at", axis=1, opset=24, groups=(8,))


# Images.


def image(
    op: str,
    *constants: npt.ArrayLike,
    head: str = "conv",
    opset: int = 22,
    channels: int = 8,
    **attributes: Any,
) -> onnx.ModelProto:
    """An operator between two convolutions, with constants as its other inputs."""
    net = Graph(opset)
    x = net.conv("a", net.input("x", 2, 3, 6, 6), 3, channels)
    values = [net.constant(f"c{k}", v) for k, v in enumerate(constants)]
    y = net.node(op, x, *values, name="op", **attributes)
    if head == "conv":
        y = net.conv("b", y, channels, 4, kernel=1)
    return net.done(y, rank=4)


RANDOM = np.random.default_rng(3)
BOXES = np.array([[0, 0, 3, 4], [1, 1, 5, 5], [2, 0, 5, 3]], "f4")

case(
    "GridSample",
    "constant grid",
    image,
    "GridSample",
    RANDOM.uniform(-1, 1, (2, 4, 5, 2)).astype("f4"),
    groups=(8,),
)
case(
    "RoiAlign",
    "regions",
    image,
    "RoiAlign",
    BOXES,
    np.array([0, 1, 1]),
    output_height=2,
    output_width=2,
    opset=16,
    groups=(8,),
)
case(
    "MaxRoiPool",
    "regions",
    image,
    "MaxRoiPool",
    np.concatenate([[[0], [1], [1]], BOXES], 1).astype("f4"),
    pooled_shape=[2, 2],
    opset=16,
    groups=(8,),
)
case("CenterCropPad", "axes", image, "CenterCropPad", np.array([4, 9]), axes=[2, 3], groups=(8,))
case("CenterCropPad", "all axes", image, "CenterCropPad", np.array([2, 8, 4, 9]), groups=(8,))
case("LpPool", "channels", image, "LpPool", kernel_shape=[2, 2], p=2, groups=(8,))
case("GlobalLpPool", "channels", image, "GlobalLpPool", opset=16, groups=(8,))
case(
    "ImageScaler",
    "bias per channel",
    image,
    "ImageScaler",
    scale=0.5,
    bias=[0.1 * k for k in range(8)],
    opset=9,
    groups=(8,),
)
case("Crop", "borders", image, "Crop", border=[1, 0, 2, 1], opset=9, groups=(8,))
case("Affine", "entries", image, "Affine", alpha=2.0, beta=0.5, opset=9, groups=(8,))
case("ParametricSoftplus", "entries", image, "ParametricSoftplus", alpha=2.0, beta=0.5, opset=9, groups=(8,))
case("ScaledTanh", "entries", image, "ScaledTanh", alpha=2.0, beta=0.5, opset=9, groups=(8,))
case("ThresholdedRelu", "entries", image, "ThresholdedRelu", alpha=0.1, groups=(8,))


def patches(channels: int = 8) -> onnx.ModelProto:
    """Col2Im of a computed column tensor."""
    net = Graph()
    x = net.conv("a", net.input("x", 2, 3, 9), 3, channels * 4, rank=1, kernel=1)
    y = net.node("Col2Im", x, net.integers(4, 4), net.integers(2, 2))
    return net.done(net.conv("b", y, channels, 4, kernel=1))


def deformed(group: int = 1, offsets: int = 1) -> onnx.ModelProto:
    """Deformable convolution with offsets computed from the input."""
    net = Graph()
    image = net.input("x", 1, 3, 3, 2)
    x = net.conv("a", image, 3, 8)
    offset = net.conv("offset", image, 3, offsets * 18)
    mask = net.node("Sigmoid", net.conv("mask", image, 3, offsets * 9))
    W, B = net.weight("W", 12, 8 // group, 3, 3), net.bias("B", 12)
    y = net.node(
        "DeformConv", x, W, offset, B, mask, name="deform", pads=[1] * 4, group=group, offset_group=offsets
    )
    return net.done(net.conv("b", y, 12, 4, kernel=1))


PLACES = dict.fromkeys(("offset", "mask"), "reads places from it")

case("Col2Im", "patches", patches, groups=(8,))
reference("DeformConv", "dense", deformed, groups=(8, 12), blocked=PLACES)
reference("DeformConv", "groups", deformed, group=2, offsets=2, groups=(4, 6), blocked=PLACES)


def signal(op: str, *inputs: npt.ArrayLike, opset: int = 22, **attributes: Any) -> onnx.ModelProto:
    """An operator on a computed [batch, channels, 8, 2], then a convolution."""
    net = Graph(opset)
    x = net.conv("a", net.input("x", 2, 3, 8, 2), 3, 6)
    values = [net.constant(f"c{k}", v) if np.size(v) else "" for k, v in enumerate(inputs)]
    y = net.node(op, x, *values, name="op", **attributes)
    return net.done(net.conv("b", y, 6, 4, kernel=1))


case("DFT", "newer", signal, "DFT", [], np.array(2), groups=(6,))
case("DFT", "older", signal, "DFT", opset=17, axis=2, groups=(6,))
case("Trilu", "matrices", signal, "Trilu", upper=0, groups=(6,))
case("CumSum", "channels", signal, "CumSum", np.array(1), groups=(6,))
reference("CumProd", "steps", signal, "CumProd", np.array(2), opset=26, groups=(6,))
reference("CumProd", "channels", signal, "CumProd", np.array(1), opset=26, groups=(6,))
reference("BitCast", "entries", lambda: bits(), groups=(6,))
reference("SwiGLU", "gate and value", lambda: swiglu(), groups=(8,))


def bits() -> onnx.ModelProto:
    """There and back again."""
    net = Graph(26)
    x = net.conv("a", net.input("x", 2, 3, 8, 2), 3, 6)
    y = net.node("BitCast", net.node("BitCast", x, to=TensorProto.INT32), to=TensorProto.FLOAT)
    return net.done(net.conv("b", y, 6, 4, kernel=1))


def swiglu() -> onnx.ModelProto:
    """Two projections, gated."""
    net = Graph(28)
    x = net.input("x", 2, 3)
    y = net.node("SwiGLU", net.linear("a", x, 3, 8), net.linear("b", x, 3, 8))
    return net.done(net.linear("head", y, 8, 4))


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
