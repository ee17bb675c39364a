"""Strategies of selection: how many channels of each group should stay, before rounding.

Count and identity are two steps, as in NVIDIA TAO: a strategy says how many, and the channels with
the largest merged scores are those that stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..coupling.groups import Group, matches
from ..coupling.trace import Trace
from ..errors import UsageError, unknown_name
from ..labels.facts import Kernel
from ..labels.vector import Floats, Ints, distinct
from ..printable import plural
from ..scoring.table import ScoreTable


@dataclass(frozen=True, slots=True)
class Want:
    """What a strategy wants of one group.

    Attributes
    ----------
    kept : float
        Number of units that should stay.
    why : str
        How that number comes about.
    cut : float
        Score that divides what should stay from what should go; NaN where there is none.
    """

    kept: float
    why: str
    cut: float = math.nan


def by_ratio(groups: Sequence[Group], ratios: Mapping[str, float]) -> dict[str, Want]:
    """The same share of every group, or a share per group."""
    return {
        g.name: Want(
            len(g) * (1 - ratios[g.name]), f"ratio {ratios[g.name]:g} of {plural(len(g), 'channel')}"
        )
        for g in groups
    }


def by_threshold(groups: Sequence[Group], scores: ScoreTable, threshold: float) -> dict[str, Want]:
    """Channels whose merged score is strictly above a threshold, as NVIDIA TAO counts them."""
    return {
        g.name: Want(
            int(above(scores[g.name].merged, threshold).sum()), f"threshold {threshold:g}", threshold
        )
        for g in groups
    }


def above(scores: Floats, threshold: float) -> np.ndarray:
    """Which scores are strictly above a threshold.

    Both are compared in 32 bits, as NVIDIA TAO does: a filter of norm 0.1 is stored as 0.10000000149, and
    is not above 0.1. A threshold that is 0 there is compared as it is.
    """
    with np.errstate(over="ignore", under="ignore"):
        limit = np.float32(threshold)
        return scores.astype(np.float32) > limit if limit else scores > threshold


def by_rank(groups: Sequence[Group], scores: ScoreTable, ratio: float) -> dict[str, Want]:
    """A share of all units of the model, coupled ones counted once: the lowest scores go.

    The best unit of a group never goes. Equal scores go in the order of the groups, the highest
    index of a group first.
    """
    lists = [scores[g.name].merged[removal_order(g, scores[g.name].merged)][:-1] for g in groups]
    owner = np.repeat(np.arange(len(groups)), [len(v) for v in lists])
    pool = np.concatenate([*lists, np.zeros(0)])
    count = min(len(pool), math.floor(sum(map(len, groups)) * ratio + 1e-9))
    gone = np.lexsort((owner, pool))[:count]
    removed = np.bincount(owner[gone], minlength=len(groups))
    cut = float(pool[gone[-1]]) if count else math.nan
    why = f"ratio {ratio:g} of all {plural(sum(map(len, groups)), 'channel')} of the model"
    return {g.name: Want(len(g) - int(n), why, cut) for g, n in zip(groups, removed, strict=True)}


def evened(group: Group, merged: Floats, want: Want, policy: str) -> Want:
    """What remains of a wish where every block must keep equally many channels.

    With *count* the block that would lose the fewest decides for all; otherwise the loss is shared
    out.
    """
    if group.blocks is None or policy != "count":
        return want
    blocks = int(group.blocks.max()) + 1
    lost = round(len(group) - want.kept)
    lowest = np.lexsort((-np.arange(len(group)), merged))[:lost]
    fewest = int(np.bincount(group.blocks[lowest], minlength=blocks).min())
    why = f"{want.why}; the block that loses the fewest loses {fewest}"
    return Want(len(group) - blocks * fewest, why, want.cut)


def removal_order(group: Group, merged: Floats) -> Ints:
    """Positions in the order in which they go: lowest score first, of equal ones the last first.

    Where blocks keep their own channels, the lowest of every block go before any second lowest.
    """
    order = len(group) - 1 - np.argsort(merged[::-1], kind="stable")
    if group.blocks is None:
        return order
    blocks = group.blocks[order]
    turn = np.empty(len(order), np.int64)
    for block in distinct(blocks):
        turn[blocks == block] = np.arange(int((blocks == block).sum()))
    return order[np.lexsort((blocks, turn))]


def kept_positions(group: Group, merged: Floats, count: int) -> Ints:
    """Positions of the ``count`` channels that stay, ascending; ties keep the lowest position."""
    return np.sort(removal_order(group, merged)[len(group) - count :])


def per_group(traced: Trace, ratios: Mapping[str, float]) -> dict[str, float]:
    """Ratio of every group from ratios by name; groups that are not named keep everything.

    The name of a group comes before a pattern that matches it.

    Raises
    ------
    UsageError
        If a name matches nothing, or two of them disagree about a group.
    """
    result: dict[str, float] = {}
    source: dict[str, str] = {}
    own = {g.name for g in traced}
    for name, ratio in ratios.items():
        found = [name] if name in own else [g.name for g in traced.find(name) if g.name not in ratios]
        for group in found:
            if group in result and result[group] != ratio:
                raise UsageError(
                    f"ratio: found {result[group]:g} by '{source[group]}' and {ratio:g} by '{name}' "
                    f"for group '{group}', expected one value for coupled layers"
                )
            result[group], source[group] = ratio, name
    return {g.name: result.get(g.name, 0.0) for g in traced}


def _whole_units(name: str, index: Ints, units: Ints) -> Ints:
    """Indices into the units of a layer, refused where they are out of range or part a unit."""
    if len(index) and not 0 <= index[0] <= index[-1] < len(units):
        wrong = index[-1] if index[-1] >= len(units) else index[0]
        raise UsageError(f"remove '{name}': found index {wrong}, expected 0 to {len(units) - 1}")
    coupled = np.setdiff1d(np.flatnonzero(np.isin(units, units[index])), index)
    if len(coupled):
        raise UsageError(
            f"remove '{name}': channel {coupled[0]} is coupled with one that is named",
            "Name all of them or none.",
        )
    return index


def by_index(traced: Trace, remove: Mapping[str, Sequence[int]]) -> dict[str, Ints]:
    """Positions that go in each group, from channel indices per layer (NetsPresso's PR_ID).

    Indices are those of the stored axis of the layer; under the name of a group that no layer has
    (``conv#2``), positions in that group.

    Raises
    ------
    UsageError
        If a layer is unknown, an index is out of range or blocked, a channel is named without
        those that it is coupled with in its layer, or a whole group would go.
    """
    unit = traced.components.unit
    position = {int(u): (g, k) for g in traced for k, u in enumerate(g.units.tolist())}
    layers = {name for g in traced.all_groups for k in g.kernels for name in (k.node.name, k.tensor)}
    alone = {g.name: g.units for g in traced.all_groups if g.name not in layers}
    known = _Layers(traced.all_groups)
    gone: dict[str, set[int]] = {}
    for name, indices in remove.items():
        mine = alone.get(name)
        if mine is None:
            kernel = known.find(name)
            mine = unit[traced.walk.axis(kernel.tensor, kernel.axis)]
        index = _whole_units(name, distinct(np.asarray(indices, np.int64)), mine)
        for k in index.tolist():
            if int(mine[k]) not in position:
                raise UsageError(
                    f"remove '{name}': channel {k} cannot go: {traced.components.reason[int(mine[k])]}"
                )
            group, place = position[int(mine[k])]
            gone.setdefault(group.name, set()).add(place)
    return {name: np.array(sorted(places)) for name, places in gone.items()}


class _Layers:
    """The layers of a model by name: of a group, a node or a weight."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._kernels = [k for group in groups for k in group.kernels]
        self._named = {group.name: group.kernels[0] for group in groups}
        for kernel in self._kernels:
            self._named.setdefault(kernel.node.name, kernel)
            self._named.setdefault(kernel.tensor, kernel)

    def find(self, name: str) -> Kernel:
        """The layer of a name, or the first that a pattern matches."""
        if name in self._named:
            return self._named[name]
        for kernel in self._kernels:
            if matches(kernel.node.name, name) or matches(kernel.tensor, name):
                return kernel
        raise unknown_name("layer", name, {k.node.name for k in self._kernels})
