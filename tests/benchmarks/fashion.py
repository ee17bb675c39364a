"""Fashion-MNIST: accuracy over budgets, beside Torch-Pruning with BatchNorm recalibrated, and onnxsim.

Usage::

    python -m tests.benchmarks.fashion DATA FOLDER [--network resnet20] [--budgets 0.63,0.48]
        [--variants folded,kept] [--seeds 0] [--images 512] [--tests 10000] [--recover none,auto]
        [--criterion NAME] [--allocate NAME] [--granularity 1] [--peers l2,taylor]

``DATA`` holds the images, ``FOLDER`` what ``fashion_train.py`` wrote: BatchNorm folded and kept. Each
seed draws the unlabelled images that calibrate; every row is one network, one draw and one variant.
PyTorch is needed in any case, Torch-Pruning and onnxsim for themselves as peers. The first ranks within
layers and over all of them; the gradients of Taylor are those of the network's own classes: nobody sees a
label.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import onnxprune
from onnxprune.recovery import job
from onnxprune.selection.cost import macs
from onnxprune.selection.settings import SelectSettings, part

from .accuracy import scores
from .fashion_train import NETWORKS, read

STEPS = 20
"""Steps to nine tenths of the channels, of which a peer takes as many as the budget asks for."""

SUFFIX = {"folded": "", "kept": "_bn"}


def own(
    path: Path, data: np.ndarray, budgets: Sequence[float], ways: Sequence[str], options: dict[str, Any]
) -> Iterator[list[onnxprune.Model]]:
    """The slim models of every budget, one per recovery."""
    given: Any = {"data": {"image": data}, "granularity": 1, **options}
    traced = onnxprune.trace(path)
    for budget in budgets:
        settings: Any = {**given, "keep_macs": budget}
        settings = job.with_data(settings)
        table = job.priced(traced, settings, "cpu")
        plan = onnxprune.select(traced, table, **part(settings, SelectSettings))
        slim = onnxprune.rewrite(path, plan)
        sizes = traced.sizes(plan.removed(traced))
        found = (
            None if way == job.NONE else job.recover_model(traced, sizes, slim, given, way, "cpu")
            for way in ways
        )
        yield [slim if recovery is None else recovery.apply(slim) for recovery in found]


def peer(name: str, whole: Any, data: np.ndarray, budgets: Sequence[float], ranked: bool) -> Iterator[Any]:
    """Networks of Torch-Pruning, BatchNorm recalibrated on the same images; largest budget first."""
    import torch
    import torch_pruning as tp

    net, x = copy.deepcopy(whole), torch.from_numpy(data)
    kinds = {"l2": lambda: tp.importance.MagnitudeImportance(p=2), "taylor": tp.importance.TaylorImportance}
    (before, _) = tp.utils.count_ops_and_params(net, x[:1])
    pruner = tp.pruner.BasePruner(
        net,
        x[:1],
        kinds[name](),
        global_pruning=ranked,
        pruning_ratio=0.9,
        max_pruning_ratio=0.9,
        iterative_steps=STEPS,
        ignored_layers=[m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1:],
    )
    for budget in budgets:
        while tp.utils.count_ops_and_params(net, x[:1])[0] > budget * before and pruner.current_step < STEPS:
            if name == "taylor":
                net.zero_grad()
                logits = net(x)
                torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
            pruner.step()
        made = copy.deepcopy(net)
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        with torch.no_grad():
            made.train()
            made(x)
        yield made.eval()


def peers(names: Sequence[str], path: Path, network: str, data: np.ndarray, budgets: Sequence[float]) -> Any:
    """Title -> networks, of every peer and ranking."""
    import torch

    net = NETWORKS[network]()
    net.load_state_dict(torch.load(path))
    net.eval()
    return {
        f"{name}, {'global' if ranked else 'local'}": peer(name, net, data, budgets, ranked)
        for name in names
        for ranked in (False, True)
    }


def simplified(path: Path) -> onnxprune.Model:
    """What onnxsim makes of a file."""
    import onnxsim

    (model, _) = onnxsim.simplify(str(path))
    return onnxprune.load(model)


def row(titles: Sequence[Any], whole: float, found: Sequence[float]) -> None:
    """Print accuracies, and what they are beside that of the original, in points."""
    cells = [f"{value:.4f} ({100 * (value - whole):+.2f})" for value in found]
    print(f"| {' | '.join(map(str, titles))} | {' | '.join(cells)} |", flush=True)


def header(*titles: str) -> None:
    """Print the first lines of a table."""
    print(f"\n| {' | '.join(titles)} |\n|{' --- |' * len(titles)}", flush=True)


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", choices=NETWORKS, default="resnet20")
    parser.add_argument("--variants", default="folded,kept")
    parser.add_argument("--budgets", default="0.8,0.63,0.48,0.35,0.25,0.12")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--recover", default="none,auto")
    parser.add_argument("--criterion")
    parser.add_argument("--allocate")
    parser.add_argument("--granularity", type=int)
    parser.add_argument("--peers", default="")
    given = parser.parse_args()
    images, _ = read(given.data, "train")
    held, labels = (t[: given.tests] for t in read(given.data, "t10k"))
    named = ("criterion", "allocate", "granularity")
    options = {name: value for name in named if (value := getattr(given, name))}
    budgets = sorted(map(float, given.budgets.split(",")), reverse=True)

    def right(model: Any) -> float:
        if isinstance(model, onnxprune.Model):
            return float((scores(model, held.numpy()).argmax(1) == labels.numpy()).mean())
        hits = [
            int((model(x).argmax(1) == y).sum())
            for x, y in zip(held.split(500), labels.split(500), strict=True)
        ]
        return sum(hits) / len(labels)

    path, seeds, ways = given.folder / given.network, given.seeds.split(","), given.recover.split(",")
    names = [name for name in given.peers.split(",") if name not in ("", "onnxsim")]
    draws = {
        seed: images[np.random.default_rng(int(seed)).permutation(len(images))[: given.images]].numpy()
        for seed in seeds
    }
    for variant in filter(None, given.variants.split(",")):
        file = given.folder / f"{given.network}{SUFFIX[variant]}.onnx"
        whole = right(onnxprune.load(file))
        header(f"BatchNorm {variant}: {whole:.4f}", "draw", *ways)
        for seed, data in draws.items():
            found = own(file, data, budgets, ways, {**options, "seed": int(seed)})
            for budget, models in zip(budgets, found, strict=True):
                row((budget, seed), whole, [right(model) for model in models])
    for seed, data in draws.items() if names else ():
        whole = right(onnxprune.load(path.with_suffix(".onnx")))
        nets = peers(names, path.with_suffix(".pt"), given.network, data, budgets)
        header(f"Torch-Pruning: {whole:.4f}", "draw", *nets)
        for budget, made in zip(budgets, zip(*nets.values(), strict=True), strict=True):
            row((budget, seed), whole, [right(net) for net in made])
    if "onnxsim" in given.peers:
        simple = simplified(path.with_suffix(".onnx"))
        after, before = (
            macs(t, t.sizes()) for t in map(onnxprune.trace, (simple, path.with_suffix(".onnx")))
        )
        print(f"onnxsim leaves {after / before:g} of the MACs: {right(simple):.4f}")


if __name__ == "__main__":
    main()
