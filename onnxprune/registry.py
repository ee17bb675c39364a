"""Names of passes. A pass registers itself when its file in ``passes/`` is imported.

The engine looks passes up by name and imports the package on the first look-up, so it depends on
none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from .errors import unknown_name

if TYPE_CHECKING:
    from .scoring import Layer

Scores = npt.NDArray[np.float64]
Criterion = Callable[["Layer"], Scores]
Normalizer = Callable[[Scores], Scores]
Policy = Callable[[Scores], Scores]

F = TypeVar("F", bound=Callable[..., Any])

PASSES: dict[str, dict[str, Any]] = {"criterion": {}, "normalizer": {}, "policy": {}}


def _register(kind: str, name: str) -> Callable[[F], F]:
    def add(function: F) -> F:
        if name in PASSES[kind]:
            raise ValueError(f"{kind} '{name}' is registered already")
        PASSES[kind][name] = function
        return function

    return add


def criterion(name: str) -> Callable[[F], F]:
    """Register a criterion: layer -> one score per channel of it, higher stays."""
    return _register("criterion", name)


def normalizer(name: str) -> Callable[[F], F]:
    """Register a normalizer: scores of one layer -> comparable scores, same order."""
    return _register("normalizer", name)


def policy(name: str) -> Callable[[F], F]:
    """Register a policy: scores of coupled layers, shape (layers, channels) -> (channels,).

    An entry is NaN where a layer does not produce the channel.
    """
    return _register("policy", name)


def names(kind: str) -> list[str]:
    """Registered names of one kind."""
    importlib.import_module("onnxprune.passes")
    return sorted(PASSES[kind])


def lookup(kind: str, given: Any) -> Any:
    """The pass of a name; a callable is returned as it is.

    Raises
    ------
    UsageError
        If nothing has that name, with the nearest that exists.
    """
    if callable(given):
        return given
    if given not in names(kind):
        raise unknown_name(kind, str(given), PASSES[kind])
    return PASSES[kind][given]
