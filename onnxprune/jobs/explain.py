"""Why channels of a layer stay or go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Unpack, cast

from ..coupling.numbering import Numbering
from ..coupling.trace import Trace
from ..errors import UsageError
from ..model.file import ModelLike
from ..model.loading import load
from ..plugins import is_path
from ..recovery import job
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
    note = ""
    kinds: Mapping[int, str] = {}
    numbering: Numbering | None = None
    if isinstance(source, Trace):
        traced, chosen = source, merged(preset, config, settings)
    elif plan is not None:
        traced, plan, numbering = prepared(load(source), plan)
        chosen = merged(preset, config, _recorded(plan))
    else:
        chosen = merged(preset, config, settings)
        first, traced, numbering = opened(load(source), chosen, clean)
        if first is not None and first.log is not None:
            note, kinds = f"{first.log.headline} before", first.log.kinds
    asked = named(traced, layer) if numbering is None else numbering.named(layer)
    chosen = job.with_data(chosen)
    scores = job.priced(traced, chosen, provider)
    wanted = asked if numbering is None else numbering.sources(asked)
    latency = None
    if plan is not None and "latency" in plan.options:
        latency = LatencyModel.from_dict(plan.options["latency"])
    elif chosen.get("keep_latency") is not None:
        machine = Machine.of(provider, **part(chosen, MachineSettings))
        latency = measure_model(traced, machine, chosen.get("data"), profile=chosen.get("profile"))
    found = explain_groups(traced, scores, wanted, layer, latency=latency, **part(chosen, SelectSettings))
    if numbering is not None:
        found = [whole for one in found for whole in in_the_file(one, numbering, kinds)]
        found += only_cleaned(numbering, asked - {one.group for one in found}, kinds)
        found = [one for one in found if one.group in asked]
    return Explanations(tuple(found), note)


def _recorded(plan: Plan) -> Settings:
    """The settings that led to a plan."""
    criterion = str(plan.options.get("criterion", ""))
    if criterion not in names("criterion") and not (criterion.endswith(".npz") or is_path(criterion)):
        made = f"its criterion '{criterion}' has no registered name" if criterion else "it is a clean-up"
        raise UsageError(f"the plan cannot be explained: {made}", "Give the settings in its place.")
    return cast(Settings, {k: v for k, v in plan.options.items() if k in Settings.__annotations__})
