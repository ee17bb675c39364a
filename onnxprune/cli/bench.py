"""Latency, memory, MACs, parameters and size of two models, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import options, output
from .progress import say, stages

if TYPE_CHECKING:
    from ..jobs.bench import Bench


@click.command(cls=options.Verb)
@click.argument("dense")
@click.argument("slim")
@options.setting("runs", type=click.IntRange(min=1))
@options.data_options
@options.sample_options
@options.pair_options
@options.isolation_options
@options.json_option
def command(dense: str, slim: str, as_json: bool, **flags: Any) -> None:
    """Compare the speed and the size of SLIM with those of DENSE.

    The models run in turns on the first batch, so that whatever else the machine does slows both.
    Activations are the most bytes of intermediate tensors that are alive at once, counted in the
    order of the graph; onnxruntime may do with less.
    """
    from ..jobs.bench import bench

    with stages() as stage:
        stage("verify")
        found = bench(dense, slim, **flags)
    if as_json:
        output.print_json("bench", {"dense": dense, "slim": slim, **found.to_dict()})
    else:
        _show(found)


def _show(found: Bench) -> None:
    before, after = found.latency.medians
    pairs = [
        ("parameters", found.before.parameters, found.after.parameters),
        ("MACs", found.before.macs, found.after.macs),
        ("file size (bytes)", found.before.bytes, found.after.bytes),
        ("activations (bytes)", *found.activations),
    ]
    rows = [("latency (ms)", f"{before:.3f}", f"{after:.3f}", output.share(after, before))]
    rows += [(title, f"{a:,}", f"{b:,}", output.share(b, a)) for title, a, b in pairs]
    output.print_table(["", ">dense", ">slim", ">left"], rows)
    where = found.providers[0] if len(set(found.providers)) == 1 else " and ".join(found.providers)
    say(f"{where}, batch {found.batch}, median of {output.plural(len(found.latency.before), 'run')}")
