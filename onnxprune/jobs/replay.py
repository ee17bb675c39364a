"""Plans in two stages: a lossless clean-up, then a selection among the channels that it left.

Such a plan still speaks of the input file: groups, kept channels and indices are those that the file
has with the settings of the selection. The clean-up lies in it as a plan of its own
(``options["clean"]``), so that it can be carried out again on the same model or on a retrained copy,
without asking again what is dead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..coupling.groups import Group
from ..coupling.numbering import Numbering, Overlap
from ..coupling.trace import Trace, trace, without_statistics
from ..errors import PlanError
from ..model.file import Model, ModelLike
from ..model.loading import load
from ..selection.plan import Plan, PlanGroup
from ..surgery.surgeon import rewrite_trace


def first_stage(plan: Plan) -> Plan | None:
    """The clean-up that comes before a plan; None where there is none."""
    found = plan.options.get("clean")
    return Plan.from_dict(found) if isinstance(found, dict) else None


def prepared(
    source: ModelLike, plan: Plan, traced: Trace | None = None
) -> tuple[Trace, Plan, Numbering | None]:
    """The model after the first stage of a plan, and the plan of the second stage for it.

    Parameters
    ----------
    traced : Trace, optional
        Analysis of the model after the first stage, where it was made already.

    Returns
    -------
    Trace
        Analysis of the model after the first stage.
    Plan
    Numbering or None
        Where the channels of that model come from; None where there is no first stage.

    Raises
    ------
    PlanError
        If the plan belongs to another model.
    """
    model, first = load(source), first_stage(plan)
    if first is None:
        return trace(model, **plan.trace_options) if traced is None else traced, plan, None
    before = trace(model, **plan.trace_options)
    lossless = without_statistics(before)
    removed = first.removed(lossless)
    if traced is None:
        traced = trace(rewrite(model, first), **plan.trace_options)
    numbering = Numbering(before, lossless, removed, traced)
    known = set(plan.options["clean"].get("stages", ()))
    groups = (*_localised(plan, known, numbering), *(g for g in plan.groups if g.name not in known))
    options = {name: value for name, value in plan.options.items() if name != "clean"}
    return traced, replace(plan, groups=groups, options=options), numbering


def staged(first: Plan, second: Plan, numbering: Numbering) -> Plan:
    """One plan for the input file, from a clean-up and the plan for the model that it gave."""
    overlaps: dict[str, list[tuple[PlanGroup, Overlap]]] = defaultdict(list)
    for entry in second.groups:
        for overlap in numbering.overlaps[entry.name]:
            overlaps[overlap.name].append((entry, overlap))
    groups = [
        _widened(group, overlaps.pop(group.name, []), numbering.stays(group))
        for group in numbering.source.all_groups
    ]
    groups += [_along_axis(*found[0]) for found in overlaps.values()]
    constants = dict(first.constants)
    for name, entry in second.constants.items():
        constants[name] = _through(constants.get(name), entry)
    known = [group.name for group in groups]
    options = {**second.options, "clean": {**first.to_dict(), "stages": known}}
    return Plan(first.model, options, tuple(groups), constants)


Overlaps = Sequence[tuple[PlanGroup, Overlap]]
"""What happens to groups of the cleaned model, and where their channels come from."""


def _widened(group: Group, overlaps: Overlaps, left: npt.NDArray[np.bool_]) -> PlanGroup:
    """A group of the input file, from what happens to the parts of it that the clean-up left."""
    reasons = dict.fromkeys(entry.reason for entry, _ in overlaps if entry.reason)
    why = "; ".join(reasons)
    made = PlanGroup.of(group, _kept(overlaps, left), _scores(overlaps, len(group)), why)
    found = {entry.status for entry, _ in overlaps}
    if "pruned" in found:  # what blocked it, or some of it, may have gone with the clean-up
        return replace(made, status="pruned", reason=why)
    if "blocked" in found:
        return replace(made, status="blocked")
    return replace(made, status="kept", reason=why) if group.reason and found else made


def _along_axis(entry: PlanGroup, overlap: Overlap) -> PlanGroup:
    """A group that has no like in the input file, in numbers of the axis that it runs along."""
    keep, size = _kept([(entry, overlap)], overlap.left), len(overlap.left)
    scores = tuple(_scores([(entry, overlap)], size))
    status = entry.status if entry.status == "blocked" or len(keep) == size else "pruned"
    return replace(entry, name=overlap.name, channels=size, keep=tuple(keep), scores=scores, status=status)


def _kept(overlaps: Overlaps, left: npt.NDArray[np.bool_]) -> list[int]:
    """Channels of the input file that neither stage removes."""
    keep = left.copy()
    for entry, overlap in overlaps:
        keep[overlap.there] = np.isin(overlap.here, entry.keep)
    return [int(k) for k in np.flatnonzero(keep)]


def _scores(overlaps: Overlaps, size: int) -> list[float]:
    """Scores by the numbers of the input file, 0 for what the clean-up removed."""
    if not overlaps or not all(entry.scores for entry, _ in overlaps):
        return []
    scores = np.zeros(size)
    for entry, overlap in overlaps:
        scores[overlap.there] = np.array(entry.scores)[overlap.here]
    return [float(score) for score in scores]


def _localised(plan: Plan, known: Collection[str], numbering: Numbering) -> Iterator[PlanGroup]:
    """Groups of the cleaned model, from those groups of a plan that speak of the input file."""
    entries = {e.name: e for e in plan.groups if e.name in known and e.status == "pruned"}
    wanted = {name: set(range(e.channels)) - set(e.keep) for name, e in entries.items()}
    for there in numbering.source.all_groups:
        if there.name in entries and entries[there.name].channels == len(there):
            wanted[there.name] -= numbering.lost(there).keys()
    for group in numbering.cleaned.all_groups:
        gone: set[int] = set()
        for overlap in numbering.overlaps[group.name]:
            entry = entries.get(overlap.name)
            if entry is None or entry.channels != len(overlap.left):
                continue
            removed = ~np.isin(overlap.there, entry.keep)
            gone.update(overlap.here[removed].tolist())
            wanted[overlap.name] -= {
                *overlap.there[removed].tolist(),
                *np.flatnonzero(~overlap.left).tolist(),
            }
        if any(overlap.name in known for overlap in numbering.overlaps[group.name]):
            made = PlanGroup.of(group, [k for k in range(len(group)) if k not in gone], ())
            yield replace(made, status="pruned") if gone else made
    for name, left in wanted.items():
        if left:
            raise PlanError(
                f"group '{name}': found no channel {min(left)} of {entries[name].channels}",
                "The plan was made for another model.",
            )


def _through(first: Any, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Kept indices of a tensor of the input file, from those of its cleaned form."""
    if first is None:
        return dict(entry)
    keep = dict(first["keep"])
    for axis, index in entry["keep"].items():
        if axis not in keep:
            keep[axis] = index
        elif isinstance(index, Mapping):
            keep[axis] = {"blocks": [[keep[axis][k] for k in row] for row in index["blocks"]]}
        else:
            keep[axis] = [keep[axis][k] for k in index]
    return {**entry, "shape": first["shape"], "keep": keep}


def rewrite(source: ModelLike, plan: Plan) -> Model:
    """Apply a plan to a model.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
        The model that the plan was made for, or a retrained or differently typed copy of it.
    plan : Plan

    Raises
    ------
    PlanError
        If the plan belongs to another model.
    SurgeryError
        If the slim model's shapes contradict the analysis.
    """
    traced, plan, _ = prepared(source, plan)
    if plan.options.get("lossless"):
        from ..cleanup.cleanup import replay

        traced = replay(traced, plan)
    return rewrite_trace(traced, plan.removed(traced))
