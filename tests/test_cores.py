"""Work that all cores share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxprune import cores
from onnxprune.scoring.registry import lookup


def numbers(blocks: Sequence[slice]) -> list[int]:
    return [number for block in blocks for number in range(block.start, block.stop)]


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 100])
@pytest.mark.parametrize("least", [1, 3, 1000])
def test_every_row_is_worked_on_once(rows: int, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "LEAST", least)
    monkeypatch.setattr(cores, "BLOCK", 5)
    parts = cores.spread(numbers, rows, 1)
    assert [number for part in parts for number in part] == [*range(rows)]
    assert len(parts) <= cores.MOST
    assert len(parts) == 1 or all(len(part) >= least for part in parts)
    assert all(block.stop - block.start <= 5 for blocks in cores.spread(list, rows, 1) for block in blocks)


def test_parts_do_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else sums would, in their last digits."""
    found = []
    monkeypatch.setattr(cores, "LEAST", 10)
    for processors in (1, 3, 64):
        monkeypatch.setattr(cores, "cores", lambda processors=processors: processors)
        found.append(cores.spread(numbers, 1001, 1))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == cores.MOST


def test_what_fails_in_a_thread_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        cores.spread(lambda blocks: 1 // blocks[0].start, 100, cores.LEAST)


def test_numpy_handles_errors_in_threads_as_it_does_outside() -> None:
    work = partial(np.full, fill_value=1e300)
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("error")
        found = cores.spread(lambda blocks: work(len(blocks)) * 1e300, 100, cores.LEAST)
    assert all(np.isinf(part).all() for part in found)


@pytest.mark.parametrize("shape", [(1, 90, 7), (40, 9, 2), (64, 5, 1), (1, 3, 0), (0, 3, 1)])
def test_norms_are_the_same_in_blocks_and_threads(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    l2: Any = lookup("criterion", "l2")
    monkeypatch.setattr(cores, "BLOCK", 16)
    monkeypatch.setattr(cores, "LEAST", 32)
    stored = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    norms = np.sqrt(np.square(stored.astype(np.float64)).sum(axis=(0, 2)))
    assert np.allclose(l2(SimpleNamespace(stored=stored)), norms, rtol=1e-14, atol=0)
