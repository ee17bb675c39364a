"""List every prunable dimension with what hangs on it, and every blocked one with its reason."""

from __future__ import annotations

from typing import Any

import click

from . import options, output
from .files import open_models
from .progress import note, stages
from .verb import Verb


@click.command(cls=Verb)
@click.argument("model")
@options.trace_options
@options.latency_option
@options.setting("provider")
@options.machine_options
@options.plugin_option
@options.isolation_options
@options.html_option
@options.json_option
def command(model: str, html: str | None, as_json: bool, **flags: Any) -> None:
    """List the groups of channels of MODEL: those that can go, and those that cannot and why.

    The shares say how much of the model's parameters and MACs hangs on a group, that is, would
    vanish with all of its channels. Groups overlap in the weights between them, so that the
    shares add up to more than the whole. With --latency the model is run and timed, and the table says
    how many milliseconds hang on a group.
    """
    from .. import trace
    from ..reports.analysis import inspected
    from ..timing.model import timed

    asked = {name: flags.pop(name) for name in ("latency", "provider", "threads", "batch")}

    with stages() as stage:
        stage("load")
        (source,) = open_models(model)
        stage("trace")
        traced = trace(source, **flags)
        found = inspected(traced, model, timed(traced, **asked))
        output.write_html(html, found, [model], traced)
    for text in found.notes:
        note(text)
    output.show("inspect", found, as_json=as_json)
