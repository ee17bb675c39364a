"""Show how much each group hurts when it alone is pruned, at several ratios."""

from __future__ import annotations

from typing import Any

import click

from ..errors import UsageError
from ..settings.table import ALONE, DEFAULTS
from . import options, output
from .progress import stages


@click.command(cls=options.Verb)
@click.argument("model")
@options.setting("ratios", default=",".join(map(str, DEFAULTS["ratios"])))
@click.option(
    "--measure",
    type=options.OneOf("cosine", "relative", "agreement", "accuracy", "drop"),
    help="What the table shows.  [default: accuracy with labels, else cosine]",
)
@options.setting("criterion", cls=options.Pass, help="What chooses the channels.")
@options.setting("granularity", default=ALONE["granularity"])
@options.data_options
@options.sample_options
@options.plugin_option
@options.isolation_options
@options.html_option
@options.json_option
def command(
    model: str, ratios: str, measure: str | None, html: str | None, as_json: bool, **flags: Any
) -> None:
    """Prune each group of MODEL alone, and show what that does to the outputs.

    Groups that hurt little can lose more, those that hurt much less: give such ratios per group in
    Python, or leave groups whole with 'prune --exclude'.
    """
    from .. import trace
    from ..jobs.sensitivity import sensitivity
    from ..reports.comparison import EachAlone

    with stages() as stage:
        stage("verify")
        given = _ratios(ratios)
        traced = trace(model)
        measured = list(sensitivity(traced.model, ratios=given, traced=traced, **flags))
        found = EachAlone(model, measured, measure)
        output.write_html(html, found, [model], traced)
    output.show("sensitivity", found, as_json=as_json)


def _ratios(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"ratios: found '{text}', expected numbers with commas between") from None
