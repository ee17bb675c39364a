"""Channels chosen without data: by weights alone, on smooth noise, and on samples; no weight is fitted.

Usage::

    python -m tests.benchmarks.unseen SHARED [--networks a,b] [--keep-macs 0.75]

``SHARED`` holds the folders ``models`` and ``data``. Each network's own measure against the original is
printed, on samples that nothing has seen, as one row of a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import onnxprune

from .real import TASKS, outputs

WAYS: dict[str, tuple[bool, dict[str, Any]]] = {
    "l2": (False, {}),
    "wanda, noise": (False, {"criterion": "wanda"}),
    "wanda, samples": (True, {"criterion": "wanda", "allocate": "uniform"}),
}
"""Title of a column -> whether there are samples, and settings."""


def row(name: str, shared: Path, budget: float) -> str:
    """What each way keeps of one network."""
    task, path = TASKS[name], shared / "models" / f"{name}.onnx"
    calibration, test, _ = task.samples(
        shared / "data", path, min(task.calibration, 128), min(task.test, 128)
    )
    cells = [name, task.unit]
    before = outputs(onnxprune.load(path).proto.SerializeToString(), test)
    for seen, settings in WAYS.values():
        data: dict[str, Any] = {"data": calibration} if seen else {}
        options: dict[str, Any] = {
            "keep_macs": budget,
            "granularity": 1,
            "recover": "none",
            "provider": "cpu",
        }
        slim = onnxprune.prune(path, verify=False, **options, **settings, **data).model
        cells.append(f"{task.measure(before, outputs(slim.proto.SerializeToString(), test)):.3f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--networks", default=",".join(TASKS))
    parser.add_argument("--keep-macs", type=float, default=0.75)
    given = parser.parse_args()
    print(f"| network | keeps | {' | '.join(WAYS)} |\n|{' --- |' * (2 + len(WAYS))}", flush=True)
    for name in given.networks.split(","):
        print(row(name, given.shared, given.keep_macs), flush=True)


if __name__ == "__main__":
    main()
