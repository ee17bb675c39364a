"""Equal parts of a tensor stay equal, where that is asked for: code that divides by their number needs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune

from .conftest import exact
from .planting import graph, normal

WAYS = {
    "split": "p, q = Split<axis=1>(r)",
    "slices": "p = Slice(r, zero, half, one)\nq = Slice(r, half, all, one)",
    "gather": "p = Gather<axis=1>(r, low)\nq = Gather<axis=1>(r, high)",
}
"""A tensor in two halves."""


def halves(way: str, dead: tuple[int, ...] = (), width: int = 5) -> onnx.ModelProto:
    """A convolution whose halves are read by two others."""
    stored = {"zero": [0], "half": [4], "all": [8], "one": [1], "low": [0, 1, 2, 3], "high": [4, 5, 6, 7]}
    text = f"c = Conv(x, W)\nr = Relu(c)\n{WAYS[way]}\nd = Conv(p, V)\ne = Conv(q, U)\ny = Add(d, e)"
    used: Mapping[str, Any] = {k: v for k, v in stored.items() if k in WAYS[way].replace(">(r", ", ")}
    weights: dict[str, Any] = {"W": normal(8, 3, 1, 1, dead=dead), "V": normal(width, 4, 1, 1)}
    weights["U"] = normal(width, 4, 1, 1, seed=1)
    return graph(text, **weights, **used)


def left(result: onnxprune.Result) -> list[tuple[int, ...]]:
    stored = {t.name: tuple(t.dims) for t in result.model.proto.graph.initializer}
    return [stored[name][:2] for name in "WVU"]


@pytest.mark.parametrize("way", WAYS)
def test_halves(way: str) -> None:
    model = halves(way)
    free, equal = onnxprune.trace(model), onnxprune.trace(model, parts="equal")
    assert (len(free), free.units) == (2, 8)
    assert (len(equal), equal.units) == (1, 4)
    ratio = {group.name: share for group, share in zip(free, (0.5, 0.25), strict=True)}
    uneven = onnxprune.prune(model, ratio=ratio, granularity=1)
    assert left(uneven) == [(5, 3), (5, 2), (5, 3)]
    even = onnxprune.prune(model, ratio=0.5, granularity=1, parts="equal", verify=True, provider="cpu")
    assert left(even) == [(4, 3), (5, 2), (5, 2)]
    assert exact(even)
    (entry,) = (g for g in even.plan.groups if g.status != "blocked")
    assert len(entry.keep) == 2


def test_parts_that_overlap_are_left_alone() -> None:
    text = "c = Conv(x, W)\np = Slice(c, zero, five, one)\nq = Slice(c, three, all, one)\ny = Add(p, q)"
    text = text.replace("y = Add(p, q)", "d = Conv(p, V)\ne = Conv(q, U)\ny = Add(d, e)")
    weights: dict[str, Any] = {
        "W": normal(8, 3, 1, 1),
        "V": normal(5, 5, 1, 1),
        "U": normal(5, 5, 1, 1, seed=1),
    }
    model = graph(text, **weights, zero=[0], five=[5], three=[3], all=[8], one=[1])
    assert onnxprune.trace(model, parts="equal").units == onnxprune.trace(model).units == 8


def test_a_clean_up_before_keeps_parts_equal(tmp_path: Path) -> None:
    """One half has a dead channel, and its partner in the other one is alive: both stay."""
    model = halves("split", dead=(1,), width=60)
    assert left(onnxprune.prune(model, ratio=0.0, granularity=1)) == [(7, 3), (60, 3), (60, 4)]
    assert left(onnxprune.prune(model, ratio=0.0, parts="equal")) == [(8, 3), (60, 4), (60, 4)]
    result = onnxprune.prune(model, ratio=0.25, granularity=1, parts="equal")
    assert left(result) == [(6, 3), (60, 3), (60, 3)]
    result.plan.save(tmp_path / "plan.json")
    again = onnxprune.rewrite(model, onnxprune.Plan.load(tmp_path / "plan.json"))
    assert again.proto == result.model.proto


def test_heads_and_windows_are_no_parts() -> None:
    """Nothing but what is divided by an operator that takes entries out is coupled."""
    text = "c = Conv(x, W)\np = Transpose<perm=[0,2,1,3]>(c)\nq = Transpose<perm=[0,2,3,1]>(c)\n"
    text += (
        "s = ReduceSum<keepdims=0>(p, a)\nt = ReduceSum<keepdims=0>(q, b)\nu = Add(s, t)\ny = MatMul(u, V)"
    )
    model = graph(text, W=normal(8, 3, 1, 1), V=normal(8, 5), a=[1, 3], b=[1, 2])
    assert onnxprune.trace(model, parts="equal").units == onnxprune.trace(model).units
    assert np.isfinite(onnxprune.trace(model).units)
