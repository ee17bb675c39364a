"""What a budget is expected to do, stated before anything is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onnxprune.coupling.trace import Trace
from onnxprune.jobs.forecast import forecast
from onnxprune.recovery.allocation import Probe
from onnxprune.recovery.forecast import Forecast
from onnxprune.recovery.harm import doubts
from onnxprune.timing.blocks import BlockedLayout
from onnxprune.timing.kernels import TimedKernel
from onnxprune.timing.machine import Machine
from onnxprune.timing.model import LatencyModel

from .conftest import DIGITS, Run

CALIBRATION = DIGITS.parent / "digits_train.npz"

GIVEN = "--data", CALIBRATION, "--samples", 96, "--provider", "cpu"


def test_a_forecast_gives_the_ratios_of_the_budget(run: Run, tmp_path: Path) -> None:
    ratios, probes = tmp_path / "ratios.toml", tmp_path / "probes.json"
    flags = "--keep-macs", 0.4, *GIVEN
    outcome = run("sensitivity", DIGITS, *flags, "--ratio-out", ratios, "--probes", probes, "--json")
    found = outcome.document
    assert (found["budget"], found["samples"], outcome.err) == ({"keep_macs": 0.4}, 96, "")
    assert 0.36 < found["macs"]["after"] / found["macs"]["before"] <= 0.4
    assert found["harm"] == pytest.approx(sum(g["expected"] for g in found["groups"]))
    out = tmp_path / "slim.onnx"
    with_budget = run("prune", DIGITS, "-o", out, *flags, "--recover", "none", "--json").document
    with_ratios = run("prune", DIGITS, "-o", out, "--ratio", ratios, *GIVEN, "--recover", "none", "--json")
    kept = {g["group"]: g["kept"] for g in found["groups"]}
    for document in (with_budget, with_ratios.document):
        assert {g["name"]: g["kept"] for g in document["groups"] if g["name"] in kept} == kept


def shrunk(found: dict[str, Any]) -> set[str]:
    """Groups of which a budget takes something."""
    return {g["group"] for g in found["groups"] if g["kept"] < g["channels"]}


def test_a_forecast_ranks_by_what_milliseconds_cost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """All the time goes into one layer."""
    asked: list[Machine] = []

    def one_layer(traced: Trace, machine: Machine, **_: Any) -> LatencyModel:
        asked.append(machine)
        node = traced.find("/stage2/second/conv/Conv")[0].kernels[0].node
        where = {"provider": "cpu", "threads": 1, "batch": 1}
        return LatencyModel((TimedKernel("Conv", 90.0, (node.index,)),), 10.0, BlockedLayout(), where)

    monkeypatch.setattr("onnxprune.jobs.forecast.measure_model", one_layer)
    flags = "--keep-latency", 0.6, "--threads", 1
    found = run("sensitivity", DIGITS, *flags, *GIVEN, "--json").document
    assert asked == [Machine("cpu", 1)]
    assert shrunk(found) == {"/stage2/first/conv/Conv"}, "what that layer reads; others save no time"
    assert 0.5 < found["latency"] <= 0.6
    other = run("sensitivity", DIGITS, "--keep-macs", 0.6, *GIVEN, "--json").document
    assert (other["latency"], len(shrunk(other)) > 1) == (None, True)
    assert "of the latency as predicted" in run("sensitivity", DIGITS, *flags, *GIVEN).out


def test_a_forecast_goes_on_where_it_was_broken_off(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "probes.json"
    flags = "--keep-macs", 0.4, "--probes", path, *GIVEN
    whole = run("sensitivity", DIGITS, *flags, "--json").document["groups"]
    known = json.loads(path.read_text())
    assert len(known["probes"]) == 7
    known["probes"] = [{**known["probes"][0], "harm": 7.5}, *known["probes"][1:4]]
    path.write_text(json.dumps(known))
    again = run("sensitivity", DIGITS, *flags, "--json").document["groups"]
    assert again[0]["harm"] == 7.5
    assert [g["harm"] for g in again[1:]] == [g["harm"] for g in whole[1:]]
    assert len(json.loads(path.read_text())["probes"]) == 7
    other = run("sensitivity", DIGITS, *flags, "--samples", 64)
    assert (other.code, other.err.splitlines()[0]) == (
        2, f"error: probes: those in '{path}' differ in their data",
    )  # fmt: skip
    path.write_text("{}")
    assert f"probes: '{path}' holds no probes" in run("sensitivity", DIGITS, *flags).err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--keep-macs", 0.4), "found no data, expected samples"),
        (("--probes", "p.json"), "probes takes a budget: found none"),
        (("--ratio-out", "r.toml"), "ratio-out takes a budget: found none"),
        (("--keep-macs", 0.4, "--data", CALIBRATION, "--ratios", "0.5"), "--ratios has no effect with a budget"),
        (("--keep-macs", 0.4, "--data", CALIBRATION, "--criterion", "l1"), "criterion 'l1' gives scores"),
    ],
)  # fmt: skip
def test_a_forecast_refuses(run: Run, tmp_path: Path, flags: tuple[Any, ...], text: str) -> None:
    placed = [tmp_path / f if str(f).endswith((".toml", "p.json")) else f for f in flags]
    outcome = run("sensitivity", DIGITS, "--provider", "cpu", *placed)
    assert outcome.code == 2
    assert text in outcome.err


def test_too_much_harm_is_named_with_what_would_help(run: Run, tmp_path: Path) -> None:
    assert doubts(0.1, 64) == ""
    probe = Probe("conv", 8, 4, 0.5, 1.0, True)
    found = Forecast({"keep_params": 0.5}, [probe], {"conv": 6}, {"conv": 0.25}, (100, 50), 64, 0.75)
    assert found.ratios == {"conv": 0.25}
    assert found.doubts == (
        "harm 0.25 is above 0.1, too much to ship unseen: "
        "keep-params 0.75, more than 64 samples, or training afterwards would help"
    )
    flags = "--keep-macs", 0.05, "--granularity", 1, "--data", CALIBRATION
    few = "--samples", 16, "--provider", "cpu"
    told = run("sensitivity", DIGITS, *flags, *few).err
    assert "is above 0.1" in told
    result = run("prune", DIGITS, "-o", tmp_path / "slim.onnx", *flags, *few)
    assert "is above 0.1, too much to ship unseen: a larger budget, more than 16 samples" in result.err


def test_a_larger_budget_is_named_that_would_do() -> None:
    flags: dict[str, Any] = {"min_share": 0.0, "granularity": 1, "samples": 16, "provider": "cpu"}
    low = forecast(DIGITS, data=CALIBRATION, keep_macs=0.05, **flags)
    assert low.total > 0.1
    assert low.enough is not None
    high = forecast(DIGITS, data=CALIBRATION, keep_macs=low.enough, **flags)
    assert high.total <= 0.1
    assert f"keep-macs {low.enough:g}" in low.doubts
