"""Several allocations of one budget: which are tried, what judges them, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune.data.dataset import open_data
from onnxprune.moments.held import Held
from onnxprune.moments.ranking import Ranked
from onnxprune.moments.removal import Removal
from onnxprune.moments.second import Progress, silent
from onnxprune.recovery import candidates
from onnxprune.recovery.candidates import Trial, costs_of, damped, least_harmful, rising
from onnxprune.recovery.harm import HIGH
from onnxprune.recovery.job import told, unheard
from onnxprune.recovery.walk import Way
from onnxprune.scoring.table import GroupScore, ScoreTable
from onnxprune.selection.plan import Plan

from .conftest import DIGITS, Run

CALIBRATION = DIGITS.parent / "digits_train.npz"

KNOWN = Removal(np.zeros(0, np.int64), np.zeros(0))


def table(traced: onnxprune.Trace, total: float) -> ScoreTable:
    """Costs of every group that grow with its channels, and in all come to so much."""
    costs = {group.name: np.arange(1.0, len(group) + 1) for group in traced}
    whole = sum(cost.sum() for cost in costs.values())
    scores = {g.name: GroupScore(g, (), costs[g.name], costs[g.name] * total / whole) for g in traced}
    prices = {group.name: 4.0**number for number, group in enumerate(traced)}
    ranked = {group.name: Ranked(KNOWN) for group in traced}
    return ScoreTable(traced, scores, {"prices": prices}, ranked)


class Told(Trial):
    """Harms that are given, in the order in which they are asked for; the plans are remembered."""

    def __init__(self, harms: Iterable[float]) -> None:
        self.next, self.asked = iter(harms), list[Plan]()

    def harm(self, plan: Plan, progress: Progress) -> float:
        self.asked.append(plan)
        return next(self.next)


def chosen(total: float, harms: Iterable[float] = ()) -> tuple[ScoreTable, ScoreTable, Told]:
    """Costs, those that are taken, and what was tried; all costs come to a total."""
    traced = onnxprune.trace(DIGITS)
    costs, trial = table(traced, total), Told(harms)
    planned: Any = lambda one: onnxprune.select(traced, one, keep_macs=0.3, scope="global", granularity=1)  # noqa: E731
    return costs, least_harmful(costs, planned, trial, lambda stage: told(unheard, stage)), trial


def test_costs_rise_with_what_is_gone() -> None:
    traced = onnxprune.trace(DIGITS)
    before, name = table(traced, 1.0), traced[0].name
    after = rising(before, 1.0)
    old, new = before[name].costs, after[name].costs
    assert old is not None
    assert new is not None
    size = len(old)
    for gone in (1, size // 2, size - 1):
        assert new[:gone].sum() == pytest.approx(old[:gone].sum() * size / (size - gone))
    assert np.isfinite(new).all()
    assert (np.diff(new) > 0).all()
    assert after[name].merged is before[name].merged  # the order is that of the criterion


def test_prices_are_drawn_together() -> None:
    """About their geometric mean, but for those of a group of which no costs are known, and of one without harm."""
    traced = onnxprune.trace(DIGITS)
    before = table(traced, 1.0)
    first, second, *_, nothing, unknown = (group.name for group in traced)
    prices = {**before.options["prices"], nothing: 0.0}  # type: ignore[dict-item]
    ranked = {**before.ranked, unknown: Ranked(None)}
    before = replace(before, options={"prices": prices}, ranked=ranked)
    after = damped(before, 0.5)
    by = {name: found.costs[0] / before[name].costs[0] for name, found in after.items()}  # type: ignore[index]
    assert by[unknown] == by[nothing] == 1
    assert by[first] == pytest.approx(2 * by[second])  # the second costs four times as much, and now twice
    drawn = [factor for name, factor in by.items() if name not in (unknown, nothing)]
    assert np.prod(drawn) == pytest.approx(1)


@pytest.mark.parametrize("total", [HIGH, np.inf])
def test_where_little_harm_is_expected_or_none_can_be_told_nothing_is_tried(total: float) -> None:
    before, after, trial = chosen(total)
    assert after is before
    assert not trial.asked


@pytest.mark.parametrize(
    ("harms", "order"),
    [
        ([1, 2, 3], ["harm", "rising", "damped"]),
        ([1, 0.9, 1.2], ["harm", "rising", "damped"]),
        ([1, 0.8, 1.2], ["rising", "harm", "damped"]),
        ([3, 2, 4], ["rising", "harm", "damped"]),
        ([4, 1, 3, 2], ["rising", "damped twice", "damped", "harm"]),
        ([3, 2, 1, 4], ["damped", "rising", "harm", "damped twice"]),
        ([4, 3, 2, 1], ["damped twice", "damped", "rising", "harm"]),
        ([1, 1, 1], ["harm", "rising", "damped"]),
        ([np.inf, np.inf, np.inf], ["harm", "rising", "damped"]),
    ],
)
def test_what_harms_least_is_taken(harms: list[float], order: list[str]) -> None:
    """Prices unless another gains, of equal ones the first; prices are damped twice only where once was better."""
    before, after, trial = chosen(100.0, harms)
    tried: Any = after.options["tried"]
    assert [*tried] == order
    assert len(trial.asked) == len(harms) == len({tuple(plan.counts.values()) for plan in trial.asked})
    assert np.isfinite([*tried.values()]).all()
    for name, found in costs_of(before)[order[0]].items():
        np.testing.assert_array_equal(after[name].costs, found.costs)


def test_plans_are_judged_by_samples_that_no_fit_saw() -> None:
    """The harm behind a fit is far below that without one, and the same each time."""
    traced = onnxprune.trace(DIGITS)
    data = Held(open_data(traced, CALIBRATION, samples=96), 2**28).part(0, 1)
    trial = Trial(traced, data.part(0, 2 / 3), data.part(2 / 3, 1), Way(memory=2**28))
    plan = onnxprune.select(traced, onnxprune.score(traced), ratio=0.5)
    stages: list[str] = []
    harms = [trial.harm(plan, told(stages.append, "try 1:")) for _ in range(2)]
    assert harms[0] == harms[1]
    assert harms[0] < replace(trial, way=replace(trial.way, how="bias")).harm(plan, silent) / 2
    assert stages[0].startswith("try 1: 1/")


def test_it_is_said_and_replayed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network of which little harm is expected, with a bound below that."""
    monkeypatch.setattr(candidates, "HIGH", 0.0)
    flags = "--data", CALIBRATION, "--samples", 96, "--granularity", 4, "--provider", "cpu"
    one, two, plan = (tmp_path / name for name in ("one.onnx", "two.onnx", "plan.json"))
    weights = tmp_path / "weights.npz"
    made = run(
        "prune", DIGITS, "-o", one, "--keep-macs", 0.12, "--plan-out", plan, "--recovery-out", weights, *flags
    )
    assert made.code == 0, made.err
    tried = onnxprune.Plan.load(plan).options["tried"]
    assert "harm" in tried
    assert len(tried) > 1
    assert f"allocations were tried: '{next(iter(tried))}' (harm" in made.err
    run("prune", DIGITS, "-o", two, "--plan", plan, "--recovery", weights, "--provider", "cpu")
    assert one.read_bytes() == two.read_bytes()
    monkeypatch.setattr(Trial, "harm", lambda *_: pytest.fail("what a plan records is not tried again"))
    kept = {g.name: [*g.keep] for g in onnxprune.Plan.load(plan).groups}
    told = run("explain", DIGITS, "*Conv", "--plan", plan, "--provider", "cpu", "--json").document["groups"]
    assert len(told) == 7
    for group in told:
        assert [c["index"] for c in group["channels"] if c["kept"]] == kept[group["group"]]
