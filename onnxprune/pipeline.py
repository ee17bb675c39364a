"""The whole job in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from .config import read_config
from .cost import Cost, cost
from .data import open_data
from .model import Model, load
from .plan import Plan
from .rewrite import rewrite_trace
from .scoring import score
from .select import select
from .settings import ScoreSettings, SelectSettings, Settings, TraceSettings, merge, part
from .trace import Trace, trace
from .verify import Report
from .verify import verify as compare

if TYPE_CHECKING:
    from .model import ModelLike


@dataclass(frozen=True, eq=False)
class Result:
    """What pruning gave.

    Attributes
    ----------
    model : Model
        The slim model; ``model.save(path)`` writes it, ``model.proto`` is the ModelProto.
    plan : Plan
    report : Report or None
        The checks, where they were asked for.
    before, after : Cost
    trace : Trace
        Analysis of the original.
    """

    model: Model
    plan: Plan
    report: Report | None
    before: Cost
    after: Cost
    trace: Trace


def prune(
    source: ModelLike,
    *,
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    plan: Plan | None = None,
    verify: bool = False,
    provider: str = "auto",
    progress: Callable[[str], None] = lambda stage: None,
    **settings: Unpack[Settings],
) -> Result:
    """Remove channels from a model.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    preset : {"tao", "netspresso"}, optional
        Defaults of another tool.
    config : path of a TOML file, optional
        Settings; those given here come first.
    plan : Plan, optional
        Replay this plan; settings of scoring and selection are then not used.
    verify : bool
        Run the checks of :func:`onnxprune.verify` on the first batch of ``data``, or on synthetic
        inputs.
    progress : callable
        Called with the name of each stage when it begins.
    **settings
        Those of :func:`onnxprune.trace`, :func:`onnxprune.score` and :func:`onnxprune.select`.

    Raises
    ------
    OnnxPruneError
        See :mod:`onnxprune.errors` for the branches.
    """
    progress("load")
    model = load(source)
    file = read_config(config, [*Settings.__annotations__, "preset"]) if config else {}
    preset = preset or file.pop("preset", None)
    chosen = merge(preset, {k: v for k, v in file.items() if k != "preset"}, settings)
    options = plan.trace_options if plan is not None else part(chosen, TraceSettings)
    progress("trace")
    traced = trace(model, **options)
    if plan is None:
        progress("score")
        scores = score(traced, **part(chosen, ScoreSettings), provider=provider)
        progress("select")
        plan = select(traced, scores, **part(chosen, SelectSettings))
    progress("rewrite")
    removed = plan.removed(traced)
    slim = rewrite_trace(traced, removed)
    report = None
    if verify:
        progress("verify")
        data = chosen.get("data")
        feeds = None if data is None else open_data(traced, data, profile=chosen.get("profile")).first.feeds  # fmt: skip
        report = compare(
            model, slim, plan=plan, data=feeds, provider=provider,
            seed=chosen.get("seed", 0), traced=traced,
        )  # fmt: skip
    before = cost(traced, traced.sizes(), model)
    after = cost(traced, traced.sizes(removed), slim)
    return Result(slim, plan, report, before, after, traced)
