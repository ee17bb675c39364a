"""List every prunable dimension with what hangs on it, and every blocked one with its reason."""

from __future__ import annotations

from typing import Any

import click

from . import options, output
from .progress import note, stages


@click.command(cls=options.Verb)
@click.argument("model")
@options.trace_options
@options.isolation_options
@options.json_option
def command(model: str, as_json: bool, **flags: Any) -> None:
    """List the groups of channels of MODEL: those that can go, and those that cannot and why.

    The shares say how much of the model's parameters and MACs hangs on a group, that is, would
    vanish with all of its channels. Groups overlap in the weights between them, so that the
    shares add up to more than the whole.
    """
    from .. import load, trace
    from ..moments.consumers import Reading
    from ..reports.analysis import describe_group, inspection, obstacles
    from ..selection.cost import cost, mac_terms, parameter_terms
    from ..selection.meter import hanging

    with stages() as stage:
        stage("load")
        source = load(model)
        stage("trace")
        traced = trace(source, **flags)
        whole = cost(traced, traced.sizes(), source)
        costs = {"parameters": parameter_terms(traced), "macs": mac_terms(traced)}
        document: dict[str, Any] = {
            "model": {"path": model, "nodes": len(source.proto.graph.node), "opset": source.opset},
            "options": dict(traced.options),
            "cost": whole.to_dict(),
            "channels": traced.units,
            "groups": [
                {**describe_group(group), **shares}
                for group, shares in zip(traced, hanging(traced, costs), strict=True)
            ],
            "blocked": [{**describe_group(g), "reason": g.reason} for g in traced.blocked],
            "obstacles": obstacles(traced),
            "notes": list(traced.notes),
        }
    for text in traced.notes:
        note(text)
    if as_json:
        reading = Reading(traced)
        for entry, group in zip(document["groups"], traced, strict=True):
            entry |= reading.of(group).to_dict()
        output.print_json("inspect", document)
    else:
        output.print_page(inspection(traced, document))
