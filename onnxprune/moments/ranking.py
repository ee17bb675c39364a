"""Channels of every group in the order in which they should go, by moments of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..errors import UsageError
from .consumers import Consumer
from .held import Held
from .joint import Weights
from .reads import reads_of
from .removal import Choose, Removal, refit
from .second import Means

HALF = 0.5
"""Share of the channels that a probe removes."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """What a criterion says of one group.

    Attributes
    ----------
    removal : Removal or None
        None where too little is known of what the consumers read.
    problem : str
        Why it is.
    refits : list of (Consumer, Weights)
        Weights of the consumers without half of the channels, to probe what that does; the offset
        is what theirs moves by.
    complete : bool
        Whether these are all consumers of the group.
    """

    removal: Removal | None
    problem: str = ""
    refits: list[tuple[Consumer, Weights]] = field(default_factory=list)
    complete: bool = True


def rank(
    traced: Trace, groups: Sequence[Group], choose: Choose, data: Held, means: Means
) -> dict[str, Ranked]:
    """Apply a criterion to what the consumers of every group read.

    Raises
    ------
    UsageError
        If the criterion returns no order of all channels.
    """
    found: dict[str, Ranked] = {}
    for known in reads_of(traced, groups, data, means):
        group = known.group
        if not known.reads:
            found[group.name] = Ranked(None, known.problem)
            continue
        removal = choose(known.reads, len(group))
        if not np.array_equal(np.sort(removal.order), np.arange(len(group))):
            raise UsageError(f"criterion: group '{group.name}': found no order of its {len(group)} channels")
        gone = removal.order[: half_of(group)]
        refits = [(read.consumer, refit(read, gone)) for read in known.reads]
        found[group.name] = Ranked(removal, known.problem, refits, known.complete)
    return found


def half_of(group: Group) -> int:
    """How many channels a probe of a group removes."""
    return int(len(group) * HALF)
