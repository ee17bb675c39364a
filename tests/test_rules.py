"""Every row of the table through the battery: a small one by default, every check with ``-m full``."""

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
from .cases import CASES, rows
from .conftest import ROOT
from .full import first_of_each
from .recorded import line, recorded

every_case = pytest.mark.parametrize("case", CASES, ids=str)
one_of_each_operator = pytest.mark.parametrize("case", first_of_each(CASES, lambda c: c.op), ids=str)

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


FAMILIES = sorted({rule.apply.__module__.rpartition(".")[2] for rule in RULES.values() if not rule.pinned})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_of_rules_has_its_cases(family: str) -> None:
    """``cases_X.py`` or ``cases_X_*.py`` holds a case of every operator of ``rules/X.py``.

    Rows are called by their operator first, so that ``pytest -k Operator`` finds them; operators
    that pin on purpose are parameters of ``test_operator_table.py`` and found in the same way.
    """
    files = [ROOT / "tests" / f"cases_{family}.py", *(ROOT / "tests").glob(f"cases_{family}_*.py")]
    here = {case.op for path in files for case in rows(path)}
    rules = [r for r in RULES.values() if not r.pinned and r.apply.__module__.endswith(f".{family}")]
    missing = {f"{r.domain}::{r.op}" if r.domain else r.op for r in rules} - here
    assert not missing, f"each wants a row in {files[0].name}"


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


def check_slim(case: Case, seed: int | None) -> None:
    battery.check_valid(pruned(case, seed))
    battery.check_constants(pruned(case, seed))
    battery.check_exact(pruned(case, seed), case.limit, case.reference)


@every_case
def test_slim_equals_masked(case: Case) -> None:
    check_slim(case, RANDOM)


@one_of_each_operator
@pytest.mark.parametrize(
    "seed", [None, pytest.param(RANDOM + 1, marks=pytest.mark.full)], ids=["half", "random2"]
)
def test_slim_equals_masked_at_other_ratios(case: Case, seed: int | None) -> None:
    check_slim(case, seed)


@pytest.mark.parametrize("case", first_of_each((c for c in CASES if c.zero), lambda c: c.op), ids=str)
def test_slim_equals_zeroed(case: Case) -> None:
    battery.check_zeroed(pruned(case, RANDOM), case.limit)


@one_of_each_operator
def test_cost_inside_and_repetition(case: Case) -> None:
    found = pruned(case, RANDOM)
    battery.check_cost(found)
    if not case.reference:
        battery.check_inside(found, 10 * case.limit)
    battery.check_repeatable(model(case), RANDOM)
    battery.check_untouched(model(case))
