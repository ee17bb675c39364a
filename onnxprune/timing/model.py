"""What a plan takes, from one profile of the original.

Every kernel takes its time in the original, times its multiply-accumulates over those in the original,
both with the channels that its provider computes. One without takes as long as it makes elements.
What is left of the whole, the time between kernels, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..coupling.trace import Trace
from ..data.one_run import one_run
from ..labels.sizes import Original, SizeView, Term
from ..model.node import Node
from ..model.operators import Trait, traits_of
from ..runtime.session import Arrays
from .blocks import BlockedLayout, find_blocks
from .kernels import TimedKernel, profile
from .machine import HOSTED, Machine

PER_US, PER_MS = 10**6, 10**9
"""Picoseconds, which terms count, in a microsecond and in a millisecond."""

DISPATCH = 0.3
"""Microseconds of a kernel that has next to nothing to do; measured .2 to .5."""


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Predicts how long a model takes with fewer channels.

    Attributes
    ----------
    kernels : tuple of TimedKernel
    fixed : float
        Microseconds that do not depend on channels.
    blocks : BlockedLayout
    machine : mapping
        Where that was measured.
    notes : tuple of str
        What could not be told from the profile.
    correction : float
        Share of the time that measured plans show to stay whatever goes, beside ``fixed``.
    """

    kernels: tuple[TimedKernel, ...]
    fixed: float
    blocks: BlockedLayout
    machine: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    correction: float = 0.0

    @property
    def us(self) -> float:
        """Microseconds of the original."""
        return self.fixed + sum(kernel.us for kernel in self.kernels)

    def left(self, traced: Trace, sizes: SizeView) -> float:
        """Share of the terms that is left in one view of the sizes."""
        terms, whole = self.terms(traced), traced.sizes()
        return sum(term(sizes) for term in terms) / sum(term(whole) for term in terms)

    def share(self, counted: float) -> float:
        """Share of the latency that is left, from that of the terms."""
        return self.correction + (1 - self.correction) * counted

    def counted(self, share: float) -> float:
        """Share of the terms that may be left, from that of the latency."""
        return (share - self.correction) / (1 - self.correction)

    def aimed(self, counted: float, share: float) -> LatencyModel:
        """The model by which a share of the terms is one of the latency."""
        if counted >= 1:
            return self
        return replace(self, correction=min((share - counted) / (1 - counted), MOST_FIXED))

    @property
    def where(self) -> str:
        """What was timed, in words."""
        machine = Machine(*(self.machine[name] for name in ("provider", "threads", "batch")))
        return f"{self.us / 1e3:.3f} ms on {machine.running}, batch {machine.batch}"

    def terms(self, traced: Trace) -> list[Term]:
        """Picoseconds of every kernel, from any view of the sizes."""
        macs: dict[int, list[Term]] = {}
        for node, cost in traced.walk.facts.costs:
            macs.setdefault(node.index, []).append(cost)
        whole = Original(traced.shapes, traced.walk.axes)
        fixed = round(self.fixed * PER_US)
        found: list[Term] = [lambda sizes: fixed]
        for kernel in self.kernels:
            work = self._work(traced, kernel, macs)
            before = work(whole)
            least = min(kernel.us, DISPATCH)
            least += kernel.stays * (kernel.us - least)
            times = round(least * PER_US), round((kernel.us - least) * PER_US)
            found.append(partial(_scaled, work, *times, before))
        return found

    def _work(
        self, traced: Trace, kernel: TimedKernel, macs: Mapping[int, Sequence[Term]]
    ) -> Callable[[SizeView], float]:
        """What the time of a kernel grows with."""
        nodes = [traced.graph.nodes[index] for index in kernel.nodes]
        blocks = self.blocks if kernel.blocked else BlockedLayout()
        parts = [(cost, _channels(node, blocks)) for node in nodes for cost in macs.get(node.index, ())]
        if kernel.added or not parts:
            names = [name for node in nodes[:1] for name in node.outputs[:1]]
            return partial(_elements, blocks, names)
        return partial(_multiplied, blocks, parts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "kernels": [
                {name: getattr(kernel, name) for name in TimedKernel.__slots__} for kernel in self.kernels
            ],
            "fixed": self.fixed,
            "blocks": asdict(self.blocks),
            "machine": dict(self.machine),
            "notes": list(self.notes),
            "correction": self.correction,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyModel:
        """From what a plan records."""
        kernels = tuple(TimedKernel(**{**entry, "nodes": tuple(entry["nodes"])}) for entry in data["kernels"])
        blocks, notes = BlockedLayout(**data["blocks"]), tuple(data["notes"])
        return cls(kernels, data["fixed"], blocks, data["machine"], notes, data["correction"])


MOST_FIXED = 0.99
"""Largest share of the time that may stay: a result as slow as the original tells no more."""


def _scaled(work: Callable[[SizeView], float], least: int, time: int, before: float, sizes: SizeView) -> int:
    if not before:
        return least + time
    scaled = time * work(sizes) / before
    return least + (np.rint(scaled).astype(np.int64) if isinstance(scaled, np.ndarray) else round(scaled))


def _elements(blocks: BlockedLayout, names: Sequence[str], sizes: SizeView) -> float:
    """Elements that are made, the padding of channels included."""
    channels = ((sizes.numel(name), sizes.size(name, 1)) for name in names)
    return sum(count * blocks.padded(size) / _positive(size) for count, size in channels)


def _channels(node: Node, blocks: BlockedLayout) -> tuple[str, str, str] | None:
    """What a convolution makes, reads and stores; None where time follows multiply-accumulates alone."""
    if blocks.block == 1 or Trait.CONVOLUTION not in traits_of(node):
        return None
    return node.output, node.inputs[0], node.inputs[1]


def _multiplied(
    blocks: BlockedLayout, parts: Sequence[tuple[Term, tuple[str, str, str] | None]], sizes: SizeView
) -> float:
    return sum(
        cost(sizes) * (1.0 if names is None else _padding(blocks, *names, sizes)) for cost, names in parts
    )


def _padding(blocks: BlockedLayout, output: str, source: str, weight: str, sizes: SizeView) -> float:
    """How much more a convolution computes, or how much longer it takes, than its channels say."""
    made, read, inner = sizes.size(output, 1), sizes.size(source, 1), sizes.size(weight, 1)
    padded = blocks.padded(made) / _positive(made)
    dense = blocks.made(made) / _positive(made) if blocks.shared else padded
    dense = dense * (blocks.padded(inner) / _positive(inner))
    if blocks.dense != 1:
        slow = (made % blocks.align > 0) | (inner >= blocks.block) & (inner % blocks.align > 0)
        dense = dense * _either(slow, blocks.dense, 1.0)
    thin = inner == 1
    if thin is False:  # an array may be of both
        return dense
    alone = padded * _either(made % blocks.align > 0, blocks.depthwise, 1.0)
    return _either(thin & (read > 1), alone, dense)


def _positive(count: int) -> int:
    """A number of channels to divide by: 1 in place of 0."""
    return count + (count == 0)


def _either(first: bool, yes: float, no: float) -> float:
    """One of two numbers, or of two in each entry of arrays."""
    return first * yes + (1 - first) * no


def measure_model(traced: Trace, machine: Machine, data: Any = None, **settings: Any) -> LatencyModel:
    """Profile a model.

    Parameters
    ----------
    data, **settings
        As for :func:`onnxprune.data.dataset.open_data`.

    Raises
    ------
    ModelError
        If it does not run.
    """
    feeds = one_run(traced, machine.provider, data, machine.batch, **settings).feeds
    found = profile(traced.graph, feeds, machine)
    kernels, notes = [kernel for kernel in found.kernels if kernel.nodes], []
    known = sum(kernel.us for kernel in kernels)
    if machine.provider != "cpu" and found.us > 2 * known:
        kernels, how = _shared_out(traced, found.us, feeds, machine)
        explained = known / max(found.us, 1e-9)
        notes.append(f"the profile explains {explained:.0%} of the time, so all of it is shared out {how}")
        known = sum(kernel.us for kernel in kernels)
    elif unknown := found.unknown:
        names = ", ".join(sorted({kernel.op for kernel in unknown}))
        lost = sum(kernel.us for kernel in unknown)
        notes.append(f"{lost / (known + lost):.0%} of the time is spent in kernels of no known node: {names}")
    return LatencyModel(
        tuple(kernels), found.us - known, find_blocks(machine), machine.to_dict(), tuple(notes)
    )


def timed(traced: Trace, *, latency: bool, provider: str, **machine: Any) -> LatencyModel | None:
    """The same from flags; None where it is not asked for."""
    return measure_model(traced, Machine.of(provider, **machine)) if latency else None


def _shared_out(traced: Trace, us: float, feeds: Arrays, machine: Machine) -> tuple[list[TimedKernel], str]:
    """Kernels in place of those that tell nothing, and in words by what their times are.

    On a processor they are as those of onnxruntime's own kernels, of which convolutions are blocked;
    on OpenVINO that predicts the share that is left to .07 on average, multiply-accumulates to .10 (five
    networks, 24 plans). A GPU, whose kernels are launched and run later, is no such processor.
    """
    if machine.provider in HOSTED:
        own = profile(traced.graph, feeds, replace(machine, provider="cpu"))
        mine = [kernel for kernel in own.kernels if kernel.nodes and not kernel.added]
        scale = us / own.us
        return [
            replace(kernel, us=scale * kernel.us, blocked=kernel.blocked or _convolves(traced, kernel))
            for kernel in mine
        ], "as onnxruntime's own kernels take it"
    whole = traced.sizes()
    macs = [(node, cost(whole)) for node, cost in traced.walk.facts.costs]
    total = sum(count for _, count in macs) or 1
    return [
        TimedKernel(node.op, us * count / total, (node.index,), blocked=Trait.CONVOLUTION in traits_of(node))
        for node, count in macs
    ], "by multiply-accumulates"


def _convolves(traced: Trace, kernel: TimedKernel) -> bool:
    return any(Trait.CONVOLUTION in traits_of(traced.graph.nodes[index]) for index in kernel.nodes)
