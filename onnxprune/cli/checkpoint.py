"""Cut the checkpoint that a model was exported from, as a plan cuts the model."""

from __future__ import annotations

from typing import Any

import click

from . import options, output
from .files import open_models
from .progress import note, stages
from .verb import Verb


@click.command(cls=Verb)
@click.argument("state")
@click.option("--model", required=True, metavar="DENSE.onnx", help="What was exported from STATE.")
@click.option("--plan", required=True, metavar="FILE", help="The plan, written by --plan-out.")
@options.out_option("Where to write what is left.")
@click.option(
    "--weights",
    metavar="SLIM.onnx",
    help="Take the weights of this slim model: recovered ones are a better start.",
)
@options.isolation_options
@options.json_option
@options.quiet_option
def command(state: str, model: str, plan: str, out: str, weights: str | None, **flags: Any) -> None:
    """Cut STATE, the checkpoint that a model was exported from, as the plan cuts the model.

    STATE and OUT are files of PyTorch (.pt, .pth, .bin, .ckpt), of Keras (.weights.h5, .keras, .h5, .hdf5),
    .safetensors, or .npz; one of Keras is written as a copy of STATE, which says the new sizes. Where each
    constant of the model comes from is found by value, also where an exporter folded a batch
    normalization into a convolution, transposed a matrix, or split or joined it. What is written gives
    exactly the constants of the slim model; what cannot be told is named, and nothing is written.
    """
    from .. import Plan
    from ..checkpoints.cutting import cut_state
    from ..checkpoints.report import CutCheckpoint
    from ..checkpoints.stores import check_target, read_state, write_state

    as_json, quiet = flags["as_json"], flags["quiet"]
    check_target(out, state)
    with stages(quiet) as stage:
        stage("load")
        dense, *slim = open_models(model, *filter(None, [weights]))
        before = read_state(state)
        stage("rewrite")
        found = cut_state(dense, Plan.load(plan), before, slim[0] if slim else None)
        stage("write")
        write_state(out, found.state, state)
    told = CutCheckpoint(state, model, out, before, found)
    for text in told.notes:
        note(text, quiet)
    output.show("checkpoint", told, as_json=as_json, quiet=quiet)
