"""How much a channel of each group is worth to the outputs, measured once per group.

The error of the layers behind a group says in which order its channels should go. It does not say
how much the group matters to the network: that differs by an order of magnitude between groups,
and hardly at all within one. So half of every group is removed alone, in that order and with its
consumers refitted, and what this does to the outputs of held-out samples, divided by the costs that
led there, is the price of the group's costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..moments.ranking import Ranked, half_of
from ..moments.second import Progress, silent
from ..scoring.table import ScoreTable
from ..selection.recovered import Recovery
from ..selection.strategies import kept_positions
from ..surgery.surgeon import rewrite_trace
from .affine import affine_after
from .harm import OriginalOutputs
from .pairs import put
from .stores import Unwritable


@dataclass(frozen=True, slots=True)
class Probe:
    """What the loss of half of one group does.

    Attributes
    ----------
    removed : int
        Channels that were removed.
    harm : float
        To the outputs, on held-out samples; see ``harm.py``.
    cost : float
        Of these channels by the criterion.
    refitted : bool
        Whether the consumers could make up for it.
    """

    group: str
    channels: int
    removed: int
    harm: float
    cost: float
    refitted: bool

    @property
    def price(self) -> float:
        """Harm per cost."""
        return self.harm / self.cost if self.cost > 0 else 0.0


def forgotten(probe: Probe) -> None:
    """Remember nothing."""


def probe(
    table: ScoreTable,
    reference: OriginalOutputs,
    progress: Progress = silent,
    known: Mapping[str, Probe] | None = None,
    found: Callable[[Probe], None] = forgotten,
) -> list[Probe]:
    """Remove half of every group that has costs, one group at a time.

    Parameters
    ----------
    table : ScoreTable
        Scores with costs.
    reference : OriginalOutputs
        Outputs of the original on samples that the scores have not seen.
    progress : callable
        Called with the number of groups done, and of all.
    known : mapping, optional
        Group -> probe that was measured before.
    found : callable
        Called with every probe as soon as it is measured.
    """
    probes = {}
    groups = [group for group in table.trace if table[group.name].costs is not None]
    for number, group in enumerate(sorted(groups, key=partial(_first_reader, table)), 1):
        one = (known or {}).get(group.name)
        if one is None:
            one = _probe(table, group, reference)
            found(one)
        probes[group.name] = one
        progress(number, len(groups))
    return [probes[group.name] for group in groups]


def _first_reader(table: ScoreTable, group: Group) -> int:
    """Where the first node stands that is refitted when a group is probed; -1 where none is."""
    ranked = table.ranked.get(group.name)
    return min((consumer.node.index for consumer, _ in ranked.refits), default=-1) if ranked else -1


def _probe(table: ScoreTable, group: Group, reference: OriginalOutputs) -> Probe:
    score, half = table[group.name], half_of(group)
    assert score.costs is not None
    cost = float(score.costs[:half].sum())
    changed = _refitted(table.trace, table.ranked[group.name])
    if changed is None:
        kept = kept_positions(group, score.merged, len(group) - half)
        harm = reference.of(rewrite_trace(table.trace, np.delete(group.units, kept)))
    else:
        harm = reference.of_weights(changed)
    return Probe(group.name, len(group), half, harm, cost, changed is not None)


def _refitted(traced: Trace, ranked: Ranked) -> Recovery | None:
    """Weights of the original whose consumers read half of the channels no more, and make up for it.

    That is what surgery and refitting them would give, but for statistics taken over the channels.
    None where a consumer has no weights of its own to change, or nothing is known of what it reads.
    """
    if ranked.removal is None or not ranked.complete:
        return None
    weights: dict[str, np.ndarray] = {}
    for consumer, new in ranked.refits:
        layer = consumer.layer
        assert layer is not None
        after = affine_after(traced.graph, layer)
        gap = new.offset * after.factor.reshape(new.offset.shape)
        try:
            weights |= put(traced.graph, layer, after, new.matrix, gap)
        except Unwritable:
            return None
    return Recovery(weights)


def expected(table: ScoreTable, kept: Mapping[str, int]) -> dict[str, float]:
    """Harm of every group that is to be expected when it keeps so many channels.

    Parameters
    ----------
    table : ScoreTable
        With costs times prices.
    """
    return {
        name: float(found.costs[: len(found.costs) - kept[name]].sum())
        for name, found in table.items()
        if found.costs is not None and name in kept
    }
