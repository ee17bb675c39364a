"""Rows of the table, and the short way to write their models: text, shapes and arrays.

``net("h = Conv(x, W)\\n y = Relu(h)", W=(8, 3, 3, 3))`` is a function that builds the model. Nodes
are in the syntax of ``onnx.parser``; a name in brackets before a node is its name, otherwise it is
called by its first output. Constants are keywords:

===================  =============================================
tuple of int         random float32 tensor of that shape
list of int          int64 vector
int, float           int64 or float32 scalar
array, TensorProto   as it is
===================  =============================================
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxprune.model.graph import Graph
from onnxprune.model.loading import set_apart
from onnxprune.shapes.analysis import analyse
from onnxprune.shapes.made_up import synthetic_inputs

Builder = Callable[[], onnx.ModelProto]
Array = npt.NDArray[Any]

TOLERANCE = 2e-6
"""Relative L2 difference of slim and masked outputs that counts as rounding in float32."""


@dataclass(frozen=True, eq=False)
class Case:
    """One row: a graph, and what is known about it.

    Attributes
    ----------
    op : str
        Operator that the row is about, as ``onnxprune ops`` prints it; it occurs in the graph.
    groups : tuple of int, optional
        Units of every group that can shrink, in the order of the trace.
    slim : mapping
        Stored tensor -> its shape at ratio 0.5, granularity 1.
    blocked : mapping
        Group -> part of the reason why it cannot shrink. Groups that are not named are blocked by
        a graph output or not at all.
    unknown : tuple of str
        Operators that pin because their rule cannot follow them, or because there is none.
    zero : bool
        Whether plain masking of stored tensors gives the same: channels without weights are zero
        all the way, nothing takes statistics, and no vector is cut in two ways.
    limit : float
        Accepted relative difference from the masked original.
    reference : bool
        Whether the reference implementation runs it, because onnxruntime does not on a CPU.
    """

    op: str
    name: str
    build: Builder
    groups: tuple[int, ...] | None = None
    slim: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    blocked: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] | None = ()
    zero: bool = True
    limit: float = TOLERANCE
    reference: bool = False

    def __str__(self) -> str:
        return f"{self.op}-{self.name}".replace(" ", "-")


def net(
    text: str,
    *,
    inputs: str = "float[N,3,8,8] x",
    outputs: str = "y",
    opset: int = 17,
    ir_version: int = 8,
    listed: bool = False,
    **constants: Any,
) -> Builder:
    """Function that builds a model from the text of its nodes.

    Parameters
    ----------
    inputs, outputs : str
        As in the text format; outputs without a type get the inferred one.
    listed : bool
        List the constants as inputs, too, as files of IR version 3 do.
    """
    text = f"case ({inputs}) => ({outputs}) {{ {text} }}"
    return partial(_build, text, opset, ir_version, listed, constants)


def _build(
    text: str, opset: int, ir_version: int, listed: bool, constants: Mapping[str, Any]
) -> onnx.ModelProto:
    graph = onnx.parser.parse_graph(text)
    stored = [tensor(name, value) for name, value in constants.items()]
    graph.initializer.extend(stored)
    if listed:
        graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in stored)
    domains = {node.domain for node in graph.node} - {""}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    _declare_outputs(model)
    checked = onnx.ModelProto()
    checked.CopyFrom(model)
    set_apart(checked)
    onnx.checker.check_model(checked, full_check=True)
    return model


def _declare_outputs(model: onnx.ModelProto) -> None:
    """Give outputs without a type the one that shape inference finds."""
    open_outputs = [v for v in model.graph.output if not v.HasField("type")]
    for output in open_outputs:
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.UNDEFINED, None))
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    found = {value.name: value for value in inferred}
    for output in open_outputs:
        output.CopyFrom(found[output.name])
        for size in output.type.tensor_type.shape.dim:
            if size.dim_param.startswith("unk__"):
                size.ClearField("dim_param")


def tensor(name: str, value: Any) -> TensorProto:
    """Stored tensor from the short forms of the module docstring."""
    if isinstance(value, TensorProto):
        copy = TensorProto()
        copy.CopyFrom(value)
        copy.name = name
        return copy
    if isinstance(value, tuple):
        value = weight(name, value)
    elif isinstance(value, list | int):
        value = np.array(value, np.int64)
    elif isinstance(value, float):
        value = np.array(value, np.float32)
    return numpy_helper.from_array(value, name)


def weight(name: str, shape: tuple[int, ...]) -> Array:
    """Random values, fixed by the name, that keep activations near one."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    scale = np.sqrt(1 / np.prod(shape[1:])) if len(shape) > 1 else 0.5
    return rng.normal(0, scale, shape).astype(np.float32)


def positive(*shape: int) -> Array:
    """Values between a half and one and a half: scales, variances."""
    return np.random.default_rng(1).uniform(0.5, 1.5, shape).astype(np.float32)


def between(text: str, **settings: Any) -> Builder:
    """Nodes that read ``h``, made by convolution ``first``, and write ``r``, read by ``last``."""
    defaults = {"W1": (8, 3, 3, 3), "B1": (8,), "W2": (4, 8, 1, 1)}
    text = f"[first] h = Conv <pads=[1,1,1,1]> (x, W1, B1)\n{text}\n[last] y = Conv (r, W2)"
    return net(text, **{**defaults, **settings})


def tokens(text: str, **settings: Any) -> Builder:
    """Nodes that read ``h`` of shape [N, 6, 8], made by MatMul ``first``, and write ``r``."""
    defaults = {"inputs": "float[N,6,5] x", "W1": (5, 8), "B1": (8,), "W2": (8, 4)}
    text = f"[first] g = MatMul (x, W1)\nh = Add (g, B1)\n{text}\n[last] y = MatMul (r, W2)"
    return net(text, **{**defaults, **settings})


HEADS = """
    q = MatMul (x, WQ)
    k = MatMul (x, WK)
    v = MatMul (x, WV)
    q1 = Reshape (q, s)
    k1 = Reshape (k, s)
    v1 = Reshape (v, s)
    q2 = Transpose <perm=[0,2,1,3]> (q1)
    k2 = Transpose <perm=[0,2,3,1]> (k1)
    v2 = Transpose <perm=[0,2,1,3]> (v1)
    a = MatMul (q2, k2)
    {}
    o = MatMul (p, v2)
    o1 = Transpose <perm=[0,2,1,3]> (o)
    o2 = Reshape (o1, t)
    y = MatMul (o2, WO)"""
"""Attention of queries, keys and values; the braces make scores ``a`` into weights ``p``."""

FOUR_HEADS: dict[str, Any] = {
    "inputs": "float[N,6,12] x", "WQ": (12, 24), "WK": (12, 24), "WV": (12, 24), "WO": (24, 12),
    "s": [0, 6, 4, 6], "t": [0, 6, 24],
}  # fmt: skip


def made_up(graph: Graph, seed: int = 0, setting: int = 0) -> dict[str, Array]:
    """Inputs made up at the sample sizes of one setting."""
    shapes = analyse(graph)
    return synthetic_inputs(graph, (shapes.second if setting else shapes.first).sizes, seed)
