"""Remove what provably contributes nothing: no answer changes."""

from __future__ import annotations

from typing import Any

import click

from ..errors import UsageError
from . import files, options, output
from .files import Out
from .progress import stages
from .verb import Several


@click.command(cls=Several)
@click.argument("model", nargs=-1, required=True)
@options.out_option("Where to write the clean model; - for standard output.", Out)
@click.option(
    "--assume-range",
    multiple=True,
    metavar="[INPUT=]LOW,HIGH",
    help="Values that an input, or every input, is assumed to have: channels go, too, that are zero for all of them. Repeatable.",
)
@click.option(
    "--duplicates/--no-duplicates",
    default=True,
    show_default=True,
    help="Of equal channels keep one, which takes over the weights of the others.",
)
@options.setting("granularity")
@options.setting("target")
@options.plan_out_option
@options.data_options
@options.verify_option
@options.unchanged_option
@options.plugin_option
@options.isolation_options
@options.html_option
@options.json_option
@options.quiet_option
def command(
    model: str, out: str, plan_out: str | None, html: str | None, as_json: bool, quiet: bool, **flags: Any
) -> None:
    """Remove every channel of MODEL that provably contributes nothing, and write the rest to OUT.

    A channel goes if it is zero, if no layer weights it, if it is constant and the next layers can
    add it to their biases, or if it equals another one. A few of them stay where the number of those that
    are left would be slow. The result is compared with MODEL and
    written only if both agree to rounding.
    """
    from .. import clean
    from ..reports.outcome import Cleaning

    refused = flags.pop("fail_if_unchanged")
    flags["assume_range"] = _ranges(flags["assume_range"])
    with stages(quiet) as stage:
        stage("load")
        (source,) = files.open_models(model)
        stage("clean")
        result = clean(source, on_failure="return", **flags)
        if refused:
            files.refuse_unchanged(result, model)
        found = Cleaning(result, model, out, plan_out)
        if found.written:
            stage("write")
            files.write_result(result, out, plan_out)
        output.write_html(html, found, [model], result.trace, result.plan, result.report)
    if as_json:
        output.print_json("clean", found.to_dict())
    output.judge(result.report, "clean", quiet)
    if out == files.STDIO:
        files.send(result)
    elif not (as_json or quiet):
        output.print_page(found.page())


def _ranges(given: tuple[str, ...]) -> dict[str, tuple[float, float]] | None:
    """Ranges by input from ``INPUT=LOW,HIGH`` or ``LOW,HIGH``."""
    ranges = {}
    for text in given:
        name, _, limits = text.rpartition("=")
        try:
            low, high = map(float, limits.split(","))
        except ValueError:
            raise UsageError(f"--assume-range: found '{text}', expected LOW,HIGH or INPUT=LOW,HIGH") from None
        ranges[name or "*"] = low, high
    return ranges or None
