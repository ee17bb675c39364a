"""Properties of every network: exact, repeatable, replayable, of the planned shapes."""

from __future__ import annotations

import json

import onnx
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from onnxprune.coupling.trace import trace
from onnxprune.jobs.replay import rewrite
from onnxprune.selection.plan import Plan

from . import battery
from .networks import networks

LIMIT = 1e-5
"""Relative difference that counts as rounding: a dozen layers add theirs up."""


def examples(count: int) -> settings:
    """So many networks, the same ones in every run."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@examples(100)
@given(networks(), st.integers(0, 99))
def test_different_ratios_per_group(model: onnx.ModelProto, seed: int) -> None:
    """Slim equals masked, whatever goes; the plan says exactly what went."""
    note(onnx.printer.to_text(_light(model)))
    pruned = battery.prune(model, seed)
    battery.check_valid(pruned)
    battery.check_constants(pruned)
    battery.check_exact(pruned, LIMIT)


@examples(40)
@given(networks(), st.integers(0, 99))
def test_plan_survives_json_and_gives_the_same_bytes(model: onnx.ModelProto, seed: int) -> None:
    first = battery.prune(model, seed)
    text = json.dumps(first.plan.to_dict())
    assert text == json.dumps(battery.prune(model, seed).plan.to_dict())
    again = Plan.from_dict(json.loads(text))
    assert json.dumps(again.to_dict()) == text
    assert list(again.removed(trace(model))) == list(again.removed(first.trace))
    assert battery.serialized(rewrite(model, again)) == battery.serialized(first.slim)


@examples(40)
@given(networks())
def test_ratio_zero_changes_nothing(model: onnx.ModelProto) -> None:
    battery.check_untouched(model)


@examples(60)
@given(networks())
def test_groups_are_disjoint_and_cover_what_can_go(model: onnx.ModelProto) -> None:
    """A unit belongs to one group; groups have different names; each keeps at least one channel."""
    traced = trace(model)
    units = [int(u) for group in (*traced, *traced.blocked) for u in group.units]
    assert len(units) == len(set(units))
    assert len({g.name for g in traced}) == len(traced)
    assert all(g.kernels and g.members for g in traced)
    assert all(g.reason for g in traced.blocked)


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy without weights, to be read."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        tensor.ClearField("raw_data")
    return light
