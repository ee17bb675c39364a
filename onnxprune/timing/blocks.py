"""In which numbers of channels convolutions are fast: known rules, and a way to find one.

onnxruntime's CPU kernels work on blocks of channels as wide as the vector registers (16 floats on
AVX-512, 8 on AVX2). A convolution whose channels do not fill them computes as much as if they did; one
whose channels are no multiple of 4 leaves that layout, which costs a depthwise one several times as
long. Four blocks of what is made are computed at once, from one read of the input: on AVX2, a layer that
makes 8 channels takes .57 of the time of one that makes 32, and 40 channels .78 of that of 64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from statistics import fmean
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

TRIES = 3
"""Measurements at most of which two have to agree."""

CLIFF = 1.3
"""From how much longer than the full layers on a number of channels counts as slow."""

SET = 4
"""Blocks of made channels that are computed at once."""

Chain = tuple[tuple[int, bool, bool], ...]
"""Layers: size of the kernel, whether it is depthwise, and whether it makes all channels."""

NARROW, WIDE, DEPTHWISE = (1, False, False), (1, False, True), (3, True, False)
DENSE: Chain = (NARROW, (3, False, False), WIDE)
ONE: Chain = (NARROW, DEPTHWISE, WIDE)
MANY: Chain = (NARROW, *[DEPTHWISE] * 9, WIDE)
PAIRS: dict[int, Chain] = {size: ((size, False, False), (size, False, True)) for size in (1, 3)}


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
    shared : float
        Share of the time of a set of blocks that one block alone takes, too.
    """

    block: int = 1
    align: int = 1
    dense: float = 1.0
    depthwise: float = 1.0
    shared: float = 0.0

    def padded(self, count: int) -> int:
        """Channels that are computed."""
        return -(-count // self.block) * self.block

    def made(self, count: int) -> float:
        """Channels of full sets that take as long as so many that a dense convolution makes."""
        padded, full = self.padded(count), SET * self.block
        return padded + self.shared * (-(-padded // full) * full - padded)


KNOWN = {
    "ort-cpu": BlockedLayout(16, 4, 1.0, 6.0),
    "openvino": BlockedLayout(16),
    "cuda": BlockedLayout(8),
    "tensorrt": BlockedLayout(8),
}
"""Rules by target. Those of processors are AVX-512's; their counts are fast in narrower registers, too.

What the blocks of a set share is next to nothing there: .03, .03, .02 (AMD EPYC with AVX-512, November 2026,
onnxruntime 1.31.1). With .03, the shares of time that eight networks keep at .7, .5 and .35 of their MACs are
predicted to 3.2 % on average, without to 2.9 %: none is assumed.
"""


def target_of(provider: str) -> str:
    """The rule that a provider goes by."""
    return "ort-cpu" if provider == "cpu" else provider


def find_blocks(machine: Machine) -> BlockedLayout:
    """The rule of this machine: timed once, and kept for later calls.

    Where no rule is found twice, because the machine was busy, it is that of one thread, or else the
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
    found = _found_twice(machine)
    if found is None and machine.threads != 1:
        return find_blocks(replace(machine, threads=1))
    if found is None:
        return KNOWN[target_of(machine.provider)]
    if found.block > 1:
        counts = [n * found.block for n in range(1, SET + 1)]
        shared = [shared_in(*_times(machine, (pair, pair * 4), counts)) for pair in PAIRS.values()]
        found = replace(found, shared=round(fmean(shared), 2))
    keep("blocks", key, asdict(found))
    return found


def _found_twice(machine: Machine) -> BlockedLayout | None:
    """The rule that two measurements agree on; None if no two do.

    One alone is not to be trusted with what is kept for good: sessions of the same layer differ by a tenth
    on a busy machine, and on OpenVINO at all times.
    """
    counts = [FULL, HALF, *(HALF + step for step in STEPS)]
    seen: set[tuple[int, int]] = set()
    for _ in range(TRIES):
        found = from_times(*_times(machine, (DENSE, ONE, MANY), counts))
        if found is not None and (found.block, found.align) in seen:
            return found
        if found is not None:
            seen.add((found.block, found.align))
    return None


def shared_in(pair: Mapping[int, float], pairs: Mapping[int, float]) -> float:
    """Share of the time of a full set that any of its blocks takes alone.

    Parameters
    ----------
    pair, pairs : mapping
        Channels, up to those of a full set -> time: of one layer that makes and one that reads them, and
        of several such pairs. What is read takes as long as its channels say.
    """
    added = {count: pairs[count] - pair[count] for count in pair}
    full = max(added)
    if added[full] <= 0:
        return 0.0
    empty = np.array([1 - count / full for count in added])
    longer = np.array([2 * us / added[full] for us in added.values()]) - 2 * (1 - empty)
    found = float(longer @ empty / (empty @ empty))
    return min(max(found, 0.0), 1.0)


def from_times(
    dense: Mapping[int, float], one: Mapping[int, float], many: Mapping[int, float]
) -> BlockedLayout | None:
    """The rule that explains how long three chains of layers take; None if none does.

    Parameters
    ----------
    dense, one, many : mapping
        Channels -> time: of convolutions, of a depthwise one between two that are not, of several.
    """
    added = {count: many[count] - one[count] for count in dense}
    full, half = dense[FULL], dense[HALF]
    if not full > half or min(added.values()) <= 0:
        return None
    align = block = FULL - HALF
    for step in STEPS:
        count = HALF + step
        if max(dense[count] / full, added[count] / added[FULL]) > CLIFF:
            break
        align = step
        if dense[count] < half + (dense[HALF + block] - half) * (step + block) / 2 / block:
            block = step  # nearer to its own share than to that of the larger block
    slow = [HALF + step for step in STEPS if step < align]
    if not slow:
        return BlockedLayout(block, align)
    longer = [float(np.median([t[n] / t[FULL] for n in slow])) for t in (dense, added)]
    return BlockedLayout(block, align, *(round(max(ratio, 1.0), 2) for ratio in longer))


def _times(machine: Machine, chains: Sequence[Chain], counts: Sequence[int]) -> list[dict[int, float]]:
    """Fastest seconds of chains for every number of channels; all take turns."""
    feeds = {"x": np.zeros((1, FULL, 28, 28), np.float32)}
    best = {(chain, count): float("inf") for chain in chains for count in counts}
    with ExitStack() as stack:
        sessions = {
            key: stack.enter_context(
                open_session(_model(*key), machine.provider, "a layer", timed=machine.timed())
            )
            for key in best
        }
        end = machine.clock() + SECONDS
        for _ in range(ROUNDS):
            for key, session in sessions.items():
                start = machine.clock()
                run(session, feeds, "a layer")
                best[key] = min(best[key], machine.clock() - start)
            if machine.clock() > end:
                break
    return [{count: best[chain, count] for count in counts} for chain in chains]


def _model(chain: Chain, count: int) -> onnx.ModelProto:
    """A chain of layers that make so many channels, or ``FULL``, as many as the first one reads."""
    nodes, weights, source = [], [], FULL
    for k, (size, depthwise, wide) in enumerate(chain):
        target = FULL if wide else count
        shape = (target, 1 if depthwise else source, size, size)
        weights.append(onnx.numpy_helper.from_array(np.full(shape, 0.01, np.float32), f"w{k}"))
        edge: dict[str, Any] = {"pads": [size // 2] * 4, "group": source if depthwise else 1}
        nodes.append(onnx.helper.make_node("Conv", [f"y{k - 1}" if k else "x", f"w{k}"], [f"y{k}"], **edge))
        source = target
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [1, FULL, 28, 28])], [value(f"y{k}", TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(nodes, "chain", *ends, weights)
    opset = [onnx.helper.make_opsetid("", 13)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
