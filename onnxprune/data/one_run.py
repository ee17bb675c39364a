"""Inputs of one run: what is fed to models that are timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ..coupling.trace import Trace
from ..errors import ModelError
from ..runtime.session import Arrays, open_session, run
from ..settings.table import DEFAULTS
from ..shapes.dimensions import SAMPLES, FreeDimensions, free_dimensions, sample_sizes, with_batch
from ..shapes.limits import runs_on_made_up
from ..shapes.made_up import synthetic_inputs
from ..shapes.told import told_sizes
from .batches import Batch, shared_length
from .dataset import open_data, runnable

INPUTS = ("profile", "seed", "samples")
"""Settings of the inputs of a run that is timed; labels have no effect on speed."""


def inputs_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings of a job say of the inputs on which a model is timed."""
    return {name: settings.get(name, DEFAULTS[name]) for name in ("data", "profile", "seed")}


def one_run(
    traced: Trace,
    provider: str,
    data: Any = None,
    batch: int = 1,
    *,
    profile: Any = None,
    seed: int = DEFAULTS["seed"],
    samples: int | None = None,
) -> Batch:
    """The first samples of data, or made-up ones: ``batch`` of them, where the model leaves that open.

    Parameters
    ----------
    data, profile, seed, samples
        As for :func:`onnxprune.data.dataset.open_data`.

    Raises
    ------
    ModelError
        If the model does not run on made-up inputs.
    UsageError
        If the data do not fit.
    """
    if data is not None:
        return _first_of(
            traced, open_data(traced, data, labels=False, samples=samples, profile=profile).first, batch
        )
    with open_session(traced.model, provider) as session:
        return made_up_run(partial(run, session, what="the original"), traced, batch, seed)


def made_up_run(
    attempt: Callable[[Arrays], object], traced: Trace, batch: int = 1, seed: int = DEFAULTS["seed"]
) -> Batch:
    """Made-up inputs on which a model runs.

    Parameters
    ----------
    attempt : callable
        Runs the model on inputs.
    traced : Trace
        Of the model, or of one with the same inputs.

    Raises
    ------
    ModelError
        If it does not run.
    """
    runs_on_made_up(traced.graph, traced.shapes.first)
    for sizes in _candidates(traced, batch):
        feeds = synthetic_inputs(traced.graph, sizes, seed)
        try:
            attempt(feeds)
        except ModelError:
            continue
        return Batch(feeds, shared_length(feeds))
    return runnable(attempt, traced, seed=seed).first


def _candidates(traced: Trace, batch: int) -> Iterator[FreeDimensions]:
    """Sizes of free dimensions: those of the analysis first, all with that batch."""
    proto, told = traced.model.proto, told_sizes(traced.graph)
    known = with_batch(proto, traced.shapes.first.sizes, batch)
    yield known
    if known:
        for sample in range(len(SAMPLES) // 2):  # the others differ in the batch
            yield with_batch(proto, sample_sizes(proto, told, 0, sample), batch)


def _first_of(traced: Trace, found: Batch, batch: int) -> Batch:
    """The first samples of a batch whose size is free."""
    free = {name for name, axis in free_dimensions(traced.model.proto) if axis == 0}
    if not free or found.size <= batch or any(found.feeds[name].shape[0] != found.size for name in free):
        return found
    return Batch({n: a[:batch] if n in free else a for n, a in found.feeds.items()}, batch)
