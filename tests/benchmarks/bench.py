"""How long analysis and pruning take, as ratios made in one run: ``python -m tests.benchmarks.bench``.

Times are process times, so that other work on the machine matters little, and medians of several
rounds in which all of them take turns. Three claims are checked: analysis of ResNet-50 and DenseNet-121 takes at most 50 and 150 ms,
``prune`` without verification takes at most twice as long as ``onnx.load`` and ``onnx.save`` of the
same file, and cost grows linearly with nodes plus channels. The second holds for networks whose
weights weigh something: work per node does not fit into the time in which the 5 MB of a chain of
3,000 nodes with 32 channels are copied. Those chains are here for the third.
Behind them stands how every verb and budget grows, see ``growth.py``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import onnx
from rich.console import Console
from rich.table import Table

import onnxprune
from models import architectures
from models.net import Net

from .growth import FAMILIES, SIZES, show
from .growth import measure as measure_verbs

ALLOWED = {"resnet50": 50.0, "densenet121": 150.0}
"""Milliseconds of analysis on a quiet machine."""


def chain(nodes: int, channels: int) -> onnx.ModelProto:
    """Residual blocks of two 1x1 convolutions with Relu behind them: five nodes each."""
    net = Net(f"chain {nodes} x {channels}", seed=0)
    x = net.conv("stem", net.input("image", 1, 3, 8, 8), 3, channels, 1)
    for block in range(nodes // 5):
        y = net.relu(net.conv(f"block{block}.conv1", x, channels, channels, 1))
        y = net.relu(net.conv(f"block{block}.conv2", y, channels, channels, 1))
        x = net.node("Add", x, y)
    return net.build(net.classifier(x, channels))


def milliseconds(functions: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median process time of each function."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, found in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            found.append(1000 * (time.process_time() - start))
    return [median(found) for found in times]


class Row:
    """Measurements of one model."""

    def __init__(self, model: onnx.ModelProto, folder: Path, rounds: int) -> None:
        path, copy, slim = (folder / name for name in ("model.onnx", "copy.onnx", "slim.onnx"))
        onnx.save(model, path)
        traced = onnxprune.trace(path)
        self.name = model.graph.name
        self.nodes, self.channels = len(traced.graph.nodes), traced.walk.count
        loaded = onnxprune.load(path)
        self.trace, self.copy, self.prune, self.whole = milliseconds(
            [
                lambda: onnxprune.trace(loaded),
                lambda: onnx.save(onnx.load(path), copy),
                lambda: onnxprune.prune(path, clean=False).model.save(slim),
                lambda: onnxprune.prune(path).model.save(slim),
            ],
            rounds,
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """As printed."""
        per_thing = 1000 * self.trace / (self.nodes + self.channels)
        return (
            self.name,
            str(self.nodes),
            str(self.channels),
            f"{self.trace:.1f}",
            f"{per_thing:.2f}",
            f"{self.copy:.1f}",
            f"{self.prune:.1f}",
            f"{self.prune / self.copy:.2f}",
            f"{self.whole / self.copy:.2f}",
        )


def measure(rounds: int) -> list[Row]:
    """All rows: two networks, then chains that double in nodes and in channels."""
    models: list[Callable[[], onnx.ModelProto]] = [
        architectures.resnet50,
        architectures.densenet121,
    ]
    for nodes, channels in [
        (1500, 32),
        (3000, 32),
        (6000, 32),
        (3000, 16),
        (3000, 64),
        (3000, 256),
    ]:
        models.append(partial(chain, nodes, channels))
    rows = []
    for build in models:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(Row(build(), Path(folder), rounds))
    return rows


def growth(rows: list[Row]) -> dict[str, float]:
    """Time of analysis for twice the nodes, and for twice the channels."""
    half, whole, double, narrow, wide = (row.trace for row in rows[2:7])
    return {
        "1500 -> 3000 nodes": whole / half, "3000 -> 6000 nodes": double / whole,
        "16 -> 32 channels": whole / narrow, "32 -> 64 channels": wide / whole,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How long analysis and pruning take.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of which the median counts")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="*",
        default=SIZES,
        help="nodes at which every verb is timed, see growth.py",
    )
    given = parser.parse_args()
    rows = measure(given.rounds)
    table = Table(title="process time, ms")
    for head in (
        "model",
        "nodes",
        "labels",
        "trace",
        "µs per node + label",
        "load + save",
        "prune",
        "ratio",
        "with clean",
    ):
        table.add_column(head, justify="left" if head == "model" else "right")
    for row in rows:
        table.add_row(*row.cells)
    console = Console(width=120)
    console.print(table)
    for what, ratio in growth(rows).items():
        console.print(f"{what}: {ratio:.2f} times the time of analysis")
    for row in rows:
        if row.trace > ALLOWED.get(row.name, float("inf")):
            console.print(f"{row.name}: {row.trace:.0f} ms, {ALLOWED[row.name]:.0f} claimed")
    if given.sizes:
        show(list(measure_verbs(given.sizes, list(FAMILIES), "*", 1)), given.sizes, console)


if __name__ == "__main__":
    main()
