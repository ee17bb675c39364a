"""``reshape_channel_axis``: which factor of a split goes, whole heads or the inside of each."""

from __future__ import annotations

import pytest

from onnxprune.trace import trace

from . import battery, cases_attention, cases_fused, cases_operators
from .building import Case

CASES = [*cases_attention.CASES, *cases_fused.CASES, *cases_operators.CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("axis", [0, 1], ids=["outer", "inner"])
@pytest.mark.parametrize("seed", [None, 1], ids=["half", "random"])
def test_slim_equals_masked(case: Case, axis: int, seed: int | None) -> None:
    traced = trace(case.build(), reshape_channel_axis=axis)
    if not traced.walk.facts.products:
        pytest.skip("no axis is split, so there is nothing to choose")
    battery.check_exact(battery.prune_trace(traced, seed), case.limit, case.reference)
