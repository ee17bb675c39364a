"""Tell why channels of a layer stay or go, or what keeps all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import options, output
from .files import Target, open_models
from .progress import note, stages
from .verb import Verb

if TYPE_CHECKING:
    from ..reports.explanation import Explanations


@click.command(cls=Verb)
@click.argument("model")
@click.argument("layer")
@options.selection_options
@options.score_options
@options.trace_options
@options.data_options
@options.machine_options
@click.option("--plan", metavar="FILE", help="Explain a plan, by the settings that it records.")
@click.option(
    "--clean/--no-clean",
    default=True,
    show_default=True,
    help="Remove first what contributes nothing, as 'prune' does.",
)
@click.option("--plot", cls=Target, metavar="FILE.png|svg", help="Draw the sorted scores and the cut.")
@click.option(
    "--compare-kept",
    metavar="N,N,...",
    help="Channels that another tool kept: by which score, and where it differs.",
)
@click.option("--compare", metavar="OTHER.onnx", help="The same, of what another tool made of MODEL.")
@options.plugin_option
@options.isolation_options
@options.json_option
@click.pass_context
def command(context: click.Context, /, model: str, layer: str, **flags: Any) -> None:
    """Tell what the same flags would make "prune" do to LAYER of MODEL, channel by channel.

    LAYER is the name of a node, a weight or a group, or a pattern as for --exclude. For a layer
    that can shrink: the raw and the normalized score in every coupled layer, the merged score, the
    rank, what the target asks, what minimum and granularity make of it, and which channels stay.
    For one that cannot: the way from it to what blocks it.
    """
    from .. import Plan, explain
    from ..selection.settings import Settings

    if flags["plan"]:
        names = ["preset", *Settings.__annotations__]
        options.refuse_beside(context, "--plan", names, "The plan records its settings.")
    plan = Plan.load(flags["plan"]) if flags["plan"] else None
    settings = options.settings(context, flags)
    with stages() as stage:
        stage("load")
        (source,) = open_models(model)
        stage("score")
        found = explain(
            source, layer, plan=plan, **{k: flags[k] for k in ("preset", "clean", "provider")}, **settings
        )
        if flags["plot"]:
            found.plot(flags["plot"])
        elsewhere = _elsewhere(flags)
        if elsewhere is not None:
            from ..jobs.kept_elsewhere import compare_kept

            settings |= {"preset": flags["preset"], "provider": flags["provider"], "plan": plan}
            output_of = compare_kept(source, layer, elsewhere, **settings)
    if elsewhere is None:
        _show(found, flags)
    else:
        output.show("explain", output_of, as_json=flags["as_json"])


def _elsewhere(flags: dict[str, Any]) -> Any:
    """Channels that another tool kept, or its model."""
    text, other = flags["compare_kept"], flags["compare"]
    if text and other:
        raise UsageError("found both --compare-kept and --compare, expected one of them")
    if other:
        return open_models(other)[0]
    if not text:
        return None
    try:
        return [int(number) for number in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"--compare-kept: found '{text}', expected numbers such as 3,22,19") from None


def _show(found: Explanations, flags: dict[str, Any]) -> None:
    if flags["as_json"]:
        output.print_json("explain", {"note": found.note, "groups": found.to_dict()})
    else:
        click.echo(str(found))
    if flags["plot"]:
        note(f"wrote '{flags['plot']}'")
