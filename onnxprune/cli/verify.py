"""Compare a slim model with its original, output by output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import SurgeryError, UsageError
from . import options, output
from .progress import note, stages

if TYPE_CHECKING:
    from ..verify import Report


@click.command()
@click.argument("dense")
@click.argument("slim")
@click.option("--plan", metavar="FILE", help="Check the surgery, too: compare with DENSE, masked.")
@options.data_options
@options.json_option
@options.quiet_option
def command(dense: str, slim: str, plan: str | None, **flags: Any) -> None:
    """Compare SLIM with DENSE, the model that it was made from.

    Two questions: how far are its outputs from those of DENSE (cosine, relative L2, max-abs)?
    With the plan also: is the surgery right, that is, does SLIM agree with DENSE to rounding once
    the removed entries are masked in it? The exit code is 1 if the surgery is wrong.
    """
    from .. import Plan
    from .. import verify as compare

    as_json, quiet = flags.pop("as_json"), flags.pop("quiet")
    with stages(quiet) as stage:
        stage("verify")
        report = compare(dense, slim, plan=Plan.load(plan) if plan else None, **flags)
    if report.problem:
        raise UsageError(report.problem, "Give inputs with --data.")
    if as_json:
        output.print_json("verify", {"dense": dense, "slim": slim, **report.to_dict()})
    elif not quiet:
        _show(report)
    if not plan:
        note("surgery not checked: it takes the plan (--plan FILE)", quiet)
    if not report:
        raise SurgeryError(f"the slim model is wrong: {output.verdict(report)}")


def _show(report: Report) -> None:
    outputs = {d.output: d for d in report.surgery if report.method == "end to end"}
    rows = []
    for change in report.change:
        surgery = outputs.get(change.output)
        checked = f"{surgery.relative:.1e}" if surgery else "-"
        limit = f"{surgery.tolerance:.0e}" if surgery else "-"
        measured = f"{change.cosine:.6f}", f"{change.relative:.4g}", f"{change.max_abs:.4g}"
        rows.append((change.output, checked, limit, *measured))
    titles = ["output", ">surgery", ">accepted", ">cosine", ">rel. L2", ">max-abs"]
    output.print_table(titles, rows)
    wrong = [d for d in report.surgery if not d and d.output not in outputs]
    if wrong:
        found = [(d.output, f"{d.relative:.1e}", f"{d.tolerance:.0e}") for d in wrong]
        titles = ["wrong tensor", ">surgery", ">accepted"]
        output.print_table(titles, found, limit=output.LIMIT, rest="--json lists all")
    click.echo(output.verdict(report))
