"""Remove channels from a model, check the result and write it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import files, options, output
from .files import Out, Target
from .progress import note, stages
from .several import Several

if TYPE_CHECKING:
    from ..jobs.result import Result
    from ..model.file import Model
    from ..reports.outcome import Quantized

VERIFIED_WITH = ("data", "profile", "seed", "samples", "recover", "memory")
"""Settings that have an effect next to a plan."""


@click.command(cls=Several)
@click.argument("model", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "out",
    cls=Out,
    required=True,
    metavar="OUT",
    help="Where to write the slim model; - for standard output.",
)
@options.selection_options
@options.score_options
@options.trace_options
@click.option("--plan", metavar="FILE", help="Replay a plan: nothing is scored or selected.")
@click.option("--plan-out", cls=Target, metavar="FILE", help="Write the plan: what is kept in every layer.")
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
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Check the result before it is written."
)
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
    from ..jobs.pace import slower
    from ..reports.outcome import Pruning, unchanged
    from ..selection.settings import Settings

    plan, plan_out = flags["plan"], flags["plan_out"]
    as_json, quiet = flags["as_json"], flags["quiet"]
    decided = {"preset", *Settings.__annotations__}.difference(VERIFIED_WITH)
    ignored = options.given(context, sorted(decided)) if plan else []
    if ignored:
        raise UsageError(f"{ignored[0]} has no effect with --plan", "The plan says what is kept.")
    settings = options.settings(context, flags)
    settings |= {name: flags[name] for name in ("preset", "provider", "verify", "clean", "recovery")}
    if flags["quantize"] and flags["data"] is None:
        raise UsageError("--quantize takes samples: found no data", "Give them with --data.")
    with stages(quiet) as stage:
        stage("load")
        (source,) = files.open_models(model)
        replayed = Plan.load(plan) if plan else None
        result = prune(source, plan=replayed, on_failure="return", progress=stage, **settings)
        if flags["fail_if_unchanged"]:
            files.refuse_unchanged(result, model)
        timed = flags["verify"] and result.latency is None and not unchanged(result.plan)
        work = result.report.work if result.report else None
        told = slower(source, result.model, result.trace, flags["provider"], work) if timed else ""
        found = Pruning(result, model, out, plan_out, told)
        if flags["quantize"] and found.written:
            stage("quantise")
            found = replace(found, quantized=_quantized(source, result, flags))
        notes = (*found.notes, *found.not_recovered, *found.doubts)
        if found.written:
            stage("write")
            files.write_result(result, out, plan_out, flags["recovery_out"])
            if found.quantized is not None:
                found.quantized.model.save(flags["quantize"])
        if flags["html"]:
            whole = result.trace if result.log is None else trace(source, **result.plan.trace_options)
            output.write_html(flags["html"], found, [model], whole, result.plan)
    if as_json:
        output.print_json("prune", found.to_dict())
    output.judge(result.report, "slim", quiet)
    for text in notes:
        note(text, quiet)
    if out == files.STDIO:
        files.send(result)
    elif not (as_json or quiet):
        output.print_page(found.page())


def _quantized(source: Model, result: Result, flags: dict[str, Any]) -> Quantized:
    """The slim model in 8 bits, and how far that is from the original."""
    from .. import quantize, verify
    from ..reports.outcome import Quantized

    given = {name: flags[name] for name in ("data", "samples", "profile")}
    small = quantize(result.model, traced=result.trace, **given)
    report = verify(source, small, provider=flags["provider"], **given) if flags["verify"] else None
    return Quantized(small, flags["quantize"], report)
