"""load -> walk -> resolve: a model as groups of channels that can go, and of those that cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, unknown_name
from ..labels.facts import Pin
from ..labels.sizes import Sizes
from ..labels.vector import Ints
from ..labels.walk import Walk
from ..model.file import Model, ModelLike, collector_paused
from ..model.graph import Graph
from ..model.loading import load
from ..model.node import Node
from ..plugins import load_installed
from ..printable import page, plural
from ..rules import find
from ..rules.apply import walk_graph
from ..settings.described import described
from ..settings.table import DEFAULTS, OPTIONS, of
from ..shapes.analysis import analyse, examine
from ..shapes.dimensions import sizes_of
from ..shapes.setting import Setting, Shapes
from .block_policy import separate
from .blockwise_cut import BlockwiseCut
from .both_factors import both
from .groups import Group, NameIndex, find_groups
from .parts import pairs
from .resolve import Components, resolve

BOTH = "both"


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Sequence[Group]):
    """Result of analysis: a sequence of the groups that can shrink.

    Attributes
    ----------
    blocked : tuple of Group
        Groups that cannot, each with its reason.
    notes : tuple of str
        Where a setting could not be followed, and what was done in its place; sizes of free
        dimensions that had to be assumed.
    inside : Components or None
        Units of the inner factors, where both factors of a split can go; see ``both_factors.py``.
    uncleaned : Trace or None
        That of the file, of which a clean-up left the model: what it names may have gone altogether.
    """

    model: Model
    walk: Walk
    components: Components
    groups: tuple[Group, ...]
    blocked: tuple[Group, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    apart: BlockwiseCut | None = None
    notes: tuple[str, ...] = ()
    inside: Components | None = None
    uncleaned: Trace | None = None

    @property
    def graph(self) -> Graph:
        """Nodes and constants of the model."""
        return self.walk.graph

    @property
    def shapes(self) -> Shapes:
        """Shapes, types and small values of all tensors."""
        return self.walk.shapes

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

    @cached_property
    def all_groups(self) -> tuple[Group, ...]:
        """The groups that can shrink, and then those that cannot."""
        return (*self.groups, *self.blocked)

    @property
    def resolutions(self) -> tuple[Components, ...]:
        """``components``, and ``inside`` where there is one; units are numbered through both."""
        return (self.components,) if self.inside is None else (self.components, self.inside)

    @cached_property
    def unit_count(self) -> int:
        """How many units are numbered, those included that no group has."""
        return int(self.resolutions[-1].unit.max()) + 1

    @cached_property
    def _directory(self) -> NameIndex:
        return NameIndex(self.all_groups)

    def find(self, pattern: str) -> list[Group]:
        """Groups, blocked ones included, that a pattern names; ``*`` names all, be there any or not.

        Raises
        ------
        UsageError
            If there is none in the file either, with the nearest name that exists.
        """
        found = self._directory.find(pattern)
        if not found and self.uncleaned is not None:
            self.uncleaned.find(pattern)
        elif not found and (self.all_groups or pattern != "*"):
            raise unknown_name("layer", pattern, {group.name for group in self.all_groups})
        return found

    def owners(self, group: Group) -> Ints:
        """Unit of every label, in the numbering that the units of a group are of."""
        unit, inside = self.components.unit, self.inside
        return unit if inside is None or group.units[0] <= unit.max() else inside.unit

    def alive(self, removed: npt.ArrayLike = ()) -> npt.NDArray[np.bool_]:
        """Living labels after some units are removed."""
        dead = np.zeros(self.unit_count, np.bool_)
        dead[np.asarray(removed, np.int64)] = True
        alive = ~dead[self.components.unit]
        for inner in self.resolutions[1:]:
            alive &= ~dead[inner.unit]
        if self.apart is not None:
            self.apart.mark(alive)
        for grid in self.walk.facts.grids:
            alive[grid.labels] = (alive[grid.rows][:, None] & alive[grid.columns]).reshape(-1)
        return alive

    def sizes(self, removed: npt.ArrayLike = ()) -> Sizes:
        """View of all sizes after some units are removed."""
        return Sizes(self.shapes, self.walk.axes, self.alive(removed), self.apart)

    def obstacles(self) -> Counter[str]:
        """Operators that pinned what they touch because they could not be followed."""
        blocked = self.walk.facts.blocked
        return Counter(self.graph.nodes[index].kind for index in blocked)

    def held(self) -> list[tuple[Node, str]]:
        """Nodes that hold their weights, and why: by their operator, or because nothing is stored."""
        constants = self.graph.constants
        weighty = [
            node
            for node in self.graph.nodes
            if any(len(constants[name].shape) > 1 for name in node.inputs if name in constants)
        ]
        found = [(node, find(node)) for node in weighty]
        held = [(node, rule.pinned) for node, rule in found if rule is not None and rule.pinned]
        return held + [(node, f"'{name}' is a graph input") for node, name in self.walk.facts.fed]

    def __repr__(self) -> str:
        return f"Trace({self._headline})"

    @property
    def _headline(self) -> str:
        return f"{plural(len(self), 'group')}, {plural(self.units, 'channel')} can go; {len(self.blocked)} blocked"

    def __str__(self) -> str:
        lines = [self._headline]
        lines += [
            f"  {g.name}: {plural(len(g), 'channel')} in {plural(len(g.members), 'axis', 'axes')}"
            for g in self.groups
        ]
        lines += [f"  {g.name}: blocked, {g.reason}" for g in self.blocked]
        return page(lines)


NO_LAYER = "no layer was found that makes channels with stored weights"
"""Why there is no group."""


@collector_paused()
@described("trace")
def trace(
    source: ModelLike,
    *,
    norm: str = DEFAULTS["norm"],
    reshape_channel_axis: int | str | None = DEFAULTS["reshape_channel_axis"],
    group_policy: str = DEFAULTS["group_policy"],
    parts: str = DEFAULTS["parts"],
) -> Trace:
    """Find every group of channels that can be removed together.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    **settings
        Those of the stage ``trace`` in ``onnxprune.settings.table``.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    UsageError
        If a setting is none of those above.
    """
    options = {
        "norm": norm,
        "reshape_channel_axis": reshape_channel_axis,
        "group_policy": group_policy,
        "parts": parts,
    }
    _check_options(options)
    load_installed()
    model = load(source)
    graph = Graph(model)
    shapes = analyse(graph)
    return _resolved(walk_graph(graph, shapes), model, options)


def without_statistics(traced: Trace) -> Trace:
    """The same walk, resolved as with ``norm="pin"`` and the defaults otherwise."""
    options = {option.name: option.default for option in of("trace")} | {"norm": "pin"}
    options["parts"] = traced.options["parts"]
    same = traced.options["reshape_channel_axis"] is None and traced.apart is None
    if same and not traced.walk.facts.stats:
        return replace(traced, options=options)
    return _resolved(traced.walk, traced.model, options)


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
    at = examine(traced.graph, sizes)
    found = _walk_at(traced, at)
    if [(g.name, len(g)) for g in found] != [(g.name, len(g)) for g in traced]:
        # A branch that is not taken at these sizes need not make sense at them.
        at.shapes.update(
            (n, s) for n, s in traced.shapes.first.shapes.items() if not _sensible(traced.shapes, n, at)
        )
        found = _walk_at(traced, at)
    return found


def _walk_at(traced: Trace, at: Setting) -> Trace:
    walk = walk_graph(traced.graph, replace(traced.shapes, at=at))
    return _resolved(walk, traced.model, traced.options)


def _sensible(shapes: Shapes, name: str, at: Setting) -> bool:
    """Whether a shape at some sizes agrees with what is static."""
    one, two = shapes.first.shapes[name], at.shapes.get(name, ())
    return len(one) == len(two) and all(
        a == b or not shapes.static(name, k) for k, (a, b) in enumerate(zip(one, two, strict=True))
    )


def _resolved(walk: Walk, model: Model, options: Mapping[str, Any]) -> Trace:
    """Units and groups of a walk, as some options want them."""
    walk = _constrained(walk, options)
    axis = options["reshape_channel_axis"]
    if options["group_policy"] in ("count", "none"):
        components, notes = separate(walk, axis)
        apart = BlockwiseCut(walk, components)
        groups, blocked = find_groups(walk, components)
        groups = tuple(replace(g, blocks=apart.block_of(g.units)) for g in groups)
        notes = (*assumed(walk.shapes), *notes)
        return Trace(model, walk, components, groups, blocked, options, apart, notes)
    components = resolve(walk.facts, walk.count, 0 if axis == BOTH else axis)
    groups, blocked = find_groups(walk, components)
    inside = None
    if axis == BOTH:
        inside, groups, blocked = both(walk, components, groups, blocked)
    notes = assumed(walk.shapes)
    return Trace(model, walk, components, groups, blocked, options, notes=notes, inside=inside)


def _constrained(walk: Walk, options: Mapping[str, Any]) -> Walk:
    """The walk with the facts that options add to those of the rules."""
    facts = walk.facts
    if options["norm"] == "pin":
        pins = [Pin(v, f"{n} computes statistics along it (norm=pin)", n.index) for n, v in facts.stats]
        facts = replace(facts, pins=[*facts.pins, *pins])
    if options["parts"] == "equal":
        facts = replace(facts, pairs=[*facts.pairs, *pairs(walk)])
    if facts is walk.facts:
        return walk
    walk = copy(walk)
    walk.facts = facts
    return walk


def assumed(shapes: Shapes) -> tuple[str, ...]:
    """Sizes without which the model makes no sense, though it leaves them open: a sentence each."""
    return tuple(
        f"input '{name}': axis {axis} is taken to be {size}, as the inside of the model asks for it"
        for (name, axis), size in shapes.held.items()
    )


def _check_options(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        OPTIONS[name].refuse(value)
    axis, group_policy = options["reshape_channel_axis"], options["group_policy"]
    if axis == BOTH and group_policy in ("count", "none"):
        raise UsageError(
            f"reshape-channel-axis both: found group-policy {group_policy}, expected average or sum"
        )
