"""Plans in two stages: a lossless clean-up, then a selection among the channels that it left.

Such a plan still speaks of the input file: kept channels and indices are positions there. The
clean-up lies in it as a plan of its own (``options["clean"]``), so that it can be carried out again
on the same model or on a retrained copy, without asking again what is dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .loading import load
from .model import Model
from .plan import Plan, PlanGroup

if TYPE_CHECKING:
    from .model import ModelLike


def first_stage(plan: Plan) -> Plan | None:
    """The clean-up that comes before a plan; None where there is none."""
    found = plan.options.get("clean")
    return Plan.from_dict(found) if isinstance(found, dict) else None


def prepared(source: ModelLike, plan: Plan) -> tuple[Model, Plan]:
    """The model after the first stage of a plan, and the plan of the second stage for it."""
    model, first = load(source), first_stage(plan)
    if first is None:
        return model, plan
    from .rewrite import rewrite

    known = _pruned(first)
    named = set(plan.options["clean"].get("stages", ()))
    groups = tuple(_localised(g, known[g.name]) if g.name in named else g for g in plan.groups)
    options = {name: value for name, value in plan.options.items() if name != "clean"}
    return rewrite(model, first), replace(plan, groups=groups, options=options)


def staged(first: Plan, second: Plan) -> Plan:
    """One plan for the input file, from a clean-up and the plan for the model that it gave."""
    known, found = _pruned(first), {g.name: g for g in second.groups}
    named = [n for n, g in known.items() if n not in found or found[n].channels == len(g.keep)]
    groups = [_widened(g, known[g.name]) if g.name in known and g.name in named else g for g in second.groups]
    groups += [group for name, group in known.items() if name not in found]
    constants = dict(first.constants)
    for name, entry in second.constants.items():
        constants[name] = _through(constants.get(name), entry)
    options = {**second.options, "clean": {**first.to_dict(), "stages": named}}
    return Plan(first.model, options, tuple(groups), constants)


def _pruned(plan: Plan) -> dict[str, PlanGroup]:
    return {group.name: group for group in plan.groups if group.status == "pruned"}


def _widened(group: PlanGroup, first: PlanGroup) -> PlanGroup:
    """A group of the second stage, in positions of the first."""
    keep = tuple(first.keep[k] for k in group.keep)
    scores = np.zeros(first.channels)
    scores[list(first.keep)] = group.scores or 0.0
    status = "blocked" if group.status == "blocked" else "pruned"
    values = tuple(scores.tolist()) if group.scores else ()
    return replace(group, channels=first.channels, keep=keep, scores=values, status=status)


def _localised(group: PlanGroup, first: PlanGroup) -> PlanGroup:
    """A group of the input file, in positions of the cleaned model."""
    place = {k: number for number, k in enumerate(first.keep)}
    keep = tuple(place[k] for k in group.keep)
    status = "kept" if len(keep) == len(first.keep) and group.status == "pruned" else group.status
    return replace(group, channels=len(first.keep), keep=keep, scores=(), status=status)


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
