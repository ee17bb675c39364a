"""Remove what provably contributes nothing, and prove that nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..cleanup.cleanup import compensated, find_ranges, inputs_within, lossless_plan
from ..cleanup.dead import Dead, Ranges, find_dead
from ..cleanup.log import make_log
from ..coupling.trace import Trace, trace, without_statistics
from ..data.batches import Data
from ..model.file import ModelLike
from ..model.loading import load
from ..reports.result import Result
from ..selection.cost import cost
from ..selection.granules import steps_kept
from ..selection.settings import check
from ..settings.table import DEFAULTS
from ..surgery.surgeon import rewrite_trace
from .growth import growth, larger


def clean(
    source: ModelLike,
    *,
    assume_range: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    duplicates: bool = True,
    granularity: int | str = DEFAULTS["granularity"],
    target: str | None = DEFAULTS["target"],
    verify: bool = False,
    on_failure: str = "raise",
    data: Data | None = None,
    profile: Any = None,
    provider: str = DEFAULTS["provider"],
    seed: int = DEFAULTS["seed"],
) -> Result:
    """Remove every channel that provably contributes nothing. No answer changes.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    assume_range : (low, high) or mapping of input name to (low, high), optional
        Values that inputs are assumed to have (``"*"`` in a mapping: all others). Channels that are
        zero for every such input go, too; the log names the assumption.
    duplicates : bool
        Whether of equal channels one goes, its weights added to those of the other.
    granularity : int or "auto"
        Where the number of channels of a group is a multiple of it, or in the fast layout of ``target``,
        so many stay that it is afterwards; 1 removes all.
    target : str, optional
        See :func:`onnxprune.select`.
    verify : bool
        Compare with the original, to rounding, on ``data`` or synthetic inputs (inside the assumed
        range).
    on_failure : {"raise", "return"}
        Raise :class:`SurgeryError` where the result differs, or return it with a report that says so.
    data, profile, provider, seed
        See :func:`onnxprune.verify`.

    Notes
    -----
    Numbers inside the network are taken to be finite: a weight of zero hides a channel, also where
    the channel would overflow to infinity.
    """
    from .verify import check_on_failure, require
    from .verify import verify as compare

    check_on_failure(on_failure)
    for name, value in (("granularity", granularity), ("target", target)):
        check(name, value)
    model = load(source)
    traced = trace(model, norm="pin")
    ranges = find_ranges(traced, assume_range)
    steps = steps_kept(traced, {"granularity": granularity, "target": target})
    dead = find_dead(traced, ranges, duplicates=duplicates, steps=steps)
    result = _carry_out(traced, dead, ranges, duplicates)
    if not verify:
        return result
    if data is None and ranges:
        data = inputs_within(traced, ranges, seed)
    given: Any = {"data": data, "profile": profile, "provider": provider, "seed": seed}
    report = compare(model, result.model, plan=result.plan, traced=traced, **given)
    require(report, "clean", on_failure)
    return replace(result, report=report)


def first_pass(traced: Trace, options: Mapping[str, Any]) -> Result | None:
    """The clean-up that pruning begins with; None where nothing can go.

    Parameters
    ----------
    options : mapping
        Of selection: no group leaves the steps that it is in.
    """
    traced = without_statistics(traced)
    dead = find_dead(traced, steps=steps_kept(traced, options))
    result = _carry_out(traced, dead, {}, duplicates=True) if dead.kinds else None
    return None if result is None or result.model is traced.model else result


def _carry_out(traced: Trace, dead: Dead, ranges: Ranges, duplicates: bool) -> Result:
    """Remove what is dead, after what stays has taken over its work."""
    plan = lossless_plan(traced, dead, ranges, duplicates)
    removed = plan.removed(traced)
    edited = compensated(traced, dead, removed)
    slim = rewrite_trace(edited, plan.removed(edited)) if len(removed) else traced.model
    if more := growth(traced.model, slim):
        whole = cost(traced, traced.sizes(), traced.model)
        log = make_log(traced, traced.model, replace(dead, kinds={}, twins={}), ranges, whole)
        log = replace(log, kept_for_size=larger(more))
        plan = plan.whole(larger(more))
        return Result(traced.model, plan, report=None, trace=traced, count=log.costs, log=log)
    after = cost(edited, edited.sizes(plan.removed(edited)), slim)
    log = make_log(traced, slim, dead, ranges, after)
    return Result(model=slim, plan=plan, report=None, trace=traced, count=log.costs, log=log)
