"""What a budget of latency keeps of a network, beside a budget of MACs of the same measured time.

Usage::

    python -m tests.benchmarks.equal_time SHARED --networks a,b [--shares 0.7]

``SHARED`` holds the folders ``models`` and ``data``. Each network is pruned with ``--keep-latency`` and
calibration samples, so that channels go by harm per millisecond. Then the budget of MACs is looked for whose
result, pruned by harm per MAC from the same scores, takes the same time: both run in turns, and so they are
timed once more, in pairs of sessions of which the median is printed, the least and the most. Both are recovered,
and compared with the original on samples of their own. One thread, whose processor time is taken.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnxprune
from onnxprune.coupling.trace import Trace
from onnxprune.jobs.aim import aim
from onnxprune.model.file import Model
from onnxprune.recovery import job
from onnxprune.scoring.table import ScoreTable
from onnxprune.selection.cost import macs
from onnxprune.selection.decide import select
from onnxprune.selection.plan import Plan
from onnxprune.selection.settings import SelectSettings, part
from onnxprune.surgery.surgeon import rewrite_trace
from onnxprune.timing.machine import Machine

from .latency import measured
from .real import TASKS, outputs

ONE = Machine("cpu", 1)

TRIES, CLOSE = 8, 0.01
"""Budgets of MACs that are tried, and the difference of the times, as a share, that counts as none."""


def of_macs(traced: Trace, scores: ScoreTable, options: Mapping[str, Any], beside: Model) -> Plan:
    """The plan by a budget of MACs that takes as long as another slim model, or nearly so."""
    low, high, best = 0.0, 1.0, None
    for _ in range(TRIES):
        middle = (low + high) / 2
        try:
            plan = select(traced, scores, **{**options, "keep_macs": middle})
        except onnxprune.BudgetError:
            low = middle
            continue
        took = measured(beside, rewrite_trace(traced, plan.removed(traced)), ONE).share
        if best is None or abs(took - 1) < abs(best[1] - 1):
            best = plan, took
        if abs(took - 1) < CLOSE:
            break
        low, high = (middle, high) if took < 1 else (low, middle)
    assert best is not None
    return best[0]


def row(name: str, shared: Path, share: float) -> Iterator[str]:
    """Cells of one network: the share of time, the other's over it, shares of MACs, and what both keep."""
    task, path = TASKS[name], shared / "models" / f"{name}.onnx"
    calibration, test, _ = task.samples(shared / "data", path, task.calibration, task.test)
    traced = onnxprune.trace(path)
    settings = job.with_data({"data": calibration, "keep_latency": share})
    scores = job.priced(traced, settings, ONE.provider)
    options = part(settings, SelectSettings)
    timed, achieved = aim(traced.model, traced, scores, options, ONE, {}, lambda stage: None)
    del options["keep_latency"]
    fast = rewrite_trace(traced, timed.removed(traced))
    plans = timed, of_macs(traced, scores, options, fast)
    slims = fast, rewrite_trace(traced, plans[1].removed(traced))
    again = measured(*slims, ONE)
    low, high = again.spread
    yield from (name, f"{achieved.measured:.3f}")
    yield f"{again.share:.3f} ({low:.3f} to {high:.3f})"
    before = outputs(traced.model.proto.SerializeToString(), test)
    kept = []
    for plan, slim in zip(plans, slims, strict=True):
        sizes = traced.sizes(plan.removed(traced))
        yield f"{macs(traced, sizes) / macs(traced, traced.sizes()):.3f}"
        found = job.recover_model(traced, sizes, slim, settings, "auto", ONE.provider)
        kept.append(task.measure(before, outputs(found.apply(slim).proto.SerializeToString(), test)))
    yield from (task.unit, *(f"{value:.3f}" for value in kept))


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--networks", required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.7])
    given = parser.parse_args()
    print(
        "| network | time, by latency | by MACs, over it | MACs, by latency | by MACs | keeps | by latency | by MACs |"
    )
    print(f"|{' --- |' * 8}")
    for name in given.networks.split(","):
        for share in given.shares:
            try:
                print(f"| {' | '.join(row(name, given.shared, share))} |", flush=True)
            except onnxprune.BudgetError as error:
                print(f"| {name} | {error.message} |", flush=True)


if __name__ == "__main__":
    main()
