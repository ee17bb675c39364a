"""Print the table of rules: what happens to channels at every operator."""

from __future__ import annotations

import click

from . import options, output
from .verb import Verb


@click.command(cls=Verb)
@options.plugin_option
@options.json_option
def command(as_json: bool) -> None:
    """Print the table of rules: what happens to channels at every operator."""
    from ..reports.operators import operators

    output.show("ops", operators(), as_json=as_json)
