"""Steps of channel counts that a machine rewards, group by group.

A provider computes channels in blocks, so that a count in between costs as much as the next multiple
of the block (see ``timing/blocks.py``). Where nothing is gained by multiples, single channels go. A
group too narrow for its block takes a smaller power of two: it must still be able to shrink.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..labels.facts import Kernel
from ..model.operators import Trait, traits_of
from ..settings.table import DEFAULTS
from ..shapes.inference import FLOATS
from ..timing.blocks import KNOWN, BlockedLayout, target_of
from .rounding import Rounding

if TYPE_CHECKING:
    from ..timing.model import LatencyModel

AUTO = "auto"

TARGET = "ort-cpu"
"""The target where none is named. It does not depend on the machine, so that plans do not, either."""

CONVOLUTIONS = ("ort-cpu", "openvino")
"""Targets that work on blocks in convolutions alone."""

WHOLE_NUMBERS = BlockedLayout(16, 4)
"""What those of whole numbers reward there, on AVX-512."""

WHOLE_DEPTHWISE = BlockedLayout(16, 16)
"""The same of depthwise ones: with 40 or 56 channels they take twice as long as with 48 or 64, and longer
with 8 than with 16. MobileNetV2 in int8 keeps .39 of its MACs in half of its time, .34 with multiples of 8."""

EXACT = 1e-6
"""Part of a channel by which the share of a group may miss a whole number."""


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
        self._graph, self._shapes = traced.graph, traced.shapes

    def _rule(self, group: Group) -> BlockedLayout:
        """What counts for a group: on some targets nothing, where no convolution makes it."""
        if self._name not in CONVOLUTIONS:
            return self._blocks
        found = BlockedLayout()
        for kernel in group.kernels:
            if Trait.CONVOLUTION not in traits_of(kernel.node):
                continue
            rule = self._blocks
            if self._whole_numbers(kernel.tensor) and self._whole_numbers(kernel.node.inputs[0]):
                rule = WHOLE_DEPTHWISE if self._depthwise(kernel) else WHOLE_NUMBERS
            found = max(found, rule, key=lambda rule: (rule.block, rule.align))
        return found

    def _depthwise(self, kernel: Kernel) -> bool:
        shape = self._shapes.get(kernel.tensor) or ()
        return shape[1:2] == (1,) and int(kernel.node.attr("group", 1)) > 1

    def _whole_numbers(self, name: str) -> bool:
        """Whether a tensor holds whole numbers, or floats that were made of some just before."""
        maker = self._graph.producers.get(name)
        source = maker.inputs[0] if maker is not None and maker.inputs else name
        return not {self._dtype(name), self._dtype(source)} <= FLOATS

    def _dtype(self, name: str) -> int:
        stored = self._graph.constants.get(name)
        return stored.dtype if stored is not None else self._shapes.first.dtypes.get(name, TensorProto.FLOAT)

    def wanted(self, group: Group, rounding: Rounding, kept: float, told: bool = False) -> int:
        """The largest step by which at least half of what is asked goes.

        A group that fills a block does not leave the fast layout for less than that. Of a group that was
        told how many channels it keeps, it is the largest step that keeps so many, if there is one.
        """
        rule, size = self._rule(group), len(group)
        least = _least(rule, group)
        steps = [step for step in _halves(rule.block) if step >= least]
        counts = {step: replace(rounding, granules={group.name: step}).count(group, kept) for step in steps}
        met = [step for step in steps if told and abs(counts[step] - kept) < EXACT]
        enough = [step for step in steps if size - counts[step] >= (size - kept) / 2]
        return next(iter([*met, *enough]), least)

    def aligned(self, groups: Iterable[Group]) -> dict[str, int]:
        """Steps in which every group stays in the fast layout."""
        return {group.name: self._rule(group).align for group in groups}

    def levels(self, groups: Sequence[Group]) -> Iterator[dict[str, int]]:
        """Steps for budgets, coarse ones first: whole blocks; then such that two fit into every group."""
        rules = {group.name: self._rule(group) for group in groups}
        yield {name: rule.block for name, rule in rules.items()}
        for level in _halves(max((rule.block for rule in rules.values()), default=1)):
            yield {group.name: _fitting(rules[group.name], group, level) for group in groups}


def steps_kept(traced: Trace, options: Mapping[str, Any]) -> dict[str, int]:
    """Group -> units in steps of which it may shrink for nothing else than that they are not needed.

    A group in the fast layout stays in it, and one whose size is a multiple of the granularity keeps one.
    """
    granularity = options.get("granularity", DEFAULTS["granularity"])
    granules = Granules(traced, options).aligned(traced) if granularity == AUTO else {}
    rounding = options.get("rounding", DEFAULTS["rounding"])
    counted = Rounding(1 if granularity == AUTO else granularity, rounding, granules=granules)
    steps = {group.name: counted.step(group) for group in traced}
    return {group.name: steps[group.name] for group in traced if len(group) % steps[group.name] == 0}


def _least(rule: BlockedLayout, group: Group) -> int:
    """Smallest step of a group: one that fills a block stays in the fast layout."""
    return rule.align if len(group) * group.width >= rule.block else 1


def _fitting(rule: BlockedLayout, group: Group, level: int) -> int:
    """Largest step up to a level of which two fit into a group."""
    half = len(group) * group.width // 2
    step = next(step for step in _halves(min(level, rule.block)) if step <= max(half, 1))
    return max(step, _least(rule, group))


def _halves(block: int) -> Iterator[int]:
    while block > 1:
        yield block
        block //= 2
    yield 1
