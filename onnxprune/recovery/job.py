"""Recovery as one step of pruning: from settings and data to weights that are worth having."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..coupling.trace import Trace
from ..data.batches import DataSet, declared_dims, free_batch
from ..data.dataset import open_data
from ..errors import PlanError, UsageError
from ..labels.sizes import Sizes
from ..model.file import Model
from ..runtime.providers import choose_provider
from ..scoring.registry import MOMENTS, lookup, trait_of
from ..scoring.score import score
from ..scoring.table import ScoreTable
from ..selection.decide import select
from ..selection.recovered import Recovery
from ..selection.settings import ScoreSettings, SelectSettings, Settings, part
from ..settings.table import BUDGETS, DEFAULTS

if TYPE_CHECKING:
    from ..moments.held import Held
    from ..moments.second import Progress
    from .allocation import Probe

NONE, AUTO = "none", "auto"
"""What may be asked for beside the registered recoveries; see ``Way`` in ``walk.py``."""

PROBED = 2 / 3
"""Share of the samples that scores see where the others measure harm."""

GAIN = 0.1
"""Share of the harm that recovered weights have to undo: less of it may be chance on held-out samples."""

JUDGES = 0.1
"""Share of the samples that no fit sees: on the outputs there the recovered weights are judged."""

PARTS = 10
"""Batches that samples are divided into at least, where a model takes as many samples as it is given."""

SAMPLES = 512
"""Samples that are used of data that hold more, where the caller names no number; evenly spread ones."""


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


def with_data(settings: Settings) -> Settings:
    """Settings with the defaults that data change, where there are some.

    Channels are then chosen by what the layers behind them lose, and a budget is met by measured
    harm; both unless a criterion, a policy or a scope is named.
    """
    if settings.get("data") is None:
        return settings
    found: dict[str, Any] = dict(settings)
    if "policy" not in found and "normalizer" not in found:
        found.setdefault("criterion", "reconstruction")
    budget = any(name in found for name in BUDGETS)
    additive = trait_of(_criterion(found)) == MOMENTS
    if budget and additive and "scope" not in found:
        found.setdefault("allocate", "harm")
    return cast(Settings, found)


def _criterion(settings: Mapping[str, Any]) -> Any:
    """The criterion of some settings, where it is a registered one or a function."""
    given = settings.get("criterion")
    known = isinstance(given, str) and not given.endswith(".npz")
    return lookup("criterion", given) if known else given


def unheard(stage: str) -> None:
    """Progress that nobody asked for."""


def priced(
    traced: Trace,
    settings: Mapping[str, Any],
    provider: str,
    progress: Callable[[str], None] = unheard,
    taken: str = "",
) -> ScoreTable:
    """Scores; their costs times the price of every group where a budget is met by measured harm.

    Where much harm is expected of that, they are the costs by which the budget harms least.

    Parameters
    ----------
    taken : str
        The allocation that these are of, where it is known: then none is tried.

    Raises
    ------
    UsageError
        If harm is asked for and there are no data, or the criterion gives no costs.
    """
    harm, additive = settings.get("allocate") == "harm", trait_of(_criterion(settings)) == MOMENTS
    if not harm:
        options = part(settings, ScoreSettings)
        if not additive or settings.get("data") is None:
            return score(traced, **options, provider=provider)
        table = _scored(traced, options, chosen_samples(traced, settings), provider)
        return replace(table, options={**table.options, **_as_given(settings)})
    table, probes, data = probed(traced, settings, provider, progress)
    prices = {found.group: found.price for found in probes}
    table = replace(table.priced(prices), options={**table.options, "prices": prices})
    if taken:
        from .candidates import costs_of

        return costs_of(table).get(taken, table)
    return _tried(traced, table, data, settings, provider, progress)


def _tried(
    traced: Trace,
    table: ScoreTable,
    data: Held,
    settings: Mapping[str, Any],
    provider: str,
    progress: Callable[[str], None],
) -> ScoreTable:
    """Costs by which the budget of some settings harms least; one of latency is met by prices alone."""
    budget = [name for name in BUDGETS if settings.get(name) is not None]
    if not budget or "keep_latency" in budget:
        return table
    from .candidates import Trial, least_harmful
    from .walk import Way

    memory = _memory(settings) // 2  # the samples that judge take some, too
    way = Way(AUTO, memory, settings.get("seed") or 0, choose_provider(provider))
    trial = Trial(traced, data.part(0, PROBED), data.part(PROBED, 1), way)
    options = part(settings, SelectSettings)
    return least_harmful(
        table, lambda costs: select(traced, costs, **options), trial, partial(told, progress)
    )


def probed(
    traced: Trace,
    settings: Mapping[str, Any],
    provider: str,
    progress: Callable[[str], None] = unheard,
    path: str | os.PathLike[str] | None = None,
) -> tuple[ScoreTable, list[Probe], Held]:
    """Scores with costs, what the loss of half of every group does, and the samples.

    Parameters
    ----------
    path : path, optional
        Where probes are kept as they are measured, and found when that was broken off.

    Raises
    ------
    UsageError
        If the criterion gives no costs, there are no data, or the file holds other probes.
    """
    _refuse_unmeasurable(settings)
    from .allocation import probe
    from .harm import OriginalOutputs
    from .record import Record

    data = open_samples(traced, settings)
    key = {
        "model": traced.model.sha256(),
        "data": data.sha256,
        "criterion": str(settings.get("criterion")),
        "seed": settings.get("seed") or 0,
        **traced.options,
    }
    record = Record(path, key)
    table = _scored(traced, part(settings, ScoreSettings), data.part(0, PROBED), provider).costed()
    judges, device = data.part(PROBED, 1), choose_provider(provider)
    reference = OriginalOutputs(traced.model, judges, device, _memory(settings) // 4)
    probes = probe(table, reference, told(progress, "probe"), record.found, record.add)
    return replace(table, options={**table.options, **_as_given(settings)}), probes, data


def _refuse_unmeasurable(settings: Mapping[str, Any]) -> None:
    """Refuse settings by which no harm can be measured."""
    if trait_of(_criterion(settings)) != MOMENTS:
        raise UsageError(
            f"allocate harm: criterion '{settings.get('criterion', DEFAULTS['criterion'])}' gives scores, expected costs",
            "Take --criterion reconstruction or wanda, and --data.",
        )
    if settings.get("data") is None:
        raise UsageError(
            "allocate harm measures what a group is worth: found no data, expected samples",
            "Give a few hundred, which need no labels, with --data.",
        )


def _scored(traced: Trace, options: Mapping[str, Any], data: DataSet | Held, provider: str) -> ScoreTable:
    """Scores by samples that were chosen already."""
    return score(traced, **{**options, "data": data, "samples": None, "profile": None}, provider=provider)


def _as_given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a plan records of the data of some settings."""
    data = settings["data"]
    label = os.fspath(data) if isinstance(data, (str, os.PathLike)) else "given"
    chosen = {name: settings[name] for name in ("samples", "profile") if settings.get(name)}
    return {"data": label, **chosen}


def _memory(settings: Mapping[str, Any]) -> int:
    """Bytes that the data of some settings may make pruning take."""
    return int(settings.get("memory") or DEFAULTS["memory"])


def open_samples(traced: Trace, settings: Mapping[str, Any]) -> Held:
    """The samples of some settings, without labels; in enough batches for parts of them."""
    from ..moments.bound import fitting
    from ..moments.held import Held

    memory = _memory(settings)
    data = fitting(traced, chosen_samples(traced, settings), memory)
    found = Held(data, memory // 4)
    if found.count < PARTS and free_batch(declared_dims(traced.model.proto)):
        return Held(data.divided(max(1, found.samples // PARTS)), memory // 4)
    return found


def chosen_samples(traced: Trace, settings: Mapping[str, Any]) -> DataSet:
    """As many samples as are asked for, or ``SAMPLES``; all of a DataSet, which is a choice."""
    options: Any = {name: settings.get(name) for name in ("samples", "profile")}
    return open_data(traced, settings["data"], labels=False, most=SAMPLES, **options)


def recover_model(
    traced: Trace,
    sizes: Sizes,
    slim: Model,
    settings: Mapping[str, Any],
    how: str,
    provider: str,
    progress: Progress | None = None,
) -> Recovery:
    """Weights for a slim model, or none where they would not bring it closer to the original.

    Parameters
    ----------
    settings : mapping
        ``data``, ``samples``, ``profile``, ``memory`` and ``seed``.
    how : str
        See :class:`onnxprune.recovery.walk.Way`.
    """
    from ..moments.second import silent
    from .harm import OriginalOutputs
    from .judges import apart
    from .walk import Way, recover

    samples = open_samples(traced, settings)
    device = choose_provider(provider)
    data, judges = apart(samples, JUDGES, traced.model, slim, device)
    asked = Way(how, _memory(settings), settings.get("seed") or 0, device)
    found = recover(traced, sizes, slim, data, asked, progress or silent)
    options = {**found.options, "samples": samples.samples, "data": samples.sha256}
    found = replace(found, options=options)
    reference = OriginalOutputs(traced.model, judges, device)
    before, after = reference.of(slim), reference.of(found.apply(slim))
    if after > before * (1 - GAIN):
        outcomes = tuple(
            replace(o, how="", reason=o.reason or "together they brought the outputs no closer")
            for o in found.outcomes
        )
        return Recovery({}, outcomes, {**options, "harm": [before, before]})
    return replace(found, options={**options, "harm": [before, after]})


def told(progress: Callable[[str], None], stage: str) -> Progress:
    """Progress by layers or groups, as that of the stages of pruning."""
    return lambda done, total: progress(f"{stage} {done}/{total}")


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
