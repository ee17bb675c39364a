"""RKNN-Toolkit's model_pruning, on an ONNX file."""

from __future__ import annotations

import click

from . import options
from .progress import say
from .prune import hand_over
from .verb import Verb


@click.command(cls=Verb)
@click.argument("model")
@click.option(
    "-o", "--output", "out", required=True, metavar="OUT", help="A .onnx file, or a folder; it is made."
)
@click.option(
    "--model_pruning/--no-model_pruning",
    "--model-pruning/--no-model-pruning",
    "pruning",
    default=True,
    help="As in rknn.config; without it nothing goes.",
)
@options.json_option
@options.quiet_option
@click.pass_context
def command(
    context: click.Context, /, model: str, out: str, pruning: bool, as_json: bool, quiet: bool
) -> None:
    """Remove what contributes nothing from MODEL, as rknn.config(model_pruning=True) does."""
    from ..doors.counted import counted
    from ..doors.rknn import arguments, results

    handed = arguments(model, out)
    hand_over(context, [*handed, *(() if pruning else ("--no-clean",))], (), quiet, as_json)
    if not (quiet or as_json):
        say(results(counted(handed[0]), counted(handed[2])))
