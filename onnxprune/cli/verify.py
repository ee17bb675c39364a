"""Compare a slim model with its original, and fail where it is wrong or beyond a gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..errors import GateError, SurgeryError, UsageError
from ..printable import plural
from . import options, output
from .files import KeptFile, Target, open_models
from .progress import note, stages
from .verb import Verb

if TYPE_CHECKING:
    from ..checks.report import Report
    from ..model.file import Model
    from ..reports.verification import Verification
    from ..selection.plan import Plan


@click.command(cls=Verb)
@click.argument("dense")
@click.argument("slim")
@click.option("--plan", metavar="FILE", help="Check the surgery, too: compare with DENSE, masked.")
@click.option("--recovery", metavar="FILE.npz", help="Recovered weights of SLIM, written with the plan.")
@options.gate_options
@options.data_options
@options.sample_options
@click.option(
    "--metric",
    metavar="MODULE:FUNCTION",
    help="A measure of your own: function(outputs, labels) -> float, where outputs yields a batch of outputs by name; higher is better.",
)
@click.option(
    "--layers",
    is_flag=True,
    help="Compare layer by layer: entire models, and every node alone. Takes the plan.",
)
@click.option(
    "--retrained",
    is_flag=True,
    help="SLIM was trained since: compare its structure with the plan, its accuracy with DENSE.",
)
@click.option(
    "--plot", cls=Target, metavar="FILE", help="Draw the layers to a .png or .svg file; means --layers."
)
@options.pair_options
@options.setting("also")
@click.option("--junit", cls=Target, metavar="FILE", help="Write JUnit XML.")
@options.markdown_option
@click.option("--sarif", cls=Target, metavar="FILE", help="Write SARIF 2.1.0, for code scanning.")
@click.option(
    "--baseline",
    cls=KeptFile,
    flag="update_baseline",
    metavar="FILE.json",
    help="Compare with earlier runs, which this file holds.",
)
@click.option(
    "--update-baseline", is_flag=True, help="Add this run to that file, or begin one, if all is passed."
)
@options.config_option
@options.plugin_option
@options.isolation_options
@options.html_option
@options.json_option
@options.quiet_option
def command(dense: str, slim: str, plan: str | None, **flags: Any) -> None:
    """Compare SLIM with DENSE, the model that it was made from.

    How far are its outputs from those of DENSE, and how accurate are both on labelled data? With
    the plan also: is the surgery right, that is, does SLIM agree with DENSE to rounding once the
    removed entries are masked in it? The exit code is 1 if the surgery is wrong or a gate fails.
    """
    from .. import Plan, trace
    from ..model.ort_format import OrtModel
    from ..reports.baseline import compared
    from ..reports.verification import Verification

    as_json, quiet, html = (flags.pop(name) for name in ("as_json", "quiet", "html"))
    files = {kind: flags.pop(kind) for kind in ("junit", "markdown", "sarif", "plot")}
    baseline, update = flags.pop("baseline"), flags.pop("update_baseline")
    if update and not baseline:
        raise UsageError("--update-baseline says not which", "Name the file with --baseline.")
    with stages(quiet) as stage:
        stage("load")
        models = open_models(dense, slim, runnable=not flags["retrained"])
        stage("verify")
        loaded = Plan.load(plan) if plan else None
        layered = not flags["retrained"] and not isinstance(models[1], OrtModel)
        flags["layers"] |= bool(files["plot"]) or bool(html and plan and layered)
        report = _compared(models, loaded, **flags)
        runs = compared(baseline, report, *models, new=update) if baseline else None
        found = Verification(dense, slim, report, runs)
        _write(found, **files)
        if runs is not None and update and report:
            runs.save(baseline)
        if html:
            traced = trace(models[0], **(loaded.trace_options if loaded is not None else {}))
            output.write_html(html, found, [dense, slim], traced, loaded, report)
    if report.problem:
        hint = output.wanted(report)
        raise UsageError(report.problem, f"{hint.capitalize()}." if hint else "")
    output.show("verify", found, as_json=as_json, quiet=quiet)
    if not plan:
        note("surgery not checked: it takes the plan (--plan FILE)", quiet)
    _judge(report)


def _compared(models: tuple[Model, ...], plan: Plan | None, retrained: bool, **settings: Any) -> Report:
    """The models side by side; one that was trained since, by its structure."""
    from .. import verify, verify_retrained

    if not retrained:
        return verify(*models, plan=plan, **settings)
    if plan is None:
        raise UsageError("--retrained takes the plan: found none", "Give it with --plan.")
    return verify_retrained(models[0], models[1], plan, **settings)


def _write(
    found: Verification, junit: str | None, markdown: str | None, sarif: str | None, plot: str | None
) -> None:
    """Write the files that were asked for; a report that fails has them, too."""
    from ..files.writing import write_atomically
    from ..reports import sarif as scanning
    from ..reports import tables as reports

    report = found.report
    if junit:
        write_atomically(Path(junit), reports.junit(report).encode())
    if markdown:
        write_atomically(Path(markdown), found.markdown().encode())
    if sarif:
        write_atomically(Path(sarif), scanning.sarif(report, found.slim, __version__).encode())
    if plot and not report.problem:
        from ..reports.layer_plot import plot_layers

        plot_layers(report, plot)


def _judge(report: Report) -> None:
    """Exit code 1 for what failed, named in one line; 2 for a provider that is not there."""
    from ..reports.tables import failure

    failed = [str(gate) for gate in report.gates if not gate]
    if report.wrong is not None:
        where = f" at layer '{report.wrong.layer}'" if report.wrong.layer else ""
        raise SurgeryError(f"the slim model is wrong{where}: {report.headline}")
    if report.left_out:
        raise SurgeryError(f"the slim model is {report.judgement}: {report.headline}")
    if failed:
        raise GateError(f"{plural(len(failed), 'gate')} failed: {'; '.join(failed)}")
    for other in report.elsewhere:
        if other.problem:
            raise UsageError(
                f"not verified on {other.place}: {other.problem}", "'onnxprune doctor' says more."
            )
        if other.failed:
            raise GateError(f"failed on {other.place}: {failure(other)}")
