"""Real networks at a budget, without and with recovery: a Markdown table, one row per network.

Usage::

    python -m tests.benchmarks.recovery SHARED [--networks a,b] [--budgets 0.75] [--recover auto]

``SHARED`` holds the folders ``models`` and ``data``. Each network runs in a process of its own, so that
one that fails is a row, too. *harm* is that of ``onnxprune.recovery.harm`` on samples that neither
pruning nor recovery has seen; *keeps* is the network's own measure against the original.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import onnxprune
from onnxprune.data.dataset import open_data
from onnxprune.recovery import job
from onnxprune.recovery.harm import OriginalOutputs

from .real import TASKS, Task, outputs

HEADER = (
    "| network | MACs | harm, none | harm, auto | keeps | none | auto | accuracy: before, none, auto "
    "| layers | prune, CPU s | recover, CPU s | peak, MB |"
)


def measured(name: str, shared: Path, budget: float, how: str, options: dict[str, Any]) -> str:
    """One row."""
    task, path = TASKS[name], shared / "models" / f"{name}.onnx"
    calibration, test, labels = task.samples(shared / "data", path, task.calibration, task.test)
    start = time.process_time()
    result = pruned(path, calibration, budget, options)
    cut = time.process_time()
    sizes = result.trace.sizes(result.plan.removed(result.trace))
    settings = {"data": calibration, **options}
    found = job.recover_model(result.trace, sizes, result.model, settings, how, "cpu")
    recovered = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    both = result.model, found.apply(result.model)
    reference = OriginalOutputs(result.trace.model, open_data(result.trace, test, labels=False))
    harm = [reference.of(model) for model in both]
    before, *after = [outputs(m.proto.SerializeToString(), test) for m in (result.trace.model, *both)]
    cells = [
        name,
        f"{result.after.macs / result.before.macs:.3f}",
        *(f"{h:.3g}" for h in harm),
        task.unit,
        *(f"{task.measure(before, a):.3f}" for a in after),
        hits(before, after, labels),
        f"{len(found.recovered)}/{len(found.outcomes)}",
        f"{cut - start:.0f}",
        f"{recovered - cut:.0f}",
        f"{peak:.0f}",
    ]
    worse = " **worse**" if harm[1] > harm[0] else ""
    return f"| {' | '.join(cells)} |{worse}"


def pruned(path: Path, data: Any, budget: float, options: dict[str, Any]) -> onnxprune.Result:
    """The slim model; channel by channel where the default granularity does not reach the budget."""
    settings: dict[str, Any] = {
        "keep_macs": budget, "data": data, "recover": "none", "provider": "cpu", "clean": False, **options
    }  # fmt: skip
    try:
        return onnxprune.prune(path, **settings)
    except onnxprune.BudgetError:
        return onnxprune.prune(path, **{**settings, "granularity": 1})


def hits(before: dict[str, np.ndarray], after: list[dict[str, np.ndarray]], labels: Any) -> str:
    """Accuracy of all three, where the classes are those of the labels."""
    scores = [next(iter(found.values())) for found in (before, *after)]
    if (
        labels is None
        or scores[0].ndim < 2
        or scores[0].shape[1] <= labels.max()
        or scores[0].shape[1] == 101
    ):
        return ""
    return ", ".join(f"{(s.reshape(len(s), -1).argmax(1) == labels).mean():.3f}" for s in scores)


def work(queue: Any, *given: Any) -> None:
    """One row in a process of its own."""
    try:
        queue.put(measured(*given))
    except Exception as error:
        traceback.print_exc()
        queue.put(f"| {given[0]} | {type(error).__name__}: {error} |")


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--networks", default=",".join(TASKS))
    parser.add_argument("--budgets", default="0.75")
    parser.add_argument("--recover", default="auto")
    parser.add_argument("--allocate")
    parser.add_argument("--criterion")
    parser.add_argument("--granularity", type=int)
    given = parser.parse_args()
    options = {
        name: value
        for name in ("allocate", "criterion", "granularity")
        if (value := getattr(given, name)) is not None
    }
    spawn = multiprocessing.get_context("spawn")
    print(f"{HEADER}\n|{' --- |' * HEADER.count(' | ')} --- |", flush=True)
    for name in given.networks.split(","):
        for budget in given.budgets.split(","):
            queue = spawn.SimpleQueue()
            process = spawn.Process(
                target=work, args=(queue, name, given.shared, float(budget), given.recover, options)
            )
            process.start()
            process.join()
            row = f"| {name} | ended with {process.exitcode} |" if queue.empty() else queue.get()
            print(row, flush=True)


def notes() -> list[tuple[str, Task]]:
    """Networks whose data are not of their own kind."""
    return [(name, task) for name, task in TASKS.items() if task.note]


if __name__ == "__main__":
    main()
