"""Recovery as one step of pruning: from settings and data to weights that are worth having."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from ..data import Batch, open_data
from ..errors import PlanError, UsageError
from ..model import Model
from ..moments.held import Held
from ..moments.second import MEMORY, Progress, silent
from ..runtime import choose_provider
from ..sizes import Sizes
from ..trace import Trace
from .harm import Reference
from .record import Recovery
from .samples import HELD
from .walk import AUTO, Settings, recover

NONE = "none"

SAMPLES = 512
"""Samples that are used of data that hold more, where the caller names no number."""


def chosen(settings: Mapping[str, Any], replayed: bool) -> str:
    """The recovery that settings ask for: none without data, ``auto`` with them.

    Raises
    ------
    UsageError
        If one is asked for and there are no data.
    """
    how = settings.get("recover")
    data = settings.get("data") is not None
    if how is None:
        return AUTO if data and not replayed else NONE
    if how != NONE and not data:
        raise UsageError(
            f"recovery '{how}' fits weights to what layers read: found no data, expected samples",
            "Give a few hundred, which need no labels, with --data.",
        )
    return str(how)


def open_samples(traced: Trace, settings: Mapping[str, Any], memory: int) -> Held:
    """The samples of some settings, without labels."""
    data = open_data(
        traced,
        settings["data"],
        labels=False,
        samples=settings.get("samples") or SAMPLES,
        profile=settings.get("profile"),
    )
    return Held(data, memory // 4)


def recover_model(
    traced: Trace,
    sizes: Sizes,
    slim: Model,
    settings: Mapping[str, Any],
    how: str,
    provider: str,
    progress: Progress = silent,
) -> Recovery:
    """Weights for a slim model, or none where they would not bring it closer to the original.

    Parameters
    ----------
    settings : mapping
        ``data``, ``samples``, ``profile``, ``memory`` and ``seed``.
    how : str
        See :class:`onnxprune.recovery.walk.Settings`.
    """
    memory = settings.get("memory") or MEMORY
    data = open_samples(traced, settings, memory)
    device = choose_provider(provider)
    asked = Settings(how, memory, settings.get("seed") or 0, device)
    found = recover(traced, sizes, slim, data, asked, progress)
    options = {**found.options, "data": data.sha256}
    found = replace(found, options=options)
    reference = Reference(traced.model, last_batches(data), device)
    before, after = reference.of(slim), reference.of(found.apply(slim))
    if after > before:
        outcomes = tuple(
            replace(o, how="", reason=o.reason or "together they made the outputs worse")
            for o in found.outcomes
        )
        return Recovery({}, outcomes, {**options, "harm": [before, before]})
    return replace(found, options={**options, "harm": [before, after]})


def told(progress: Callable[[str], None]) -> Progress:
    """Progress by layers, as that of the stages of pruning."""
    return lambda done, total: progress(f"recover {done}/{total}")


def last_batches(data: Held) -> Iterator[Batch]:
    """The batches that fits are judged on, at least one."""
    skipped = min(len(data) - 1, round(len(data) * (1 - HELD)))
    return islice(data, skipped, None)


def check_recorded(options: Mapping[str, Any], recovery: Recovery) -> None:
    """Refuse recovered weights that are not those of a plan.

    Raises
    ------
    PlanError
        If the plan records others.
    """
    recorded = options.get("recovery")
    if not isinstance(recorded, Mapping) or "weights" not in recorded:
        return
    if recorded["weights"] != (found := recovery.sha256()):
        raise PlanError(
            f"recovery: found weights with sha256 {found[:12]}, expected {str(recorded['weights'])[:12]}",
            "The recovered weights belong to another plan.",
        )
