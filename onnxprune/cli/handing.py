"""Verbs of other tools hand over to ``prune``: what runs is the command that they print."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from .progress import note


def hand_over(
    context: click.Context, arguments: Sequence[str], notes: Sequence[str], quiet: bool, as_json: bool
) -> None:
    """Run ``onnxprune prune`` with these arguments, and say so.

    Its folder is made if there is none.
    """
    from .prune import command

    given = [*arguments, *(["--quiet"] if quiet else []), *(["--json"] if as_json else [])]
    for text in notes:
        note(text, quiet)
    note(f"the same as: {shlex.join(['onnxprune', 'prune', *given])}", quiet)
    Path(arguments[arguments.index("-o") + 1]).parent.mkdir(parents=True, exist_ok=True)
    with command.make_context("prune", list(given), parent=context) as inner:
        command.invoke(inner)


def costs(*paths: str) -> list[tuple[int, int, int]]:
    """Parameters, bytes and MACs of models."""
    from .. import load, trace
    from ..selection.cost import cost

    found = []
    for path in paths:
        traced = trace(load(path))
        one = cost(traced, traced.sizes(), traced.model)
        found.append((one.parameters, one.bytes, one.macs))
    return found
