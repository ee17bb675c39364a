"""Operators of the user's own: they prune by their rule, and are verified by their reference function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune.errors import ModelError, SurgeryError, UsageError
from onnxprune.jobs.bench import bench
from onnxprune.labels.walk import Walk
from onnxprune.model.node import Node
from onnxprune.rules import RULES, rule
from onnxprune.runtime.custom import CUSTOM
from onnxprune.runtime.session import open_session, run

Array = npt.NDArray[np.float32]


def scaled(x: Array, scale: Array) -> Array:
    return x * scale[:, None, None]


def channel_scale(c: Walk, n: Node) -> None:
    """One factor per channel."""
    X, scale = n.inputs
    c.meet(scale, 0, c.axis(X, 1))
    c.same(n)


def same(c: Walk, n: Node) -> None:
    """Carries the labels of its input."""
    c.same(n)


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """What a test registers is gone behind it."""
    before = dict(RULES), dict(CUSTOM)
    yield
    for table, known in zip((RULES, CUSTOM), before, strict=True):
        table.clear()  # type: ignore[attr-defined]
        table.update(known)  # type: ignore[attr-defined]


def network(text: str, batch: int | str = "N", **stored: Array) -> onnx.ModelProto:
    """Nodes between convolutions ``c1`` and ``c2``, which read ``x`` and ``b`` and write ``a`` and ``y``."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((8, 3, 1, 1)), "s": rng.standard_normal(8), "w2": rng.standard_normal((4, 8, 1, 1)),
    }  # fmt: skip
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17, "my.ops" : 1]>
        net (float[{batch},3,8,8] x) => (float[{batch},4,A,B] y) {{
          [c1] a = Conv (x, w1)
          {text}
          [c2] y = Conv (b, w2)
        }}""")
    values = {**{k: v.astype(np.float32) for k, v in weights.items()}, **stored}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    return model


SCALE = "[cs] b = my.ops.ChannelScale (a, s)"


def dims(model: onnxprune.Model) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.proto.graph.initializer}


@pytest.mark.parametrize("batch", [2, "N"])
def test_a_custom_operator_prunes_and_is_verified(batch: int | str) -> None:
    rule("ChannelScale", domain="my.ops", reference=scaled)(channel_scale)
    result = onnxprune.prune(network(SCALE, batch), granularity=1, verify=True)
    assert dims(result.model) == {"w1": [4, 3, 1, 1], "s": [4], "w2": [4, 4, 1, 1]}
    assert result.report
    assert result.report.verdict == "exact"
    assert result.report.change


def test_its_layer_is_compared_like_any_other() -> None:
    rule("ChannelScale", domain="my.ops", reference=scaled)(channel_scale)
    model = network(SCALE)
    result = onnxprune.prune(model, granularity=1)
    report = onnxprune.verify(model, result.model, plan=result.plan, layers=True, provider="cpu")
    assert [d.output for d in report.single] == ["a", "b", "y"]
    assert report


def test_a_rule_that_forgets_an_input_is_found_out() -> None:
    rule("ChannelScale", domain="my.ops", reference=scaled)(same)
    with pytest.raises(SurgeryError, match=r"my\.ops::ChannelScale 'cs': its reference function failed"):
        onnxprune.prune(network(SCALE), granularity=1, verify=True)


def test_a_rule_that_is_wrong_is_found_out() -> None:
    rule("Turn", domain="my.ops", reference=lambda x: x[:, ::-1])(same)
    with pytest.raises(SurgeryError, match="the slim model is wrong"):
        onnxprune.prune(network("b = my.ops.Turn (a)"), granularity=1, verify=True)


def test_without_a_reference_function_the_rest_is_verified_and_that_is_said() -> None:
    rule("ChannelScale", domain="my.ops")(channel_scale)
    model = network(SCALE)
    result = onnxprune.prune(model, granularity=1, verify=True)
    report = result.report
    assert report is not None
    assert (bool(report), report.failed, report.exact, report.verdict) == (False, False, None, "not proven")
    assert report.unrun == ("my.ops::ChannelScale",)
    assert "my.ops::ChannelScale has no reference function, all else was compared" in report.headline
    assert not report.change
    assert dims(result.model)["s"] == [4]
    for name in ("w1", "w2"):  # in front of the operator and behind it
        damaged = onnx.ModelProto()
        damaged.CopyFrom(result.model.proto)
        (tensor,) = (t for t in damaged.graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), name))
        assert onnxprune.verify(model, damaged, plan=result.plan, provider="cpu").verdict == "WRONG"


@pytest.mark.parametrize(
    "settings", [{"plan": None}, {"metric": lambda outputs, labels: 0.0}, {"min_cosine": 0.5}]
)
def test_what_takes_outputs_is_refused_without_a_reference_function(settings: dict[str, Any]) -> None:
    rule("ChannelScale", domain="my.ops")(channel_scale)
    model = network(SCALE)
    result = onnxprune.prune(model, granularity=1)
    with pytest.raises(UsageError, match=r"no reference function|cannot be checked"):
        onnxprune.verify(model, result.model, provider="cpu", **{"plan": result.plan, **settings})


def halved(x: Array, factor: int, mode: str) -> tuple[Array, Array]:
    assert mode == "first"
    return x[:, :, ::factor, ::factor], x.sum(axis=(2, 3))


def test_shapes_attributes_and_several_outputs() -> None:
    def two(x: tuple[int, ...], factor: int, mode: str) -> list[tuple[int, ...]]:
        return [(*x[:2], x[2] // factor, x[3] // factor), x[:2]]

    def halve(c: Walk, n: Node) -> None:
        """Every second pixel, and the sum of all."""
        labels = c.labels(n.inputs[0])
        c.out(n.outputs[0], labels)
        c.out(n.outputs[1], labels[:2])

    rule("Halve", domain="my.ops", shape=two, reference=halved)(halve)
    model = network("""
        h, t = my.ops.Halve <factor=2, mode="first"> (a)
        axes = Constant <value_ints=[2, 3]> ()
        u = Unsqueeze (t, axes)
        b = Add (h, u)""")
    traced = onnxprune.trace(model)
    assert traced.shapes.get("h") == (2, 8, 4, 4)
    assert [len(g) for g in traced] == [8]
    result = onnxprune.prune(model, granularity=1, verify=True)
    assert result.report


def test_pieces_compute_what_the_whole_does() -> None:
    """Chains, side branches, stored tensors and graph inputs on a cut, against plain operators."""
    rule("ChannelScale", domain="my.ops", reference=scaled)(channel_scale)
    text = """
        p = {0} (x, t)
        q = {0} (p, t)
        e = Conv (q, w1)
        r = {0} (a, s)
        k = Relu (r)
        m = {0} (k, s)
        n = {0} (c, s)
        f = Add (m, e)
        b = Add (f, n)"""
    t, c = np.array([1, 2, 3], np.float32), np.ones((1, 8, 8, 8), np.float32)
    own = network(text.format("my.ops.ChannelScale"), t=t, c=c)
    (s,) = (numpy_helper.to_array(v) for v in own.graph.initializer if v.name == "s")
    plain = network(text.format("Mul"), t=t[:, None, None], c=c, s=s[:, None, None])
    for model in (own, plain):
        model.graph.output.append(onnx.helper.make_tensor_value_info("q", 1, ["N", 3, 8, 8]))
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    with open_session(own) as session, open_session(plain) as other:
        found, expected = run(session, {"x": x}), run(other, {"x": x})
    assert list(found) == ["y", "q"]
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference": lambda x, s: 1 / 0}, "its reference function failed: ZeroDivisionError"),
        ({"reference": lambda x, s: (x, x)}, "found 2 results, expected 1"),
        ({"shape": lambda x, s: x[99]}, "its shape function failed: IndexError"),
        ({"shape": lambda x, s: [x, x]}, "found 2 shapes, expected 1"),
    ],
)
def test_functions_that_fail_say_so(settings: dict[str, Any], message: str) -> None:
    rule("ChannelScale", domain="my.ops", **settings)(channel_scale)
    with pytest.raises(ModelError, match=message) as caught:
        onnxprune.prune(network(SCALE), verify=True, data={"x": np.ones((1, 3, 8, 8), np.float32)})
    assert "my.ops::ChannelScale 'cs'" in caught.value.message


def test_inside_a_branch_no_reference_function_reaches_it() -> None:
    rule("ChannelScale", domain="my.ops", reference=scaled)(channel_scale)
    model = network("""
        yes = Constant <value = bool {1}> ()
        b = If (yes) <
          then_branch = one () => (v) { v = my.ops.ChannelScale (a, s) },
          else_branch = two () => (u) { u = Identity (a) }
        >""")
    with pytest.raises(ModelError, match=r"my\.ops::ChannelScale stands inside If"):
        onnxprune.prune(model, verify=True)


def test_operators_of_onnxruntime_take_no_functions() -> None:
    with pytest.raises(ValueError, match="is run by onnxruntime"):
        rule("Unheard", domain="com.microsoft", reference=scaled)(channel_scale)


def test_an_operator_without_a_rule_names_the_way_out() -> None:
    with pytest.raises(ModelError, match="is not a registered function/op") as caught:
        onnxprune.prune(network(SCALE), verify=True)
    assert "takes a rule with a reference function" in caught.value.hint


def test_models_with_it_run_in_turns_but_have_no_profile() -> None:
    """Their pieces are sessions of their own."""
    rule("ChannelScale", domain="my.ops", reference=scaled)(channel_scale)
    model = network(SCALE)
    found = bench(model, model, provider="cpu", runs=1)
    assert (found.operators, found.memory) == (None, (None, None))
    with pytest.raises(onnxprune.ModelError, match="nothing can be timed"):
        onnxprune.prune(model, keep_latency=0.5, provider="cpu")
