"""Every setting of analysis, scoring and selection: types, checks, presets, defaults.

The stages have the defaults of their own signatures. A preset replaces some of them by those of
another tool, a configuration file replaces both, and what the caller gives replaces all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, cast

import numpy.typing as npt

from ..coupling.trace import GROUP_POLICIES, NORMS
from ..errors import UsageError, unknown_name
from ..runtime.session import Arrays
from ..scoring.registry import Criterion, Normalizer, Policy, names
from .rounding import ROUNDINGS

SCOPES = ("layer", "global")
ALLOCATIONS = ("uniform", "global", "harm")


class TraceSettings(TypedDict, total=False):
    """See :func:`onnxprune.trace`."""

    norm: str
    reshape_channel_axis: int | str | None
    group_policy: str


class ScoreSettings(TypedDict, total=False):
    """See :func:`onnxprune.score`."""

    criterion: str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | Criterion
    normalizer: str | Normalizer
    policy: str | Policy
    data: str | os.PathLike[str] | Arrays | None
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
    remove: Mapping[str, Sequence[int]]
    scope: str
    allocate: str
    granularity: int
    rounding: str
    min_channels: int
    min_share: float
    exclude: Sequence[str]
    include: Sequence[str]


class RecoverSettings(TypedDict, total=False):
    """See :func:`onnxprune.prune`."""

    recover: str | None


class Settings(TraceSettings, ScoreSettings, SelectSettings, RecoverSettings, total=False):
    """Settings of the whole pipeline."""


TARGETS = ("ratio", "threshold", "keep_macs", "keep_params", "keep_size", "remove")
"""Settings that say how much goes. A preset's gives way to any that is given."""

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
    "rknn": {"ratio": 0.0},
}  # fmt: skip
"""Defaults of NVIDIA TAO's prune, of the NetsPresso model compressor, and of RKNN's model_pruning:
the clean-up that pruning begins with, and nothing else."""


Check = Callable[[Any], str]
"""What was expected in place of a value; empty where it is fine."""


def _integer(low: int) -> Check:
    def check(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            return "an integer"
        return "" if value >= low else f"at least {low}"

    return check


def _number(expected: str, inside: Callable[[float], bool]) -> Check:
    def check(value: Any) -> str:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if number and inside(value) else expected

    return check


def _ratio(value: Any) -> str:
    one = _number("0 <= ratio < 1", lambda ratio: 0 <= ratio < 1)
    if not isinstance(value, Mapping):
        return one(value)
    return next(filter(None, map(one, value.values())), "")


def _texts(value: Any) -> str:
    fine = isinstance(value, Iterable) and not isinstance(value, str)
    return "" if fine and all(isinstance(v, str) for v in value) else "a list of patterns"


def _indices(value: Any) -> str:
    fine = isinstance(value, Mapping) and all(
        isinstance(v, Iterable) and not isinstance(v, str) and not any(map(_integer(0), v))
        for v in value.values()
    )
    return "" if fine else "lists of channel indices by layer"


_SHARE = _number("a share above 0, at most 1", lambda share: 0 < share <= 1)

CHOICES: dict[str, Callable[[], Iterable[str]]] = {
    "norm": lambda: NORMS,
    "group_policy": lambda: GROUP_POLICIES,
    "scope": lambda: SCOPES,
    "allocate": lambda: ALLOCATIONS,
    "rounding": lambda: ROUNDINGS,
    "preset": lambda: PRESETS,
    "normalizer": lambda: names("normalizer"),
    "policy": lambda: names("policy"),
    "recover": lambda: ("none", "auto", *names("recovery")),
}

CHECKS: dict[str, Check] = {
    "ratio": _ratio,
    "threshold": _number("a number", math.isfinite),
    "keep_macs": _SHARE,
    "keep_params": _SHARE,
    "keep_size": _SHARE,
    "remove": _indices,
    "granularity": _integer(1),
    "min_channels": _integer(1),
    "min_share": _number("a share from 0 to 1", lambda share: 0 <= share <= 1),
    "exclude": _texts,
    "include": _texts,
    "samples": _integer(1),
    "seed": _integer(0),
    "memory": _integer(1),
}

HINTS = {"ratio": "It is the fraction of channels removed."}


def check(name: str, value: Any) -> None:
    """Refuse an impossible value.

    Raises
    ------
    UsageError
        Saying what was expected, or the nearest valid name.
    """
    flag = name.replace("_", "-")
    if value is None or callable(value):
        return
    if name in CHOICES:
        valid = set(CHOICES[name]())
        if str(value).replace("-", "_") not in valid:
            raise unknown_name(flag, str(value), valid)
    expected = CHECKS[name](value) if name in CHECKS else ""
    if expected:
        found = f"{value:g}" if isinstance(value, float) else value
        raise UsageError(f"{flag}: found {found}, expected {expected}", HINTS.get(name, ""))


def one_target(given: Mapping[str, Any]) -> None:
    """Refuse targets that contradict each other; budgets may be combined.

    Raises
    ------
    UsageError
    """
    targets = [name for name in TARGETS if given.get(name) is not None]
    if len(targets) > 1 and not all(name.startswith("keep_") for name in targets):
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
        layer = {name: value for name, value in layer.items() if value is not None}
        for name, value in layer.items():
            if name not in Settings.__annotations__:
                raise unknown_name("setting", name, Settings.__annotations__)
            check(name, value)
        one_target(layer)
        if any(name in layer for name in TARGETS):
            result = {name: value for name, value in result.items() if name not in TARGETS}
        result |= layer
    return cast(Settings, result)


def part(settings: Mapping[str, Any], stage: type) -> dict[str, Any]:
    """The settings of one stage."""
    return {name: settings[name] for name in stage.__annotations__ if name in settings}
