"""How important is each channel: by passes over layers (``steps.py``), or by what their consumers read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ..coupling.trace import Trace
from ..data.batches import Data
from ..data.dataset import load_data, open_data
from ..errors import UsageError, unknown_name
from ..runtime.providers import choose_provider
from ..settings.described import described
from ..settings.table import DEFAULTS
from .from_scores import FromScores
from .registry import MOMENTS, PASSES, Criterion, Normalizer, Policy, label_of, lookup, trait_of
from .steps import Steps
from .table import GroupScore, ScoreTable
from .targets import Batches, measure, measured

if TYPE_CHECKING:
    from ..moments.held import Held
    from ..moments.removal import Choose

ODD = "by_weights"
"""What a plan calls the groups that are scored by weights because data make numbers that are not finite."""

FALLBACK = "l2"
"""Criterion of groups whose consumers read what has no moments."""

RUNS = 64
"""Runs on inputs that are made up, where a criterion asks for samples and there are none."""


@np.errstate(all="ignore")  # what overflows is asked for in the results
@described("score")
def score(
    traced: Trace,
    *,
    criterion: str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | Criterion = DEFAULTS["criterion"],
    normalizer: str | Normalizer = DEFAULTS["normalizer"],
    policy: str | Policy = DEFAULTS["policy"],
    data: Data | Held | None = None,
    samples: int | None = None,
    profile: Any = None,
    provider: str = "cpu",
    seed: int = DEFAULTS["seed"],
    memory: int = DEFAULTS["memory"],
) -> ScoreTable:
    """Score every channel of every group that can shrink.

    A unit of several channels gets their mean, or their sum if the model was traced with
    ``group_policy="sum"``.

    Parameters
    ----------
    traced : Trace
    **settings
        Those of the stage ``score`` in ``onnxprune.settings.table``.
    provider : {"auto", "cuda", "tensorrt", "openvino", "cpu"}
        Where the model runs on calibration data.

    Returns
    -------
    ScoreTable
        Higher scores stay.

    Raises
    ------
    UsageError
        If a name is unknown, or a setting needs data and there is none.
    """
    source = Calibration(data, samples, profile, provider, seed, memory)
    steps = Steps(
        _criterion(traced, criterion),
        lookup("normalizer", normalizer),
        lookup("policy", policy),
        np.nansum if traced.options.get("group_policy") == "sum" else np.nanmean,
    )
    passes = {"criterion": criterion, "normalizer": normalizer, "policy": policy}
    options = {name: _label(given) for name, given in passes.items()} | source.recorded
    if trait_of(steps.criterion) == MOMENTS:
        weights = score(traced, criterion=FALLBACK, normalizer="none")
        table = _by_moments(weights, steps, source)
        return replace(table, options=options | ({ODD: table.odd} if table.odd else {}))
    return ScoreTable(traced, _by_layers(traced, steps, source), options)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What scores may be taken of: data, where the model runs on them, and what that may take."""

    data: Data | Held | None
    samples: int | None
    profile: Any
    provider: str
    seed: int
    memory: int

    def __post_init__(self) -> None:
        for name, given in (("samples", self.samples), ("profile", self.profile)):
            if self.data is None and given is not None:
                raise UsageError(f"{name}: found no data, expected some", "Give them with --data.")

    @property
    def recorded(self) -> dict[str, Any]:
        """What a plan records of it."""
        profile = {} if self.profile is None else {"profile": self.profile}
        return {"data": _label(self.data), "samples": self.samples, "seed": self.seed, **profile}

    def batches(self, traced: Trace) -> Batches | None:
        """What gives the activations of some layers; None without data."""
        if self.data is None:
            return None
        from ..data.calibration import activations
        from ..moments.held import Held

        if isinstance(self.data, Held):
            return None
        settings = {"data": self.data, "samples": self.samples, "profile": self.profile}
        return partial(activations, traced, provider=self.provider, **settings)

    def held(self, traced: Trace) -> Held:
        """The samples that moments are taken of: without data, smooth inputs that are made up."""
        from ..moments.bound import fitting
        from ..moments.held import Held

        if isinstance(self.data, Held):
            return self.data
        if self.data is None:
            made = open_data(traced, samples=RUNS, seed=self.seed, smooth=True)
            return Held(made, self.memory // 4)
        data = open_data(traced, self.data, labels=False, samples=self.samples, profile=self.profile)
        return Held(fitting(traced, data, self.memory), self.memory // 4)


def _by_layers(traced: Trace, steps: Steps, source: Calibration) -> dict[str, GroupScore]:
    """Scores of all groups from those of the layers that produce their channels."""
    kernels = measured(traced, steps.criterion, steps.policy, source.data is not None)
    wanted = {(k.tensor, k.axis): k for found in kernels.values() for k in found}
    raw = measure(traced, steps.criterion, wanted, source.batches(traced), source.seed)
    layers = {key: steps.layer(wanted[key], values) for key, values in raw.items()}
    return {
        group.name: steps.group(traced, group, [layers[k.tensor, k.axis] for k in kernels[group.name]])
        for group in traced
    }


def _by_moments(weights: ScoreTable, steps: Steps, source: Calibration) -> ScoreTable:
    """Scores from what the consumers of every group read; from weights where that is not known."""
    from ..moments.ranking import rank
    from ..moments.second import Means

    traced = weights.trace
    means = Means(memory=source.memory, seed=source.seed, provider=choose_provider(source.provider))
    held = source.held(traced)
    found = rank(traced, traced.groups, cast("Choose", steps.criterion), held, means)
    table = dict(weights.scores)
    for name, known in found.items():
        if known.removal is None:
            table[name] = replace(table[name], problem=known.problem)
        else:
            table[name] = GroupScore(table[name].group, (), known.removal.scores, known.removal.costs)
    return ScoreTable(traced, table, ranked=found)


def unseen(options: Mapping[str, Any]) -> str:
    """What to say of scores, by their settings, that inputs which are made up led to; empty of others."""
    passes = PASSES["criterion"].get(str(options.get("criterion")).replace("-", "_"))
    if options.get("data") is not None or passes is None or trait_of(passes) != MOMENTS:
        return ""
    return "channels are chosen on smooth noise: samples (--data) choose better, and recovery needs them"


def _label(given: object) -> object:
    """How a plan records a setting: by its name where it is no plain value."""
    if given is None or isinstance(given, (str, int, float)):
        return given
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    return label_of(given) if callable(given) else "given"


def _criterion(traced: Trace, given: Any) -> Criterion:
    """Criterion of a name, of a table of scores or of a file that holds one."""
    if isinstance(given, os.PathLike) or (isinstance(given, str) and given.endswith(".npz")):
        given = load_data(given)
    if not isinstance(given, Mapping):
        named: Criterion = lookup("criterion", given)
        return named
    layers = {name for group in traced.all_groups for k in group.kernels for name in (k.tensor, k.node.name)}
    for name in given:
        if name not in layers:
            raise unknown_name("layer", name, layers)
    return FromScores(given)
