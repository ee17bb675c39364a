"""Signatures and docstrings from the table."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from .option import Option
from .table import of

F = TypeVar("F", bound=Callable[..., Any])

PLACE = re.compile(r"^( *)\*\*settings\n(?:\1 +\S.*\n)*", re.MULTILINE)
"""The entry of a docstring in whose place those of the settings come."""

WIDTH = 100


def described(*stages: str) -> Callable[[F], F]:
    """Show the settings of some stages in the signature and in the docstring of a function.

    The signature gets those that ``**settings`` collects; the docstring gets them in place of its
    entry ``**settings``, but for those that have an entry of their own.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        if len(kept) < len(signature.parameters):
            kept += [_parameter(o) for o in of(*stages) if o.name not in signature.parameters]
            setattr(function, "__signature__", signature.replace(parameters=kept))  # noqa: B010
        if text := function.__doc__:  # python -OO drops it
            function.__doc__ = PLACE.sub(lambda place: _entries(text, place[1], stages), text)
        return function

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    unset = option.default is None and "None" not in option.type and option.type != "Any"
    annotation = f"{option.type} | None" if unset else option.type
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(option.name, kind, default=option.default, annotation=annotation)


def _entries(text: str, indent: str, stages: tuple[str, ...]) -> str:
    """The entries of all settings that a docstring lacks."""
    own = re.findall(rf"^{indent}(\w[\w, ]*) :", text, re.MULTILINE)
    named = {name for names in own for name in names.split(", ")}
    rows = (option for option in of(*stages) if option.name not in named)
    return textwrap.indent("".join(map(entry, rows)), indent)


def entry(option: Option) -> str:
    """A setting as numpydoc shows it."""
    shown = ", ".join(map(repr, option.choices))
    kind = f"{{{shown}}}" if option.choices and not option.registry else option.type
    default = f"default: {_called(option.unset)}" if option.unset else f"default {option.default!r}"
    if option.default is None and not option.unset:
        default = "optional"
    story = _called(f"{option.help} {option.detail}".strip())
    body = textwrap.indent(textwrap.fill(story, WIDTH - 8, break_on_hyphens=False), "    ")
    return f"{option.name} : {kind}, {default}\n{body}\n"


def _called(text: str) -> str:
    """Settings called by their names in Python."""
    return re.sub(r"--([a-z][a-z-]*)", lambda flag: f"``{flag[1].replace('-', '_')}``", text)
