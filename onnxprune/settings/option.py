"""One setting, and what its values may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from ..errors import UsageError, unknown_name

Check = Callable[[Any], str]
"""What was expected in place of a value; empty where it is fine."""


def anything(value: Any) -> str:
    """Of values that are checked where they are used."""
    return ""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    Attributes
    ----------
    name : str
        As in Python; flags and TOML files may have ``-`` for ``_``.
    stages : tuple of str
        Who takes it: trace, score, select, recover, data, gates; job for whole jobs, pair for jobs
        on two models, bench, sensitivity.
    type : str
        Annotation.
    default : object
        None where what happens depends on other settings; ``unset`` tells it then.
    help : str
        One or two sentences; other settings are called by their flags.
    detail : str
        More of it, for the docstring.
    choices : tuple
        The values that are allowed; empty for others.
    registry : str
        Kind of the passes whose names are allowed beside the choices.
    metavar : str
        What stands for a value on the command line.
    unset : str
        What happens by default, where ``default`` does not say it.
    hint : str
        Advice after an error.
    """

    name: str
    stages: tuple[str, ...]
    type: str
    default: Any
    help: str
    detail: str = ""
    choices: tuple[str | int, ...] = ()
    check: Check = anything
    registry: str = ""
    metavar: str = ""
    unset: str = ""
    hint: str = ""

    @property
    def flag(self) -> str:
        """Name on the command line, without the leading dashes."""
        return self.name.replace("_", "-")

    def refuse(self, value: Any, registered: Iterable[str] = ()) -> None:
        """Refuse an impossible value; None and functions pass.

        Parameters
        ----------
        registered : iterable of str
            Names of passes that are allowed beside the choices.

        Raises
        ------
        UsageError
            Saying what was expected, or the nearest valid name.
        """
        if value is None or callable(value):
            return
        valid = (*self.choices, *registered)
        plain = value.replace("-", "_") if isinstance(value, str) else value
        if valid and (isinstance(value, bool) or (value not in valid and plain not in valid)):
            raise unknown_name(self.flag, str(value), map(str, valid))
        if expected := self.check(value):
            found = f"{value:g}" if isinstance(value, float) else value
            raise UsageError(f"{self.flag}: found {found}, expected {expected}", self.hint)


def integer(low: int) -> Check:
    """An integer that is at least so large."""

    def check(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, Integral):
            return "an integer"
        return "" if int(value) >= low else f"at least {low}"

    return check


def number(expected: str, inside: Callable[[float], bool]) -> Check:
    """A number of some range."""

    def check(value: Any) -> str:
        fine = isinstance(value, Real) and not isinstance(value, bool)
        return "" if fine and inside(float(value)) else expected

    return check


not_nan = number("a number", lambda value: value == value)
finite = number("a number", math.isfinite)
share = number("a share above 0, at most 1", lambda value: 0 < value <= 1)


def granularity(value: Any) -> str:
    """A positive number, or ``auto``."""
    if isinstance(value, str):
        return "" if value == "auto" else "a number, or auto"
    return integer(1)(value)


def ratio(value: Any) -> str:
    """One fraction, or a mapping to fractions."""
    one = number("0 <= ratio < 1", lambda ratio: 0 <= ratio < 1)
    if not isinstance(value, Mapping):
        return one(value)
    return next(filter(None, map(one, value.values())), "")


def patterns(value: Any) -> str:
    """Several texts."""
    fine = isinstance(value, Iterable) and not isinstance(value, str)
    return "" if fine and all(isinstance(v, str) for v in value) else "a list of patterns"


def indices(value: Any) -> str:
    """Indices by layer."""
    fine = isinstance(value, Mapping) and all(
        isinstance(v, Iterable) and not isinstance(v, str) and not any(map(integer(0), v))
        for v in value.values()
    )
    return "" if fine else "lists of channel indices by layer"
