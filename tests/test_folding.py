"""What is computed at analysis is what onnxruntime computes at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxprune.model.evaluation import TABLE, alone, evaluate
from onnxprune.model.file import Model
from onnxprune.model.graph import Graph
from onnxprune.model.node import Node

Array = npt.NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
Call = tuple[dict[str, Any], list[Any]]
"""Attributes and inputs of a node."""

OPSETS = (7, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22)

INTS = onnx.AttributeProto.INTS

NUMBERS = ("float32", "float64", "float16", "int64", "int32", "int8", "uint8")


def node(op: str, inputs: list[Array | None], opset: int, attributes: dict[str, Any]) -> Node:
    """A node of the view, in a model that holds nothing else."""
    names = [f"i{k}" if value is not None else "" for k, value in enumerate(inputs)]
    proto = onnx.helper.make_node(op, names, ["o"], "node")
    proto.attribute.extend(
        onnx.helper.make_attribute(key, value, attr_type=INTS if value == [] else None)
        for key, value in attributes.items()
    )
    graph = onnx.helper.make_graph([proto], "one", [], [])
    opsets = [onnx.helper.make_opsetid("", opset)]
    return Graph(Model(onnx.helper.make_model(graph, opset_imports=opsets))).nodes[0]


def values(draw: Draw, shape: tuple[int, ...], dtype: str) -> Array:
    """Small numbers, among them negative ones, zeros, halves, and what no finite number is."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return draw(hnp.arrays(kind, shape))
    entries: Any = st.integers(0 if kind.kind == "u" else -9, 9)
    if kind.kind == "f":
        entries = st.one_of(entries.map(lambda n: n / 2), st.sampled_from([np.nan, np.inf, -np.inf, 1e9]))
    elif kind.itemsize == 8:
        entries = st.one_of(entries, st.sampled_from([2**31, -(2**40), 2**62]))
    flat = draw(st.lists(entries, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    with np.errstate(over="ignore"):
        return np.array(flat, kind).reshape(shape)


def shapes(rank: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of up to three axes, among them axes of size 0 and 1."""
    return st.lists(st.integers(0, 3), max_size=rank).map(tuple)


def tensor(draw: Draw, *dtypes: str) -> Array:
    """A tensor of one of some types, of the numbers by default."""
    return values(draw, draw(shapes()), draw(st.sampled_from(dtypes or NUMBERS)))


def unary(*dtypes: str) -> Callable[[Draw, int], Call]:
    return lambda draw, opset: ({}, [tensor(draw, *dtypes)])


def alike(count: int, *dtypes: str) -> Callable[[Draw, int], Call]:
    """Tensors of one type whose shapes broadcast."""

    def build(draw: Draw, opset: int) -> Call:
        dtype = draw(st.sampled_from(dtypes or NUMBERS))
        found = draw(hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, max_side=3, min_side=0))
        return {}, [values(draw, shape, dtype) for shape in found.input_shapes]

    return build


def integers(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def axes_of(draw: Draw, rank: int) -> list[int]:
    """Some axes of a tensor, none twice, from the front or from the back."""
    chosen = draw(st.lists(st.sampled_from(range(rank)), unique=True)) if rank else []
    return [k - rank if draw(st.booleans()) else k for k in chosen]


def reduced(first: int) -> Callable[[Draw, int], Call]:
    """Reductions, small enough to be exact in any order; axes are an input from an opset on."""

    def build(draw: Draw, opset: int) -> Call:
        x = tensor(draw, "float32", "float64", "int64", "int32")
        x = np.where(x == 1e9, x.dtype.type(9), x) if x.dtype.kind == "f" else x.clip(-2, 2)
        attributes: dict[str, Any] = {}
        if draw(st.booleans()):
            attributes["keepdims"] = draw(st.integers(0, 1))
        chosen = draw(st.sampled_from([None, [], axes_of(draw, x.ndim)]))
        if chosen and not x.size:  # onnxruntime forgets some axes of an empty tensor in another order
            chosen = sorted(k % x.ndim for k in chosen)
        if opset < first:
            return attributes | ({} if chosen is None else {"axes": chosen}), [x]
        if draw(st.booleans()):
            attributes["noop_with_empty_axes"] = draw(st.integers(0, 1))
        return attributes, [x] if chosen is None else [x, integers(*chosen)]

    return build


def squeezed(draw: Draw, opset: int) -> Call:
    x = tensor(draw)
    ones = [k for k, size in enumerate(x.shape) if size == 1]
    chosen = draw(st.one_of(st.none(), st.just([]), st.lists(st.sampled_from(ones or [0]), unique=True)))
    if opset < 13:
        return ({} if chosen is None else {"axes": chosen}), [x]
    return {}, [x] if chosen is None else [x, integers(*chosen)]


def unsqueezed(draw: Draw, opset: int) -> Call:
    x = tensor(draw)
    added = draw(st.integers(1, 2))
    chosen = draw(
        st.lists(st.sampled_from(range(x.ndim + added)), min_size=added, max_size=added, unique=True)
    )
    chosen = [k - x.ndim - added if opset > 10 and draw(st.booleans()) else k for k in chosen]
    return ({"axes": chosen}, [x]) if opset < 13 else ({}, [x, integers(*chosen)])


def sliced(draw: Draw, opset: int) -> Call:
    x = tensor(draw)
    chosen = axes_of(draw, x.ndim)
    chosen = chosen if opset > 9 else [k % x.ndim for k in chosen]
    bounds = st.sampled_from([*range(-5, 6), 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])
    starts, ends = ([draw(bounds) for _ in chosen] for _ in range(2))
    if opset < 10:
        return {"starts": starts, "ends": ends, "axes": chosen}, [x]
    inputs: list[Array | None] = [x, integers(*starts), integers(*ends)]
    steps = [draw(st.sampled_from([1, 2, -1, -2, -(2**31), 2**31 - 1])) for _ in chosen]
    optional: list[list[Array | None]] = [[integers(*chosen)], [integers(*chosen), integers(*steps)]]
    if chosen == list(range(x.ndim)):
        optional += [[], [None, integers(*steps)]]
    return {}, inputs + draw(st.sampled_from(optional))


def reshaped(draw: Draw, opset: int) -> Call:
    x = tensor(draw)
    target = [
        draw(st.sampled_from([0, 1, 2, 3, -1, x.size, *x.shape])) for _ in range(draw(st.integers(0, 3)))
    ]
    attributes = {"allowzero": draw(st.integers(0, 1))} if opset > 13 else {}
    return attributes, [x, integers(*target)]


def transposed(draw: Draw, opset: int) -> Call:
    x = tensor(draw)
    return {} if draw(st.booleans()) else {"perm": draw(st.permutations(range(x.ndim)))}, [x]


def concatenated(draw: Draw, opset: int) -> Call:
    x = values(draw, draw(shapes().filter(len)), draw(st.sampled_from(NUMBERS)))
    axis = draw(st.integers(-x.ndim if opset > 10 else 0, x.ndim - 1))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        shape = list(x.shape)
        shape[axis] = draw(st.integers(0, 3))
        parts.append(values(draw, tuple(shape), str(x.dtype)))
    return {"axis": axis}, [x, *parts]


def gathered(draw: Draw, opset: int) -> Call:
    x = values(draw, draw(shapes().filter(len)), draw(st.sampled_from(NUMBERS)))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    limit = x.shape[axis]
    index = draw(st.sampled_from(["int32", "int64"]))
    lowest = -limit if opset > 10 else 0
    shape = draw(shapes(2)) if limit else (0,)
    indices = draw(hnp.arrays(index, shape, elements=st.integers(lowest, max(limit - 1, lowest))))
    return {} if axis == 0 and draw(st.booleans()) else {"axis": axis}, [x, indices]


def expanded(draw: Draw, opset: int) -> Call:
    found = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0))
    shape, target = found.input_shapes
    return {}, [values(draw, shape, draw(st.sampled_from(NUMBERS))), integers(*target)]


def filled(draw: Draw, opset: int) -> Call:
    shape = integers(*draw(shapes()))
    fill = values(draw, (1,), draw(st.sampled_from([*NUMBERS, "bool"])))
    return draw(st.sampled_from([{}, {"value": onnx.numpy_helper.from_array(fill)}])), [shape]


def ranged(draw: Draw, opset: int) -> Call:
    dtype = draw(st.sampled_from(["int64", "int32", "float32", "float64"]))
    bounds = (
        st.integers(-9, 9) if dtype.startswith("int") else st.sampled_from([-2.5, -0.3, 0.0, 0.1, 1.0, 7.7])
    )
    start, limit, delta = (draw(bounds) for _ in range(3))
    assume(delta)
    return {}, [np.array(v, dtype) for v in (start, limit, delta)]


def extreme(draw: Draw, opset: int) -> Call:
    """Beyond 32 bits, onnxruntime 1.31 compares int64 wrongly."""
    _, found = alike(3)(draw, opset)
    return {}, [x.clip(-9, 9) if x is not None and x.dtype == np.int64 else x for x in found]


def clipped(draw: Draw, opset: int) -> Call:
    x = tensor(draw, *NUMBERS)
    bounds = [draw(st.sampled_from([None, -2, 0, 1, 6])) for _ in range(2)]
    if opset < 11:
        named = zip(("min", "max"), bounds, strict=True)
        return {name: float(v) for name, v in named if v is not None}, [x]
    return {}, [
        x,
        *(None if v is None else np.array(max(v, 0) if x.dtype.kind == "u" else v, x.dtype) for v in bounds),
    ]


def divided(draw: Draw, opset: int) -> Call:
    attributes, (a, b) = alike(2)(draw, opset)
    if a.dtype.kind in "iu":
        assume(b.all())  # a division by zero ends the process
    return attributes, [a, b]


def modulo(draw: Draw, opset: int) -> Call:
    _, (a, b) = divided(draw, opset)
    attributes = {"fmod": 1} if a.dtype.kind == "f" else draw(st.sampled_from([{}, {"fmod": 0}, {"fmod": 1}]))
    return attributes, [a, b]


def power(draw: Draw, opset: int) -> Call:
    _, (a, _) = alike(2, "float32", "float64", "int64", "int32")(draw, opset)
    other = str(a.dtype) if opset < 12 else draw(st.sampled_from(["float32", "float64", "int64", "int32"]))
    exponent = draw(st.sampled_from([0, 1, 2, 3, -1] + ([0.5] if other.startswith("f") else [])))
    return {}, [a, np.array(exponent, other)]


def cast(draw: Draw, opset: int) -> Call:
    x = tensor(draw, *NUMBERS, "bool")
    to = draw(st.sampled_from([*NUMBERS, "bool"]))
    return {"to": onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to))}, [x]


def chosen(draw: Draw, opset: int) -> Call:
    _, (a, b) = alike(2, "float32", "int64", "int32", "uint8")(draw, opset)
    condition = values(draw, draw(st.sampled_from([a.shape, b.shape, ()])), "bool")
    return {}, [condition, a, b]


def scales(draw: Draw, opset: int, x: Array, kind: str) -> Call:
    """Scale and zero point: one number or one for each index of an axis."""
    axis = draw(st.integers(0, x.ndim - 1)) if opset > 12 and x.ndim and draw(st.booleans()) else None
    shape = () if axis is None else (x.shape[axis],)
    scale = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.25, 0.1, 2.0])))
    lowest, highest = (-9, 9) if kind.startswith("i") else (0, 9)
    zero = draw(hnp.arrays(kind, shape, elements=st.integers(lowest, highest)))
    return {} if axis is None else {"axis": axis}, [x, scale, *draw(st.sampled_from([[], [zero]]))]


def dequantized(draw: Draw, opset: int) -> Call:
    kind = draw(st.sampled_from(["int8", "uint8", "int32"]))
    attributes, (x, scale, *zero) = scales(draw, opset, tensor(draw, kind), kind)
    return attributes, [x, scale, *([np.zeros_like(z) for z in zero] if kind == "int32" else zero)]


def quantized(draw: Draw, opset: int) -> Call:
    x = tensor(draw, "float32")
    assume(np.isfinite(x).all())
    return scales(draw, opset, x, draw(st.sampled_from(["int8", "uint8"])))


CALLS: dict[str, Callable[[Draw, int], Call]] = {
    "Identity": unary(), "Relu": unary(), "Clip": clipped, "Neg": unary(*NUMBERS[:-1]), "Abs": unary(),
    "Sqrt": unary(*NUMBERS[:3]), "Floor": unary(*NUMBERS[:3]), "Ceil": unary(*NUMBERS[:3]),
    "Round": unary(*NUMBERS[:3]), "Not": unary("bool"),
    "Add": alike(2), "Sub": alike(2), "Mul": alike(2), "Min": extreme, "Max": extreme,
    "Equal": alike(2, *NUMBERS, "bool"), "Less": alike(2), "Greater": alike(2),
    "LessOrEqual": alike(2), "GreaterOrEqual": alike(2), "And": alike(2, "bool"), "Or": alike(2, "bool"),
    "Cast": cast, "Concat": concatenated, "Gather": gathered, "Slice": sliced, "Squeeze": squeezed,
    "Unsqueeze": unsqueezed, "Reshape": reshaped, "Transpose": transposed, "Expand": expanded,
    "ConstantOfShape": filled, "Range": ranged, "Div": divided, "Mod": modulo, "Pow": power,
    "Where": chosen, "ReduceSum": reduced(13), "ReduceProd": reduced(18), "ReduceMin": reduced(18),
    "ReduceMax": reduced(18), "DequantizeLinear": dequantized, "QuantizeLinear": quantized,
}  # fmt: skip
"""How a call of every operator that is evaluated without onnxruntime is made up."""


def test_every_operator_is_tried() -> None:
    assert CALLS.keys() == TABLE.keys()


def check(op: str, opset: int, attributes: dict[str, Any], inputs: list[Array | None]) -> None:
    """The value is that of onnxruntime, to a rounding of floats, where that has the operator."""
    made = node(op, inputs, opset, attributes)
    try:
        (expected,) = alone(made, inputs)
    except Exception:  # of a type that onnxruntime lacks, or no sense
        return
    found = evaluate(made, inputs)
    assert found is not None
    assert (found[0].dtype, found[0].shape) == (expected.dtype, expected.shape)
    rounding = 2 * np.finfo(expected.dtype).eps if expected.dtype.kind == "f" else 0
    np.testing.assert_allclose(found[0], expected, rtol=float(rounding), atol=0)


@pytest.mark.parametrize("op", sorted(CALLS))
@settings(
    max_examples=10, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(data=st.data())
def test_value_is_that_of_onnxruntime(op: str, data: st.DataObject) -> None:
    opset = data.draw(st.sampled_from(OPSETS))
    check(op, opset, *CALLS[op](data.draw, opset))


NOTHING = integers()

FLOATS = np.array([[np.nan, 1, 2], [-np.inf, 3, np.inf]])

INFINITE = np.array([np.inf, 1, -np.inf], np.float32)

FOUND: dict[str, tuple[str, int, dict[str, Any], list[Array | None]]] = {
    "product along no axes": ("ReduceProd", 18, {}, [integers(2, 3, 4), NOTHING]),
    "sum along no axes": ("ReduceSum", 13, {"keepdims": 0}, [integers(2, 3, 4), NOTHING]),
    "sum along no axes, kept": ("ReduceSum", 13, {"noop_with_empty_axes": 1}, [integers(2, 3), NOTHING]),
    "axes attribute without an axis": ("ReduceMax", 11, {"axes": []}, [integers(2, 3, 4)]),
    "least of nothing": ("ReduceMin", 18, {}, [np.zeros((2, 0), np.float32), integers(1)]),
    "greatest beside NaN": ("ReduceMax", 18, {}, [FLOATS, integers(0)]),
    "squeeze along no axes": ("Squeeze", 13, {}, [np.ones((1, 2, 1)), NOTHING]),
    "backwards from before the first": (
        "Slice",
        13,
        {},
        [integers(1, 2, 3), integers(-9), integers(-9), integers(0), integers(-1)],
    ),
    "range of floats": ("Range", 13, {}, [np.array(v) for v in (-0.3, 0.7, 0.1)]),
    "root of infinity": ("Pow", 13, {}, [FLOATS.astype(np.float32), np.array(0.5, np.float32)]),
    "infinity below no bound": ("Clip", 13, {}, [INFINITE, np.array(0, np.float32)]),
    "infinity above no bound, in few bits": (
        "Clip",
        13,
        {},
        [INFINITE.astype(np.float16), None, np.array(0, np.float16)],
    ),
    "integer to a negative power": ("Pow", 13, {}, [integers(1, 2), np.array(-1)]),
}
"""What was computed otherwise once."""


@pytest.mark.parametrize("call", FOUND.values(), ids=FOUND)
def test_found(call: tuple[str, int, dict[str, Any], list[Array | None]]) -> None:
    check(*call)


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_integer_division_by_zero_has_no_value(op: str) -> None:
    """It ends the process of onnxruntime."""
    inputs: list[Array | None] = [integers(4, 5), integers(2, 0)]
    assert evaluate(node(op, inputs, 13, {}), inputs) is None


def test_axes_of_a_first_opset_have_no_value() -> None:
    """Until opset 6 an attribute says which axes meet; onnxruntime has no such operators."""
    inputs: list[Array | None] = [np.ones((2, 2)), np.array([1.0, 2.0])]
    assert evaluate(node("Add", inputs, 6, {"broadcast": 1, "axis": 0}), inputs) is None
