"""Control flow and sequences: exact, and really pruned inside the bodies and through them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxprune.plan import Plan
from onnxprune.rewrite import rewrite_trace
from onnxprune.runtime import synthetic_inputs
from onnxprune.scoring import score
from onnxprune.select import select
from onnxprune.trace import Trace, trace
from onnxprune.verify import verify
from tests.cases_control import CASES, Builder

UNITS = {
    "branches_with_layers": 40,
    "branch_is_constant": 8,
    "branch_returns_initializer": 8,
    "branch_computes_constant": 8,
    "nested_branches": 20,
    "squeeze_if_single": 16,
    "branches_of_different_size": 12,
    "recurrent_cell": 16,
    "constant_initial_state": 28,
    "growing_state": 8,
    "passed_through": 20,
    "list_in_loop": 20,
    "branch_in_loop": 28,
    "mended_inside": 22,
    "scan_over_time": 28,
    "scan_over_channels": 12,
    "layer_per_element": 20,
    "split_by_size": 48,
    "split_by_sizes": 16,
    "split_into_entries": 16,
    "edited_list": 36,
    "position_from_data": 8,
    "list_of_branches": 8,
    "optional_tensor": 20,
}
"""Channels that can go: fewer were needless coupling, more a missed one."""


def plan_for(traced: Trace, seed: int | None) -> Plan:
    """Half of every group by weight, or a random share of each by chance."""
    if seed is None:
        return select(traced, score(traced), ratio=0.5, granularity=1)
    rng = np.random.default_rng(seed)
    ratio = {g.name: float(rng.uniform(0.05, 0.95)) for g in traced}
    return select(traced, score(traced, criterion="random", seed=seed), ratio=ratio, granularity=1)


def variants(traced: Trace) -> list[dict[str, np.ndarray]]:
    """Inputs for both values of every truth value, and for other numbers."""
    feeds = synthetic_inputs(traced.graph)
    found = [feeds]
    for name, array in feeds.items():
        if array.dtype == np.bool_:
            found += [f | {name: np.asarray(~array)} for f in found]
        elif array.dtype == np.int64:
            found += [f | {name: np.asarray(array - 1)} for f in found]
    return found


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize(("op", "name", "builder"), CASES, ids=[c[1] for c in CASES])
def test_exact(op: str, name: str, builder: Builder, seed: int | None) -> None:
    model = builder()
    onnx.checker.check_model(model)
    traced = trace(model)
    assert not traced.obstacles()
    plan = plan_for(traced, seed)
    slim = rewrite_trace(traced, plan.removed(traced))
    onnx.checker.check_model(slim.proto, full_check=True)
    for feeds in variants(traced):
        report = verify(model, slim, plan=plan, data=feeds, provider="cpu", traced=traced)
        assert report.exact, f"{report}\n{feeds}"
        assert report.method == "end to end", report


@pytest.mark.parametrize(("op", "name", "builder"), CASES, ids=[c[1] for c in CASES])
def test_units(op: str, name: str, builder: Builder) -> None:
    traced = trace(builder())
    assert any(node.op == op for node in traced.graph.nodes)
    assert traced.units == UNITS[name], str(traced)
