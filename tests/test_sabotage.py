"""Slim models are damaged: none whose outputs change is called exact.

By default cases of some operators, each damaged in one way; with ``-m full`` a case of every operator,
with ``-m slow`` every case and every real network in all ways, at several places.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from onnxprune.errors import OnnxPruneError
from onnxprune.jobs.verify import verify

from . import battery, sabotage
from .building import Case, made_up
from .cases import CASES
from .full import sampled
from .test_models import FEEDS, LARGE, NETWORKS, real

Record = Callable[[str, object], None]

RUN = [case for case in CASES if not case.reference]


def firsts(cases: Sequence[Case]) -> list[Case]:
    """The first case of every operator."""
    found: dict[str, Case] = {}
    for case in cases:
        found.setdefault(case.op, case)
    return list(found.values())


def called_exact(
    pruned: battery.Pruned, kinds: Sequence[str], places: int, feeds: Any = None
) -> tuple[list[str], Counter[str]]:
    """Damages that change the outputs and are not seen, and how many of each kind and type change them."""
    given = feeds or made_up(pruned.trace.graph)
    slim = pruned.slim.embedded()
    judge = sabotage.Judge(slim, given)
    missed: list[str] = []
    count: Counter[str] = Counter()
    for kind in kinds:
        rng = np.random.default_rng([1, sabotage.KINDS.index(kind)])
        for damage in sabotage.damages(slim, kind, places, rng):
            if not judge.changed(damage.model):
                continue
            count[f"{kind} ({damage.dtype})"] += 1
            if is_exact(pruned, damage, given):
                missed.append(str(damage))
    return missed, count


def is_exact(pruned: battery.Pruned, damage: sabotage.Damage, feeds: Any) -> bool:
    try:
        report = verify(
            pruned.trace.model,
            damage.model,
            plan=pruned.plan,
            traced=pruned.trace,
            data=feeds,
            provider="cpu",
        )
    except OnnxPruneError:
        return False
    return bool(report) or report.exact is True


FIRST = firsts(RUN)


def in_a_third(_: int, number: int) -> bool:
    """Some operators for every kind of damage."""
    return number // len(sabotage.KINDS) % 3 == 0


@pytest.mark.parametrize("number", sampled(range(len(FIRST)), in_a_third), ids=lambda k: str(FIRST[k]))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_is_seen(number: int) -> None:
    case = FIRST[number]
    kind = sabotage.KINDS[number % len(sabotage.KINDS)]
    missed, _ = called_exact(battery.prune(case.build()), [kind], 1)
    assert not missed


def test_every_kind_of_damage_is_tried() -> None:
    """A network with all that can be damaged; the judge finds that each kind changes it."""
    pruned = battery.prune(sabotage.everything())
    for kind in sabotage.KINDS:
        missed, count = called_exact(pruned, [kind], 3)
        assert not missed
        assert count, kind


@pytest.mark.slow
@pytest.mark.parametrize("case", RUN, ids=str)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_damage_to_a_case_is_seen(case: Case, record_property: Record) -> None:
    """``--junitxml`` keeps how many there were of each kind."""
    missed, count = called_exact(battery.prune(case.build()), sabotage.KINDS, 2)
    record_property("damages", dict(count))
    assert not missed


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in LARGE])
def test_damage_to_a_real_network_is_seen(name: str, record_property: Record) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        missed, count = called_exact(battery.prune_trace(real(name)), sabotage.KINDS, 3, FEEDS.get(name))
    record_property("damages", dict(count))
    assert not missed
