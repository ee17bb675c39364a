"""Show how much each group hurts when it alone is pruned, at several ratios."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..settings.table import ALONE, DEFAULTS
from . import options, output
from .progress import say, stages

if TYPE_CHECKING:
    from ..jobs.sensitivity import Sensitivity

MEASURES = {
    "cosine": "{:.4f}", "relative": "{:.3g}", "agreement": "{:.1%}", "accuracy": "{:.1%}",
    "drop": "{:+.1%}",
}  # fmt: skip


@click.command(cls=options.Verb)
@click.argument("model")
@options.setting("ratios", default=",".join(map(str, DEFAULTS["ratios"])))
@click.option(
    "--measure",
    type=options.OneOf(*MEASURES),
    help="What the table shows.  [default: accuracy with labels, else cosine]",
)
@options.setting("criterion", cls=options.Pass, help="What chooses the channels.")
@options.setting("granularity", default=ALONE["granularity"])
@options.data_options
@options.sample_options
@options.isolation_options
@options.json_option
def command(model: str, ratios: str, measure: str | None, as_json: bool, **flags: Any) -> None:
    """Prune each group of MODEL alone, and show what that does to the outputs.

    Groups that hurt little can lose more, those that hurt much less: give such ratios per group in
    Python, or leave groups whole with 'prune --exclude'.
    """
    from ..jobs.sensitivity import sensitivity

    with stages() as stage:
        stage("verify")
        found = list(sensitivity(model, ratios=_ratios(ratios), **flags))
    if as_json:
        output.print_json("sensitivity", {"model": model, "groups": [asdict(s) for s in found]})
    else:
        _show(found, measure)


def _ratios(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"ratios: found '{text}', expected numbers with commas between") from None


def _show(found: list[Sensitivity], measure: str | None) -> None:
    """One row per group, one column per ratio."""
    if not found:
        say("nothing can go: 'onnxprune inspect' says why")
        return
    labelled = all(s.accuracy is not None for s in found)
    measure = measure or ("accuracy" if labelled else "cosine")
    if getattr(found[0], measure) is None:
        raise UsageError(
            f"there is no {measure} to show", "Accuracy takes labels, agreement an output of class scores."
        )
    ratios = list(dict.fromkeys(s.ratio for s in found))
    rows: dict[str, list[str]] = {}
    for s in found:
        rows.setdefault(s.group, [f"{s.channels:,}"]).append(MEASURES[measure].format(getattr(s, measure)))
    titles = ["group", ">channels", *(f">-{ratio:.0%}" for ratio in ratios)]
    output.print_table(titles, [(name, *cells) for name, cells in rows.items()])
    say(f"{measure} when one group alone loses that share of its channels")
