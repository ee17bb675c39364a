"""Why channels of a layer stay or go."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, Unpack, cast

from ..coupling.numbering import Numbering
from ..coupling.trace import NO_LAYER, Trace
from ..data.one_run import inputs_of
from ..errors import UsageError
from ..model.file import Model, ModelLike
from ..model.loading import load
from ..moments.consumers import Reading
from ..plugins import is_path
from ..recovery import job
from ..reports.explained import Explanation
from ..reports.explanation import Explanations, explain_groups, in_the_file, named, only_cleaned
from ..scoring.registry import names
from ..selection.plan import Plan
from ..selection.settings import SelectSettings, Settings, part
from ..settings.described import described
from ..settings.table import DEFAULTS
from ..timing.machine import Machine, MachineSettings
from ..timing.model import LatencyModel, measure_model
from .prune import merged, opened
from .replay import prepared


@described("job", "trace", "score", "select", "recover", "machine")
def explain(
    source: ModelLike | Trace,
    layer: str,
    *,
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    plan: Plan | None = None,
    clean: bool = True,
    provider: str = DEFAULTS["provider"],
    **settings: Unpack[Settings],
) -> Explanations:
    """Explain what pruning does to a layer.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph, Model or Trace
        An analysis is explained as it is: nothing is cleaned before.
    layer : str
        Name or pattern of a node, a weight or a group.
    config, clean
        As for :func:`onnxprune.prune`.
    **settings
        Those of the stages ``trace``, ``score`` and ``select`` in ``onnxprune.settings.table``.
    plan : Plan, optional
        Explain this plan, by the settings that it records.

    Raises
    ------
    UsageError
        If nothing has that name, with the nearest that has; or a plan was not made by scores.
    """
    if isinstance(source, Trace):
        subject = _Subject(source, merged(preset, config, settings))
    elif plan is not None:
        traced, plan, numbering = prepared(load(source), plan)
        subject = _Subject(traced, merged(preset, config, _recorded(plan)), numbering)
    else:
        subject = _after_cleaning(load(source), merged(preset, config, settings), clean)
    traced, chosen, numbering = subject.traced, job.with_data(subject.settings), subject.numbering
    asked = named(traced, layer) if numbering is None else numbering.named(layer)
    scores = job.priced(traced, chosen, provider, taken=_taken(plan) if plan is not None else "")
    wanted = asked if numbering is None else numbering.sources(asked)
    latency = _latency(traced, plan, chosen, provider)
    found = explain_groups(traced, scores, wanted, layer, latency=latency, **part(chosen, SelectSettings))
    if numbering is not None:
        found = [whole for one in found for whole in in_the_file(one, numbering, subject.kinds)]
        found += only_cleaned(numbering, asked - {one.group for one in found}, subject.kinds)
        found = [one for one in found if one.group in asked]
    found = _with_readers(found, traced if numbering is None else numbering.source)
    return Explanations(tuple(found), subject.note if found else f"nothing to explain: {NO_LAYER}")


def _with_readers(found: Sequence[Explanation], traced: Trace) -> list[Explanation]:
    """Explanations with what becomes of the channels in the input file."""
    reading, groups = Reading(traced), {group.name: group for group in traced}
    return [
        replace(one, readers=reading.of(groups[one.group])) if one.group in groups else one for one in found
    ]


class _Subject(NamedTuple):
    """What is explained: an analysis, settings, and what a clean-up did before."""

    traced: Trace
    settings: Settings
    numbering: Numbering | None = None
    note: str = ""
    kinds: Mapping[int, str] = MappingProxyType({})


def _after_cleaning(model: Model, settings: Settings, clean: bool) -> _Subject:
    """The analysis of what a clean-up leaves, as pruning would see it."""
    first, traced, numbering = opened(model, settings, clean)
    if first is None or first.log is None:
        return _Subject(traced, settings, numbering)
    return _Subject(traced, settings, numbering, f"{first.log.headline} before", first.log.kinds)


def _latency(traced: Trace, plan: Plan | None, settings: Settings, provider: str) -> LatencyModel | None:
    """The prediction of latency that a plan was made by, or that the settings ask for."""
    if plan is not None and "latency" in plan.options:
        return LatencyModel.from_dict(plan.options["latency"])
    if settings.get("keep_latency") is None:
        return None
    machine = Machine.of(provider, **part(settings, MachineSettings))
    return measure_model(traced, machine, **inputs_of(settings))


def _taken(plan: Plan) -> str:
    """The allocation by which a plan was made: of those that were tried the first."""
    return str(next(iter(plan.options.get("tried", ())), "harm"))


def _recorded(plan: Plan) -> Settings:
    """The settings that led to a plan."""
    criterion = str(plan.options.get("criterion", ""))
    if criterion not in names("criterion") and not (criterion.endswith(".npz") or is_path(criterion)):
        made = f"its criterion '{criterion}' has no registered name" if criterion else "it is a clean-up"
        raise UsageError(f"the plan cannot be explained: {made}", "Give the settings in its place.")
    return cast(Settings, {k: v for k, v in plan.options.items() if k in Settings.__annotations__})
