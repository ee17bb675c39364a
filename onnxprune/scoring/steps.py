"""Criterion, then normalizer per layer, then policy per group.

Layers of a group are compared channel by channel: two entries are the same channel when they are
unified (an *atom*). A unit with several atoms, such as a head of 64 dimensions or the same inner
channel of every block of a grouped convolution, gets their sum or mean (the *group policy*).

The order of operations is raw score -> normalizer -> policy -> group policy. A policy with the
trait ``RAW`` (backward) merges raw scores, and the normalizer acts on the result; a normalizer with
the trait ``UNITS`` (lamp) acts last of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..errors import UsageError
from ..labels.facts import Kernel
from .grid import Grid
from .registry import RAW, UNITS, Criterion, Normalizer, Policy, Scores, applied, label_of, trait_of
from .table import GroupScore, LayerScore
from .targets import lowest


@dataclass(frozen=True, slots=True)
class Steps:
    """The passes of one scoring, and the order in which they act."""

    criterion: Criterion
    normalizer: Normalizer
    policy: Policy
    blocks: Callable[..., Any]

    @property
    def per_layer(self) -> bool:
        """Whether the normalizer acts on each layer."""
        return trait_of(self.normalizer) != UNITS and trait_of(self.policy) != RAW

    def layer(self, kernel: Kernel, raw: Scores) -> LayerScore:
        """Raw and normalized scores of one layer."""
        scored = self.per_layer and not np.isnan(raw).any()
        return LayerScore(kernel, raw, self.normalized(raw) if scored else raw)

    def normalized(self, scores: Scores) -> Scores:
        """Comparable scores. Infinite ones stay as they are, and the others do not know of them.

        Raises
        ------
        UsageError
            If the normalizer makes NaN of a number.
        """
        where = f"normalizer '{label_of(self.normalizer)}'"
        finite = np.isfinite(scores)
        result = np.array(scores)
        if finite.any():
            result[finite] = applied(where, self.normalizer, scores[finite], (int(finite.sum()),))
        if np.isnan(result).any():
            raise UsageError(f"{where}: found NaN, expected numbers")
        return result

    def group(self, traced: Trace, group: Group, layers: Sequence[LayerScore]) -> GroupScore:
        """Scores of a group, one per unit."""
        measured = [layer for layer in layers if layer.measured]
        merged = np.full(len(group), np.nan)
        if measured:
            grid = Grid(traced, group, [layer.kernel for layer in measured])
            with np.errstate(invalid="ignore"):  # infinities of both signs
                stack = grid.stack([layer.normalized for layer in measured])
                where = f"policy '{label_of(self.policy)}'"
                atoms = lowest(applied(where, self.policy, stack, stack.shape[1:]))
            if trait_of(self.policy) == RAW and trait_of(self.normalizer) != UNITS:
                atoms = self.normalized(atoms)
            with np.errstate(invalid="ignore"):
                merged = lowest(grid.units(atoms, self.blocks))
            if trait_of(self.normalizer) == UNITS:
                merged = self.normalized(merged)
        return GroupScore(group, tuple(layers), merged)
