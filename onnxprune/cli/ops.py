"""Print the table of rules: what happens to channels at every operator."""

from __future__ import annotations

import click

from . import options, output
from .verb import Verb


@click.command(cls=Verb)
@click.argument("patterns", metavar="[OPERATOR]...", nargs=-1)
@options.plugin_option
@options.json_option
def command(patterns: tuple[str, ...], as_json: bool) -> None:
    """Print the table of rules: what happens to channels at every operator.

    OPERATOR is a name or a pattern such as "Reduce*" or "com.microsoft::*"; without any, all are shown.
    """
    from ..reports.operators import operators

    output.show("ops", operators(*patterns), as_json=as_json)
