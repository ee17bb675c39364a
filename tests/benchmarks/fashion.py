"""Fashion-MNIST: accuracy over budgets, beside Torch-Pruning with BatchNorm recalibrated.

Usage::

    python -m tests.benchmarks.fashion DATA FOLDER [--network resnet20] [--budgets 0.63,0.48]
        [--seeds 0,1,2] [--images 512] [--tests 10000] [--peers l2,taylor]

``DATA`` holds the images, ``FOLDER`` what ``fashion_train.py`` wrote. Each seed draws the unlabelled
images that calibrate. Peers need PyTorch and Torch-Pruning; their score is the best of local and global
ranking. The gradients of Taylor are those of the network's own classes: nobody sees a label.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

import onnxprune
from onnxprune.recovery import job

from .accuracy import scores
from .fashion_train import NETWORKS, read

STEPS = 20
"""Steps to nine tenths of the channels, of which a peer takes as many as the budget asks for."""


def own(path: Path, data: np.ndarray, budget: float, options: dict[str, Any]) -> list[onnxprune.Model]:
    """The slim model as surgery left it, and recovered."""
    feeds = {"image": data}
    settings = {"granularity": 1, "min_share": 0.1, "clean": False, **options}
    result = onnxprune.prune(path, keep_macs=budget, data=feeds, recover="none", provider="cpu", **settings)
    sizes = result.trace.sizes(result.plan.removed(result.trace))
    found = job.recover_model(
        result.trace, sizes, result.model, {"data": feeds, "seed": options.get("seed", 0)}, "auto", "cpu"
    )
    return [result.model, found.apply(result.model)]


def peer(name: str, path: Path, network: str, data: np.ndarray, budget: float, test: Any) -> float:
    """Accuracy of the better of local and global ranking, BatchNorm recalibrated on the same images."""
    import torch
    import torch_pruning as tp

    best = 0.0
    for ranked in (False, True):
        net = NETWORKS[network]()
        net.load_state_dict(torch.load(path))
        net.eval()
        x = torch.from_numpy(data)
        importance = (
            tp.importance.TaylorImportance() if name == "taylor" else tp.importance.MagnitudeImportance(p=2)
        )
        (whole, _) = tp.utils.count_ops_and_params(net, x[:1])
        last = [m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1:]
        pruner = tp.pruner.BasePruner(
            net,
            x[:1],
            importance,
            global_pruning=ranked,
            pruning_ratio=0.9,
            max_pruning_ratio=0.9,
            iterative_steps=STEPS,
            ignored_layers=last,
        )
        left = whole
        while left > budget * whole and pruner.current_step < STEPS:
            if name == "taylor":
                net.zero_grad()
                logits = net(x)
                torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
            pruner.step()
            (left, _) = tp.utils.count_ops_and_params(net, x[:1])
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.reset_running_stats()
                    module.momentum = None
            net.train()
            net(x)
            net.eval()
            hits = sum(
                int((net(a).argmax(1) == b).sum())
                for a, b in zip(test[0].split(500), test[1].split(500), strict=True)
            )
        best = max(best, hits / len(test[1]))
    return best


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", choices=NETWORKS, default="resnet20")
    parser.add_argument("--budgets", default="0.8,0.63,0.48,0.35,0.25,0.12")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--criterion")
    parser.add_argument("--allocate")
    parser.add_argument("--peers", default="")
    given = parser.parse_args()
    path = given.folder / f"{given.network}.onnx"
    images, _ = read(given.data, "train")
    held, labels = (t[: given.tests] for t in read(given.data, "t10k"))
    options = {name: value for name in ("criterion", "allocate") if (value := getattr(given, name))}
    peers = [name for name in given.peers.split(",") if name]

    def right(model: onnxprune.Model) -> float:
        return float((scores(model, held.numpy()).argmax(1) == labels.numpy()).mean())

    print(f"before: {right(onnxprune.load(path)):.4f}\n")
    titles = ["MACs kept", "none", "auto", *peers, "CPU s"]
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}", flush=True)
    for budget in map(float, given.budgets.split(",")):
        start, rows, others = time.process_time(), [], []
        for seed in map(int, given.seeds.split(",")):
            chosen = np.random.default_rng(seed).permutation(len(images))[: given.images]
            data = images[chosen].numpy()
            rows.append([right(model) for model in own(path, data, budget, {**options, "seed": seed})])
            if seed == int(given.seeds.split(",")[0]):
                spent = time.process_time() - start
                weights = path.with_suffix(".pt")
                others = [peer(name, weights, given.network, data, budget, (held, labels)) for name in peers]
        mean, spread = np.mean(rows, axis=0), np.ptp(rows, axis=0)
        cells = [f"{m:.4f} (+-{s / 2:.4f})" for m, s in zip(mean, spread, strict=True)]
        cells += [f"{value:.4f}" for value in others]
        print(f"| {budget:g} | {' | '.join(cells)} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
