"""What a plan leaves of a checkpoint, from what it leaves of the constants of the ONNX file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import PlanError
from ..jobs.replay import rewrite
from ..model.cut import Cut
from ..model.file import Model
from ..printable import page
from ..selection.plan import Plan
from .folding import ROUNDING
from .mapping import BY_NAME, OWN, Link, Origins, map_constants
from .recipes import Index, Kept, State, slim
from .reweighting import filled
from .uses import Use, planned_uses, uses_of

SHOWN = 6
"""Constants or entries that a sentence lists at most."""


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
    refuse_unknown([x for x in origins.unmapped if x.use.shrinks and x.reason != OWN])
    refuse_computed(origins.mapped)
    cuts = entry_cuts(origins.mapped, state)
    cuts |= {second: cuts[first] for second, first in origins.aliases.items() if first in cuts}
    left = slim(state, cuts)
    target = weights if weights is not None else rewrite(model, plan)
    difference, notes, target = _settle(origins, cuts, left, target)
    left |= {second: left[first] for second, first in origins.aliases.items()}
    read = {entry for link in origins.links if link.recipe for entry in link.recipe.entries}
    read |= origins.aliases.keys()
    unread = tuple(n for n, a in state.items() if n not in read and a.dtype.kind == "f" and a.size > 1)
    return SlimState(left, cuts, origins, target, unread, difference, notes)


def refuse_unknown(links: Sequence[Link]) -> None:
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
        "Give the checkpoint that the file was exported from; '--exclude' leaves such layers whole.",
    )


def refuse_computed(links: Iterable[Link]) -> None:
    """Refuse constants of which the network computes what shrinks, in a way that is not known.

    Raises
    ------
    PlanError
        That names one.
    """
    for link in links:
        if link.use.computed and not link.use.cut:
            raise PlanError(
                f"constant '{link.use.name}': the network computes '{link.use.computed}' from it, which shrinks, and what of '{link.recipe}' goes with it is not known",
                "Leave that layer whole with '--exclude'.",
            )


def entry_cuts(links: Iterable[Link], state: Mapping[str, np.ndarray]) -> dict[str, Cut]:
    """Kept indices of every entry that shrinks.

    Raises
    ------
    PlanError
        If two constants leave different parts of one entry.
    """
    parts: dict[str, list[tuple[Kept, Use]]] = defaultdict(list)
    for link in links:
        if link.recipe is not None:
            for kept in link.recipe.kept(link.use.cut):
                parts[kept.entry].append((kept, link.use))
    cuts = {}
    for entry, found in parts.items():
        cut = _merged(entry, found, state[entry].shape)
        if any(index is not None for index in cut):
            cuts[entry] = cut
    return cuts


def _merged(entry: str, parts: Sequence[tuple[Kept, Use]], shape: Sequence[int]) -> Cut:
    """One cut of an entry, from those of its parts."""
    found: list[Index] = [None] * len(shape)
    for axis in range(1, len(shape)):
        given = [(kept.cut[axis] if kept.cut else None, use) for kept, use in parts]
        for index, use in given[1:]:
            if not _equal(index, given[0][0]):
                _conflict(entry, given[0][1], use)
        found[axis] = given[0][0]
    rows: dict[tuple[int, int], tuple[Index, Use]] = {}
    mask = np.ones(shape[0], np.bool_)
    for kept, use in parts:
        stop = shape[0] if kept.stop < 0 else kept.stop
        index = kept.cut[0] if kept.cut else None
        if (kept.start, stop) in rows:
            if not _equal(rows[kept.start, stop][0], index):
                _conflict(entry, rows[kept.start, stop][1], use)
            continue
        rows[kept.start, stop] = index, use
        if index is not None:
            mask[kept.start : stop] = False
            mask[kept.start + index] = True
    found[0] = None if mask.all() else np.flatnonzero(mask)
    return tuple(found)


def _equal(one: Index, other: Index) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def _conflict(entry: str, one: Use, other: Use) -> None:
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
    rows = {entry: cut[0] for entry, cut in cuts.items()}
    links = [
        Link(there[link.use.place], link.recipe.moved(rows), link.reason)
        for link in origins.mapped
        if link.recipe is not None and link.use.place in there
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
        (f"took new values of {len(names)} entries from the slim file: {', '.join(names[:SHOWN])}",)
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


def listed(names: Sequence[str]) -> str:
    """Some names in one line."""
    more = f" and {len(names) - SHOWN} more" if names[SHOWN:] else ""
    return page([", ".join(names[:SHOWN]) + more])
