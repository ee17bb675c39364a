"""How long analysis and pruning take: ``python -m tests.benchmarks.speed``.

A table of ratios made in one run, of processor time, each the least of several repetitions: on a
machine that does other work too, absolute times say little. No test depends on them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

import onnxprune
from models.architectures import densenet121, resnet50
from models.net import Net

REPETITIONS = 5


def chain(layers: int, channels: int) -> onnx.ModelProto:
    """Plain network of 1x1 convolutions, each with a Relu and a residual sum: 3 nodes a layer."""
    net = Net("chain", 0)
    x = net.conv("stem", net.input("x", 1, 3, 8, 8), 3, channels, 1)
    for k in range(layers):
        x = net.node("Add", x, net.relu(net.conv(f"conv{k}", x, channels, channels, 1)))
    return net.build(x)


def least(action: Callable[[], object]) -> float:
    """Processor time of the fastest of several repetitions, in seconds."""
    times = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def measure(path: Path) -> dict[str, float]:
    """Times of one model file in seconds."""
    target = path.with_suffix(".out.onnx")

    def copy() -> None:
        onnx.save(onnx.load(path), target)

    def prune() -> None:
        onnxprune.prune(path, clean=False).model.save(target)

    loaded = onnxprune.load(path)
    return {
        "copy": least(copy),
        "trace": least(lambda: onnxprune.trace(loaded)),
        "prune": least(prune),
        "clean": least(lambda: onnxprune.clean(loaded)),
    }


def main() -> None:
    """Measure and print."""
    models = {
        "ResNet-50": resnet50(),
        "DenseNet-121": densenet121(),
        "3,000 nodes x 32": chain(1000, 32),
        "6,000 nodes x 32": chain(2000, 32),
        "3,000 nodes x 64": chain(1000, 64),
    }
    table = Table("model", "nodes", "load + save", "trace", "prune", "prune / load + save", "clean")
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, model in models.items():
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            times = found[name] = measure(path)
            table.add_row(
                name, str(len(model.graph.node)),
                *(f"{1000 * times[k]:.0f} ms" for k in ("copy", "trace", "prune")),
                f"{times['prune'] / times['copy']:.2f}", f"{1000 * times['clean']:.0f} ms",
            )  # fmt: skip
    console = Console()
    console.print(table)
    base = found["3,000 nodes x 32"]["trace"]
    console.print(f"trace, twice the nodes: x{found['6,000 nodes x 32']['trace'] / base:.2f}")
    console.print(f"trace, twice the channels: x{found['3,000 nodes x 64']['trace'] / base:.2f}")


if __name__ == "__main__":
    main()
