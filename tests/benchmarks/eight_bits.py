"""What 8 bits cost a pruned network, beside what they cost it whole: MobileNetV2 on images of ImageNet.

Usage::

    python -m tests.benchmarks.eight_bits SHARED [--budgets 0.85,0.7] [--images 64]

``SHARED`` holds the folders ``models`` and ``data``. The same unlabelled images serve for everything: choice
of channels, recovery, and the ranges of 8 bits, by onnxruntime's static quantizer. Top-1 accuracy, the same
class as the float original, and the cosine of the centred scores are those of the 250 images that nothing
has seen. The network is pruned and then quantised, and the other way round.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import onnxprune

from .real import TASKS, outputs

NAME = "derived_mobilenet_v2_fp32"


def table_row(title: str, model: onnxprune.Model, test: Any, labels: Any, before: np.ndarray) -> str:
    """What a model still does."""
    scores = next(iter(outputs(model.proto.SerializeToString(), test).values()))
    one, two = (s - s.mean(axis=1, keepdims=True) for s in (before, scores))
    cosine = (one * two).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1))
    classes = scores.argmax(axis=1)
    found = (classes == labels).mean(), (classes == before.argmax(axis=1)).mean(), cosine.mean()
    size = len(model.proto.SerializeToString()) / 2**20
    return f"| {title} | {' | '.join(f'{value:.3f}' for value in found)} | {size:.2f} |"


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--budgets", default="0.85,0.7")
    parser.add_argument("--images", type=int, default=64)
    given = parser.parse_args()
    path = given.shared / "models" / f"{NAME}.onnx"
    data, test, labels = TASKS[NAME].samples(given.shared / "data", path, given.images, 250)
    original = onnxprune.load(path)
    before = next(iter(outputs(original.proto.SerializeToString(), test).values()))

    def pruned(model: onnxprune.Model, budget: float) -> onnxprune.Model:
        settings: dict[str, Any] = {"data": data, "provider": "cpu", "verify": False}
        return onnxprune.prune(model, keep_macs=budget, **settings).model

    def show(title: str, model: onnxprune.Model) -> onnxprune.Model:
        print(table_row(title, model, test, labels, before), flush=True)
        return model

    def quantised(title: str, model: onnxprune.Model) -> onnxprune.Model:
        return show(title, onnxprune.quantize(model, data))

    print("| MobileNetV2 | top-1 | same class | cosine | MiB |\n|" + " --- |" * 5, flush=True)
    small = quantised("in 8 bits", show("as it is", original))
    for budget in filter(None, given.budgets.split(",")):
        share = float(budget)
        quantised(f"{budget}, then in 8 bits", show(f"{budget} of the MACs", pruned(original, share)))
        show(f"in 8 bits, then {budget}", pruned(small, share))


if __name__ == "__main__":
    main()
