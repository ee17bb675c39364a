"""What a budget costs: accuracy over budgets and recoveries, as a Markdown table and a plot.

Usage::

    python tests/benchmarks/accuracy.py MODEL CALIBRATION.npz TEST.npz [--budgets 0.5,0.25]
        [--recover none,moments,auto] [--criterion reconstruction] [--allocate harm]
        [--granularity 1] [--plot FILE.svg]

The first input of the model is fed; the test data hold ``labels``. Calibration data need none.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import onnxprune
from onnxprune.recovery import job

BATCH = 100


def scores(model: onnxprune.Model, images: np.ndarray) -> np.ndarray:
    """First output of a model on all images, batch by batch."""
    session = onnxruntime.InferenceSession(
        model.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (entry, *_) = session.get_inputs()
    fixed = isinstance(entry.shape[0], int)
    size = entry.shape[0] if fixed else BATCH
    parts = [images[k : k + size] for k in range(0, len(images), size)]
    parts = [part for part in parts if len(part) == size or not fixed]
    return np.concatenate([session.run(None, {entry.name: part})[0] for part in parts])


def measures(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, agreement of the best class, and mean cosine of centred scores."""
    a, b = (v - v.mean(axis=1, keepdims=True) for v in (before, after))
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    best = after.argmax(axis=1)
    return {
        "accuracy": float((best == labels[: len(after)]).mean()),
        "agreement": float((best == before.argmax(axis=1)).mean()),
        "cosine": float(cosine.mean()),
    }


def pruned(given: argparse.Namespace, budget: float) -> onnxprune.Result:
    """The model at one budget, without recovery."""
    settings: dict[str, Any] = {
        "keep_macs": budget, "data": given.calibration, "recover": "none",
        "granularity": given.granularity, "provider": "cpu", "clean": False,
    }  # fmt: skip
    if given.criterion:
        settings["criterion"] = given.criterion
    if given.allocate:
        settings["allocate"] = given.allocate
    return onnxprune.prune(given.model, **settings)


def recovered(given: argparse.Namespace, result: onnxprune.Result, how: str) -> onnxprune.Model:
    """The same with weights fitted."""
    if how == "none":
        return result.model
    sizes = result.trace.sizes(result.plan.removed(result.trace))
    settings = {"data": given.calibration}
    found = job.recover_model(result.trace, sizes, result.model, settings, how, "cpu")
    return found.apply(result.model)


def main() -> None:
    """Print the table, and draw it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration")
    parser.add_argument("test", type=Path)
    parser.add_argument("--budgets", default="0.75,0.5,0.35,0.25,0.12")
    parser.add_argument("--recover", default="none,moments,auto")
    parser.add_argument("--criterion")
    parser.add_argument("--allocate")
    parser.add_argument("--granularity", type=lambda told: told if told == "auto" else int(told), default=1)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    ways, budgets = given.recover.split(","), [float(b) for b in given.budgets.split(",")]
    test = np.load(given.test)
    images = test[next(name for name in test.files if name != "labels")]
    dense = scores(onnxprune.load(given.model), images)
    whole = measures(dense, dense, test["labels"])["accuracy"]
    print(f"before: {whole:.4f}\n\n| MACs kept | {' | '.join(ways)} |\n|{' --- |' * (len(ways) + 1)}")
    table: list[list[float]] = []
    for budget in budgets:
        start = time.process_time()
        result = pruned(given, budget)
        found = [
            measures(dense, scores(recovered(given, result, way), images), test["labels"]) for way in ways
        ]
        cells = [f"{m['accuracy']:.4f} ({m['agreement']:.3f}, {m['cosine']:.4f})" for m in found]
        share = result.after.macs / result.before.macs
        spent = time.process_time() - start
        print(f"| {share:.3f} | {' | '.join(cells)} | <!-- {spent:.0f} CPU s -->", flush=True)
        table.append([m["accuracy"] for m in found])
    if given.plot:
        draw(given.plot, budgets, ways, np.array(table), whole)


def draw(path: Path, budgets: list[float], ways: list[str], table: np.ndarray, whole: float) -> None:
    """One line per recovery."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(whole, color="0.7", linewidth=1)
    for number, way in enumerate(ways):
        axes.plot(budgets, table[:, number], marker="o", label=way)
    axes.set_xlabel("share of the MACs that remains")
    axes.set_ylabel("accuracy")
    axes.invert_xaxis()
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
