"""Show versions, execution providers, and whether CUDA really runs."""

from __future__ import annotations

import click

from .. import __version__
from . import options, output
from .progress import note
from .verb import Verb


@click.command(cls=Verb)
@options.json_option
def command(as_json: bool) -> None:
    """Show versions, execution providers, and whether CUDA really runs here."""
    from ..reports.installation import installation

    found = installation(__version__)
    output.show("doctor", found, as_json=as_json)
    if found.problems["onnxruntime"] and not as_json:
        note(found.problems["onnxruntime"])
