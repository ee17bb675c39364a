"""What a plan leaves of a checkpoint, from what it leaves of the constants of the ONNX file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from ..coupling.trace import trace
from ..errors import PlanError
from ..jobs.replay import rewrite
from ..model.cut import Cut
from ..model.file import Model
from ..printable import plural
from ..selection.plan import Plan
from .folding import ROUNDING
from .mapping import BY_NAME, OWN, Link, Origins, listed, map_constants
from .recipes import Index, KeptRows, State, floats_beside, slim
from .reweighting import filled
from .uses import Use, planned_uses, uses_of


@dataclass(frozen=True, eq=False)
class SlimState:
    """A checkpoint cut by a plan.

    Attributes
    ----------
    state : mapping of str to array
    cuts : mapping
        Entry -> kept indices per axis, for entries that shrink.
    origins : Origins
        Where the constants of the dense file come from.
    model : Model
        The slim ONNX file whose weights these are.
    unread : tuple of str
        Entries of floats that the ONNX file does not hold: they are left whole.
    difference : float
        Largest difference of a constant of the slim file from what the entries give, over its largest value.
    notes : tuple of str
    """

    state: State
    cuts: Mapping[str, Cut]
    origins: Origins
    model: Model
    unread: tuple[str, ...]
    difference: float
    notes: tuple[str, ...] = field(default=())


def cut_state(
    model: Model, plan: Plan, state: Mapping[str, np.ndarray], weights: Model | None = None
) -> SlimState:
    """Cut a checkpoint as a plan cuts the ONNX file that was exported from it.

    Parameters
    ----------
    model : Model
        The dense file.
    plan : Plan
    state : mapping of str to array
        What the file was exported from.
    weights : Model, optional
        Slim file whose weights the result has; what the plan makes of ``model`` by default.

    Raises
    ------
    PlanError
        If the plan belongs to another model, or a constant that shrinks comes from no entry, from several
        that hold the same, or from one that another constant cuts in another way.
    """
    found = planned_uses(model, plan)
    origins = map_constants(found, state)
    refuse_unknown(model, plan, [x for x in origins.unmapped if x.use.shrinks and x.reason != OWN])
    cuts = entry_cuts(origins.mapped, state)
    cuts |= {second: cuts[first] for second, first in origins.aliases.items() if first in cuts}
    left = slim(state, cuts)
    target = weights if weights is not None else rewrite(model, plan)
    difference, notes, target = _settle(origins, cuts, left, target)
    left |= {second: left[first] for second, first in origins.aliases.items()}
    read = {entry for link in origins.links if link.recipe for entry in link.recipe.entries}
    read |= origins.aliases.keys()
    return SlimState(left, cuts, origins, target, floats_beside(state, read), difference, notes)


def refuse_unknown(model: Model, plan: Plan, links: Sequence[Link]) -> None:
    """Refuse constants that have to be cut and come from nowhere.

    Raises
    ------
    PlanError
        That names them.
    """
    if not links:
        return
    link, more = links[0], len(links) - 1
    others = f", and {more} more" if more else ""
    raise PlanError(
        f"constant '{link.use.name}' (read by {link.use.op} '{link.use.node}') shrinks, and where it comes from is open: {link.reason}{others}",
        f"Give the checkpoint that the file was exported from; '--exclude {_group_of(model, plan, link.use)}' leaves what shrinks it whole.",
    )


def _group_of(model: Model, plan: Plan, use: Use) -> str:
    """Name of the group of which a constant loses channels."""
    traced = trace(model, **plan.trace_options)
    for labels, index in zip(traced.walk.axes.get(use.view, ()), use.cut, strict=False):
        if labels is None or index is None or index.ndim > 1:
            continue
        gone = np.setdiff1d(np.arange(len(labels)), index)
        for group in traced.groups:
            if np.isin(traced.owners(group)[labels[gone]], group.units).any():
                return group.name
    return use.node


def entry_cuts(links: Iterable[Link], state: Mapping[str, np.ndarray]) -> dict[str, Cut]:
    """Kept indices of every entry that shrinks.

    Raises
    ------
    PlanError
        If two constants leave different parts of one entry.
    """
    parts: dict[str, list[tuple[KeptRows, Use]]] = defaultdict(list)
    for link in links:
        if link.recipe is not None and not link.use.inner:
            for kept in link.recipe.kept(link.use.cut):
                parts[kept.entry].append((kept, link.use))
    cuts = {}
    for entry, found in parts.items():
        cut = _merged(entry, found, state[entry].shape)
        if any(index is not None for index in cut):
            cuts[entry] = cut
    return cuts


def _merged(entry: str, parts: Sequence[tuple[KeptRows, Use]], shape: Sequence[int]) -> Cut:
    """One cut of an entry, from those of its parts."""
    along = next((kept.along for kept, _ in parts if not kept.whole(shape)), 0)
    found: list[Index] = [None] * len(shape)
    first, user = parts[0]
    for axis in range(len(shape)):
        for kept, use in parts:
            if axis != along and not _equal(kept.left(axis), first.left(axis)):
                _conflict(entry, user, use)
        found[axis] = first.left(axis)
    mask = np.ones(shape[along] if shape else 1, np.bool_)
    rows = [(*kept.rows(along, shape), kept.left(along), use) for kept, use in parts]
    for start, stop, index, _ in rows:
        if index is not None:
            mask[start:stop] = False
            mask[start + index] = True
    for kept, (start, stop, index, use) in zip([kept for kept, _ in parts], rows, strict=True):
        left = None if mask[start:stop].all() else np.flatnonzero(mask[start:stop])
        if not _equal(left, index) or not (kept.along == along or kept.whole(shape)):
            _conflict(entry, user if use is not user else rows[-1][3], use)
    found[along] = None if mask.all() else np.flatnonzero(mask)
    return tuple(found)


def _equal(one: Index, other: Index) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def _conflict(entry: str, one: Use, other: Use) -> NoReturn:
    raise PlanError(
        f"entry '{entry}': '{one.name}' at '{one.node}' and '{other.name}' at '{other.node}' keep different channels of it",
        "A layer that is used twice cannot keep two sets; leave it whole with '--exclude'.",
    )


def _settle(
    origins: Origins, cuts: Mapping[str, Cut], left: State, target: Model
) -> tuple[float, tuple[str, ...], Model]:
    """Compare all constants of a slim file with what the entries give; take from it what differs.

    A clean-up adds to biases what removed constant channels did, and recovery changes weights. What is
    known by name alone is the checkpoint's, in the file, too.

    Raises
    ------
    PlanError
        If the file is another one, or its values cannot be had.
    """
    there = {use.place: use for use in uses_of(target)}
    links = [
        Link(there[link.use.place], link.recipe.moved(cuts), link.reason)
        for link in origins.mapped
        if link.recipe is not None and not link.use.inner and link.use.place in there
    ]
    named = [link for link in links if link.reason == BY_NAME]
    known = [link for link in links if link.reason != BY_NAME]
    taken: dict[str, None] = {}
    for link in known:
        if link.recipe is not None and _off(link, left) > ROUNDING:
            link.recipe.put(left, link.use.value)
            taken.update(dict.fromkeys(link.recipe.entries[:1]))
    worst = max((_off(link, left) for link in known), default=0.0)
    if worst > ROUNDING:
        raise PlanError(
            f"the slim file and the cut checkpoint differ by {worst:.2g} in a constant, expected at most {ROUNDING:g}",
            "Give the slim file of this plan.",
        )
    names = list(taken)
    notes = (
        (f"took new values of {plural(len(names), 'entry', 'entries')} from the slim file: {listed(names)}",)
        if names
        else ()
    )
    return worst, notes, filled(target, named, left) if named else target


def _off(link: Link, left: State) -> float:
    """Largest difference of a constant from what a checkpoint gives, over its largest value."""
    assert link.recipe is not None
    value = link.use.value
    try:
        made = np.asarray(link.recipe.value(left, value.shape))
    except ValueError:
        raise PlanError(
            f"constant '{link.use.name}' of the slim file has the shape {list(value.shape)}, which the cut entries {link.recipe} do not give",
            "Give the slim file of this plan.",
        ) from None
    largest = float(np.abs(value).max(initial=0))
    return float(np.abs(made - value).max(initial=0)) / max(largest, float(np.finfo(np.float32).tiny))
