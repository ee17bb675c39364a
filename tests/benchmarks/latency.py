"""Do budgets of latency hold, and what do steps of channel counts bring? For exported models of your own.

    python -m tests.benchmarks.latency budgets MODEL.onnx ... --shares 0.5 0.7 --threads 1 2
    python -m tests.benchmarks.latency steps MODEL.onnx ... --granularity 1 8 16 auto
    python -m tests.benchmarks.latency both MODEL.onnx ...

``budgets`` prunes with ``--keep-latency`` and then measures the result anew, in nine pairs of sessions of its
own: what was predicted, what was measured while it was corrected, what is measured afterwards (the median of
the pairs, the least and the largest), and the MACs left.
``steps`` prunes to half of the MACs in several steps of channel counts. *Speed-up per MAC saved* is the
speed-up over the factor by which the MACs fell: 1 where the time falls as they do.

Models take turns, and the fastest quarter of the runs counts. With one thread that is the processor time
of the thread that does all the work, so that other work on the machine matters little; with more it is
the time on the clock, which a busy machine spoils. What fails is a line of its own, and the rest goes on.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import onnxprune
from onnxprune.checks.sessions import Repeated, measure_sessions, opener
from onnxprune.data.one_run import one_run
from onnxprune.model.engine import ort
from onnxprune.timing.machine import Machine, device

RUNS, PAIRS, SECONDS = 180, 9, 30.0


@dataclass(frozen=True)
class Row:
    """One model, pruned in one way."""

    model: str
    way: str
    threads: int
    predicted: float
    corrected: float
    measured: Repeated
    macs: float

    @property
    def efficiency(self) -> float:
        """Speed-up per MAC saved."""
        return self.macs / self.measured.share

    def cells(self) -> list[str]:
        """As printed."""
        told = [f"{x:.3f}" if x == x else "-" for x in (self.predicted, self.corrected)]
        shares = [f"{x:.3f}" for x in (self.measured.share, *self.measured.spread, self.macs)]
        return [self.model, self.way, str(self.threads), *told, *shares, f"{self.efficiency:.2f}"]


def measured(model: onnxprune.Model, slim: onnxprune.Model, machine: Machine) -> Repeated:
    """Share of the latency that is left."""
    feeds = one_run(onnxprune.trace(model), machine.provider).feeds
    how: dict[str, Any] = {"pairs": (PAIRS, PAIRS), "seconds": SECONDS, "clock": machine.clock}
    before, after = opener(model, machine), opener(slim, machine)
    return measure_sessions(before, after, feeds, RUNS, lambda pair: pair.fastest_ratio, **how)


def within(path: Path, share: float, machine: Machine) -> Iterator[Row]:
    """A model that is pruned to a share of its latency."""
    model = onnxprune.load(path)
    result = onnxprune.prune(model, provider=machine.provider, threads=machine.threads, keep_latency=share)
    found = result.latency
    assert found is not None
    told = found.predicted, found.measured
    left = result.after.macs / result.before.macs
    yield Row(path.stem, f"{share:g}", machine.threads, *told, measured(model, result.model, machine), left)


def halved(path: Path, step: str, given: argparse.Namespace) -> Iterator[Row]:
    """A model that is pruned to half of its MACs, timed with every number of threads."""
    model, granularity = onnxprune.load(path), step if step == "auto" else int(step)
    result = onnxprune.prune(model, keep_macs=0.5, granularity=granularity, target=given.target)
    left = result.after.macs / result.before.macs
    for threads in given.threads:
        took = measured(model, result.model, Machine(given.provider, threads))
        yield Row(path.stem, step, threads, float("nan"), float("nan"), took, left)


def rows(given: argparse.Namespace) -> Iterator[Row | str]:
    """Everything that is asked for, model by model; a sentence in place of what fails."""
    for path in given.models:
        jobs: list[tuple[str, Callable[[], Iterable[Row]]]] = []
        if given.what != "steps":
            for threads in given.threads:
                machine = Machine(given.provider, threads)
                for share in given.shares:
                    jobs.append((f"{share:g}, {threads} threads", partial(within, path, share, machine)))
        if given.what != "budgets":
            jobs += [(step, partial(halved, path, step, given)) for step in given.granularity]
        for name, job in jobs:
            try:
                yield from job()
            except Exception as error:  # one network is no reason to lose the others
                yield f"{path.stem}, {name}: {getattr(error, 'message', repr(error))}"


def summary(found: Sequence[Row]) -> Iterator[str]:
    """Geometric means of the efficiency, by way and threads; and the slowest."""
    for way, threads in dict.fromkeys((row.way, row.threads) for row in found):
        part = [row for row in found if (row.way, row.threads) == (way, threads)]
        mean = exp(sum(log(row.efficiency) for row in part) / len(part))
        least = min(row.efficiency for row in part)
        slow = max(row.measured.share for row in part)
        yield (
            f"{way}, {threads} threads: speed-up per MAC saved {mean:.2f} (geometric mean of "
            f"{len(part)}, least {least:.2f}); slowest {slow:.3f} of its original"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Do budgets of latency hold?")
    parser.add_argument("what", choices=("budgets", "steps", "both"))
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--shares", type=float, nargs="+", default=(0.5, 0.7))
    parser.add_argument("--granularity", nargs="+", default=("1", "8", "16", "auto"))
    parser.add_argument("--provider", choices=("cpu", "openvino"), default="cpu")
    parser.add_argument("--target", help="whose kernels 'auto' has in mind")
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    given = parser.parse_args()
    console = Console(width=120)
    table = Table()
    heads = "model", "way", "threads", "predicted", "corrected", "measured", "least", "most", "MACs"
    for head in (*heads, "speed-up per MAC"):
        table.add_column(head, justify="left" if head == "model" else "right")
    found: list[Row] = []
    console.print(f"{device()}, onnxruntime {ort.__version__}, load {os.getloadavg()[0]:.1f}")
    for row in rows(given):
        if isinstance(row, str):
            console.print(row)
            continue
        found.append(row)
        print(*row.cells(), flush=True)
        table.add_row(*row.cells())
    console.print(table)
    for line in summary(found):
        console.print(line)


if __name__ == "__main__":
    main()
