"""What each part of recovery brings on Fashion-MNIST, and what each stage of pruning takes.

Usage::

    python -m tests.benchmarks.ablation choices DATA FOLDER [--network resnet20] [--images 512]
        [--budgets 0.48,0.25] [--criteria l2,wanda,reconstruction] [--allocate uniform,global,harm]
        [--recover none,moments,lstsq,auto]
    python -m tests.benchmarks.ablation stages SHARED [--network derived_mobilenet_v2_fp32]
        [--budget 0.75] [--memory 512,2048]

``choices`` has a row per number of images, criterion and allocation; ``DATA`` and ``FOLDER`` are those of
``fashion.py``, and PyTorch is needed as for that. ``stages`` has a row per stage, on the samples of ``real.py``:
CPU seconds, and the most MiB that are resident during it on top of what the packages, the model, its analysis
and the samples take. Every bound in MiB is that of a process of its own. A stage ends with the first step of
the next one: the first probe counts as scoring, the first layer that is fitted as rewriting.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

import onnxprune

from .real import TASKS

ALLOCATIONS = {"l2": ("uniform", "global")}
"""Those of a criterion that gives no costs in the unit of the outputs: harm has nothing to scale."""


def choices(given: argparse.Namespace) -> None:
    """Accuracy by what decides which channels go, how many go where, and what is done for the rest."""
    from .accuracy import scores
    from .fashion import own
    from .fashion_train import read

    images, _ = read(given.data, "train")
    held, labels = (t[: given.tests].numpy() for t in read(given.data, "t10k"))
    order = np.random.default_rng(0).permutation(len(images))
    path = given.folder / f"{given.network}.onnx"
    ways, budgets = given.recover.split(","), [float(b) for b in given.budgets.split(",")]
    titles = [f"{budget:g} {way}" for budget in budgets for way in ways]
    print(f"| images | criterion | allocation | {' | '.join(titles)} |\n|{' --- |' * (len(titles) + 3)}")
    rows = itertools.product(given.images.split(","), given.criteria.split(","), given.allocate.split(","))
    for count, criterion, allocation in rows:
        if allocation not in ALLOCATIONS.get(criterion, (allocation,)):
            continue
        data = images[order[: int(count)]].numpy()
        found = own(path, data, budgets, ways, {"criterion": criterion, "allocate": allocation})
        cells = [
            f"{(scores(model, held).argmax(1) == labels).mean():.4f}" for models in found for model in models
        ]
        print(f"| {count} | {criterion} | {allocation} | {' | '.join(cells)} |", flush=True)


def resident(what: str) -> float:
    """MiB that are resident now (``VmRSS``), or the most since this was asked last (``VmHWM``)."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return float(re.findall(rf"{what}:\s+(\d+)", status)[0]) / 1024


def staged(network: str, shared: Path, budget: float, memory: int) -> None:
    """Print a row per stage of one pruning."""
    task, path = TASKS[network], shared / "models" / f"{network}.onnx"
    data, _, _ = task.samples(shared / "data", path, task.calibration, 1)
    now, start, there = "", time.process_time(), 0.0

    def progress(told: str = "") -> None:
        nonlocal now, start, there
        if (stage := told.split(" ")[0]) != now:
            if there:
                spent, most = time.process_time() - start, resident("VmHWM") - there
                print(f"| {memory} | {now} | {spent:.1f} | {most:,.0f} |", flush=True)
            elif stage == "score":
                there = resident("VmRSS")
            now, start = stage, time.process_time()

    settings: dict[str, Any] = {"keep_macs": budget, "data": data, "memory": memory * 2**20}
    onnxprune.prune(path, progress=progress, provider="cpu", **settings)
    progress()


def stages(given: argparse.Namespace) -> None:
    """Time and memory."""
    print("| memory, MiB | stage | CPU s | most MiB |\n| --- | --- | --- | --- |", flush=True)
    for memory in map(int, given.memory.split(",")):
        process = multiprocessing.get_context("spawn").Process(
            target=staged, args=(given.network, given.shared, given.budget, memory)
        )
        process.start()
        process.join()


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("choices")
    one.set_defaults(do=choices)
    one.add_argument("data", type=Path)
    one.add_argument("folder", type=Path)
    one.add_argument("--network", default="resnet20")
    one.add_argument("--images", default="512")
    one.add_argument("--tests", type=int, default=10_000)
    one.add_argument("--budgets", default="0.48,0.25")
    one.add_argument("--criteria", default="l2,wanda,reconstruction")
    one.add_argument("--allocate", default="uniform,global,harm")
    one.add_argument("--recover", default="none,moments,lstsq,auto")
    two = verbs.add_parser("stages")
    two.set_defaults(do=stages)
    two.add_argument("shared", type=Path)
    two.add_argument("--network", choices=TASKS, default="derived_mobilenet_v2_fp32")
    two.add_argument("--budget", type=float, default=0.75)
    two.add_argument("--memory", default="512,2048")
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
