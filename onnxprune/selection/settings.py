"""Settings of analysis, scoring and selection together: static types, presets, which comes first.

The defaults are those of the table. A preset replaces some of them by those of another tool, a
configuration file replaces both, and what the caller gives replaces all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

import numpy.typing as npt

from ..data.batches import Data
from ..errors import UsageError, unknown_name
from ..plugins import function, is_path
from ..scoring.registry import Criterion, Normalizer, Policy, names
from ..settings.spellings import spelled
from ..settings.table import BUDGETS, OPTIONS, TARGETS
from ..timing.machine import MachineSettings


class TraceSettings(TypedDict, total=False):
    """See :func:`onnxprune.trace`."""

    norm: str
    reshape_channel_axis: int | str | None
    group_policy: str
    parts: str


class ScoreSettings(TypedDict, total=False):
    """See :func:`onnxprune.score`."""

    criterion: str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | Criterion
    normalizer: str | Normalizer
    policy: str | Policy
    data: Data | None
    samples: int | None
    profile: Any
    seed: int
    memory: int


class SelectSettings(TypedDict, total=False):
    """See :func:`onnxprune.select`."""

    ratio: float | Mapping[str, float]
    threshold: float
    keep_macs: float
    keep_params: float
    keep_size: float
    keep_latency: float
    remove: Mapping[str, Sequence[int]]
    scope: str
    allocate: str
    granularity: int | str
    target: str | None
    rounding: str
    min_channels: int
    min_share: float
    exclude: Sequence[str]
    include: Sequence[str]


class RecoverSettings(TypedDict, total=False):
    """See :func:`onnxprune.prune`."""

    recover: str | None


class Settings(TraceSettings, ScoreSettings, SelectSettings, RecoverSettings, MachineSettings, total=False):
    """Settings of the whole pipeline."""


PRESETS: dict[str, Settings] = {
    "tao": {
        "criterion": "l2", "normalizer": "max", "policy": "union", "threshold": 0.1,
        "granularity": 8, "min_channels": 16, "rounding": "up", "min_share": 0.0,
    },
    "netspresso": {
        "criterion": "l2", "normalizer": "standard_score", "policy": "average",
        "group_policy": "average", "reshape_channel_axis": -1, "ratio": 0.5,
        "granularity": 2, "min_channels": 1, "rounding": "nearest", "min_share": 0.0,
    },
    "rknn": {"ratio": 0.0, "granularity": 1},
}  # fmt: skip
"""Defaults of NVIDIA TAO's prune, of the NetsPresso model compressor, and of RKNN's model_pruning:
the clean-up that pruning begins with, and nothing else."""


def check(name: str, value: Any) -> None:
    """Refuse an impossible value.

    Raises
    ------
    UsageError
        Saying what was expected, or the nearest valid name.
    """
    option = OPTIONS[name]
    mixed = name == "criterion" and (not isinstance(value, str) or value.endswith(".npz"))
    if option.registry and is_path(value):
        function(value, option.flag)
        return
    registered = names(option.registry) if option.registry and not mixed else ()
    option.refuse(value, registered)


def _registered(name: str, value: Any) -> Any:
    """The name that a pass is registered under, in which ``_`` stands for ``-``."""
    kind = OPTIONS[name].registry
    plain = value.replace("-", "_") if isinstance(value, str) else value
    return plain if kind and isinstance(value, str) and plain in names(kind) else value


def one_target(given: Mapping[str, Any]) -> None:
    """Refuse targets that contradict each other; budgets may be combined.

    Raises
    ------
    UsageError
    """
    targets = [name for name in TARGETS if given.get(name) is not None]
    if len(targets) > 1 and not set(targets) <= set(BUDGETS):
        first, second = (name.replace("_", "-") for name in targets[:2])
        raise UsageError(f"found both {first} and {second}, expected one of them", "Each says how much goes.")


def merge(preset: str | None, config: Mapping[str, Any], given: Mapping[str, Any]) -> Settings:
    """Settings of a preset, under those of a configuration file, under those that are given.

    Raises
    ------
    UsageError
        If a name or a value is impossible.
    """
    check("preset", preset)
    result: dict[str, Any] = {}
    for layer in (PRESETS[preset] if preset else {}, config, given):
        layer = {name: spelled(name, value) for name, value in layer.items() if value is not None}
        for name, value in [*layer.items()]:
            if name not in Settings.__annotations__:
                raise unknown_name("setting", name, Settings.__annotations__)
            check(name, value)
            layer[name] = _registered(name, value)
        one_target(layer)
        if any(name in layer for name in TARGETS):
            result = {name: value for name, value in result.items() if name not in TARGETS}
        result |= layer
    return cast(Settings, result)


def part(settings: Mapping[str, Any], stage: type) -> dict[str, Any]:
    """The settings of one stage."""
    return {name: settings[name] for name in stage.__annotations__ if name in settings}
