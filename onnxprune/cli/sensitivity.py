"""Show how much each group hurts when it alone is pruned, at several ratios."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..settings.table import ALONE, BUDGETS, DEFAULTS, OPTIONS
from . import options, output
from .files import Target, open_models
from .progress import note, stages
from .values import OneOf, Pass
from .verb import Verb

if TYPE_CHECKING:
    from ..model.file import Model
    from ..recovery.forecast import Forecast
    from ..reports.page import Reported


@click.command(cls=Verb)
@click.argument("model")
@options.setting("ratios", default=",".join(map(str, DEFAULTS["ratios"])))
@click.option(
    "--measure",
    type=OneOf("cosine", "relative", "agreement", "accuracy", "drop"),
    help="What the table shows.  [default: accuracy with labels, else cosine]",
)
@options.setting(
    "criterion", cls=Pass, help="What chooses the channels; for a budget reconstruction, where none is named."
)
@options.setting("granularity", default=ALONE["granularity"])
@options.budget_options
@click.option(
    "--ratio-out",
    cls=Target,
    metavar="FILE.toml",
    help="Write what a budget leaves of every group, for 'prune --ratio'.",
)
@click.option(
    "--probes",
    metavar="FILE.json",
    help="Keep what is measured for a budget in a file, and go on with what it holds.",
)
@options.setting("memory")
@options.latency_option
@options.data_options
@options.machine_options
@options.sample_options
@options.plugin_option
@options.isolation_options
@options.html_option
@options.json_option
@click.pass_context
def command(context: click.Context, /, model: str, html: str | None, as_json: bool, **flags: Any) -> None:
    """Prune each group of MODEL alone, and show what that does to the outputs.

    With a budget and --data, half of each group goes, the layers behind it are refitted, and what that
    does to held-out samples tells what the budget would do as a whole, before anything is cut.
    """
    from .. import trace
    from ..jobs.sensitivity import sensitivity
    from ..reports.comparison import EachAlone
    from ..reports.forecast import Expected
    from ..timing.model import timed

    measure, ratios, mine = (flags.pop(name) for name in ("measure", "ratios", "ratio_out"))
    own = {name: flags.pop(name) for name in (*BUDGETS, "probes", "memory")}
    clock = {name: flags.pop(name) for name in ("latency", "threads", "batch")}
    doubts = ""
    with stages() as stage:
        stage("load")
        (source,) = open_models(model)
        if any(own[name] is not None for name in BUDGETS):
            told = _forecast(context, source, mine, {**flags, **own, **clock}, stage)
            found: Reported = Expected(model, told)
            doubts, traced = told.doubts, trace(source)
        else:
            _refuse(mine, own["probes"])
            stage("verify")
            given = _ratios(ratios)
            traced = trace(source)
            latency = timed(traced, provider=flags["provider"], **clock)
            measured = list(sensitivity(traced.model, ratios=given, traced=traced, latency=latency, **flags))
            found = EachAlone(model, measured, measure)
        output.write_html(html, found, [model], traced)
    output.show("sensitivity", found, as_json=as_json)
    if doubts:
        note(doubts)


def _refuse(*given: str | None) -> None:
    for flag, value in zip(("ratio-out", "probes"), given, strict=True):
        if value is not None:
            raise UsageError(
                f"{flag} takes a budget: found none", f"Give one, such as --{OPTIONS[BUDGETS[0]].flag}."
            )


def _forecast(
    context: click.Context,
    model: Model,
    path: str | None,
    flags: dict[str, Any],
    stage: Callable[[str], None],
) -> Forecast:
    """What a budget is expected to do; its ratios are written."""
    from ..files.writing import write_atomically
    from ..jobs.forecast import forecast

    unused = "labels", "ratios", "measure", "latency"
    options.refuse_beside(context, "a budget", unused, "Harm is measured without labels.")
    told = click.core.ParameterSource.COMMANDLINE
    settings = {name: v for name, v in flags.items() if context.get_parameter_source(name) is told}
    found = forecast(model, progress=stage, **{**settings, "provider": flags["provider"]})
    if path is not None:
        write_atomically(Path(path), ratio_file(found.ratios).encode())
    return found


def ratio_file(ratios: dict[str, float]) -> str:
    """Ratios by group as TOML."""
    lines = [f"{json.dumps(name)} = {ratio!r}\n" for name, ratio in ratios.items()]
    return "".join(["[ratio]\n", *lines])


def _ratios(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"ratios: found '{text}', expected numbers with commas between") from None
