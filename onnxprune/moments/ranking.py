"""Channels of every group in the order in which they should go, by moments of what reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..errors import UsageError
from ..printable import plural
from .consumers import Consumer
from .held import Held
from .joint import Weights
from .reads import GroupReads, Read, reads_of
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
    odd : bool
        Whether the problem is one of the data.
    """

    removal: Removal | None
    problem: str = ""
    refits: list[tuple[Consumer, Weights]] = field(default_factory=list)
    complete: bool = True
    odd: bool = False


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
    for together in reads_of(traced, groups, data, means):
        found |= {one.group.name: Ranked(None, one.problem, odd=one.odd) for one in together if not one.reads}
        known = [one for one in together if one.reads]
        for one, removal in zip(known, _removals(known, choose) if known else (), strict=True):
            gone = removal.order[: half_of(one.group)]
            refits = [(read.consumer, refit(read, gone)) for read in one.reads]
            found[one.group.name] = Ranked(removal, one.problem, refits, one.complete)
    return found


def _removals(together: Sequence[GroupReads], choose: Choose) -> Iterator[Removal]:
    """One order of all channels of groups that are read joined, taken apart by group.

    So a channel's cost counts what others can make up for only as long as those are there.
    """
    reads: dict[int, Read] = {}
    starts = np.cumsum([0, *(len(one.group) for one in together)])
    for one, start in zip(together, starts[:-1], strict=True):
        for read in one.reads:
            columns, key = np.where(read.columns < 0, -1, read.columns + start), read.layer.node.index
            others = reads[key].columns if key in reads else columns
            reads[key] = replace(read, columns=np.maximum(columns, others))
    total = int(starts[-1])
    removal = choose(list(reads.values()), total)
    if not np.array_equal(np.sort(removal.order), np.arange(total)):
        names = ", ".join(f"'{one.group.name}'" for one in together)
        raise UsageError(f"criterion: group {names}: found no order of its {plural(total, 'channel')}")
    for one, (start, end) in zip(together, pairwise(starts), strict=True):
        mine = (removal.order >= start) & (removal.order < end)
        yield Removal(removal.order[mine] - start, removal.costs[mine] / _outputs(one))


def _outputs(reads: GroupReads) -> float:
    """Outputs of a consumer, on average.

    Criteria sum errors up over them. Divided by that, costs are shares of what consumers give, and those of a
    layer of ten outputs compare with those of a thousand.
    """
    return float(np.mean([read.matrix.shape[0] * read.matrix.shape[1] for read in reads.reads]))


def half_of(group: Group) -> int:
    """How many channels a probe of a group removes."""
    return int(len(group) * HALF)
