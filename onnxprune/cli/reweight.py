"""Put the weights of a trained checkpoint into a model."""

from __future__ import annotations

from typing import Any

import click

from . import options, output
from .files import open_models
from .progress import note, stages
from .verb import Verb


@click.command(cls=Verb)
@click.argument("model")
@click.argument("state")
@click.option(
    "--before",
    metavar="STATE",
    help="The checkpoint before it was trained, as 'checkpoint' wrote it: tells by value which entry is which constant.",
)
@options.out_option("Where to write the model.")
@options.isolation_options
@options.json_option
@options.quiet_option
def command(model: str, state: str, before: str | None, out: str, **flags: Any) -> None:
    """Write MODEL to OUT with the weights of STATE, a checkpoint that was trained since.

    Without --before, constants bear the names of entries; a batch normalization that was folded, or
    names that an exporter made up, take it.
    """
    from ..checkpoints.report import TakenWeights
    from ..checkpoints.reweighting import reweight
    from ..checkpoints.stores import read_state

    as_json, quiet = flags["as_json"], flags["quiet"]
    with stages(quiet) as stage:
        stage("load")
        (slim,) = open_models(model)
        trained = read_state(state)
        stage("rewrite")
        found = reweight(slim, trained, read_state(before) if before else None)
        stage("write")
        found.model.save(out)
    told = TakenWeights(model, state, out, found)
    for text in told.notes:
        note(text, quiet)
    output.show("reweight", told, as_json=as_json, quiet=quiet)
