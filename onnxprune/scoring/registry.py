"""Names of passes. A pass registers itself when its file in ``passes/`` is imported.

The engine looks passes up by name and has the package loaded on the first look-up, so it depends on
none of them. A pass is a plain function; *traits* say where in the order of operations it stands:

    criterion per layer -> normalizer per layer -> policy over layers -> group policy over blocks
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, blamed, unknown_name
from ..plugins import function, is_path, load_installed, load_ours
from ..settings.spellings import spelled
from .layer import Layer

Scores = npt.NDArray[np.float64]
Criterion = Callable[["Layer"], Scores]
Normalizer = Callable[[Scores], Scores]
Policy = Callable[[Scores], Scores]

F = TypeVar("F", bound=Callable[..., Any])

PASSES: dict[str, dict[str, Any]] = {
    kind: {} for kind in ("criterion", "normalizer", "policy", "recovery", "metric")
}

_TRAITS: dict[int, tuple[Any, str]] = {}
"""Identity of a pass -> the pass and its trait; an object that is called need not be hashable."""

DATA = "data"
"""A criterion that reads ``layer.activation``: scoring needs calibration data."""
MOMENTS = "moments"
"""A criterion of moments of what the consumers of a whole group read, see ``Choose`` in
``onnxprune.moments.removal``: it returns an order of removal with costs that add up. Scoring needs
calibration data; normalizer and policy do not act."""
UNITS = "units"
"""A normalizer that acts on the merged scores of a group, after policy and group policy."""
RAW = "raw"
"""A policy that merges raw scores; the normalizer acts on what it returns."""


def _register(kind: str, name: str, trait: str = "") -> Callable[[F], F]:
    def add(function: F) -> F:
        if not function.__module__.startswith("onnxprune.passes"):
            load_ours("passes")  # first come ours, so that a clash is told where it is made
        if name in PASSES[kind]:
            raise ValueError(f"{kind} '{name}' is registered already")
        PASSES[kind][name] = function
        if trait:
            _TRAITS[id(function)] = function, trait
        return function

    return add


def trait_of(function: Callable[..., Any]) -> str:
    """The trait of a pass; empty where it has none or is not registered."""
    return _TRAITS.get(id(function), (None, ""))[1]


def label_of(given: object) -> str:
    """How a pass is called: by its registered name, or else by that of the function or of its type."""
    if isinstance(given, str):
        return given
    registered = (name for passes in PASSES.values() for name, f in passes.items() if f is given)
    return next(registered, getattr(given, "__name__", type(given).__name__))


def criterion(name: str, *, data: bool = False, moments: bool = False) -> Callable[[F], F]:
    """Register a criterion: layer -> one score per channel of it, higher stays.

    NaN for every channel says that the criterion does not measure this layer. A channel of minus
    infinity is the first to go, and one of infinity the last.

    Parameters
    ----------
    name : str
    data : bool
        Whether it reads ``layer.activation``, so that scoring needs calibration data.
    moments : bool
        Whether it is a function of what the consumers of a group read instead of a layer.
    """
    return _register("criterion", name, MOMENTS if moments else DATA if data else "")


def normalizer(name: str, *, units: bool = False) -> Callable[[F], F]:
    """Register a normalizer: scores of one layer -> comparable scores, in the same order.

    Parameters
    ----------
    name : str
    units : bool
        Whether it acts on the merged scores of a group in place of each layer's.
    """
    return _register("normalizer", name, UNITS if units else "")


def policy(name: str, *, raw: bool = False) -> Callable[[F], F]:
    """Register a policy: scores of coupled layers, shape (layers, channels) -> (channels,).

    An entry is NaN where a layer does not produce the channel.

    Parameters
    ----------
    name : str
    raw : bool
        Whether it merges raw scores, so that the result is normalized in their place.
    """
    return _register("policy", name, RAW if raw else "")


def recovery(name: str) -> Callable[[F], F]:
    """Register a recovery: new weights of a layer, see ``Recover`` in ``onnxprune.moments.joint``.

    Parameters
    ----------
    name : str
    """
    return _register("recovery", name)


def metric(name: str) -> Callable[[F], F]:
    """Register a metric: a measure of outputs, see ``Metric`` in ``onnxprune.checks.accuracy``.

    Parameters
    ----------
    name : str
    """
    return _register("metric", name)


def names(kind: str) -> list[str]:
    """Registered names of one kind, those of installed plugins among them."""
    load_installed()
    load_ours("passes")
    return sorted(PASSES[kind])


def applied(
    where: str, function: Callable[[Any], Any], given: Any, shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """What a pass makes of something.

    Parameters
    ----------
    where : str
        What a message calls the pass.
    shape : tuple of int
        Of the result.

    Raises
    ------
    UsageError
        If it raises anything, exits, or returns something else.
    """
    with blamed(where), np.errstate(all="ignore"):  # results that are not finite are refused by name
        result = np.array(function(given), np.float64)
    if result.shape != shape:
        raise UsageError(f"{where}: found shape {list(result.shape)}, expected {list(shape)}")
    return result


def lookup(kind: str, given: Any) -> Any:
    """The pass of a name, in which ``-`` stands for ``_``; a callable is returned as it is.

    ``module:function`` and ``file.py:function`` name a function that need not be registered.

    Raises
    ------
    UsageError
        If nothing has that name, with the nearest that exists.
    """
    if callable(given):
        return given
    if is_path(given):
        return function(given, kind)
    name = spelled(kind, str(given).replace("-", "_"))
    if name not in names(kind):
        raise unknown_name(kind, str(given), PASSES[kind])
    return PASSES[kind][name]
