"""Data that hold NaN, infinity or numbers that overflow: a sentence, and no warning of numpy's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import onnxprune

from .building import net
from .conftest import DIGITS, Run

TRAINING = DIGITS.parent / "digits_train.npz"


def images(factor: float) -> np.ndarray:
    with np.errstate(all="ignore"), np.load(TRAINING) as stored:
        return np.asarray(stored["image"][:20] * np.float32(factor))


@pytest.mark.parametrize("factor", [1e22, np.nan, np.inf])
def test_a_group_says_what_its_consumers_cannot_be_measured_on(factor: float) -> None:
    traced = onnxprune.trace(DIGITS)
    scores = onnxprune.score(traced, criterion="reconstruction", data={"image": images(factor)})
    assert scores["/stem/conv/Conv"].problem.endswith("reads numbers that are NaN, infinite or beyond 1e19")


@pytest.mark.parametrize(
    ("factor", "harm"), [(1e22, "much harm "), (np.nan, "outputs on held-out samples are ")]
)
def test_such_data_prune_without_a_warning(run: Run, tmp_path: Path, factor: float, harm: str) -> None:
    """Warnings are errors here; that weights decide in place of the data is said."""
    np.savez(tmp_path / "x.npz", image=images(factor))
    flags = "--keep-macs", 0.5, "--data", tmp_path / "x.npz", "--provider", "cpu"
    plan = tmp_path / "plan.json"
    outcome = run("prune", DIGITS, "-o", tmp_path / "slim.onnx", "--plan-out", plan, *flags)
    assert outcome.code == 0
    assert len(json.loads(plan.read_text())["options"]["recovery"]["harm"]) == 2  # JSON knows no infinity
    lines = outcome.err.splitlines()
    assert [line for line in lines if line.startswith(harm)]
    (said,) = [line for line in lines if line.startswith("chosen by the norms of weights: ")]
    assert said.endswith(" reads numbers that are NaN, infinite or beyond 1e19")
    given = "--criterion", "reconstruction", "--data", tmp_path / "x.npz", "--provider", "cpu"
    said = run("explain", DIGITS, "stem/conv", *given).out.splitlines()[2]
    assert said.startswith("of this group the norms of weights: ")


def test_rules_compute_with_whatever_is_stored() -> None:
    build = net(
        "c = Conv (x, W)\np = Pad <mode = \"constant\"> (c, pads, inf)\ny = Conv (p, V)",
        W=(8, 3, 1, 1), V=(4, 8, 1, 1), pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]), inf=np.float32(np.inf),
    )  # fmt: skip
    assert [len(group) for group in onnxprune.trace(build())] == [8]


def test_a_budget_that_cannot_be_met_names_a_group_that_stays_whole(run: Run, tmp_path: Path) -> None:
    flags = "--keep-macs", 0.2, "--exclude", "/stage*", "--provider", "cpu"
    outcome = run("prune", DIGITS, "-o", tmp_path / "slim.onnx", *flags)
    assert outcome.code == 1
    assert " Whole groups: 4, such as '/stem/conv/Conv' (excluded by '/stage*').\n" in outcome.err
