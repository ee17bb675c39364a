"""Lossless clean-up: remove what provably contributes nothing, and prove that nothing changed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..coupling.trace import Trace, trace
from ..errors import UsageError, unknown_name
from ..runtime.session import Arrays
from ..selection.plan import Plan, PlanGroup, make_plan
from ..shapes.dimensions import graph_inputs
from ..shapes.made_up import synthetic_inputs
from .compensation import edit
from .dead import Dead, Ranges, find_dead


def find_ranges(
    traced: Trace, given: tuple[float, float] | Mapping[str, tuple[float, float]] | None
) -> dict[str, tuple[float, float]]:
    """Range of each input that is assumed to have one.

    Raises
    ------
    UsageError
        If an input is unknown, or a range is empty.
    """
    if given is None:
        return {}
    names = [value.name for value in graph_inputs(traced.model.proto)]
    ranges = dict(given) if isinstance(given, Mapping) else {"*": given}
    if "*" in ranges:
        ranges = dict.fromkeys(names, ranges.pop("*")) | ranges
    for name, (low, high) in ranges.items():
        if name not in names:
            raise unknown_name("input", name, names)
        if not low <= high:
            raise UsageError(f"input '{name}': found the range [{low:g}, {high:g}], expected LOW <= HIGH")
    return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}


def inputs_within(traced: Trace, ranges: Ranges, seed: int) -> Arrays:
    """Random inputs, evenly spread over the ranges that are assumed."""
    rng = np.random.default_rng(seed)
    feeds = dict(synthetic_inputs(traced.graph, traced.shapes.first.sizes, seed))
    for name, (low, high) in ranges.items():
        feeds[name] = rng.uniform(low, high, feeds[name].shape).astype(feeds[name].dtype)
    return feeds


def lossless_plan(traced: Trace, dead: Dead, ranges: Ranges, duplicates: bool) -> Plan:
    """The plan that removes what is dead."""
    decided = []
    for group in traced:
        keep = [k for k, u in enumerate(group.units.tolist()) if u not in dead.kinds]
        decided.append(
            PlanGroup.of(group, keep, (), "" if len(keep) < len(group) else "every channel contributes")
        )
    options = {
        **traced.options,
        "lossless": True,
        "duplicates": duplicates,
        "assume_range": {name: list(limits) for name, limits in ranges.items()},
    }
    return make_plan(traced, decided, options)


def compensated(traced: Trace, dead: Dead, removed: npt.NDArray[np.int64]) -> Trace:
    """Analysis of the model in which what stays does the work of what goes."""
    edited = edit(traced, dead, removed)
    return traced if edited is traced.model else trace(edited, **traced.options)  # type: ignore[arg-type]


def replay(traced: Trace, plan: Plan) -> Trace:
    """Analysis of a model that is made ready for a lossless plan of its own or of its likes."""
    ranges = {name: (low, high) for name, (low, high) in plan.options["assume_range"].items()}
    dead = find_dead(traced, ranges, duplicates=plan.options["duplicates"])
    return compensated(traced, dead, plan.removed(traced))
