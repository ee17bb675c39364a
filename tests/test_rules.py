"""Every row of the table through every check of the battery."""

from __future__ import annotations

import gc
import weakref
from functools import cache

import onnx
import pytest

from onnxprune.coupling.trace import trace
from onnxprune.model.graph import Graph
from onnxprune.model.loading import load
from onnxprune.rules import RULES

from . import battery
from .building import Case
from .cases import CASES
from .recorded import line, recorded

every_case = pytest.mark.parametrize("case", CASES, ids=str)

RANDOM = 7


@cache
def model(case: Case) -> onnx.ModelProto:
    return case.build()


@cache
def pruned(case: Case, seed: int | None = None) -> battery.Pruned:
    return battery.prune(model(case), seed)


def test_every_rule_has_a_case() -> None:
    kinds = {
        rule.op if not rule.domain else f"{rule.domain}::{rule.op}"
        for rule in RULES.values()
        if not rule.pinned
    }
    assert kinds <= {case.op for case in CASES}, kinds - {case.op for case in CASES}


def test_groups_are_recorded() -> None:
    """Rows that do not say their groups have a line in golden/groups.txt, and no others have."""
    rows = {str(case) for case in CASES if case.groups is None}
    assert rows == set(recorded()), "run 'python -m tests.recorded' and look at what changes"


@pytest.mark.parametrize("case", {case.op: case for case in CASES}.values(), ids=str)
def test_nothing_holds_the_weights_once_a_trace_is_gone(case: Case) -> None:
    """A cycle of references (a rule's function that uses the walk) would, until the collector runs."""
    gc.disable()
    try:
        traced = trace(model(case))
        held = weakref.ref(traced.walk), weakref.ref(traced.graph), weakref.ref(traced.model)
        del traced
        assert [reference() for reference in held] == [None, None, None]
    finally:
        gc.enable()


@every_case
def test_facts(case: Case) -> None:
    found = pruned(case)
    assert case.op in {node.kind for node in Graph(load(model(case))).nodes}
    battery.check_facts(case, found.trace)
    battery.check_slim(case, found)
    if str(case) in recorded():
        assert line(found.trace) == recorded()[str(case)]
    for group in found.plan.groups:  # something goes, so the other checks are about something
        gone = round(0.5 * group.channels)
        assert group.status == "blocked" or len(group.keep) == group.channels - gone


@every_case
@pytest.mark.parametrize("seed", [None, RANDOM, RANDOM + 1], ids=["half", "random", "random2"])
def test_slim_equals_masked(case: Case, seed: int | None) -> None:
    battery.check_valid(pruned(case, seed))
    battery.check_constants(pruned(case, seed))
    battery.check_exact(pruned(case, seed), case.limit, case.reference)


@pytest.mark.parametrize("case", [case for case in CASES if case.zero], ids=str)
def test_slim_equals_zeroed(case: Case) -> None:
    battery.check_zeroed(pruned(case, RANDOM), case.limit)


@every_case
def test_cost_inside_and_repetition(case: Case) -> None:
    found = pruned(case, RANDOM)
    battery.check_cost(found)
    if not case.reference:
        battery.check_inside(found, 10 * case.limit)
    battery.check_repeatable(model(case), RANDOM)
    battery.check_untouched(model(case))
