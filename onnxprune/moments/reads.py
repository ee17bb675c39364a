"""What the consumers of a group read, with its moments: all that a choice of channels needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..coupling.groups import Group
from ..coupling.trace import Trace
from ..data.portions import portions
from ..labels.vector import Floats
from ..printable import plural
from .consumers import Consumer, Reading
from .held import Held
from .linear import Linear
from .second import Means, Moments, bytes_of, collect, silent

ENOUGH = 4
"""Rows per column below which a layer behind a mean is looked at in front of it."""

FEWEST = 0.5
"""Rows per column below which second moments say too little: the group is left whole."""

RIDGE = 1e-3
"""Share of the mean diagonal that is added to second moments, where there are many rows."""


@dataclass(frozen=True, eq=False)
class Read:
    """One consumer of a group, and the moments of what it reads.

    Attributes
    ----------
    matrix : float array, shape (groups, outputs, width)
    columns : int array, shape (groups, width)
        Position in the group of the channel behind every column, -1 for those of others.
    """

    consumer: Consumer
    layer: Linear
    matrix: Floats
    columns: npt.NDArray[np.int64]
    moments: Moments

    @property
    def second(self) -> Floats:
        """Centred second moments, shrunk towards a multiple of the identity.

        A thousandth of the mean diagonal is added; more where there are few rows for the columns,
        because then they show directions as empty that are not: ``RIDGE (1 + 10 columns / rows)``.
        """
        second = self.moments.second.copy()
        width = second.shape[1]
        ridge = RIDGE * (1 + 10 * width / self.moments.count)
        diagonal = np.einsum("gii->gi", second)
        diagonal += ridge * np.trace(second, axis1=1, axis2=2)[:, None] / width + 1e-12
        return second

    @property
    def scaled(self) -> Floats:
        """The matrix with every output divided by its standard deviation; zero for constant ones."""
        variance = self.moments.variance(self.matrix)
        scale = 1 / np.sqrt(np.where(variance > 1e-12 * variance.max(initial=0), variance, np.inf))
        return self.matrix * scale[:, :, None]


@dataclass(frozen=True, eq=False)
class GroupReads:
    """What is known of the consumers of a group.

    Attributes
    ----------
    reads : list of Read
        Empty where too little is known of one of them.
    problem : str
        Why they are.
    complete : bool
        Whether there are no other consumers.
    odd : bool
        Whether the problem is one of the data: they make numbers that are not finite.
    """

    group: Group
    reads: list[Read] = field(default_factory=list)
    problem: str = ""
    complete: bool = True
    odd: bool = False


ODD = "numbers that are NaN, infinite or beyond 1e19"
"""What no second moments can be taken of."""

Wants = tuple[Group, list[tuple[Consumer, Linear]]]
"""A group, and the consumers of which moments are wanted."""


def reads_of(traced: Trace, groups: Sequence[Group], data: Held, means: Means) -> Iterator[list[GroupReads]]:
    """Moments of what the consumers of some groups read, group by group.

    Groups that one consumer reads joined come together, if their moments fit into the bound together.
    Groups are taken in turns whose moments fit; one that does not fit alone is left out, and says so.
    """
    reading = Reading(traced)
    wanted = [_wants(traced, reading, group, data.samples) for group in groups]

    def held(together: Sequence[Wants]) -> int:
        return _bytes(traced, list(_layers(together).values()))

    def fits(together: Sequence[Wants]) -> bool:
        return held(together) <= means.memory

    clusters = [
        part
        for cluster in _clusters(traced, wanted)
        for part in ([cluster] if fits(cluster) else [[one] for one in cluster])
    ]
    done = 0
    for turn in portions(clusters, lambda one: held(one) if fits(one) else 0, means.memory // 2):
        layers = _layers([one for cluster in turn if fits(cluster) for one in cluster])
        collected = collect(traced, list(layers.values()), data, replace(means, progress=silent))
        known = {layer.node.index: moments for layer, moments in collected}
        for cluster in turn:
            if cluster[0][1] and fits(cluster):
                yield [_reads(traced, reading, one, known) for one in cluster]
            else:
                yield [GroupReads(cluster[0][0], problem=_problem(traced, reading, cluster[0], means.memory))]
            done += len(cluster)
        means.progress(done, len(groups))


def _clusters(traced: Trace, wanted: Sequence[Wants]) -> list[list[Wants]]:
    """Groups of which a consumer reads several, together."""
    found: list[tuple[set[tuple[int, int]], list[Wants]]] = []
    for group, consumers in wanted:
        keys = {(id(traced.owners(group)), layer.node.index) for _, layer in consumers}
        near = [one for one in found if one[0] & keys]
        found = [one for one in found if not one[0] & keys]
        groups = [*(other for _, others in near for other in others), (group, consumers)]
        found.append((keys.union(*(other for other, _ in near)), groups))
    return [groups for _, groups in found]


def _layers(together: Sequence[Wants]) -> dict[int, Linear]:
    """Index of every node that reads some of these groups -> the node as a layer."""
    return {layer.node.index: layer for _, consumers in together for _, layer in consumers}


def _reads(traced: Trace, reading: Reading, wants: Wants, known: Mapping[int, Moments]) -> GroupReads:
    """What the consumers of a group read; nothing where rows are too few for one of them."""
    group, consumers = wants
    reads = [
        Read(one, layer, layer.matrix(traced.graph), np.asarray(one.columns), known[layer.node.index])
        for one, layer in consumers
    ]
    for read in reads:
        if not np.isfinite(read.moments.second).all():
            return GroupReads(group, problem=f"{read.layer.node} reads {ODD}", odd=True)
    if problem := next(filter(None, map(_too_little, reads)), ""):
        return GroupReads(group, problem=problem)
    return GroupReads(group, reads, complete=len(reads) == len(reading.of(group).consumers))


def _too_little(read: Read) -> str:
    """Why the moments of a consumer say too little; empty where they do not."""
    rows, width = read.moments.count, read.matrix.shape[2]
    if rows < FEWEST * width:
        return f"{read.layer.node} reads {plural(width, 'column')}: found {plural(rows, 'row')}, expected {round(FEWEST * width)}"
    return ""


def _wants(traced: Trace, reading: Reading, group: Group, samples: int) -> Wants:
    """Consumers of a group as layers; those behind a mean in front of it, where rows are few."""
    found = []
    for consumer in reading.of(group).layers:
        layer = consumer.layer
        assert layer is not None
        wide = layer.before_pool(traced.graph, traced.walk.rank)
        width = layer.shape(traced.graph)[2]
        found.append((consumer, wide if wide is not None and samples < ENOUGH * width else layer))
    return group, found


def _bytes(traced: Trace, layers: Sequence[Linear]) -> int:
    """Bytes that an order by the second moments of some layers takes.

    These, their inverses and a product of them are held of all layers; three more copies, of one at a time, are
    made while it is inverted.
    """
    sizes = [bytes_of(traced, layer) for layer in layers]
    return 3 * sum(sizes) + 3 * max(sizes, default=0)


def _problem(traced: Trace, reading: Reading, wants: Wants, memory: int) -> str:
    group, consumers = wants
    if consumers:
        need, most = _bytes(traced, [layer for _, layer in consumers]) / 2**20, memory / 2**20
        return f"moments of its consumers take {need:,.0f} MiB: found --memory {most:,.0f} MiB"
    problems = [c.problem or f"{c.node} has no weight in matrix form" for c in reading.of(group).consumers]
    return problems[0] if problems else "nothing reads it"
