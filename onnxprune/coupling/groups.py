"""Groups: channels that cover the same axes, and the layers that produce them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..labels.facts import Kernel
from ..labels.vector import Ints, Labels, carried
from ..labels.walk import Walk
from ..model.names import Names
from ..model.node import Node
from ..printable import plural
from .incidence import Incidence
from .resolve import Components


class Member(NamedTuple):
    """An axis of a stored tensor that the channels of a group run along."""

    tensor: str
    axis: int


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Group:
    """Channels that cover the same axes, coupled across layers into units.

    Attributes
    ----------
    name : str
        Name of the first node that produces the channels.
    units : int array, shape (channels,)
        Unit of each channel, in the order of the first member.
    members : tuple of Member
        Every stored axis that shrinks with the group.
    kernels : tuple of Kernel
        The layers that produce the channels: what is scored.
    reason : str
        Why the group cannot shrink; empty where it can.
    width : int
        Most entries of one axis that belong to one unit (64 for a head of 64 dimensions).
    blocks : int array or None
        Block of each channel where every block keeps inner channels of its own, equally many.
    """

    name: str
    units: npt.NDArray[np.int64]
    members: tuple[Member, ...]
    kernels: tuple[Kernel, ...]
    reason: str = ""
    width: int = 1
    blocks: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.units)

    def __repr__(self) -> str:
        blocked = f", blocked: {self.reason}" if self.reason else ""
        return f"Group('{self.name}', {plural(len(self), 'channel')} in {plural(len(self.members), 'axis', 'axes')}{blocked})"

    @property
    def nodes(self) -> list[Node]:
        """Nodes that produce the channels."""
        return list(dict.fromkeys(kernel.node for kernel in self.kernels))

    def even(self, keep: npt.ArrayLike) -> bool:
        """Whether every block keeps equally many channels."""
        if self.blocks is None:
            return True
        counts = np.bincount(self.blocks[np.asarray(keep, np.int64)], minlength=max(self.blocks) + 1)
        return bool((counts == counts[0]).all())

    def matches(self, pattern: str) -> bool:
        """Whether a pattern names the group, one of its producing nodes or their weights."""
        return any(matches(name, pattern) for name in self.names)

    @property
    def names(self) -> list[str]:
        """What a pattern may name it by: the group, its producing nodes and their weights."""
        return [self.name, *(name for k in self.kernels for name in (k.node.name, k.tensor))]


class GroupNames:
    """Names of groups: that of the first node which produces the channels, and a number if it is taken.

    Parameters
    ----------
    taken : collection of str
        Names of the file.
    groups : iterable of str
        Names of groups that there are.
    """

    def __init__(self, taken: Collection[str], groups: Iterable[str] = ()) -> None:
        self._used = set(groups)
        self._names = Names(taken, self._used)

    def after(self, node: Node) -> str:
        """Name of a further group of a node."""
        name = self._names.fresh(node.name, "#") if node.name in self._used else node.name
        self._used.add(name)
        return name


class Slot(NamedTuple):
    """An axis of a tensor, and the labels on it."""

    tensor: str
    axis: int
    labels: Labels


@dataclass(slots=True)
class _Draft:
    """What is found of the channels of one kind."""

    members: list[Member] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    width: int = 1


def find_groups(walk: Walk, components: Components) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Units by the slots that they cover, split into those that can go and those that cannot."""
    slots = [
        Slot(name, axis, labels)
        for name, axes in walk.axes.items()
        for axis, labels in enumerate(axes)
        if carried(labels)
    ]
    if not slots:
        return (), ()
    incidence = Incidence([slot.labels for slot in slots], components.unit)
    kinds = _kinds(incidence, components.reason)
    widths = incidence.widths(kinds)
    drafts: dict[int, _Draft] = defaultdict(_Draft)
    stored = _stored(walk, slots)
    for tensor, axis, labels in stored:
        for kind, width in widths[id(labels)].items():
            drafts[kind].members.append(Member(tensor, axis))
            drafts[kind].width = max(drafts[kind].width, width)
    for kernel in walk.facts.kernels:
        for kind in widths.get(id(walk.peek(kernel.tensor, kernel.axis)), ()):
            drafts[kind].kernels.append(kernel)
    groups = list(_named(drafts, kinds, components, _units_in_order(stored, components.unit), walk))
    return tuple(g for g in groups if not g.reason), tuple(g for g in groups if g.reason)


def _kinds(incidence: Incidence, reasons: Mapping[int, str]) -> Ints:
    """Number for every unit, alike for those that cover the same slots and cannot go for one reason."""
    covers = np.unique(incidence.signatures(), return_inverse=True)[1].reshape(-1)
    numbers: dict[str, int] = {}
    blocked = np.zeros(len(covers), np.int64)
    for unit, reason in reasons.items():
        blocked[unit] = numbers.setdefault(reason, len(numbers) + 1)
    return covers * (len(numbers) + 1) + blocked


def _stored(walk: Walk, slots: Sequence[Slot]) -> list[Slot]:
    """Slots of stored tensors, in the order in which nodes read these first."""
    first = {name: k for k, n in enumerate(walk.graph.nodes) for name in reversed(n.inputs)}
    stored = (slot for slot in slots if walk.graph.is_constant(slot.tensor))
    return sorted(stored, key=lambda slot: (first.get(slot.tensor, 0), slot.axis))


def _units_in_order(stored: Sequence[Slot], unit: Ints) -> Ints:
    """Units that stored tensors carry, by their first label."""
    labels = np.concatenate([slot.labels for slot in stored]) if stored else np.zeros(0, np.int64)
    never = np.iinfo(np.int64).max
    first = np.full(int(unit.max()) + 1, never)
    np.minimum.at(first, unit[labels], labels)
    present = np.flatnonzero(first < never)
    return present[np.argsort(first[present], kind="stable")]


def _named(
    drafts: Mapping[int, _Draft], kinds: Ints, components: Components, units: Ints, walk: Walk
) -> Iterator[Group]:
    """Groups that some layer produces, named after the first one.

    Parameters
    ----------
    kinds : int array, shape (units,)
    units : int array
        Those that stored tensors carry, in order.
    """
    names = GroupNames(walk.graph.taken)
    found, first, counts = np.unique(kinds[units], return_index=True, return_counts=True)
    parts = np.split(units[np.argsort(kinds[units], kind="stable")], np.cumsum(counts)[:-1])
    for k in np.argsort(first).tolist():
        draft, channels = drafts[int(found[k])], parts[k]
        if not draft.kernels:
            continue  # no layer produces these channels, so none can be scored
        name = names.after(draft.kernels[0].node)
        reason = components.reason.get(int(channels[0]), "")
        yield Group(name, channels, tuple(draft.members), tuple(draft.kernels), reason, draft.width)


_SEPARATORS, _GLOB = re.compile(r"[/.]"), re.compile(r"[*?\[]")


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern names something: a glob, or whole components of a dotted or slashed path.

    Examples
    --------
    >>> matches("/layer1/conv1/Conv", "layer1/conv1"), matches("conv10.weight", "conv1")
    (True, False)
    """
    if fnmatchcase(name, pattern):
        return True
    return bool(pattern) and re.search(rf"(^|[/.]){re.escape(pattern)}($|[/.])", name) is not None


class NameIndex:
    """Groups by the components of their names, so that many patterns are looked up fast."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._by_part: dict[str, dict[int, None]] = defaultdict(dict)
        for number, group in enumerate(groups):
            for name in group.names:
                for part in _SEPARATORS.split(name):
                    self._by_part[part][number] = None

    def find(self, pattern: str) -> list[Group]:
        """Groups that a pattern names."""
        parts = [part for part in _SEPARATORS.split(pattern) if part]
        if not parts or _GLOB.search(pattern):
            return [group for group in self._groups if group.matches(pattern)]
        rarest = min((self._by_part.get(part, {}) for part in parts), key=len)
        return [self._groups[k] for k in rarest if self._groups[k].matches(pattern)]
