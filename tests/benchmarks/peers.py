"""Other tools beside ours in one run, as multiples of a process that copies the model.

A peer runs in the first interpreter that has its packages; where there is none, its row says so. Two of
them do other work: onnxsim and onnxslim simplify a graph and prune nothing, and Torch-Pruning begins with
a network that its own code builds.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .commands import SIMPLIFY, Used, processes, used
from .record import Measurement

SLIM = "import onnx, onnxslim; onnx.save(onnxslim.slim(onnx.load({path!r})), {out!r})"

TORCH = """
import torch, torchvision, torch_pruning
network = torchvision.models.{network}(weights=None).eval()
last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
importance = torch_pruning.importance.MagnitudeImportance(p=2)
image = torch.zeros(1, 3, 224, 224)
pruner = torch_pruning.pruner.MagnitudePruner(
    network, image, importance=importance, pruning_ratio=0.5, ignored_layers=last)
pruner.step()
torch.save(network, {out!r})
"""

NETWORKS = {"resnet50": "resnet50", "derived_mobilenet_v2_fp32": "mobilenet_v2"}
"""What torchvision calls our subjects."""


@dataclass(frozen=True)
class Peer:
    """A tool, as code for an interpreter.

    Attributes
    ----------
    needs : tuple of str
        Modules.
    then_prune : bool
        Whether we prune what it wrote.
    """

    code: str
    needs: tuple[str, ...]
    then_prune: bool = False


def peers_of(name: str) -> dict[str, Peer]:
    """All peers that know a subject, by what they do."""
    found = {
        "onnxsim simplify": Peer(SIMPLIFY, ("onnxsim",)),
        "onnxsim simplify, then prune alone": Peer(SIMPLIFY, ("onnxsim",), then_prune=True),
        "onnxslim": Peer(SLIM, ("onnxslim",)),
    }
    if name in NETWORKS:
        code = TORCH.replace("{network}", NETWORKS[name])
        found["Torch-Pruning: build and prune"] = Peer(code, ("torchvision", "torch_pruning"))
    return found


@cache
def interpreter(pythons: tuple[str, ...], needs: tuple[str, ...]) -> str:
    """The first interpreter that imports some modules.

    Raises
    ------
    LookupError
        If none does, with what the last one says.
    """
    said = ""
    for python in pythons:
        done = subprocess.run(
            [python, "-c", f"import {', '.join(needs)}"], capture_output=True, text=True, check=False
        )
        if not done.returncode:
            return python
        said = (done.stderr.strip().splitlines() or ["it cannot be started"])[-1]
    raise LookupError(said)


def beside(name: str, path: Path, rounds: int, pythons: Sequence[str]) -> Iterator[Measurement | str]:
    """Ours and theirs on one model, in turns; a sentence for each peer that is not at hand."""
    own = (sys.executable, *pythons)
    out, between = path.with_name("out.onnx"), path.with_name("simplified.onnx")
    ours = processes(path, out)
    steps = {what: [ours[what]] for what in ("copy", "prune", "prune, unverified", "prune alone")}
    for what, peer in peers_of(name).items():
        try:
            python = interpreter(own, peer.needs)
        except LookupError as error:
            yield f"{name}, {what}: skipped, {error}"
            continue
        target = between if peer.then_prune else out
        steps[what] = [(python, "-c", peer.code.format(path=str(path), out=str(target)))]
        if peer.then_prune:
            steps[what].append(processes(between, out)["prune alone"])
    taken: dict[str, list[Used]] = {what: [] for what in steps}
    for _ in range(rounds):
        for what, commands in steps.items():
            parts = [used(*command) for command in commands]
            cpu, wall = sum(p.cpu for p in parts), sum(p.wall for p in parts)
            taken[what].append(Used(cpu, wall, max(p.memory for p in parts)))
    copies = taken.pop("copy")
    for what, found in taken.items():
        for unit, values in (
            ("copies, CPU", [u.cpu / copy.cpu for u, copy in zip(found, copies, strict=True)]),
            ("copies, clock", [u.wall / copy.wall for u, copy in zip(found, copies, strict=True)]),
        ):
            yield Measurement("peers", name, what, unit, tuple(values))
