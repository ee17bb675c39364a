"""Broken files by the thousand: each gives a result or a sentence, and costs little."""

from __future__ import annotations

import os

import onnx
import pytest

from .full import sampled
from .fuzz import GOOD, attempts, table
from .fuzz_files import broken
from .fuzz_seeds import SEEDS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="every file is read in a forked process")


def test_a_number_says_everything() -> None:
    assert [broken(k) for k in range(50)] == [broken(k) for k in range(50)]
    assert len({broken(k).data for k in range(50)}) > 45


@pytest.mark.parametrize("name", SEEDS)
def test_what_is_broken_was_whole(name: str) -> None:
    onnx.checker.check_model(SEEDS[name](), full_check=True)


STEP = 125
"""Files of one test: their process imports everything once."""


def read(start: int) -> None:
    found = list(attempts(range(start, start + STEP), processes=1))
    bad = [outcome for outcome in found if outcome.kind not in GOOD]
    assert not bad, f"{table(found)}\n{bad}"


@pytest.mark.parametrize("start", sampled(range(0, 1000, STEP), lambda _, start: not start))
def test_a_result_or_a_sentence(start: int) -> None:
    read(start)


@pytest.mark.parametrize("number", [21269, 21302, 21365, 21572, 21791, 23390])
def test_what_was_no_result_once(number: int) -> None:
    """Axes of a billion entries, sizes that nothing tells, layers as wide as no tensor that they read."""
    (outcome,) = attempts([number], processes=1)
    assert outcome.kind in GOOD, outcome


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 10000, STEP))
def test_a_result_or_a_sentence_by_the_thousand(start: int) -> None:
    read(start)
