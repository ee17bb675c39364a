"""Reading and writing by index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from .building import Case
from .building_nodes import Graph, enter, microsoft

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)


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
case("com.microsoft::GatherND", "images", microsoft, "GatherND", groups=(8,))
