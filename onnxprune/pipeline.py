"""The whole job in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .cost import Cost, cost
from .model import Model, load
from .plan import Plan
from .rewrite import rewrite_trace
from .scoring import score
from .select import select
from .trace import Trace, trace
from .verify import Report
from .verify import verify as compare

if TYPE_CHECKING:
    from .model import ModelLike
    from .registry import Criterion, Normalizer, Policy
    from .runtime import Arrays


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
    ratio: float | Mapping[str, float] = 0.5,
    criterion: str | Criterion = "l2",
    normalizer: str | Normalizer = "max",
    policy: str | Policy = "average",
    norm: str = "prune",
    reshape_channel_axis: int | None = None,
    seed: int = 0,
    plan: Plan | None = None,
    verify: bool = False,
    data: str | os.PathLike[str] | Arrays | None = None,
    provider: str = "auto",
    progress: Callable[[str], None] = lambda stage: None,
    **selection: Any,
) -> Result:
    """Remove channels from a model.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    ratio : float or mapping of group name to float
        Fraction of channels removed from every group.
    criterion, normalizer, policy
        See :func:`onnxprune.score`.
    norm, reshape_channel_axis
        See :func:`onnxprune.trace`.
    plan : Plan, optional
        Replay this plan; settings of scoring and selection are then not used.
    verify : bool
        Run the checks of :func:`onnxprune.verify` on ``data`` or synthetic inputs.
    progress : callable
        Called with the name of each stage when it begins.
    **selection
        ``granularity``, ``rounding``, ``min_channels``, ``exclude``: see :func:`onnxprune.select`.

    Raises
    ------
    OnnxPruneError
        See :mod:`onnxprune.errors` for the branches.
    """
    progress("load")
    model = load(source)
    if plan is not None:
        norm = str(plan.options.get("norm", norm))
        reshape_channel_axis = plan.options.get("reshape_channel_axis", reshape_channel_axis)
    progress("trace")
    traced = trace(model, norm=norm, reshape_channel_axis=reshape_channel_axis)
    if plan is None:
        progress("score")
        scores = score(traced, criterion=criterion, normalizer=normalizer, policy=policy, seed=seed)
        progress("select")
        plan = select(traced, scores, ratio=ratio, **selection)
    progress("rewrite")
    removed = plan.removed(traced)
    slim = rewrite_trace(traced, removed)
    report = None
    if verify:
        progress("verify")
        report = compare(model, slim, plan=plan, data=data, provider=provider, seed=seed, traced=traced)  # fmt: skip
    before = cost(traced, traced.sizes(), model)
    after = cost(traced, traced.sizes(removed), slim)
    return Result(slim, plan, report, before, after, traced)
