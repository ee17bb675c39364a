"""How the time of every verb and budget grows with a model: ``python -m tests.benchmarks.growth``.

Four families grow: *many* is a chain of layers that are groups of their own, *few* one stream that every
layer adds to, in *blocked* every layer is an output of the model, and in *unread* tensors grow that no
node reads. In the first, one channel is zero at every size, so that the clean-up is carried out at each:
of so many random filters some large model would have one that is never positive. Times are process
times. The exponent is the slope of the logarithm of the time over that of the size (1: linear), fitted
by least squares; what does not depend on the size, some milliseconds, flattens it. ``verify``,
``sensitivity``, ``bench`` and the profile that a budget of latency begins with include the time in which
onnxruntime opens and runs models, for which there is a row, too; *blocked* is not run, because
onnxruntime takes time that grows with the square of the number of outputs. ``bench`` starts processes of
its own, which are not in it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache, partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

import onnxprune
from models.net import Net
from onnxprune.jobs.bench import bench
from onnxprune.jobs.sensitivity import sensitivity
from onnxprune.moments.consumers import Reading
from onnxprune.runtime.session import open_session
from onnxprune.selection.cost import cost, mac_terms, parameter_terms
from onnxprune.selection.meter import hanging
from onnxprune.timing.machine import Machine
from onnxprune.timing.model import measure_model

from .record import Measurement

SIZES = (1000, 3000, 10000, 30000, 100000)
CHANNELS = 16
BUDGETS = ("keep_macs", "keep_params", "keep_size")
MACHINE = Machine.of("cpu", threads=1)
ONCE = "profile of keep_latency"
"""What is kept for the rows behind it."""

Verbs = dict[str, Callable[[], object]]


def _conv(net: Net, name: str, x: str, outputs: int = CHANNELS, gain: float = 1.0, zero: int = 0) -> str:
    """A convolution of which the first filters are zero."""
    weight = net.random.normal(0, gain * np.sqrt(2 / CHANNELS), (outputs, CHANNELS, 1, 1))
    weight[:zero] = 0
    return net.node("Conv", x, net.initializer(f"{name}.weight", weight), name=name)


def many(nodes: int) -> onnx.ModelProto:
    """A chain of convolutions and activations, every convolution a group."""
    net = Net("many groups", 0)
    x = net.node("Relu", _conv(net, "zero", net.input("x", 1, CHANNELS, 4, 4), zero=1))
    for k in range(nodes // 2):
        x = net.node("Relu", _conv(net, f"conv{k}", x))
    return net.build(_conv(net, "last", x, 4))


def few(nodes: int) -> onnx.ModelProto:
    """One stream that convolutions add to."""
    net = Net("few groups", 0)
    x = _conv(net, "first", net.input("x", 1, CHANNELS, 4, 4))
    for k in range(nodes // 3):
        x = net.node("Add", x, net.node("Relu", _conv(net, f"conv{k}", x, gain=0.01)))
    return net.build(_conv(net, "last", x, 4))


def blocked(nodes: int) -> onnx.ModelProto:
    """Convolutions side by side that are outputs of the model, and a small chain that can go."""
    net = Net("blocked groups", 0)
    x = net.input("x", 1, CHANNELS, 4, 4)
    outputs = [_conv(net, f"conv{k}", x) for k in range(nodes)]
    return net.build(_conv(net, "last", net.node("Relu", _conv(net, "first", x)), 4), *outputs)


def unread(tensors: int) -> onnx.ModelProto:
    """A small chain, and stored tensors that nothing reads."""
    model = many(20)
    stored = (onnx.numpy_helper.from_array(np.ones(4, np.float32), f"unread{k}") for k in range(tensors))
    model.graph.initializer.extend(stored)
    return model


FAMILIES = {build.__name__: build for build in (many, few, blocked, unread)}


@dataclass
class Row:
    """Seconds of one verb on the models of one family, by their sizes."""

    family: str
    verb: str
    sizes: list[int]
    seconds: list[float]

    @property
    def exponent(self) -> float:
        """Fitted exponent of the growth."""
        if len(self.sizes) < 2:
            return float("nan")
        return float(np.polyfit(np.log(self.sizes), np.log(np.maximum(self.seconds, 1e-4)), 1)[0])

    def to_dict(self) -> dict[str, object]:
        """As JSON types."""
        return {**asdict(self), "exponent": round(self.exponent, 3)}


def inspect(path: Path) -> None:
    """What ``inspect --json`` finds."""
    model = onnxprune.load(path)
    traced = onnxprune.trace(model)
    cost(traced, traced.sizes(), model)
    list(hanging(traced, {"parameters": parameter_terms(traced), "macs": mac_terms(traced)}))
    reading = Reading(traced)
    for group in traced:
        reading.of(group)


def verbs(path: Path) -> Verbs:
    """Every verb and every budget on one model."""
    model = onnxprune.load(path)
    traced = onnxprune.trace(model)
    scores = onnxprune.score(traced)
    plan = onnxprune.select(traced, scores, granularity=1)
    slim = onnxprune.rewrite(model, plan)
    found: Verbs = {
        "trace": lambda: onnxprune.trace(model),
        "score": lambda: onnxprune.score(traced),
        "select": lambda: onnxprune.select(traced, scores, granularity=1),
        "rewrite": lambda: onnxprune.rewrite(model, plan),
        "inspect": lambda: inspect(path),
        "explain one": lambda: onnxprune.explain(path, "last"),
        "explain all": lambda: onnxprune.explain(path, "*"),
        "prune": lambda: onnxprune.prune(path, clean=False),
        "prune with clean-up": lambda: onnxprune.prune(path),
        "clean": lambda: onnxprune.clean(path),
    }
    for name in BUDGETS:
        for scope in ("layer", "global"):
            found[f"{name}, {scope}"] = partial(_budget, traced, scores, scope, **{name: 0.5})
    if len(model.proto.graph.output) == 1:
        profiled = cache(lambda: measure_model(traced, MACHINE))
        found[ONCE] = profiled
        for scope in ("layer", "global"):
            found[f"keep_latency, {scope}"] = lambda scope=scope: _budget(  # type: ignore[misc]
                traced, scores, scope, keep_latency=0.5, latency=profiled()
            )
        found |= {
            "onnxruntime opens": lambda: _open(model),
            "bench": lambda: bench(model, slim, runs=1, provider="cpu", threads=1),
            "verify": lambda: onnxprune.verify(model, slim, plan=plan, provider="cpu"),
            "sensitivity, one group": lambda: list(islice(sensitivity(path, ratios=[0.5]), 1)),
        }
    return found


def _open(model: onnxprune.Model) -> None:
    with open_session(model):
        pass


def _budget(traced: onnxprune.Trace, scores: onnxprune.ScoreTable, scope: str, **budget: Any) -> None:
    with suppress(onnxprune.BudgetError):  # where most cannot go; the search is the same
        onnxprune.select(traced, scores, granularity=1, scope=scope, **budget)


def seconds(function: Callable[[], object], rounds: int) -> float:
    """Median process time."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return median(found)


def measure(
    sizes: Sequence[int],
    families: Sequence[str],
    pattern: str,
    rounds: int,
    heard: Callable[[str], object] = lambda said: None,
) -> Iterator[Row]:
    """Rows of every family; those of a size are measured one after the other, and told when they are."""
    for family in families:
        rows: dict[str, Row] = {}
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                onnx.save(FAMILIES[family](size), path)
                for verb, function in verbs(path).items():
                    if fnmatchcase(verb, pattern) or verb == "trace":
                        row = rows.setdefault(verb, Row(family, verb, [], []))
                        row.sizes.append(size)
                        row.seconds.append(seconds(function, 1 if verb == ONCE else rounds))
                        heard(f"{family}, {size:,}, {verb}: {row.seconds[-1]:.3f} s")
        yield from rows.values()


def grown(sizes: Sequence[int], rounds: int) -> Iterator[Measurement]:
    """Exponents, and how many traces a verb takes on the largest models, round by round."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for _ in range(rounds):
        for family in FAMILIES:
            rows = list(measure(sizes, [family], "*", 1))
            unit = next(row for row in rows if row.verb == "trace").seconds[-1]
            for row in rows:
                values = found.setdefault((family, row.verb), {"exponent of nodes": [], "traces": []})
                values["exponent of nodes"].append(row.exponent)
                values["traces"].append(row.seconds[-1] / unit)
    for (family, verb), values in found.items():
        for name, taken in values.items():
            yield Measurement("growth", family, verb, name, tuple(taken))


def show(rows: Sequence[Row], sizes: Sequence[int], console: Console) -> None:
    """Print a table for every family."""
    for family in dict.fromkeys(row.family for row in rows):
        mine = [row for row in rows if row.family == family]
        unit = next(row for row in mine if row.verb == "trace").seconds[-1]
        table = Table(title=f"{family}: process time, s")
        table.add_column("verb")
        for head in (*(f"{size:,}" for size in sizes), "exponent", "traces"):
            table.add_column(head, justify="right")
        for row in mine:
            times = (f"{t:.3f}" for t in row.seconds)
            table.add_row(row.verb, *times, f"{row.exponent:.2f}", f"{row.seconds[-1] / unit:.1f}")
        console.print(table)


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description="How the time of every verb grows with a model.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="nodes, or tensors")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--verbs", default="*", help="pattern of those that are measured")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of which the median counts")
    parser.add_argument("--json", type=Path, help="file to write")
    given = parser.parse_args()
    rows: list[Row] = []
    told = Console(stderr=True, highlight=False).print
    for family in given.families:
        found = list(measure(given.sizes, [family], given.verbs, given.rounds, told))
        show(found, given.sizes, Console(width=120))
        rows += found
    if given.json is not None:
        document = {"channels": CHANNELS, "rounds": given.rounds, "rows": [row.to_dict() for row in rows]}
        given.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
