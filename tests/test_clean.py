"""Lossless clean-up: what goes, what stays, why, and what the log says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import UsageError
from onnxprune.jobs.clean import clean
from onnxprune.jobs.replay import rewrite
from onnxprune.selection.plan import Plan

from .conftest import exact
from .planting import cleaned, graph, inputs_of, kept, log, normal, outputs_of, worst

BIAS = np.array([0.5, -0.4, 0.3, 0.2, 0.1, 0.6, -0.7, 0.8], np.float32)
"""With Relu, channels 1 and 6 of zero filters become zero, the others a constant."""


def constant(last: str, *, middle: str = "m = Relu(h)", **constants: Any) -> onnx.ModelProto:
    """Filters 0, 1 and 2 are zero: after Relu, 0 and 2 are constant and 1 is zero."""
    given = {"W": normal(8, 3, 3, 3, dead=(0, 1, 2)), "b": BIAS, "V": normal(4, 8, 3, 3)}
    return graph(f"h = Conv(x, W, b)\n{middle}\n{last}", **{**given, **constants})


# Constants --------------------------------------------------------------------------------------


FOLDED = {
    "bias": constant("y = Conv(m, V, c)", c=normal(4)),
    "no bias": constant("y = Conv(m, V)"),
    "strided": constant("y = Conv<strides=[2,2], auto_pad=\"VALID\">(m, V)"),
    "shared bias": constant("p = Conv(m, V, c)\nq = Conv(m, U, c)\ny = Add(p, q)", U=normal(4, 8, 3, 3, seed=1), c=normal(4)),
    "batch norm": constant("y = Conv(n, V)", middle="m = BatchNormalization(h, g, s, a, v)\nn = Relu(m)", g=normal(8), s=np.abs(normal(8, seed=1)), a=BIAS, v=np.ones(8)),
    "max pool": constant("y = Conv(n, V)", middle="m = Relu(h)\nn = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1]>(m)"),
    "scaled": constant("y = Conv(n, V)", middle="m = Relu(h)\nn = Mul(m, s)", s=normal(8, 1, 1)),
    "grouped": constant("y = Conv<group=2>(m, V)", W=normal(8, 3, 3, 3, dead=(0, 1, 4, 5)), b=np.abs(BIAS), V=normal(4, 4, 3, 3)),
    "gemm": constant("f = Flatten(m)\ny = Gemm<transB=1, alpha=2.0, beta=0.5>(f, V, c)", V=normal(5, 288), c=normal(5)),
    "gemm without bias": constant("f = Flatten(m)\ny = Gemm(f, V)", V=normal(288, 5)),
    "gemm with one number": constant("f = Flatten(m)\ny = Gemm(f, V, c)", V=normal(288, 5), c=0.25),
    "product and sum": constant("f = Flatten(m)\np = MatMul(f, V)\ny = Add(c, p)", V=normal(288, 5), c=normal(5)),
    "product": constant("f = Flatten(m)\ny = MatMul(f, V)", V=normal(288, 5)),
    "product, read twice": constant("f = Flatten(m)\np = MatMul(f, V)\nq = Add(p, c)\ny = Mul(p, q)", V=normal(288, 5), c=normal(5)),
    "constant nodes": constant("c = Constant<value_floats=[0.5,0.25,1.0,2.0]>()\ny = Conv(m, V, c)"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_constant_moves_into_the_bias(name: str) -> None:
    result = cleaned(FOLDED[name], duplicates=False)
    assert log(result).removed["constant"] >= 2
    assert not log(result).stays


STUCK = {
    "padded": (constant("y = Conv<pads=[1,1,1,1]>(m, V)"), "pads with zeros"),
    "auto_pad": (constant("y = Conv<auto_pad=\"SAME_UPPER\">(m, V)"), "pads with zeros"),
    "transposed": (constant("y = ConvTranspose(m, V)", V=normal(8, 4, 3, 3)), "other parts of the kernel"),
    "summed": (constant("y = ReduceSum<keepdims=0>(m, a)", a=[1]), "no product with a stored weight"),
    "computed bias": (constant("s = ReduceMean<axes=[0,1,2], keepdims=0>(x)\nt = Slice(s, a, e)\ny = Conv(m, V, t)", a=[0], e=[4]), "is not stored"),
}  # fmt: skip


@pytest.mark.parametrize("name", STUCK)
def test_constant_stays_and_says_why(name: str) -> None:
    model, why = STUCK[name]
    result = cleaned(model, duplicates=False)
    assert kept(result) == {"h": (0, 2, 3, 4, 5, 6, 7)}
    ((group, reason), count), *rest = log(result).stays.items()
    assert (group, count, rest) == ("h", 2, [])
    assert why in reason
    assert f"h: 2 constant channels stay, because {reason}" in str(log(result))


def test_bias_that_takes_more_than_what_goes_is_not_added() -> None:
    """No file becomes larger; the bias would be called after its layer, twice."""
    model = constant("y = Conv(m, V)", b=np.abs(BIAS))
    name = "a/long/way/" * 1000
    next(node for node in model.graph.node if node.output[0] == "y").name = name
    result = cleaned(model, duplicates=False)
    assert result.model.proto.SerializeToString() == model.SerializeToString()
    assert log(result).headline.startswith("nothing was removed, because the file would become 2")
    assert {(g.status, g.reason) for g in result.plan.groups if g.name == "h"} == {
        ("kept", log(result).kept_for_size)
    }
    assert log(result).before == log(result).after == result.after
    assert onnxprune.prune(model, ratio=0.0).log is None


def test_constant_is_needed_elsewhere() -> None:
    """One layer could take the constant, the other one pads."""
    model = constant(
        "p = Conv(m, V)\nq = Conv<pads=[1,1,1,1]>(m, U)\nr = ReduceMean<axes=[2,3]>(q)\ny = Add(p, r)",
        U=normal(4, 8, 3, 3, seed=1),
    )
    assert kept(cleaned(model, duplicates=False)) == {"h": (0, 2, 3, 4, 5, 6, 7)}


# Equal channels ---------------------------------------------------------------------------------


def twin(
    text: str = "m = Relu(h)\ny = Conv(m, V)", *, vectors: str = "b", **constants: Any
) -> onnx.ModelProto:
    """Filters 2 and 5 are equal; so are the entries 2 and 5 of the vectors named."""
    W = normal(8, 3, 3, 3)
    W[5] = W[2]
    given = {"W": W, "b": normal(8), "V": normal(4, 8, 3, 3), **constants}
    for name in vectors:
        given[name] = given[name].copy()
        given[name][5] = given[name][2]
    return graph(f"h = Conv(x, W, b)\n{text}", **given)


NORM = {"g": normal(8), "s": normal(8, seed=1), "a": normal(8, seed=2), "v": np.abs(normal(8)) + 1}

EQUAL = {
    "conv": twin(),
    "batch norm": twin("n = BatchNormalization(h, g, s, a, v)\nm = Sigmoid(n)\ny = Conv(m, V)", vectors="bgsav", **NORM),
    "depthwise": twin("d = Conv<group=8, pads=[1,1,1,1]>(h, D)\ny = Conv(d, V)", vectors="bD", D=normal(8, 1, 3, 3)),
    "padded": twin("y = Conv<pads=[1,1,1,1]>(h, V)"),
    "transposed": twin("y = ConvTranspose(h, V)", V=normal(8, 4, 3, 3)),
    "two readers": twin("p = Conv(h, V)\nq = Conv(h, U)\ny = Add(p, q)", U=normal(4, 8, 3, 3, seed=1)),
    "flattened": twin("f = Flatten(h)\nr = Tanh(f)\ny = Gemm(r, V)", V=normal(288, 5)),
    "channels last": twin("t = Transpose<perm=[0,2,3,1]>(h)\nf = Flatten(t)\ny = Gemm(f, V)", V=normal(288, 5)),
    "concatenated": twin("e = Conv(x, E)\nc = Concat<axis=1>(e, h)\ny = Conv(c, V)", E=normal(2, 3, 3, 3), V=normal(4, 10, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_twin_goes(name: str) -> None:
    result = cleaned(EQUAL[name])
    assert dict(log(result).removed) == {"duplicate": 1}
    assert (0, 1, 2, 3, 4, 6, 7) in kept(result).values()
    assert not kept(cleaned(EQUAL[name], duplicates=False))


DIFFERENT = {
    "bias": twin(vectors=""),
    "batch norm": twin("n = BatchNormalization(h, g, s, a, v)\ny = Conv(n, V)", vectors="bgsa", **NORM),
    "kernel": twin("d = Conv<group=8, pads=[1,1,1,1]>(h, D)\ny = Conv(d, V)", D=normal(8, 1, 3, 3)),
    "summed": twin("y = ReduceSum<keepdims=0>(h, a)", a=[1]),
    "squared": twin("f = Flatten(h)\nt = Transpose(f)\ny = MatMul(f, t)"),
    "weight in another role": twin("f = GlobalAveragePool(h)\ni = Flatten(f)\np = MatMul(i, V)\nu = ReduceSum<keepdims=0>(V, a)\ny = Add(p, u)", V=normal(8, 4), a=[0]),
    "in another order": twin("f = Flatten(h)\ng = Gather<axis=1>(f, order)\ny = Gemm(g, V)", V=normal(288, 5), order=[*range(180), *range(215, 179, -1), *range(216, 288)]),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_no_twin(name: str) -> None:
    assert "duplicate" not in log(cleaned(DIFFERENT[name])).removed


def test_noise_tells_channels_apart() -> None:
    model = twin("r = RandomNormal<shape=[2,8,6,6]>()\nm = Add(h, r)\ny = Conv(m, V)")
    assert not log(clean(model)).removed


def test_twin_of_a_constant_counts_once() -> None:
    """Three equal constants: one layer could take them in its bias, the other one pads."""
    text = "m = Sigmoid(h)\np = Conv(m, V)\nq = Conv<pads=[1,1,1,1]>(m, U)\nr = ReduceMean<axes=[2,3]>(q)\ny = Add(p, r)"
    model = graph(
        f"h = Conv(x, W)\n{text}",
        W=normal(8, 3, 3, 3, dead=(0, 1, 2)),
        V=normal(4, 8, 3, 3),
        U=normal(4, 8, 3, 3, seed=1),
    )
    result = cleaned(model)
    assert dict(log(result).removed) == {"duplicate": 2}


# Ranges -----------------------------------------------------------------------------------------


def ranged() -> onnx.ModelProto:
    """Channel 3 is negative for inputs within [0, 1], channel 1 for any."""
    W = np.abs(normal(8, 3, 1, 1))
    W[3] *= -1
    W[1] = 0
    b = np.full(8, 0.1, np.float32)
    b[[1, 3]] = -0.1
    return graph(
        "h = Conv(x, W, b)\nm = Relu(h)\ny = Conv<pads=[1,1,1,1]>(m, V)", W=W, b=b, V=normal(4, 8, 3, 3)
    )


@pytest.mark.parametrize("given", [(0, 1), {"x": (0.0, 1.0)}])
def test_assumed_range(given: Any) -> None:
    model = ranged()
    assert kept(cleaned(model)) == {"h": (0, 2, 3, 4, 5, 6, 7)}
    result = clean(model, assume_range=given, granularity=1, verify=True, provider="cpu")
    assert kept(result) == {"h": (0, 2, 4, 5, 6, 7)}
    assert dict(log(result).removed) == {"zero": 1, "assumed": 1}
    assert "assumed: 'x' lies in [0, 1]" in str(log(result))
    assert result.plan.options["assume_range"] == {"x": [0.0, 1.0]}
    assert exact(result)
    inside, outside = inputs_of(model, 0, 1), inputs_of(model, -1, 0)
    assert worst(outputs_of(model, inside), outputs_of(result.model, inside)) < 1e-6
    assert worst(outputs_of(model, outside), outputs_of(result.model, outside)) > 1e-2


def test_range_of_unknown_input() -> None:
    with pytest.raises(UsageError, match=r"unknown input 'y'"):
        clean(ranged(), assume_range={"y": (0, 1)})


def test_empty_range() -> None:
    with pytest.raises(UsageError, match=r"found the range \[1, 0\], expected LOW <= HIGH"):
        clean(ranged(), assume_range=(1, 0))


def test_bounds_need_no_assumption() -> None:
    """After a Relu, a filter of negative weights and bias is dead for every input."""
    V = normal(8, 8, 1, 1)
    V[6] = -np.abs(V[6])
    model = graph(
        "h = Conv(x, W)\ni = Relu(h)\nj = Conv(i, V, b)\nk = Relu(j)\ny = Conv(k, U)",
        W=normal(8, 3, 1, 1),
        V=V,
        b=np.where(np.arange(8) == 6, -0.5, normal(8)),
        U=normal(4, 8, 1, 1),
    )
    assert kept(cleaned(model)) == {"j": (0, 1, 2, 3, 4, 5, 7)}


# Doubt ------------------------------------------------------------------------------------------


def test_equal_channels_differ_behind_random_numbers() -> None:
    """A Dropout in training keeps one of two equal channels, and not the other."""
    kernel = normal(8, 3, 1, 1)
    kernel[1] = kernel[0]
    drawn: dict[str, Any] = {"share": 0.5, "yes": True}
    for middle, constants in (("m = Dropout(h, share, yes)", drawn), ("m = Relu(h)", {})):
        model = graph(
            f"h = Conv(x, W)\n{middle}\ny = Conv(m, V)", W=kernel, V=normal(4, 8, 1, 1), **constants
        )
        result = clean(model, granularity=1, verify=True)
        assert log(result).removed == ({} if constants else {"duplicate": 1})


def test_infinity_times_zero_is_not_zero() -> None:
    """A weight of zero does not hide a stored infinity."""
    shift = np.zeros((8, 1, 1), np.float32)
    shift[2] = np.inf
    text = "h = Conv(x, W)\ni = Add(h, s)\ny = Conv(i, V)"
    constants: dict[str, Any] = {"W": normal(8, 3, 1, 1), "V": normal(4, 8, 1, 1, dead=(2,), axis=1)}
    assert not kept(clean(graph(text, s=shift, **constants)))
    assert kept(clean(graph(text, s=np.zeros((8, 1, 1)), **constants), granularity=1)) == {
        "h": (0, 1, 3, 4, 5, 6, 7)
    }


def test_unknown_operator_keeps_what_is_not_zero() -> None:
    """CumSum has no value rule: zeros add nothing to it, and nothing is known of what it gives."""
    model = graph(
        "h = Conv(x, W, b)\ni = CumSum(h, one)\ny = Conv(i, V)",
        W=normal(8, 3, 1, 1, dead=(1, 2)),
        b=np.where(np.arange(8) == 1, 0, BIAS),
        V=normal(4, 8, 1, 1, dead=(1, 5), axis=1),
        one=1,
    )
    assert kept(cleaned(model)) == {"h": (0, 2, 3, 4, 5, 6, 7)}


def test_branch_sees_the_channels() -> None:
    """What a nested graph reads stays, also where the main graph does not weight it."""
    model = graph(
        """h = Conv(x, W)
        i = ReduceMax<keepdims=0>(x)
        c = Greater(i, zero)
        j = If(c) <
            then_branch = a () => (float[2,4,8,8] t) { t = Conv(h, U) },
            else_branch = b () => (float[2,4,8,8] e) { e = Conv(h, V) }>
        k = Conv(h, V)
        y = Add(k, j)""",
        W=normal(8, 3, 1, 1),
        U=normal(4, 8, 1, 1, seed=1),
        V=normal(4, 8, 1, 1, dead=(2,), axis=1),
        zero=0.0,
    )
    assert not kept(cleaned(model))


# Log and plan -----------------------------------------------------------------------------------


def test_log_counts_every_byte() -> None:
    model = constant("y = Conv(m, V, c)", c=normal(4))
    result = cleaned(model)
    sizes = [{t.name: len(t.raw_data) for t in m.graph.initializer} for m in (model, result.model.proto)]
    expected = {n: (sizes[0][n], sizes[1][n]) for n in sizes[0] if sizes[0][n] != sizes[1][n]}
    expected["c"] = (16, 16)  # its numbers change, not its size
    assert {row.tensor: (row.before, row.after) for row in log(result).rows} == expected
    text = str(log(result))
    assert "removed 3 of 8 channels: 1 zero, 2 constant" in text
    assert all(f"{after - before:+,}" in text for before, after in expected.values())
    assert "parameters: 516 -> 324 (-37.2%)" in text
    assert f"bytes: {result.before.bytes:,} -> {len(result.model.proto.SerializeToString()):,}" in text
    assert f"macs: {result.before.macs:,} -> {result.before.macs * 5 // 8:,} (-37.5%)" in text


def test_log_of_nothing() -> None:
    result = cleaned(graph("h = Conv(x, W)\ny = Conv(h, V)", W=normal(8, 3, 1, 1), V=normal(4, 8, 1, 1)))
    assert str(log(result)) == (
        "nothing to remove: none of 8 channels is zero, constant, unused or a duplicate"
    )
    assert result.model.proto.SerializeToString() == result.trace.model.proto.SerializeToString()


@pytest.mark.parametrize("model", [FOLDED["bias"], FOLDED["product"], EQUAL["batch norm"], ranged()])
def test_plan_can_be_replayed(model: onnx.ModelProto) -> None:
    result = clean(model, assume_range=(0, 1))
    again = rewrite(model, Plan.from_dict(result.plan.to_dict()))
    assert again.proto.SerializeToString() == result.model.proto.SerializeToString()


def test_clean_twice_finds_nothing_more() -> None:
    for model in (*FOLDED.values(), *EQUAL.values(), ranged()):
        assert not log(clean(clean(model).model)).removed


def test_report_compares_with_the_original() -> None:
    result = clean(FOLDED["gemm"], verify=True, provider="cpu")
    assert result.report is not None
    assert result.report.exact
    ((change,), (surgery,)) = result.report.change, result.report.surgery
    assert max(change.relative, surgery.relative) < 1e-6  # the masked original is far from both


def test_channels_that_an_interpolation_moves_are_not_followed() -> None:
    """A scale of nearly one keeps the number of channels and moves each to the next place."""
    text = """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[2,3,4,4] x) => (float[2,2,8,8] y) {
          a = Conv (x, A)
          r = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">
              (a, , scales)
          b = Conv (r, B)
          c = Relu (b)
          y = Conv (c, C)
        }"""
    dense = onnx.parser.parse_model(text)
    A, B = np.zeros((4, 3, 1, 1)), np.zeros((3, 4, 1, 1))
    A[0], B[:, 1] = 1, 1  # nothing but the first channel, and nothing but the second
    scales = np.array([1, 1.00001, 2, 2])
    arrays = {"A": A, "B": B, "C": np.arange(1, 7).reshape(2, 3, 1, 1), "scales": scales}
    dense.graph.initializer.extend(
        onnx.numpy_helper.from_array(v.astype(np.float32), n) for n, v in arrays.items()
    )
    image = np.random.default_rng(0).uniform(0, 1, (2, 3, 4, 4)).astype(np.float32)
    result = clean(dense, duplicates=False, verify=True, data={"x": image}, provider="cpu")
    assert exact(result)
    assert result.log is not None
    assert not sum(result.log.removed.values())


def test_a_layer_without_a_name_keeps_what_it_is_called_by() -> None:
    """It is called by its output, which an Add behind it makes once there is a constant to add."""
    V = normal(8, 6)
    V[:, 2] = 0
    model = graph(
        "h = MatMul(x, A)\nb = Add(h, c)\nm = Relu(b)\np = MatMul(m, V)\nn = Relu(p)\ny = MatMul(n, U)",
        inputs="float[2,5] x", A=normal(5, 8, dead=(0, 3), axis=1), c=np.abs(BIAS), V=V, U=normal(6, 4),
    )  # fmt: skip
    for node in model.graph.node:
        node.ClearField("name")
    result = cleaned(model, duplicates=False)
    assert kept(result) == {"h": (1, 2, 4, 5, 6, 7), "p": (0, 1, 3, 4, 5)}
    named = {node.name: list(node.output) for node in result.model.proto.graph.node if node.name}
    assert named["p"] == ["p_product"]
