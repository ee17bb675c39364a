"""How important is each channel? Criterion, then normalizer per layer, then policy per group.

Layers of a group are compared channel by channel: two entries are the same channel when they are
unified (an *atom*). A unit with several atoms, such as a head of 64 dimensions, gets their mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .labels import NONE, Kernel
from .registry import Criterion, Normalizer, Policy, Scores, lookup
from .trace import Group, Trace


@dataclass(frozen=True)
class Layer:
    """What a criterion sees: one layer of a group.

    Attributes
    ----------
    kernel : Kernel
        The node, its weight, and the axis of the channels.
    """

    trace: Trace
    kernel: Kernel
    seed: int = 0

    @cached_property
    def weight(self) -> npt.NDArray[np.floating]:
        """Weight of shape (channels, everything else), as float32 or float64."""
        decode = self.trace.walk.facts.decoded.get(self.kernel.tensor)
        array = decode() if decode else np.asarray(self.trace.graph.value(self.kernel.tensor))
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32)
        array = np.moveaxis(array, self.kernel.axis, 0)
        return array.reshape(len(array), -1)

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers that depend on the seed and the weight's name alone."""
        return np.random.default_rng([self.seed, zlib.crc32(self.kernel.tensor.encode())])


@dataclass(frozen=True, slots=True)
class LayerScore:
    """Scores of one layer of a group, one per channel of the whole layer."""

    kernel: Kernel
    raw: Scores
    normalized: Scores


@dataclass(frozen=True, slots=True)
class GroupScore:
    """Scores of a group: of every layer, and merged, one per unit."""

    group: Group
    layers: tuple[LayerScore, ...]
    merged: Scores


@dataclass(frozen=True, eq=False)
class ScoreTable(Mapping[str, GroupScore]):
    """Group name -> scores."""

    trace: Trace
    scores: Mapping[str, GroupScore]
    options: Mapping[str, object] = field(default_factory=dict)

    def __getitem__(self, name: str) -> GroupScore:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)


def score(
    traced: Trace,
    *,
    criterion: str | Criterion = "l2",
    normalizer: str | Normalizer = "max",
    policy: str | Policy = "average",
    seed: int = 0,
) -> ScoreTable:
    """Score every channel of every group that can shrink.

    Parameters
    ----------
    traced : Trace
    criterion, normalizer, policy : str or callable
        Registered names, or functions of the same form (see ``onnxprune.registry``).
    seed : int
        For criteria that draw random numbers.

    Returns
    -------
    ScoreTable
        Higher scores stay.
    """
    measure, normalize = lookup("criterion", criterion), lookup("normalizer", normalizer)
    merge = lookup("policy", policy)
    known: dict[tuple[str, int], LayerScore] = {}
    table = {}
    for group in traced:
        layers = []
        for kernel in group.kernels:
            key = kernel.tensor, kernel.axis
            if key not in known:
                raw = np.asarray(measure(Layer(traced, kernel, seed)), np.float64)
                known[key] = LayerScore(kernel, raw, normalize(raw))
            layers.append(known[key])
        table[group.name] = GroupScore(group, tuple(layers), _merge(traced, group, layers, merge))
    options = {"criterion": criterion, "normalizer": normalizer, "policy": policy, "seed": seed}
    named = {k: getattr(v, "__name__", v) for k, v in options.items()}
    return ScoreTable(traced, table, named)


def _merge(traced: Trace, group: Group, layers: list[LayerScore], merge: Policy) -> Scores:
    """One score per unit from the layers' scores per channel."""
    unit, atom = traced.components.unit, traced.components.atom
    position = {u: k for k, u in enumerate(group.units.tolist())}
    rows = []
    for layer in layers:
        labels = traced.walk.axis(layer.kernel.tensor, layer.kernel.axis)
        assert labels is not NONE
        mine = np.isin(unit[labels], group.units)
        rows.append((atom[labels[mine]], unit[labels[mine]], layer.normalized[mine]))
    atoms, inverse = np.unique(np.concatenate([r[0] for r in rows]), return_inverse=True)
    stack = np.full((len(rows), len(atoms)), np.nan)
    owner = np.zeros(len(atoms), np.int64)
    start = 0
    for number, (row_atoms, row_units, values) in enumerate(rows):
        where = inverse[start : start + len(row_atoms)]
        start += len(row_atoms)
        counts = np.bincount(where, minlength=len(atoms))
        sums = np.bincount(where, values, minlength=len(atoms))
        stack[number, counts > 0] = sums[counts > 0] / counts[counts > 0]
        owner[where] = [position[u] for u in row_units.tolist()]
    merged = merge(stack)
    counts = np.bincount(owner, minlength=len(group))
    return np.bincount(owner, merged, minlength=len(group)) / np.maximum(counts, 1)
