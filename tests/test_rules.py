"""Every row of the table through every check of the battery."""

from __future__ import annotations

from functools import cache

import onnx
import pytest

from onnxprune.graph import Graph
from onnxprune.model import load
from onnxprune.rules import RULES

from . import battery
from .building import Case
from .cases import CASES

every_case = pytest.mark.parametrize("case", CASES, ids=str)

RANDOM = 7


@cache
def model(case: str) -> onnx.ModelProto:
    return next(c for c in CASES if str(c) == case).build()


@cache
def pruned(case: str, seed: int | None = None) -> battery.Pruned:
    return battery.prune(model(case), seed)


def kind(domain: str, op: str) -> str:
    return f"{domain}::{op}" if domain else op


def test_every_rule_has_a_case() -> None:
    rules = {kind(rule.domain, rule.op) for rule in RULES.values() if not rule.pinned}
    assert rules <= {case.op for case in CASES}, rules - {case.op for case in CASES}


@every_case
def test_operator_of_the_row_is_in_the_graph(case: Case) -> None:
    assert case.op in {node.kind for node in Graph(load(model(str(case)))).nodes}


@every_case
def test_facts(case: Case) -> None:
    battery.check_facts(case, pruned(str(case)).trace)
    battery.check_slim(case, pruned(str(case)))


@every_case
def test_something_goes(case: Case) -> None:
    """Half of every group is gone, so the other checks are about something."""
    found = pruned(str(case))
    for group in found.plan.groups:
        if group.status != "blocked":
            assert len(group.keep) == max(1, group.channels // 2)


@every_case
@pytest.mark.parametrize("seed", [None, RANDOM], ids=["half", "random"])
def test_slim_is_valid(case: Case, seed: int | None) -> None:
    battery.check_valid(pruned(str(case), seed))
    battery.check_constants(pruned(str(case), seed))
    battery.check_cost(pruned(str(case), seed))


@every_case
@pytest.mark.parametrize("seed", [None, RANDOM, RANDOM + 1], ids=["half", "random", "random2"])
def test_slim_equals_masked(case: Case, seed: int | None) -> None:
    battery.check_exact(pruned(str(case), seed), case.limit, case.reference)


@every_case
def test_slim_equals_zeroed(case: Case) -> None:
    if not case.zero:
        pytest.skip("zero weights do not give zero channels here")
    battery.check_zeroed(pruned(str(case), RANDOM), case.limit)


@every_case
def test_repeatable(case: Case) -> None:
    battery.check_repeatable(model(str(case)), RANDOM)


@every_case
def test_ratio_zero_changes_nothing(case: Case) -> None:
    battery.check_untouched(model(str(case)))
