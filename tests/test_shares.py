"""How much goes: never more than was asked, and a word wherever it is another share, or nothing."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

import onnxprune
from onnxprune import Plan
from onnxprune.cli import main

from .building import FOUR_HEADS, HEADS, Case, between, net
from .cases import CASES
from .full import first_of_each, sampled
from .test_rules import model

THREE = {**FOUR_HEADS, "s": [0, 6, 3, 8]}

FEW = [case for case in CASES if case.op in ("Conv", "MatMul", "Reshape", "Concat", "GroupNormalization")]


def three_heads() -> onnx.ModelProto:
    return net(HEADS.format("p = Softmax <axis=-1> (a)"), **THREE)()


def reasons(plan: Plan) -> dict[str, tuple[int, str]]:
    return {group.name: (len(group.keep), group.reason) for group in plan.groups}


def test_of_three_heads_one_goes_at_one_half_and_the_plan_says_that_it_is_coarse() -> None:
    for granularity in (1, 8):
        plan = onnxprune.prune(three_heads(), ratio=0.5, granularity=granularity).plan
        kept, why = next(iter(reasons(plan).values()))
        assert kept == 2
        assert why == "ratio 0.5 of 3 channels asks for 1.5; in steps of 1 that is 2"


def test_presets_round_as_their_tools_do() -> None:
    build = between("r = Relu (h)", W1=(10, 3, 3, 3), B1=(10,), W2=(4, 10, 1, 1))
    plan = onnxprune.prune(build(), preset="netspresso", ratio=0.7).plan
    assert reasons(plan)["first"][0] == 2  # 3 should stay: in steps of 2 the half goes down
    plan = onnxprune.prune(build(), ratio=0.7, granularity=2).plan
    assert reasons(plan)["first"][0] == 4


@pytest.mark.parametrize("case", sampled(FEW, lambda number, _: number % 3 == 0), ids=str)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_never_more_goes_than_is_asked(case: Case, scope: str) -> None:
    traced = onnxprune.trace(model(case))
    scores = onnxprune.score(traced)
    for ratio in (0.1, 0.34, 0.5, 0.77, 0.95):
        for granularity in (1, 2, 8):
            plan = onnxprune.select(traced, scores, ratio=ratio, granularity=granularity, scope=scope)
            groups = [g for g in plan.groups if g.status != "blocked"]
            gone = {g.name: (g.channels - len(g.keep), g.channels) for g in groups}
            if scope == "layer":
                assert all(lost <= ratio * size + 1e-9 for lost, size in gone.values())
            assert (
                sum(lost for lost, _ in gone.values())
                <= ratio * sum(size for _, size in gone.values()) + 1e-9
            )


SETTINGS: list[dict[str, Any]] = [
    {"ratio": 0.0},
    {"ratio": 0.5},
    {"ratio": 0.05, "scope": "global"},
    {"threshold": -1.0},
    {"threshold": 0.3},
    {"keep_params": 1.0},
    {"keep_params": 0.8},
    {"remove": {}},
    {"ratio": {}},
    {"ratio": 0.5, "min_channels": 1000},
    {"ratio": 0.5, "include": ()},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_whatever_stays_whole_says_why(settings: dict[str, Any]) -> None:
    for case in FEW[::3]:
        traced = onnxprune.trace(model(case))
        try:
            plan = onnxprune.select(traced, onnxprune.score(traced), **settings)
        except onnxprune.BudgetError:
            continue
        assert not [(str(case), g.name) for g in plan.groups if g.status != "pruned" and not g.reason]


@pytest.mark.parametrize("case", first_of_each(CASES, lambda c: c.op), ids=str)
def test_whatever_cannot_go_says_why(case: Case) -> None:
    assert all(group.reason.strip() for group in onnxprune.trace(model(case)).blocked)


GRAM = """
    [first] h = Conv (x, W1)
    f = Reshape (h, s)
    t = Transpose <perm=[0,2,1]> (f)
    g = MatMul (f, t)
    [pairs] v = Reshape (g, q)
    [last] y = Gemm <transB=1> (v, W2)"""


def test_a_gram_matrix_says_what_holds_its_channels() -> None:
    traced = onnxprune.trace(net(GRAM, W1=(8, 3, 3, 3), s=[0, 8, -1], q=[0, 64], W2=(4, 64))())
    assert {g.name: g.reason for g in traced.blocked} == {
        "first": "Reshape 'pairs' takes pairs of these channels, so none goes by itself",
        "last": "graph output 'y'",
    }


@pytest.mark.parametrize("layer", ["Conv (x, W1)", "MatMul (x, W1)", "Gemm (x, W1)", "ConvTranspose (x, W1)"])
def test_weights_that_are_graph_inputs_are_named(
    layer: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = "float[2,3,8,8] x, float[3,3,3,3] W1" if "Conv" in layer else "float[2,3] x, float[3,8] W1"
    path = tmp_path / "model.onnx"
    onnx.save(net(f"h = {layer}\n y = Relu (h)", inputs=shapes)(), path)
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "no layer was found that makes channels with stored weights" in said
    assert f"{layer.split()[0]} 1 keeps its weights: 'W1' is a graph input" in said
