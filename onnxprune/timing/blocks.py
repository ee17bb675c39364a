"""In which numbers of channels convolutions are fast: known rules, and a way to find one.

onnxruntime's CPU kernels work on blocks of channels as wide as the vector registers (16 floats on
AVX-512). A convolution whose channels do not fill them computes as much as if they did; one whose
channels are no multiple of 4 leaves that layout, which costs a depthwise one several times as long.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ..model.engine import ort
from ..runtime.session import open_session, run
from .machine import Machine, device
from .store import keep, load

FULL, HALF = 64, 48
"""Channels of the layers that are timed: the blocks of every rule fit into both."""

STEPS = (8, 4, 2, 1)
"""Powers of two of which the numbers of channels between those two are multiples."""

ROUNDS, SECONDS = 100, 2.0
"""Rounds of which the fastest counts, and after how long there are no more."""

CLIFF = 1.3
"""From how much longer than the full layers on a number of channels counts as slow."""

Chain = Sequence[tuple[int, bool]]
"""Layers: size of the kernel, and whether it is depthwise."""

DENSE: Chain = ((1, False), (3, False), (1, False))
ONE: Chain = ((1, False), (3, True), (1, False))
THREE: Chain = ((1, False), (3, True), (3, True), (3, True), (1, False))


@dataclass(frozen=True, slots=True)
class BlockedLayout:
    """What a provider makes of the numbers of channels of convolutions.

    Attributes
    ----------
    block : int
        Channels are computed in multiples of it.
    align : int
        Multiples of it run in the fast layout.
    dense, depthwise : float
        How much longer others take.
    """

    block: int = 1
    align: int = 1
    dense: float = 1.0
    depthwise: float = 1.0

    def padded(self, count: int) -> int:
        """Channels that are computed."""
        return -(-count // self.block) * self.block


KNOWN = {
    "ort-cpu": BlockedLayout(16, 4, 1.0, 6.0),
    "openvino": BlockedLayout(16),
    "cuda": BlockedLayout(8),
    "tensorrt": BlockedLayout(8),
}
"""Rules by target. Those of processors are AVX-512's; their counts are fast in narrower registers, too."""


def target_of(provider: str) -> str:
    """The rule that a provider goes by."""
    return "ort-cpu" if provider == "cpu" else provider


def find_blocks(machine: Machine) -> BlockedLayout:
    """The rule of this machine: timed once, and kept for later calls.

    Where the times make no sense, because the machine was busy, it is that of one thread, or else the
    known one.
    """
    key = {
        "device": device(),
        "provider": machine.provider,
        "threads": machine.threads,
        "onnxruntime": ort.__version__,
    }
    known = load("blocks", key)
    if known is not None and known.keys() == asdict(BlockedLayout()).keys():
        return BlockedLayout(**known)
    found = from_times(*(_times(machine, chain) for chain in (DENSE, ONE, THREE)))
    if found is None and machine.threads != 1:
        return find_blocks(replace(machine, threads=1))
    if found is None:
        return KNOWN[target_of(machine.provider)]
    keep("blocks", key, asdict(found))
    return found


def from_times(
    dense: Mapping[int, float], one: Mapping[int, float], three: Mapping[int, float]
) -> BlockedLayout | None:
    """The rule that explains how long three chains of layers take; None if none does.

    Parameters
    ----------
    dense, one, three : mapping
        Channels -> time: of convolutions, of a depthwise one between two that are not, of three.
    """
    added = {count: three[count] - one[count] for count in dense}
    full, half = dense[FULL], dense[HALF]
    if not full > half or min(added.values()) <= 0:
        return None
    align = block = FULL - HALF
    for step in STEPS:
        count = HALF + step
        if max(dense[count] / full, added[count] / added[FULL]) > CLIFF:
            break
        align = step
        if dense[count] < half + (full - half) * (step + block) / 2 / (FULL - HALF):
            block = step  # nearer to its own share than to that of the larger block
    slow = [HALF + step for step in STEPS if step < align]
    if not slow:
        return BlockedLayout(block, align)
    longer = [float(np.median([t[n] / t[FULL] for n in slow])) for t in (dense, added)]
    return BlockedLayout(block, align, *(round(max(ratio, 1.0), 2) for ratio in longer))


def _times(machine: Machine, chain: Chain) -> dict[int, float]:
    """Fastest seconds of a chain for every number of channels; they take turns."""
    feeds = {"x": np.zeros((1, FULL, 28, 28), np.float32)}
    best = dict.fromkeys([FULL, HALF, *(HALF + step for step in STEPS)], float("inf"))
    with ExitStack() as stack:
        sessions = {
            count: stack.enter_context(
                open_session(_model(chain, count), machine.provider, "a layer", timed=machine.timed())
            )
            for count in best
        }
        end = time.perf_counter() + SECONDS
        for _ in range(ROUNDS):
            for count, session in sessions.items():
                start = machine.clock()
                run(session, feeds, "a layer")
                best[count] = min(best[count], machine.clock() - start)
            if time.perf_counter() > end:
                break
    return best


def _model(chain: Chain, count: int) -> onnx.ModelProto:
    """A chain of layers with so many channels between them, and ``FULL`` at both ends."""
    nodes, weights = [], []
    for k, (size, depthwise) in enumerate(chain):
        source, target = (FULL if edge else count for edge in (k == 0, k == len(chain) - 1))
        shape = (target, 1 if depthwise else source, size, size)
        weights.append(onnx.numpy_helper.from_array(np.full(shape, 0.01, np.float32), f"w{k}"))
        edge: dict[str, Any] = {"pads": [size // 2] * 4, "group": source if depthwise else 1}
        nodes.append(onnx.helper.make_node("Conv", [f"y{k - 1}" if k else "x", f"w{k}"], [f"y{k}"], **edge))
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [1, FULL, 28, 28])], [value(f"y{k}", TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(nodes, "chain", *ends, weights)
    opset = [onnx.helper.make_opsetid("", 13)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
