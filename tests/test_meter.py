"""Costs that follow single groups: the same as those of the sizes, and no more work than is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune
from models.build import BUILDERS
from models.net import Net
from onnxprune.coupling.trace import Trace, trace
from onnxprune.selection.budget import LATENCY, Chain
from onnxprune.selection.cost import byte_terms, mac_terms, macs, parameter_terms, parameters
from onnxprune.selection.meter import Meter, hanging
from onnxprune.selection.rounding import Rounding
from onnxprune.selection.strategies import removal_order
from onnxprune.timing.blocks import BlockedLayout

from .building import Case
from .cases import CASES
from .full import first_of_each
from .test_keep_latency import given_model

TERMS = {"macs": mac_terms, "parameters": parameter_terms, "bytes": byte_terms}
OTHER: list[dict[str, Any]] = [
    {}, {"reshape_channel_axis": "both"}, {"group_policy": "count"}, {"group_policy": "none"},
]  # fmt: skip


def counted(traced: Trace, removed: np.ndarray) -> dict[str, int]:
    """The costs by a view of the sizes."""
    z = traced.sizes(removed)
    stored = sum(term(z) for term in byte_terms(traced))
    return {"macs": macs(traced, z), "parameters": parameters(traced, z), "bytes": stored}


def check(traced: Trace) -> None:
    """Groups change one by one and many at a time, up and down."""
    rng = np.random.default_rng(0)
    orders = [removal_order(g, rng.permutation(len(g)).astype(float)) for g in traced]
    meter = Meter(traced, traced.groups, orders, {name: terms(traced) for name, terms in TERMS.items()})
    assert meter.totals == counted(traced, np.zeros(0, np.int64))
    for _ in range(8 if len(traced) else 0):
        changes = []
        for k in rng.permutation(len(traced))[: rng.integers(1, len(traced) + 1)].tolist():
            blocks = 1 if traced[k].blocks is None else int(traced[k].blocks.max()) + 1
            changes.append((k, blocks * int(rng.integers(0, len(traced[k]) // blocks + 1))))
        meter.keep(changes)
        assert meter.totals == counted(traced, meter.removed())
    if len(traced):
        check_along(meter, int(rng.integers(len(traced))))


def check_along(meter: Meter, number: int) -> None:
    """Many numbers of channels at once cost what each does alone, and change nothing."""
    group, before = meter.groups[number], dict(meter.totals)
    blocks = 1 if group.blocks is None else int(group.blocks.max()) + 1
    counts = np.unique(np.linspace(0, len(group) // blocks, 4).astype(np.int64)) * blocks
    found = {name: meter.along(name, number, counts).tolist() for name in before}
    assert meter.totals == before
    for place, count in enumerate(counts.tolist()):
        meter.keep([(number, count)])
        assert meter.totals == {name: totals[place] for name, totals in found.items()}


@pytest.mark.parametrize("case", first_of_each(CASES, lambda c: c.op), ids=str)
def test_a_meter_agrees_with_the_sizes_of_every_case(case: Case) -> None:
    check(trace(case.build()))


@pytest.mark.parametrize("options", OTHER, ids=lambda o: "-".join(map(str, o.values())) or "default")
@pytest.mark.parametrize("name", BUILDERS)
def test_a_meter_agrees_with_the_sizes_of_every_network(name: str, options: dict[str, Any]) -> None:
    check(trace(BUILDERS[name](), **options))


@pytest.mark.parametrize("name", BUILDERS)
def test_what_hangs_on_a_group(name: str) -> None:
    traced = trace(BUILDERS[name]())
    whole = counted(traced, np.zeros(0, np.int64))
    for group, found in zip(traced, hanging(traced, {n: t(traced) for n, t in TERMS.items()}), strict=True):
        left = counted(traced, group.units)
        assert found == {cost: whole[cost] - left[cost] for cost in whole}


# Growth: how often a term is counted, for twice the nodes ----------------------------------------


def many(layers: int) -> onnx.ModelProto:
    """A chain of layers, each a group of its own."""
    net = Net("many", 0)
    x = net.input("x", 1, 16, 4, 4)
    for k in range(layers):
        x = net.node("Relu", net.node("Conv", x, net.weight(f"w{k}", 16, 16, 1, 1)))
    return net.build(net.node("Conv", x, net.weight("last", 4, 16, 1, 1)))


def few(layers: int) -> onnx.ModelProto:
    """One stream that every layer adds to."""
    net = Net("few", 0)
    x = net.node("Conv", net.input("x", 1, 16, 4, 4), net.weight("first", 16, 16, 1, 1))
    for k in range(layers):
        x = net.node("Add", x, net.node("Relu", net.node("Conv", x, net.weight(f"w{k}", 16, 16, 1, 1))))
    return net.build(net.node("Conv", x, net.weight("last", 4, 16, 1, 1)))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", ["keep_macs", "keep_params"])
@pytest.mark.parametrize("build", [many, few])
def test_a_budget_counts_every_term_a_few_times(build: Any, name: str, scope: str) -> None:
    """Not once per group: the search halves its steps, and then tries groups one by one."""
    per_layer = []
    for layers in (50, 100, 200):
        traced = trace(build(layers))
        scores = onnxprune.score(traced)
        chain = Chain(traced, traced.groups, scores, Rounding(1), scope, [name])
        assert chain.solve({name: chain.meter.totals[name] // 2}) is not None
        per_layer.append(chain.meter.evaluated / layers)
    assert max(per_layer) < 1.5 * min(per_layer)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("build", [many, few])
def test_a_budget_of_latency_counts_all_steps_of_a_group_at_once(build: Any, scope: str) -> None:
    for layers in (50, 200):
        traced = trace(build(layers))
        timed = replace(given_model(traced), blocks=BlockedLayout(4))
        chain = Chain(traced, traced.groups, onnxprune.score(traced), Rounding(1), scope, [LATENCY], timed)
        assert chain.meter.evaluated <= 8 * (layers + 2)  # 30 and more where each of 15 steps is counted
        assert chain.solve({LATENCY: chain.meter.totals[LATENCY] * 2 // 3}) is not None
        assert chain.meter.evaluated <= 16 * (layers + 2)


@pytest.mark.parametrize("build", [many, few])
def test_what_hangs_on_groups_counts_every_term_a_few_times(build: Any) -> None:
    for layers in (50, 200):
        traced = trace(build(layers))
        reads = [0]

        def term(sizes: Any, cost: Any, reads: list[int] = reads) -> int:
            reads[0] += 1
            return int(cost(sizes))

        costs = {"macs": [lambda z, c=c: term(z, c) for c in mac_terms(traced)]}
        assert len(list(hanging(traced, costs))) == len(traced)
        assert reads[0] <= 5 * (layers + 2)
