"""Equal channels: the same filter of the same inputs, followed by the same numbers.

Two units are equal if everything that is stored for them is equal, except the columns that they
meet in the layers that read them. Those columns can be added, and one unit can go. Equality holds
at every node by induction: an operator that works entry by entry makes equal entries of equal ones,
and a layer makes equal outputs of equal rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from ..coupling.groups import Member
from ..coupling.trace import Trace
from ..labels.vector import Bools, carried
from ..model.graph import Graph
from ..model.mapped import let_go
from ..model.operators import Trait, traits_of
from .values import Mix, Values


def find_twins(traced: Trace, values: Values, kept: Bools) -> dict[int, int]:
    """Units that can go -> the equal unit of the same group that stays.

    Parameters
    ----------
    kept : bool array, shape (units,)
        Units that are looked at.
    """
    columns = {mix.stored for mix in values.mixes if mix.stored is not None}
    usable: Bools | None = None
    twins: dict[int, int] = {}
    for group in traced:
        units = group.units[kept[group.units]]
        classes = [units.tolist()] if len(units) > 1 else []
        for member in group.members:
            if (member.tensor, member.axis) not in columns:
                classes = [part for old in classes for part in _split(traced, values, member, old)]
        if classes and usable is None:
            usable = _mergeable(traced, values)
        for equal in classes:
            first, *others = [u for u in equal if usable is None or usable[u]] or equal[:1]
            twins.update(dict.fromkeys(others, first))
    return twins


def _split(traced: Trace, values: Values, member: Member, units: list[int]) -> Iterator[list[int]]:
    """Those of some units that have equal slices of a stored tensor."""
    stored = values.array(member.tensor)
    if stored is None:
        stored = traced.graph.value(member.tensor)
    array = np.moveaxis(stored, member.axis, 0)
    owner = traced.components.unit[traced.walk.axis(member.tensor, member.axis)]
    _, where, counts = np.unique(owner, return_inverse=True, return_counts=True)
    once = counts[where.reshape(-1)] == 1
    rows = np.flatnonzero(once & np.isin(owner, units))
    if values.array(member.tensor) is not None:
        known = values.slices(member.tensor, member.axis)
        for facts in (known.sums, known.low, known.high):
            rows = _doubtful(facts[rows], rows)
    found: dict[bytes, list[int]] = defaultdict(list)
    for k in rows:
        found[blake2b(array[k].tobytes()).digest()].append(int(owner[k]))
    let_go(stored)
    yield from (equal for equal in found.values() if len(equal) > 1)


def _doubtful(facts: np.ndarray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of some rows that share what is known of them with another one, as equal rows do."""
    _, where, counts = np.unique(facts, return_inverse=True, return_counts=True)
    return rows[counts[where.reshape(-1)] > 1]


def _mergeable(traced: Trace, values: Values) -> Bools:
    """Units that are read only by layers whose columns can be added, in one order everywhere."""
    unit = traced.components.unit
    usable = np.ones(int(unit.max()) + 1, np.bool_)
    uses = count_uses(traced.graph)
    mixed = Counter(mix.stored for mix in values.mixes)
    for mix in values.mixes:
        alone = mix.stored is not None and uses[_root(traced.graph, mix.stored[0])] == mixed[mix.stored]
        if not alone and not _stays_inside(mix, unit):
            usable[unit[mix.labels]] = False
    for name, axes in traced.walk.axes.items():
        node = traced.graph.producers.get(name)
        in_order = node is not None and Trait.IN_ORDER in traits_of(node)
        for labels in axes:
            if not carried(labels) or traced.graph.is_constant(name):
                continue
            owners, counts = np.unique(unit[labels], return_counts=True)
            if name in values.unclear:
                usable[owners] = False
            elif not in_order:
                usable[owners[counts > 1]] = False
    return usable


def _stays_inside(mix: Mix, unit: npt.NDArray[np.int64]) -> bool:
    """Whether every entry acts on entries of its own unit alone (a depthwise convolution)."""
    if mix.targets is None or mix.kernel is None or mix.kernel.shape[2] != 1:
        return False
    return np.array_equal(unit[mix.targets], np.repeat(unit[mix.labels], mix.kernel.shape[1]))


def _root(graph: Graph, name: str) -> str:
    return graph.constants[name].name


def count_uses(graph: Graph) -> Counter[str]:
    """How often each tensor of the file is read."""
    uses = Counter(
        graph.constants[name].name for node in graph.nodes for name in node.inputs if name in graph.constants
    )
    for body in graph.bodies:
        uses.update(body.outputs)
    return uses
