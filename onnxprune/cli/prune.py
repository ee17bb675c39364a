"""Remove channels from a model, check the result and write it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import files, options, output
from .files import Out, Target
from .progress import note, stages
from .verb import Several

if TYPE_CHECKING:
    from ..model.file import Model
    from ..reports.outcome import Pruning, Quantized
    from ..reports.result import Result

VERIFIED_WITH = ("data", "profile", "seed", "samples", "recover", "memory")
"""Settings that have an effect next to a plan."""


@click.command(cls=Several)
@click.argument("model", nargs=-1, required=True)
@options.out_option("Where to write the slim model; - for standard output.", Out)
@options.selection_options
@options.score_options
@options.trace_options
@click.option("--plan", metavar="FILE", help="Replay a plan: nothing is scored or selected.")
@options.plan_out_option
@click.option(
    "--clean/--no-clean",
    default=True,
    show_default=True,
    help="Remove first what contributes nothing; see 'onnxprune clean'.",
)
@options.data_options
@options.machine_options
@options.recover_options
@click.option("--recovery", metavar="FILE.npz", help="Recovered weights that belong to --plan.")
@click.option("--recovery-out", cls=Target, metavar="FILE.npz", help="Write the recovered weights.")
@click.option(
    "--quantize",
    cls=Target,
    metavar="FILE.onnx",
    help="Write the slim model in 8 bits, too, by onnxruntime's quantizer on --data.",
)
@options.verify_option
@options.unchanged_option
@options.plugin_option
@options.isolation_options
@options.html_option
@options.json_option
@options.quiet_option
@click.pass_context
def command(context: click.Context, /, model: str, out: str, **flags: Any) -> None:
    """Remove channels from MODEL and write the slim model to OUT.

    The slim model computes the original with the removed entries absent. It is compared with the
    original in which those are masked to zero, and written only if both agree to rounding. MODEL
    itself is never changed. Several models, or folders of them, are written into the folder OUT, which
    is made if there is none.
    """
    from .. import Plan, prune, trace
    from ..reports.outcome import Pruning

    settings = _settings(context, flags)
    with stages(flags["quiet"]) as stage:
        stage("load")
        (source,) = files.open_models(model)
        plan = Plan.load(flags["plan"]) if flags["plan"] else None
        result = prune(source, plan=plan, on_failure="return", progress=stage, **settings)
        if flags["fail_if_unchanged"]:
            files.refuse_unchanged(result, model)
        found = Pruning(result, model, out, flags["plan_out"], _slower(source, result, flags))
        if flags["quantize"] and found.written:
            stage("quantise")
            found = replace(found, quantized=_quantized(source, result, flags))
        notes = (*found.notes, *found.not_recovered, *found.doubts)
        if found.written:
            stage("write")
            files.write_result(result, out, flags["plan_out"], flags["recovery_out"], found.quantized)
        if flags["html"]:
            whole = result.trace if result.log is None else trace(source, **result.plan.trace_options)
            output.write_html(flags["html"], found, [model], whole, result.plan, result.report)
    _tell(found, result, notes, flags)


def _settings(context: click.Context, flags: dict[str, Any]) -> dict[str, Any]:
    """What :func:`onnxprune.prune` is told; flags that would have no effect are refused."""
    from ..selection.settings import Settings

    decided = {"preset", *Settings.__annotations__}.difference(VERIFIED_WITH)
    if flags["plan"]:
        options.refuse_beside(context, "--plan", decided, "The plan says what is kept.")
    found = options.settings(context, flags)
    if flags["quantize"] and flags["data"] is None:
        raise UsageError("--quantize takes samples: found no data", "Give them with --data.")
    return found | {name: flags[name] for name in ("preset", "provider", "verify", "clean", "recovery")}


def _slower(source: Model, result: Result, flags: dict[str, Any]) -> str:
    """What is said of a slim model that takes longer; empty where it does not, or was timed before."""
    from ..jobs.pace import slower
    from ..reports.outcome import unchanged

    if not flags["verify"] or result.latency is not None or unchanged(result.plan):
        return ""
    work = result.report.work if result.report else None
    return slower(source, result.model, result.trace, flags["provider"], work)


def _tell(found: Pruning, result: Result, notes: Iterable[str], flags: dict[str, Any]) -> None:
    """Say what was made, and end with an error where a check failed."""
    if flags["as_json"]:
        output.print_json("prune", found.to_dict())
    output.judge(result.report, "slim", flags["quiet"])
    for text in notes:
        note(text, flags["quiet"])
    if found.out == files.STDIO:
        files.send(result)
    elif not (flags["as_json"] or flags["quiet"]):
        output.print_page(found.page())


def _quantized(source: Model, result: Result, flags: dict[str, Any]) -> Quantized:
    """The slim model in 8 bits, and how far that is from the original."""
    from .. import quantize, verify
    from ..reports.outcome import Quantized

    given = {name: flags[name] for name in ("data", "samples", "profile")}
    small = quantize(result.model, traced=result.trace, **given)
    report = verify(source, small, provider=flags["provider"], **given) if flags["verify"] else None
    return Quantized(small, flags["quantize"], report, result.model.nbytes())


def hand_over(
    context: click.Context, arguments: Sequence[str], notes: Sequence[str], quiet: bool, as_json: bool
) -> None:
    """Run this verb for one of another tool, and say with which arguments; its folder is made."""
    given = [*arguments, *(["--quiet"] if quiet else []), *(["--json"] if as_json else [])]
    for text in notes:
        note(text, quiet)
    note(f"the same as: {shlex.join(['onnxprune', 'prune', *given])}", quiet)
    Path(arguments[arguments.index("-o") + 1]).parent.mkdir(parents=True, exist_ok=True)
    with command.make_context("prune", list(given), parent=context) as inner:
        command.invoke(inner)
