"""load -> walk -> resolve: a model as groups of channels that can go, and of those that cannot."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .blocks import Apart, separate
from .errors import ModelError, unknown_name
from .graph import Graph, Node
from .labels import NONE, Blocked, Kernel, Labels, Walk
from .model import Model, collector_paused, load
from .resolve import Components, Ints, resolve, signatures
from .rules import find
from .samples import sizes_of
from .shapes import Shapes, analyse, infer
from .sizes import Sizes

if TYPE_CHECKING:
    from .explain import Explanations
    from .model import ModelLike

NORMS = ("prune", "pin")
RESHAPE_AXES = (0, 1, -1, -2)

GROUP_POLICIES = ("average", "sum", "count", "none")


@dataclass(frozen=True, slots=True)
class Member:
    """An axis of a stored tensor that the channels of a group run along."""

    tensor: str
    axis: int


@dataclass(frozen=True, eq=False, slots=True)
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

    @property
    def nodes(self) -> list[Node]:
        """Nodes that produce the channels."""
        return list(dict.fromkeys(kernel.node for kernel in self.kernels))

    def even(self, keep: npt.ArrayLike) -> bool:
        """Whether every block keeps equally many channels."""
        if self.blocks is None:
            return True
        counts = np.bincount(
            self.blocks[np.asarray(keep, np.int64)], minlength=max(self.blocks) + 1
        )
        return bool((counts == counts[0]).all())

    def matches(self, pattern: str) -> bool:
        """Whether a pattern names the group, one of its producing nodes or their weights."""
        names = [self.name]
        for kernel in self.kernels:
            names += [kernel.node.name, kernel.tensor]
        return any(matches(name, pattern) for name in names)


@dataclass(frozen=True, eq=False)
class Trace(Sequence[Group]):
    """Result of analysis: a sequence of the groups that can shrink.

    Attributes
    ----------
    blocked : tuple of Group
        Groups that cannot, each with its reason.
    notes : tuple of str
        Where a setting could not be followed, and what was done in its place.
    """

    model: Model
    graph: Graph
    shapes: Shapes
    walk: Walk
    components: Components
    groups: tuple[Group, ...]
    blocked: tuple[Group, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    apart: Apart | None = None
    notes: tuple[str, ...] = ()

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        return self.groups[key]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    @property
    def units(self) -> int:
        """Number of channels that can go, coupled ones counted once."""
        return sum(map(len, self.groups))

    def find(self, pattern: str) -> list[Group]:
        """Groups, blocked ones included, that a pattern names.

        Raises
        ------
        UsageError
            If there is none, with the nearest name that exists.
        """
        found = [g for g in (*self.groups, *self.blocked) if g.matches(pattern)]
        if not found:
            names = {g.name for g in (*self.groups, *self.blocked)}
            raise unknown_name("layer", pattern, names)
        return found

    def alive(self, removed: npt.ArrayLike = ()) -> npt.NDArray[np.bool_]:
        """Living labels after some units are removed."""
        dead = np.zeros(int(self.components.unit.max()) + 1, np.bool_)
        dead[np.asarray(removed, np.int64)] = True
        alive = ~dead[self.components.unit]
        if self.apart is not None:
            self.apart.mark(alive)
        for grid in self.walk.facts.grids:
            alive[grid.labels] = (alive[grid.rows][:, None] & alive[grid.columns]).reshape(-1)
        return alive

    def sizes(self, removed: npt.ArrayLike = ()) -> Sizes:
        """View of all sizes after some units are removed."""
        return Sizes(self.shapes, self.walk.axes, self.alive(removed), self.apart)

    def explain(self, layer: str, **settings: Any) -> Explanations:
        """Why channels of a layer stay or go; settings of scoring and selection."""
        from .explain import explain_trace
        from .scoring import score
        from .settings import ScoreSettings, SelectSettings, part

        scores = score(self, **part(settings, ScoreSettings))
        return explain_trace(self, scores, layer, **part(settings, SelectSettings))

    def obstacles(self) -> Counter[str]:
        """Operators that pinned what they touch because they could not be followed."""
        blocked = self.walk.facts.blocked
        return Counter(self.graph.nodes[index].kind for index in blocked)

    def __str__(self) -> str:
        lines = [f"{len(self)} groups, {self.units} channels can go; {len(self.blocked)} blocked"]
        lines += [f"  {g.name}: {len(g)} channels in {len(g.members)} axes" for g in self.groups]
        lines += [f"  {g.name}: blocked, {g.reason}" for g in self.blocked]
        return "\n".join(lines)


@collector_paused()
def trace(
    source: ModelLike,
    *,
    norm: str = "prune",
    reshape_channel_axis: int | None = None,
    group_policy: str = "average",
) -> Trace:
    """Find every group of channels that can be removed together.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    norm : {"prune", "pin"}
        Whether channels may go whose removal changes the statistics of a normalization
        (LayerNormalization, a mean over channels). Statistics are then those of the kept ones.
    reshape_channel_axis : {0, 1, -1, -2}, optional
        Factor of a split channel axis that is pruned: 0 or -2 for the outer one (heads), 1 or -1
        for the inner one. By default whole heads, whole GroupNormalization groups, the inside of
        the groups of a grouped convolution, and otherwise the larger factor.
    group_policy : {"average", "sum", "count", "none"}
        With count and none the blocks of a split channel axis keep inner channels of their own,
        equally many, where that is legal (see ``blocks.py``); ``notes`` says where it is not.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    UsageError
        If a setting is none of those above.
    """
    _check_options(norm, reshape_channel_axis, group_policy)
    model = load(source)
    graph = Graph(model)
    options = {
        "norm": norm, "reshape_channel_axis": reshape_channel_axis, "group_policy": group_policy,
    }  # fmt: skip
    return _trace(model, graph, analyse(graph), options)


def retrace(traced: Trace, shapes: Mapping[str, Sequence[int]]) -> Trace:
    """The same analysis with the free dimensions as in given shapes of the inputs.

    Groups and their channels do not depend on the sizes, so a plan made for one fits the other.

    Raises
    ------
    UsageError
        If an input is missing or has too few axes.
    """
    sizes = sizes_of(traced.model.proto, shapes)
    if sizes == traced.shapes.shown.sizes:
        return traced
    found = replace(traced.shapes, at=infer(traced.graph, sizes))
    return _trace(traced.model, traced.graph, found, traced.options)


def _trace(model: Model, graph: Graph, shapes: Shapes, options: Mapping[str, Any]) -> Trace:
    walk = walk_graph(graph, shapes)
    if options["norm"] == "pin":
        for node, labels in walk.facts.stats:
            walk.node = node
            walk.pin(labels, f"{node} computes statistics along it (norm=pin)")
    if options["group_policy"] not in ("count", "none"):
        components = resolve(walk.facts, walk.count, options["reshape_channel_axis"])
        groups, blocked = find_groups(walk, components)
        return Trace(model, graph, shapes, walk, components, groups, blocked, options)
    components, notes = separate(walk, options["reshape_channel_axis"])
    apart = Apart(walk, components)
    groups, blocked = find_groups(walk, components)
    groups = tuple(replace(g, blocks=apart.block_of(g.units)) for g in groups)
    return Trace(model, graph, shapes, walk, components, groups, blocked, options, apart, notes)


def _check_options(norm: str, axis: int | None, group_policy: str) -> None:
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if axis not in (None, *RESHAPE_AXES):
        raise unknown_name("reshape-channel-axis", str(axis), map(str, RESHAPE_AXES))
    if group_policy not in GROUP_POLICIES:
        raise unknown_name("group policy", group_policy, GROUP_POLICIES)


def walk_graph(graph: Graph, shapes: Shapes) -> Walk:
    """Apply the rule of every node in topological order."""
    walk = Walk(graph, shapes)
    for node in graph.main.nodes:
        apply_rule(walk, node)
    walk.node = None
    for name in graph.main.outputs:
        walk.freeze([name], f"graph output '{name}'")
    return walk


def apply_rule(walk: Walk, node: Node) -> None:
    """Let one node's rule record its facts; pin what it touches where the rule cannot."""
    if node.op == "Constant" or (node.outputs and node.outputs[0] in walk.graph.folded):
        return
    walk.node = node
    found = find(node)
    try:
        if found is None:
            raise Blocked("there is no rule for this operator")
        found.apply(walk, node)
        walk.hand_on_zeros(node)
    except (Blocked, ModelError) as error:
        reason = f"{node}: {error.args[0]}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A malformed node fails in its rule in any of these ways. Doubt pins.
        reason = f"{node}: its rule failed: {error!r}"
    else:
        return
    walk.facts.blocked[node.index] = reason
    touched = [*node.inputs, *node.outputs, *walk.graph.captured(node)]
    for body in node.bodies.values():
        touched += [*body.inputs, *body.outputs]
    walk.freeze(touched, reason)


def find_groups(walk: Walk, components: Components) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Units by the slots that they cover, split into those that can go and those that cannot."""
    slots = [
        (name, axis, labels)
        for name, axes in walk.axes.items()
        for axis, labels in enumerate(axes)
        if labels is not None and labels is not NONE
    ]
    if not slots:
        return (), ()
    unit = components.unit
    signature = signatures([labels for _, _, labels in slots], unit)
    blocked = np.zeros(len(signature), np.int64)
    number: dict[str, int] = {}
    for u, reason in components.reason.items():
        blocked[u] = number.setdefault(reason, len(number) + 1)
    # Units that are blocked for different reasons are different groups.
    keys = np.unique(np.stack([signature, blocked]), axis=1, return_inverse=True)[1].reshape(-1)
    stored = [slot for slot in slots if walk.graph.is_constant(slot[0])]
    order = {name: k for k, n in enumerate(walk.graph.nodes) for name in reversed(n.inputs)}
    stored.sort(key=lambda slot: (order.get(slot[0], 0), slot[1]))
    members, width = _members(stored, unit, keys)
    return _build(walk, components, keys, _units_in_order(stored, unit), members, width)


Slots = list[tuple[str, int, Labels]]


def _members(stored: Slots, unit: Ints, keys: Ints) -> tuple[dict[int, list[Member]], dict[int, int]]:  # fmt: skip
    """Stored axes of each group, and the most entries of one axis that a unit has."""
    members: dict[int, list[Member]] = defaultdict(list)
    width: dict[int, int] = defaultdict(lambda: 1)
    widths: dict[int, dict[int, int]] = {}  # by vector: many axes share one
    for name, axis, labels in stored:
        if id(labels) not in widths:
            owners, counts = np.unique(unit[labels], return_counts=True)
            groups = keys[owners]
            widths[id(labels)] = {k: int(counts[groups == k].max()) for k in np.unique(groups).tolist()}  # fmt: skip
        for key, most in widths[id(labels)].items():
            members[key].append(Member(name, axis))
            width[key] = max(width[key], most)
    return members, width


def _units_in_order(stored: Slots, unit: Ints) -> Ints:
    """Units that stored tensors carry, by their first label."""
    labels = np.concatenate([v for _, _, v in stored]) if stored else np.zeros(0, np.int64)
    never = np.iinfo(np.int64).max
    first = np.full(int(unit.max()) + 1, never)
    np.minimum.at(first, unit[labels], labels)
    present = np.flatnonzero(first < never)
    return present[np.argsort(first[present], kind="stable")]


def _build(
    walk: Walk,
    components: Components,
    keys: Ints,
    units: Ints,
    members: Mapping[int, list[Member]],
    width: Mapping[int, int],
) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Groups that some layer produces, named after the first one."""
    kernels: dict[int, list[Kernel]] = defaultdict(list)
    for kernel in walk.facts.kernels:
        labels = walk.peek(kernel.tensor, kernel.axis)
        if labels is not NONE:
            for key in np.unique(keys[components.unit[labels]]).tolist():
                kernels[key].append(kernel)
    channels: dict[int, list[int]] = defaultdict(list)
    for u in units.tolist():
        channels[int(keys[u])].append(u)
    groups: list[Group] = []
    blocked: list[Group] = []
    names: Counter[str] = Counter()
    for key, found in channels.items():
        if not kernels[key]:
            continue  # no layer produces these channels, so none can be scored
        reason = components.reason.get(found[0], "")
        name = kernels[key][0].node.name
        names[name] += 1
        name = f"{name}#{names[name]}" if names[name] > 1 else name
        array = np.array(found)
        group = Group(name, array, tuple(members[key]), tuple(kernels[key]), reason, width[key])
        (blocked if reason else groups).append(group)
    return tuple(groups), tuple(blocked)


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
