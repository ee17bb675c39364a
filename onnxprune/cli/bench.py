"""Latency, memory, MACs, parameters and size of two models, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import options, output
from .files import open_models
from .progress import stages
from .verb import Verb


@click.command(cls=Verb)
@click.argument("dense")
@click.argument("slim")
@options.setting("runs", type=click.IntRange(min=1))
@options.data_options
@options.sample_options
@options.pair_options
@options.plugin_option
@options.machine_options
@options.markdown_option
@options.isolation_options
@options.html_option
@options.json_option
def command(
    dense: str, slim: str, html: str | None, markdown: str | None, as_json: bool, **flags: Any
) -> None:
    """Compare the speed and the size of SLIM with those of DENSE.

    The models run in turns on the first batch, so that whatever else the machine does slows both, and
    with onnxruntime's default options, as they would in a program, but that threads do not spin between
    runs. Two sessions of one file differ, so several pairs of them are opened, until they agree. What
    operators take is what the profiler says of the optimized graphs; the kernels of convolutions in the
    blocked layout are the fast ones. Activations are the most bytes of intermediate tensors that are alive
    at once, counted in the order of the graph; onnxruntime may do with less.
    """
    from .. import trace
    from ..files.writing import write_atomically
    from ..jobs.bench import bench
    from ..reports.comparison import SideBySide
    from ..reports.tables import markdown_page

    with stages() as stage:
        stage("verify")
        models = open_models(dense, slim)
        found = SideBySide(dense, slim, bench(*models, **flags))
        if markdown:
            write_atomically(Path(markdown), markdown_page("onnxprune bench", found).encode())
        if html:
            output.write_html(html, found, [dense, slim], trace(models[0]))
    output.show("bench", found, as_json=as_json)
