"""Cut the checkpoint that a model was exported from, as a plan cuts the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..reports.page import Part, Table, plural, words
from . import options, output
from .files import Target, open_models
from .progress import note, stages

if TYPE_CHECKING:
    from ..checkpoints.cutting import SlimState


@click.command(cls=options.Verb)
@click.argument("state")
@click.option("--model", required=True, metavar="DENSE.onnx", help="What was exported from STATE.")
@click.option("--plan", required=True, metavar="FILE", help="The plan, written by --plan-out.")
@click.option(
    "-o", "--output", "out", cls=Target, required=True, metavar="OUT", help="Where to write what is left."
)
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

    STATE and OUT are files of PyTorch (.pt, .pth, .bin, .ckpt), .safetensors, or .npz. Where each
    constant of the model comes from is found by value, also where an exporter folded a batch
    normalization into a convolution, transposed a matrix, or split or joined it. What is written gives
    exactly the constants of the slim model; what cannot be told is named, and nothing is written.
    """
    from .. import Plan
    from ..checkpoints.cutting import cut_state
    from ..checkpoints.stores import check_ending, read_state, write_state

    as_json, quiet = flags["as_json"], flags["quiet"]
    check_ending(out)
    with stages(quiet) as stage:
        stage("load")
        dense, *slim = open_models(model, *filter(None, [weights]))
        before = read_state(state)
        stage("rewrite")
        found = cut_state(dense, Plan.load(plan), before, slim[0] if slim else None)
        stage("write")
        write_state(out, found.state)
    if as_json:
        output.print_json("checkpoint", {"state": state, "model": model, "output": out, **_document(found)})
    for text in _notes(found):
        note(text, quiet)
    if not (as_json or quiet):
        output.print_page(_page(before, found, out))


def _document(found: SlimState) -> dict[str, Any]:
    """All that is reported, as JSON types."""
    return {
        "entries": {
            name: {str(k): i.tolist() for k, i in enumerate(cut) if i is not None}
            for name, cut in found.cuts.items()
        },
        "constants": [
            {"name": x.use.name, "node": x.use.node, "origin": str(x.recipe or ""), "reason": x.reason}
            for x in found.origins.links
        ],
        "unread": list(found.unread),
        "difference": found.difference,
        "notes": list(found.notes),
    }


def _notes(found: SlimState) -> list[str]:
    """What a user should know and did not ask for."""
    from ..checkpoints.cutting import listed

    told = [*found.notes]
    if found.unread:
        told.append(f"not in the model, hence left whole: {listed(found.unread)}")
    return told


def _page(before: Any, found: SlimState, out: str) -> list[Part]:
    """What was done."""
    rows = tuple(
        (name, f"{list(before[name].shape)} -> {list(found.state[name].shape)}") for name in found.cuts
    )
    mapped, links = len(found.origins.mapped), len(found.origins.links)
    return [
        Table(words("entry", "shape"), rows, "--json lists all"),
        f"{mapped} of {plural(links, 'constant')} come from the checkpoint; {len(found.cuts)} of {len(before)} entries cut",
        f"the entries give the constants of the slim model (largest difference {found.difference:.2g})",
        f"wrote '{out}'",
    ]
