"""``reshape_channel_axis``: which factor of a split goes, whole heads, the inside of each, or both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from models.build import BUILDERS
from onnxprune.coupling.trace import trace
from onnxprune.selection.plan import Plan

from . import battery
from .building import Case
from .cases import CASES
from .cases_attention import attention, spelt_out
from .conftest import Run, digest, exact
from .full import first_of_each

SPLIT = [c for c in CASES if c.limit and trace(c.build()).walk.facts.products]
"""Rows with an axis that is split; what must agree bit by bit does not with floats in its place."""


@pytest.mark.parametrize("case", first_of_each(SPLIT, lambda c: c.op), ids=str)
@pytest.mark.parametrize("axis", [0, 1, "both"], ids=["outer", "inner", "both"])
@pytest.mark.parametrize("seed", [None, 1], ids=["half", "random"])
def test_slim_equals_masked(case: Case, axis: int | str, seed: int | None) -> None:
    traced = trace(case.build(), reshape_channel_axis=axis)
    pruned = battery.prune_trace(traced, seed)
    battery.check_exact(pruned, case.limit, case.reference)
    battery.check_valid(pruned)
    battery.check_cost(pruned)


@pytest.mark.parametrize(
    "model",
    [spelt_out("MatMul"), spelt_out("Einsum"), attention(value=5), attention(value=5, flat=False)],
    ids=["MatMul", "Einsum", "Attention", "Attention 4-D"],
)
def test_values_lose_dimensions_of_their_own(model: onnx.ModelProto) -> None:
    """Queries and keys meet in a product; the dimensions of a value are free of them."""
    traced = trace(model, reshape_channel_axis=1)
    assert {g.name: len(g) for g in traced} == {"q.matmul": 6, "v.matmul": 5}
    assert [g.name for g in traced.blocked] == ["head.matmul"]


# Both -------------------------------------------------------------------------------------------


def prune_both(model: onnx.ModelProto, **settings: object) -> onnxprune.Result:
    options: dict[str, object] = {"ratio": 0.5, "granularity": 1, "provider": "cpu", **settings}
    return onnxprune.prune(model, reshape_channel_axis="both", verify=True, **options)  # type: ignore[arg-type]


def counts(result: onnxprune.Result) -> dict[str, tuple[int, int]]:
    """Channels before and after, of every group that shrinks."""
    return {g.name: (g.channels, len(g.keep)) for g in result.plan.groups if g.status == "pruned"}


def shapes(result: onnxprune.Result) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in result.model.proto.graph.initializer}


def test_heads_and_dimensions_go_and_the_rest_goes_once() -> None:
    result = prune_both(BUILDERS["transformer"]())
    assert counts(result) == {
        "embed.matmul": (32, 16),
        "attention.qkv.matmul": (4, 2),
        "attention.qkv.matmul#2": (8, 4),
        "hidden.matmul": (64, 32),
    }
    assert shapes(result)["attention.qkv.weight"] == (16, 3 * 2 * 4)
    assert shapes(result)["hidden.weight"] == (16, 32)
    assert exact(result)


def test_groups_and_their_inside_go() -> None:
    result = prune_both(BUILDERS["grouped"]())
    conv = next(n for n in result.model.proto.graph.node if n.name == "grouped.conv")
    assert next(a.i for a in conv.attribute if a.name == "group") == 2
    assert counts(result) == {
        "stem.conv": (32, 16),
        "reduce.conv": (4, 2),
        "reduce.conv#2": (8, 4),
        "grouped.conv": (16, 8),
    }
    assert shapes(result)["grouped.conv.weight"][:2] == (2 * 8, 4)
    assert exact(result)


def test_a_single_head_that_is_left_loses_dimensions() -> None:
    result = prune_both(BUILDERS["transformer"](), ratio={"attention.qkv": 0.75})
    assert counts(result) == {"attention.qkv.matmul": (4, 1), "attention.qkv.matmul#2": (8, 2)}
    assert exact(result)


@pytest.mark.parametrize("builder", ["grouped_chain", "channel_shuffle", "transformer", "separate_attention"])
def test_a_group_of_either_factor_does_what_it_does_alone(builder: str) -> None:
    model = BUILDERS[builder]()
    both, outer, inner = (trace(model, reshape_channel_axis=axis) for axis in ("both", 0, 1))
    found = [(alone, group) for alone in (outer, inner) for group in alone]
    alike = 0
    for mine in both:
        removed = both.alive(mine.units[::2])
        same = [
            (alone is inner, np.array_equal(alone.alive(group.units[::2]), removed))
            for alone, group in found
            if group.members == mine.members and len(group) == len(mine)
        ]
        assert any(equal for _, equal in same), mine.name
        alike += all(equal for _, equal in same) and len(same) == 2
    assert len(both) == len(outer) + len(inner) - alike


def test_a_split_that_leaves_no_choice_gives_no_further_group() -> None:
    model = BUILDERS["detector"]()
    both, plain = trace(model, reshape_channel_axis="both"), trace(model)
    assert [(g.name, len(g)) for g in both] == [(g.name, len(g)) for g in plain]


def test_what_one_factor_holds_and_the_other_frees_is_not_blocked() -> None:
    """A key that all heads share has no heads of its own: only its dimensions can go."""
    case = next(c for c in SPLIT if str(c) == "MatMul-one-key-for-all-heads")
    blocked = {
        axis: {g.name for g in trace(case.build(), reshape_channel_axis=axis).blocked}
        for axis in (0, 1, "both")
    }
    assert blocked["both"] == blocked[0] & blocked[1]
    assert blocked[0] != blocked["both"]


def test_a_plan_replays_to_the_same_bytes(run: Run, tmp_path: Path) -> None:
    dense, plan, again = (tmp_path / name for name in ("dense.onnx", "plan.json", "again.json"))
    onnx.save(BUILDERS["transformer"](), dense)
    flags = ("--provider", "cpu", "--json")
    wanted = ("--reshape-channel-axis", "both", "--granularity", 1, "--plan-out", plan)
    first = run("prune", dense, "-o", tmp_path / "a.onnx", *flags, *wanted)
    second = run("prune", dense, "-o", tmp_path / "b.onnx", *flags, "--plan", plan, "--plan-out", again)
    assert (first.code, second.code) == (0, 0)
    assert first.document["verification"]["exact"] is True
    assert digest(tmp_path / "a.onnx") == digest(tmp_path / "b.onnx")
    assert plan.read_bytes() == again.read_bytes()
    assert json.loads(plan.read_text())["options"]["reshape_channel_axis"] == "both"
    check = run("verify", dense, tmp_path / "a.onnx", "--plan", plan, *flags)
    assert (check.code, check.document["exact"]) == (0, True)
    slim = onnxprune.rewrite(dense, Plan.load(plan))
    assert slim.proto.SerializeToString() == (tmp_path / "a.onnx").read_bytes()


def test_other_verbs_show_both(run: Run, tmp_path: Path) -> None:
    dense = tmp_path / "dense.onnx"
    onnx.save(BUILDERS["transformer"](), dense)
    inspected = run("inspect", dense, "--reshape-channel-axis", "both", "--json").document
    sizes = {g["name"]: g["channels"] for g in inspected["groups"]}
    assert (sizes["attention.qkv.matmul"], sizes["attention.qkv.matmul#2"]) == (4, 8)
    told = run(
        "explain", dense, "attention.qkv.matmul#2", "--reshape-channel-axis", "both", "--granularity", 1
    )
    assert told.code == 0
    assert told.out.startswith("attention.qkv.matmul#2: 8 channels; 4 stay\n")


def test_a_cleaned_model_and_both(tmp_path: Path) -> None:
    """A plan in two stages, whose second has groups of both factors."""
    model = BUILDERS["transformer"]()
    for tensor in model.graph.initializer:
        if tensor.name in ("hidden.weight", "hidden.bias"):
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[..., :5] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    result = prune_both(model)
    assert result.log is not None
    assert exact(result)
    plan = Plan.from_dict(json.loads(json.dumps(result.plan.to_dict())))
    slim = onnxprune.rewrite(model, plan)
    assert slim.proto.SerializeToString() == result.model.proto.SerializeToString()
    assert onnxprune.verify(model, slim, plan=plan, provider="cpu").exact


@pytest.mark.parametrize("target", [{"keep_macs": 0.4}, {"ratio": 0.4, "scope": "global"}], ids=str)
def test_targets_that_weigh_groups_against_each_other(target: dict[str, object]) -> None:
    settings = {"ratio": None, **target}
    result = prune_both(BUILDERS["transformer"](), **settings)
    assert exact(result)
    assert result.after.macs < 0.8 * result.before.macs
    if "keep_macs" in target:
        assert result.after.macs <= 0.4 * result.before.macs


@pytest.mark.parametrize("granularity", [2, 3])
def test_channel_counts_are_multiples_whatever_is_left(granularity: int) -> None:
    for ratio in (0.2, 0.5, 0.7):
        result = prune_both(BUILDERS["transformer"](), ratio=ratio, granularity=granularity)
        width = shapes(result)["attention.qkv.weight"][1] // 3
        heads, inside = (
            counts(result).get(f"attention.qkv.matmul{n}", (full, full))[1]
            for n, full in (("", 4), ("#2", 8))
        )
        assert width == heads * inside
        assert inside == 8 or inside % granularity == 0


@pytest.mark.parametrize("policy", ["count", "none"])
def test_both_needs_common_inner_channels(run: Run, tmp_path: Path, policy: str) -> None:
    dense = tmp_path / "dense.onnx"
    onnx.save(BUILDERS["transformer"](), dense)
    flags = ("--reshape-channel-axis", "both", "--group-policy", policy)
    outcome = run("prune", dense, "-o", tmp_path / "slim.onnx", *flags)
    assert outcome.code == 2
    assert outcome.err == (
        f"error: reshape-channel-axis both: found group-policy {policy}, expected average or sum\n"
    )
    assert not (tmp_path / "slim.onnx").exists()
