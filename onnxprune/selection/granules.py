"""Steps of channel counts that a machine rewards, group by group.

A provider computes channels in blocks, so that a count in between costs as much as the next multiple
of the block (see ``timing/blocks.py``). Where nothing is gained by multiples, single channels go. A
group too narrow for its block takes a smaller power of two: it must still be able to shrink.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnx import TensorProto

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..model.operators import Trait, traits_of
from ..timing.blocks import KNOWN, Blocks, target_of
from ..timing.model import LatencyModel
from .rounding import Rounding

AUTO = "auto"

TARGET = "ort-cpu"
"""The target where none is named. It does not depend on the machine, so that plans do not, either."""

CONVOLUTIONS = ("ort-cpu",)
"""Targets that work on blocks in convolutions of floats alone."""

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def target(options: Mapping[str, Any], latency: LatencyModel | None) -> str:
    """The target of some options: the one named, else that of the machine that was timed."""
    if options.get("target"):
        return str(options["target"])
    return target_of(str(latency.machine["provider"])) if latency is not None else TARGET


class Granules:
    """Steps of the groups of a model on one target.

    Parameters
    ----------
    traced : Trace
    options : mapping
        As :func:`onnxprune.selection.decide.complete` returns them.
    latency : LatencyModel, optional
        Its rule of blocks comes before the known one, unless another target is named.
    """

    def __init__(
        self, traced: Trace, options: Mapping[str, Any], latency: LatencyModel | None = None
    ) -> None:
        self._name = target(options, latency)
        self._blocks = KNOWN[self._name]
        if latency is not None and self._name == target_of(str(latency.machine["provider"])):
            self._blocks = latency.blocks
        self._graph, self._dtypes = traced.graph, traced.shapes.first.dtypes

    def _rule(self, group: Group) -> Blocks:
        """What counts for a group: on some targets nothing, where no convolution of floats makes it."""
        if self._name not in CONVOLUTIONS:
            return self._blocks
        for kernel in group.kernels:
            whole = self._whole_numbers(kernel.tensor) and self._whole_numbers(kernel.node.inputs[0])
            if Trait.CONVOLUTION in traits_of(kernel.node) and not whole:
                return self._blocks
        return Blocks()

    def _whole_numbers(self, name: str) -> bool:
        """Whether a tensor holds whole numbers, or floats that were made of some just before."""
        maker = self._graph.producers.get(name)
        source = maker.inputs[0] if maker is not None and maker.inputs else name
        return not {self._dtype(name), self._dtype(source)} <= FLOATS

    def _dtype(self, name: str) -> int:
        stored = self._graph.constants.get(name)
        return stored.dtype if stored is not None else self._dtypes.get(name, TensorProto.FLOAT)

    def wanted(self, group: Group, rounding: Rounding, kept: float) -> int:
        """The largest step by which at least half of what is asked goes.

        A group that fills a block does not leave the fast layout for less than that.
        """
        rule, size = self._rule(group), len(group)
        least = rule.align if size * group.width >= rule.block else 1
        for step in _halves(rule.block):
            if step < least:
                return least
            count = replace(rounding, granules={group.name: step}).count(group, kept)
            if size - count >= (size - kept) / 2:
                return step
        return 1

    def levels(self, groups: Sequence[Group]) -> Iterator[dict[str, int]]:
        """Steps for budgets, coarse ones first: of each at least two fit into a group."""
        rules = {group.name: self._rule(group).block for group in groups}
        for level in _halves(max(rules.values(), default=1)):
            yield {
                group.name: next(
                    step for step in _halves(min(level, rules[group.name]))
                    if step == 1 or 2 * step <= len(group) * group.width
                )
                for group in groups
            }  # fmt: skip


def _halves(block: int) -> Iterator[int]:
    while block > 1:
        yield block
        block //= 2
    yield 1
