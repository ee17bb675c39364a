"""The battery notices broken rules.

A rule is broken in two ways: by hand, as somebody might write it wrongly, and systematically, by
taking away one kind of fact that it records. Every mutant must fail a check on some row of its
operator. What the graph *computes* must betray a mutant that is wrong; one that only blocks or
couples too much is betrayed by the pinned groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache

import onnx
import pytest

from onnxprune.coupling.trace import trace
from onnxprune.rules import RULES
from onnxprune.rules.registry import Function

from . import battery
from .building import Case
from .cases import CASES
from .full import sampled
from .mutants import MUTANTS, ORIGINAL, Lacking
from .recorded import line, recorded

RANDOM = 11


@cache
def model(row: int) -> onnx.ModelProto:
    return CASES[row].build()


@cache
def rows(op: str) -> list[int]:
    """Rows about an operator."""
    return [row for row, case in enumerate(CASES) if case.op == op]


def computes_wrongly(case: Case, proto: onnx.ModelProto) -> str:
    """What betrays a broken rule by shapes or values; empty if nothing does."""
    for seed in (None, RANDOM):
        try:
            pruned = battery.prune(proto, seed)
            battery.check_valid(pruned)
            battery.check_exact(pruned, case.limit)
            if case.zero:
                battery.check_zeroed(pruned, case.limit)
        except Exception as error:  # a mutant may fail in any way
            return f"{type(error).__name__}: {error}"
    return ""


def has_other_facts(case: Case, proto: onnx.ModelProto) -> str:
    """What betrays a broken rule by the groups that it leads to; empty if nothing does."""
    try:
        pruned = battery.prune(proto)
        battery.check_facts(case, pruned.trace)
        battery.check_slim(case, pruned)
        if str(case) in recorded():
            assert line(pruned.trace) == recorded()[str(case)]
    except Exception as error:  # as above
        return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def mutated(op: str, function: Function) -> Iterator[None]:
    """Another function in the place of an operator's rule."""
    rule = RULES["", op]
    RULES["", op] = replace(rule, apply=function)
    try:
        yield
    finally:
        RULES["", op] = rule


# Written by hand ------------------------------------------------------------------------------

GUARDED = {"ignores_the_transposition", "resizes_channels", "sorts_freely"}
"""Mutants whose labels contradict sizes: the walk blocks the node before anything is computed."""


@pytest.mark.parametrize(("op", "name", "function"), MUTANTS, ids=[f"{o}-{n}" for o, n, _ in MUTANTS])
def test_wrong_rule_computes_wrongly(op: str, name: str, function: Function) -> None:
    betrayed = has_other_facts if name in GUARDED else computes_wrongly
    with mutated(op, function):
        assert any(betrayed(CASES[row], model(row)) for row in rows(op)), name


# Systematic -----------------------------------------------------------------------------------


KINDS = ("pairs", "pins", "products", "stats", "roles", "broadcast", "kernels", "fixes")


SURVIVORS = {
    "Col2Im": {"pins"},  # the pinned factor is a transit axis, which loses anyway
    "DeformConv": {"fixes", "roles"},  # as in Conv, which rows of Conv need
    "GridSample": {"pins"},  # its grid is an input of the graph and pinned as such
    "If": {"fixes", "roles"},  # those of the layers inside
    "Loop": {"roles"},
    "Scan": {"roles"},
    "SequenceMap": {"kernels", "pins", "roles"},
    "RotaryEmbedding": {"pairs"},  # dimensions go with reshape_channel_axis alone: test_inside
}
"""Facts that no row of their operator needs."""


@pytest.mark.parametrize("op", sampled(sorted(ORIGINAL), lambda k, op: k % 4 == 0 or op in SURVIVORS))
def test_every_kind_of_fact_is_needed(op: str) -> None:
    survivors = set()
    for kind in KINDS:
        function = Lacking(kind, ORIGINAL[op])
        with mutated(op, function):
            found = any(_betrayed(function, row) for row in rows(op))
        if function.removed and not found:
            survivors.add(kind)
    assert survivors == SURVIVORS.get(op, set())


def _betrayed(function: Lacking, row: int) -> bool:
    """Whether a row betrays the missing facts, if its graph has any."""
    before = function.removed
    with suppress(Exception):  # a mutant may fail in any way; the checks below say so again
        trace(model(row))
    if function.removed == before:
        return False
    return bool(has_other_facts(CASES[row], model(row)) or computes_wrongly(CASES[row], model(row)))
