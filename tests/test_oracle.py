"""What the masked original finds, though the rewriter believes in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxprune.checks import nodes as layers
from onnxprune.errors import SurgeryError
from onnxprune.jobs.verify import require, verify
from onnxprune.model.loading import load

from . import battery
from .building import Case, net
from .cases_constants import CASES

CODEBOOKS = [case for case in CASES if case.op == "ReduceSum"]


@pytest.mark.parametrize("case", CODEBOOKS, ids=str)
def test_a_sum_over_all_stored_entries_is_found(case: Case) -> None:
    """The slim model holds what was computed before anything was removed."""
    pruned = battery.prune(case.build())
    whole = pruned.trace.graph.value("l")
    baked = onnx.ModelProto()
    baked.CopyFrom(pruned.slim.proto)
    kept = [node for node in baked.graph.node if node.output[0] != "l"]
    del baked.graph.node[:]
    baked.graph.node.extend(kept)
    baked.graph.initializer.append(numpy_helper.from_array(whole, "l"))
    feeds = {"i": np.arange(12)}
    report = verify(pruned.trace.model, load(baked), plan=pruned.plan, data=feeds, provider="cpu")
    assert report.exact is False
    assert verify(pruned.trace.model, pruned.slim, plan=pruned.plan, data=feeds, provider="cpu").exact


# Random numbers ---------------------------------------------------------------------------------

DRAWN = {
    "RandomNormalLike": "e = RandomNormalLike (m)\n z = Add (m, e)",
    "RandomUniformLike": "e = RandomUniformLike (m)\n z = Mul (m, e)",
    "RandomNormal": "e = RandomNormal <shape=[2,16]> ()\n z = Add (m, e)",
    "RandomUniform": "e = RandomUniform <shape=[1,16]> ()\n z = Mul (m, e)",
    "Bernoulli": "p = Sigmoid (m)\n z = Bernoulli (p)",
    "Dropout": "z = Dropout (m, share, yes)",
}
"""Nodes between two layers of 16 channels."""


def drawing(text: str) -> onnx.ModelProto:
    stored: dict[str, Any] = {"share": 0.5, "yes": np.array(True)} if "share" in text else {}
    lines = f"m = MatMul (x, W0)\n {text}\n y = MatMul (z, W1)"
    return net(lines, inputs="float[2,8] x", W0=(8, 16), W1=(16, 4), **stored)()


@pytest.mark.parametrize("text", DRAWN.values(), ids=DRAWN)
def test_both_models_get_the_same_random_numbers(text: str) -> None:
    for seed in (None, 1):
        pruned = battery.prune(drawing(text), seed)
        assert pruned.plan.constants["W1"]["keep"]["0"]
        report = verify(
            pruned.trace.model, pruned.slim, plan=pruned.plan, provider="cpu", layers=True, seed=3
        )
        assert report.exact, str(report)
        assert report.method == "end to end"


@pytest.mark.parametrize("weight", ["W0", "W1"])
@pytest.mark.parametrize("text", DRAWN.values(), ids=DRAWN)
def test_damage_on_either_side_of_random_numbers_is_found(text: str, weight: str) -> None:
    """Nothing but the probabilities of a Bernoulli tells of what stands in front of it."""
    pruned = battery.prune(drawing(text))
    damaged = onnx.ModelProto()
    damaged.CopyFrom(pruned.slim.proto)
    (tensor,) = [t for t in damaged.graph.initializer if t.name == weight]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), weight))
    report = verify(pruned.trace.model, damaged, plan=pruned.plan, provider="cpu")
    assert report.exact is False, str(report)


def test_random_numbers_in_a_branch_are_left_out() -> None:
    """Every run draws others there, and no output tells which; what surrounds them is compared."""
    build = net(
        """
        m = MatMul (x, W0)
        z = If (c) <
            then_branch = t () => (u) { e = RandomNormalLike (m) u = Add (m, e) },
            else_branch = f () => (v) { v = Relu (m) }>
        y = MatMul (z, W1)""",
        inputs="float[2,8] x, bool c",
        outputs="float[2,4] y",
        W0=(8, 16),
        W1=(16, 4),
    )
    pruned = battery.prune(build())
    report = verify(pruned.trace.model, pruned.slim, plan=pruned.plan, provider="cpu")
    assert report.exact, str(report)
    assert report.method == "layer by layer"
    assert [d.layer for d in report.surgery] == ["m", "u", "z", "y"]


# Nodes inside nodes -----------------------------------------------------------------------------

WITHIN = """
    h = MatMul (x, A)
    g = Relu (h)
    w = Mul (g, huge)
    s = Sin (w)
    t = MatMul (s, B)
    u = Relu (t)"""
"""A network that makes much of rounding."""

BRANCH = (
    f"r = If (c) <then_branch = t1 () => (u) {{ {WITHIN} }}, else_branch = e1 () => (v) {{ v = Relu (o) }}>"
)

HOLDERS = {
    "If": BRANCH,
    "If in an If": f"""
        z = If (c) <then_branch = t0 () => (r) {{ {BRANCH} }},
                    else_branch = e0 () => (v0) {{ v0 = Relu (o) }}>""",
    "Loop": f"""
        m, z = Loop (two, c, o) <body = b (int64 k, bool go, float[2,8] p) => (on, q, u) {{
            {WITHIN}
            q = Add (u, p)
            on = Identity (go) }}>""",
    "Scan": f"""
        z = Scan (x3) <num_scan_inputs=1, body = b (float[2,6] x) => (u) {{ {WITHIN} }}>""",
}  # fmt: skip


@pytest.mark.parametrize("holder", HOLDERS)
def test_nodes_inside_nodes_are_compared_alone(holder: str) -> None:
    """The network as a whole is compared by its last node otherwise, where all has added up."""
    result = "r" if holder == "If" else "z"
    given = (
        "float[3,2,6] x3, float[2,8] o, bool c" if holder == "Scan" else "float[2,6] x, float[2,8] o, bool c"
    )
    build = net(
        f"{HOLDERS[holder]}\n y = MatMul ({result}, C)",
        inputs=given,
        outputs="y",
        A=(6, 12),
        B=(12, 8),
        C=(8, 4),
        huge=1e4,
        two=2,
    )
    pruned = battery.prune(build())
    assert pruned.plan.constants["A"]["keep"]["1"]
    settings: Any = {"plan": pruned.plan, "provider": "cpu", "layers": True}
    report = verify(pruned.trace.model, layers.nudged(pruned.slim.proto), **settings)
    assert report.exact, str(report)
    assert {"h", "g", "w", "s", "t", "u"} <= {d.layer for d in report.single}
    damaged = onnx.ModelProto()
    damaged.CopyFrom(pruned.slim.proto)
    (tensor,) = [t for t in damaged.graph.initializer if t.name == "A"]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, ::-1].copy(), "A"))
    wrong = verify(pruned.trace.model, damaged, **settings).wrong
    assert wrong is not None
    assert wrong.layer == "h"


# Numbers that are not finite --------------------------------------------------------------------

ODD = pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
PLACES = [("W1", (0, 0)), ("W1", (slice(None), 2)), ("W2", (0, 0)), ("W2", 3), ("B", 1)]


def odd(name: str, place: Any, value: float) -> onnx.ModelProto:
    build = net(
        "h = MatMul (x, W1)\n r = Relu (h)\n a = MatMul (r, W2)\n y = Add (a, B)",
        inputs="float[2,6] x",
        W1=(6, 8),
        W2=(8, 5),
        B=(5,),
    )
    proto = build()
    (tensor,) = [t for t in proto.graph.initializer if t.name == name]
    array = numpy_helper.to_array(tensor).copy()
    array[place] = value
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return proto


@ODD
@pytest.mark.parametrize(("name", "place"), PLACES)
def test_what_the_original_stores_is_no_bug(name: str, place: Any, value: float) -> None:
    """Zero times infinity is NaN, so that masked channels reach everything. The tensor is named."""
    for seed in range(2):
        pruned = battery.prune(odd(name, place, value), seed)
        report = verify(pruned.trace.model, pruned.slim, plan=pruned.plan, provider="cpu", seed=seed)
        assert report.exact or report.problem == "output 'y' holds no number on these inputs", str(report)
        assert report.odd in ((), (name,))
        if report.odd:
            assert report.headline.endswith(f"the original stores NaN or infinity in '{name}'")
        shown = [d for d in report.change if "not finite" in d.remark]
        assert bool(report.odd) == (bool(shown) or bool(report.problem))


@ODD
def test_damage_beside_numbers_that_are_not_finite_is_found(value: float) -> None:
    pruned = battery.prune(odd("B", 1, value))
    damaged = onnx.ModelProto()
    damaged.CopyFrom(pruned.slim.proto)
    (tensor,) = [t for t in damaged.graph.initializer if t.name == "W2"]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), "W2"))
    report = verify(pruned.trace.model, damaged, plan=pruned.plan, provider="cpu")
    assert report.exact is False
    with pytest.raises(SurgeryError) as failure:
        require(report, "slim", "raise")
    assert "'B'" in failure.value.message
    assert "bug" not in failure.value.hint
