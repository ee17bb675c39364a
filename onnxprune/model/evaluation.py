"""Evaluation of nodes whose inputs are known.

The table covers the shape arithmetic that exporters write; every other operator is left to
onnxruntime, and so is what numpy computes otherwise than it does (a float power of infinity, a
range of floats, the least of nothing). A Gather takes 5 microseconds by the table, 50 by a session
that is there already or by ``onnx.reference``, 600 by a session of its own, and a Swin Transformer
has 5600 such nodes. That table and onnxruntime agree is a property test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx

from .node import Node
from .operators import Trait, traits_of
from .quantization import MICROSOFT, dequantize, quantize

Values = Sequence[Any]

ADOPTED = {"com.microsoft::DequantizeLinear", "com.microsoft::QuantizeLinear"}
"""Operators of another domain that mean what those of the same name mean in the default one."""

RUN = ("", MICROSOFT)
"""Domains whose operators onnxruntime has. A quantiser quantises shape arithmetic, too."""


def evaluate(node: Node, inputs: Values) -> list[np.ndarray] | None:
    """Outputs of a node from its input values (None for an absent input).

    Returns
    -------
    list of numpy.ndarray or None
        None where the operator cannot be evaluated.
    """
    if not evaluable(node):
        return None
    fast = None if foreign(node) or "broadcast" in node.attributes else TABLE.get(node.op)
    try:
        with np.errstate(all="ignore"):
            found = fast(node, *inputs) if fast else alone(node, inputs)
    except Exception:  # an evaluation that fails for any reason leaves the value unknown
        return None
    results = found if isinstance(found, list) else [found]
    return [np.asarray(r) for r in results]


def evaluable(node: Node) -> bool:
    """Whether a node can be evaluated, its inputs being known."""
    return node.domain in RUN and not node.bodies and Trait.RANDOM not in traits_of(node)


def foreign(node: Node) -> bool:
    """Whether a node's operator belongs to a domain whose results are not taken as constants."""
    return bool(node.domain) and node.kind not in ADOPTED


def alone(node: Node, inputs: Values) -> list[np.ndarray]:
    """Run one node on onnxruntime; ``broadcast``, of before opset 7, is an attribute it refuses."""
    names = [f"i{k}" if v is not None else "" for k, v in enumerate(inputs)]
    feeds = {n: np.asarray(v) for n, v in zip(names, inputs, strict=True) if n}
    proto = onnx.NodeProto(op_type=node.op, domain=node.proto.domain, input=names)
    proto.attribute.extend(node.proto.attribute)
    proto.output.extend(f"o{k}" if name else "" for k, name in enumerate(node.outputs))
    # Open shapes let activations share a session. Beside other inputs they are told: onnxruntime
    # refuses a Resize whose second input, the sizes, has no number of entries.
    values = [
        onnx.helper.make_tensor_value_info(
            n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape if len(feeds) > 1 else [None] * v.ndim
        )
        for n, v in feeds.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(n) for n in proto.output if n]
    graph = onnx.helper.make_graph([proto], "one", values, outputs)
    opset = onnx.helper.make_opsetid(node.domain, node.opset)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = _session(model.SerializeToString(deterministic=True))
    return [np.asarray(v) for v in session.run(None, feeds)]


@lru_cache(maxsize=16)
def _session(model: bytes) -> Any:
    """Session of a model; networks repeat the same few activations many times.

    It runs on the caller's thread and keeps no memory between runs: many of them wait at a time.
    """
    from .engine import ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _axes(node: Node, given: np.ndarray | None) -> tuple[int, ...] | None:
    axes = node.attr("axes") if given is None else given.tolist()
    return None if axes is None else tuple(np.atleast_1d(axes).tolist())


def _unsqueeze(node: Node, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.expand_dims(x, _axes(node, axes) or ())


def _squeeze(node: Node, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.squeeze(x, _axes(node, axes) or None)


def _slice(node: Node, x: np.ndarray, *bounds: np.ndarray) -> np.ndarray:
    starts, ends, axes, steps = slice_bounds(node, x.ndim, bounds)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = python_slice(start, end, step, x.shape[axis])
    return x[tuple(index)]


def slice_bounds(
    node: Node, rank: int, bounds: Sequence[np.ndarray | None]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Starts, ends, non-negative axes and steps of a Slice, from inputs or old attributes."""
    if node.attr("starts") is not None:
        starts, ends = node.attr("starts"), node.attr("ends")
        axes, steps = node.attr("axes"), None
    else:
        given = [None if b is None else np.atleast_1d(b).tolist() for b in bounds]
        starts, ends, axes, steps = (given + [None] * 4)[:4]
    axes = list(range(len(starts))) if axes is None else axes
    return starts, ends, [a % rank for a in axes], steps or [1] * len(starts)


def python_slice(start: int, end: int, step: int, size: int) -> slice:
    """ONNX slice bounds, which may be far out of range, as a Python slice."""
    if step > 0:
        return slice(start, end, step)
    stop = None if end < -size else end
    return slice(max(start, -size), stop, step)


def _reshape(node: Node, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    dims = [
        x.shape[k] if d == 0 and not node.attr("allowzero", 0) else d for k, d in enumerate(shape.tolist())
    ]
    return x.reshape(dims)


def _cast(node: Node, x: np.ndarray) -> np.ndarray:
    return x.astype(onnx.helper.tensor_dtype_to_np_dtype(node.attr("to")))


def _clip(node: Node, x: np.ndarray, *bounds: np.ndarray | None) -> Any:
    """Where there is no bound, it is the largest finite number, so that infinity becomes that."""
    largest = float(np.finfo(x.dtype if x.dtype.kind == "f" and node.opset >= 11 else np.float32).max)
    old = node.attr("min", -largest), node.attr("max", largest)
    low, high = old if node.opset < 11 else [*bounds, None, None][:2]
    if any(v is not None and np.isnan(v).any() for v in (x, low, high)):
        return alone(node, [x, *bounds])
    if x.dtype.kind == "f":
        low, high = -largest if low is None else low, largest if high is None else high
    x = x if low is None else np.maximum(x, x.dtype.type(low))
    return x if high is None else np.minimum(x, x.dtype.type(high))


def _divide(_: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if np.issubdtype(a.dtype, np.integer):
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(_divisor(b)))).astype(a.dtype)
    return np.divide(a, b)


def _modulo(node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.fmod if node.attr("fmod", 0) else np.mod)(a, _divisor(b))


def _divisor(b: np.ndarray) -> np.ndarray:
    """What integers are divided by; by zero, onnxruntime ends the process."""
    if np.issubdtype(b.dtype, np.integer) and not b.all():
        raise ZeroDivisionError
    return b


def _power(node: Node, a: np.ndarray, b: np.ndarray) -> Any:
    integers = a.dtype.kind in "iu" and b.dtype.kind in "iu" and (b >= 0).all()
    return np.power(a, b).astype(a.dtype) if integers else alone(node, [a, b])


def _range(node: Node, start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> Any:
    if start.dtype.kind == "f":
        return alone(node, [start, limit, delta])
    return np.arange(start.item(), limit.item(), delta.item()).astype(start.dtype)


def _constant_of_shape(node: Node, shape: np.ndarray) -> np.ndarray:
    value = node.attr("value")
    fill = np.float32(0) if value is None else onnx.numpy_helper.to_array(value).reshape(())
    return np.full(shape.tolist(), fill, getattr(fill, "dtype", np.float32))


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(node: Node, x: np.ndarray, axes: np.ndarray | None = None) -> Any:
        chosen = _axes(node, axes) or None
        if chosen is None and node.attr("noop_with_empty_axes", 0):
            return x
        ordered = function in (np.min, np.max)
        if ordered and (not x.size or (x.dtype.kind == "f" and np.isnan(x).any())):
            return alone(node, [x] if axes is None else [x, axes])
        keep = bool(node.attr("keepdims", 1))
        return np.asarray(function(x, axis=chosen, keepdims=keep), x.dtype)

    return run


def _dequantize(node: Node, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None) -> np.ndarray:
    axis = node.attr("axis", 1) if x.ndim > 1 else 0
    values = dequantize(x, scale, zero, axis, node.attr("block_size", 0))
    wanted = node.attr("output_dtype", 0)
    return values.astype(onnx.helper.tensor_dtype_to_np_dtype(wanted)) if wanted else values


def _quantize(
    node: Node, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None
) -> np.ndarray | list[np.ndarray]:
    if zero is None and not node.attr("output_dtype", 0):
        zero = np.zeros((), np.uint8)
    if zero is None or zero.dtype.kind not in "iu":  # a 4-bit integer or an 8-bit float
        return alone(node, [x, scale, zero])
    return quantize(x, scale, zero, node.attr("axis", 1) if x.ndim > 1 else 0, node.attr("block_size", 0))


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *inputs: function(*inputs)


def _many(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def run(_: Node, first: np.ndarray, *rest: np.ndarray) -> Any:
        for other in rest:
            first = function(first, other)
        return first

    return run


TABLE: dict[str, Callable[..., Any]] = {
    "Identity": lambda _, x: x,
    "Relu": lambda _, x: np.maximum(x, x.dtype.type(0)),
    "Clip": _clip,
    "Cast": _cast,
    "Concat": lambda n, *xs: np.concatenate(xs, n.attr("axis")),
    "Gather": lambda n, x, i: np.take(x, i, axis=n.attr("axis", 0)),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": lambda n, x: np.transpose(x, n.attr("perm")),
    "Expand": lambda _, x, s: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(s.tolist()))),
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Add": _plain(np.add), "Sub": _plain(np.subtract), "Mul": _plain(np.multiply),
    "Div": _divide, "Mod": _modulo, "Pow": _power,
    "Neg": _plain(np.negative), "Abs": _plain(np.abs), "Sqrt": _plain(np.sqrt),
    "Floor": _plain(np.floor), "Ceil": _plain(np.ceil), "Round": _plain(np.rint),
    "Min": _many(np.minimum), "Max": _many(np.maximum),
    "Equal": _plain(np.equal), "Less": _plain(np.less), "Greater": _plain(np.greater),
    "LessOrEqual": _plain(np.less_equal), "GreaterOrEqual": _plain(np.greater_equal),
    "Not": _plain(np.logical_not), "And": _plain(np.logical_and), "Or": _plain(np.logical_or),
    "Where": _plain(np.where),
    "ReduceProd": _reduce(np.prod), "ReduceSum": _reduce(np.sum),
    "ReduceMin": _reduce(np.min), "ReduceMax": _reduce(np.max),
    "DequantizeLinear": _dequantize, "QuantizeLinear": _quantize,
}  # fmt: skip
