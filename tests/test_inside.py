"""``reshape_channel_axis=1``: the inside of every head goes, in place of whole heads."""

from __future__ import annotations

import pytest

from onnxprune.trace import trace

from . import battery, cases_attention, cases_operators
from .building import Case

CASES = [*cases_attention.CASES, *cases_operators.CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", [None, 1], ids=["half", "random"])
def test_slim_equals_masked(case: Case, seed: int | None) -> None:
    traced = trace(case.build(), reshape_channel_axis=1)
    if not traced.walk.facts.products:
        pytest.skip("no axis is split, so there is nothing to choose")
    battery.check_exact(battery.prune_trace(traced, seed), case.limit, case.reference)
