"""What all verbs do before they work, and those that take several models and write into a folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import OnnxPruneError, UsageError
from ..files.replacing import remove_abandoned
from ..printable import docstring, plural
from ..settings.table import OPTIONS
from . import output
from .files import KeptFile, Target, check_targets, targets
from .isolation import MOST_SECONDS, ChildLimits, in_child, possible
from .progress import note

ENDINGS = {"out": ".onnx", "plan_out": ".json", "recovery_out": ".npz", "quantize": ".onnx"}
"""Parameters that may name folders, and the endings of what is written there."""


TOPICS = {
    "Files": (),
    "How much goes, and where": ("preset", "select"),
    "Which channels": ("score",),
    "What can go": ("trace",),
    "Data": ("data",),
    "Recovery": ("recover",),
    "Where models run": ("job", "pair", "matrix", "machine"),
    "Gates": ("gates",),
    "Options": (),
}  # fmt: skip
"""Headings of help in their order, and what stands there: a setting by its name, those of a stage."""


class Verb(click.Command):
    """A command that looks, before it works, at where its results go."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        settings["help"] = settings.get("help") or docstring(settings["callback"])
        super().__init__(name, **settings)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, and remember them for reports."""
        ctx.meta[output.TYPED] = shlex.join(["onnxprune", str(ctx.info_name), *args])
        with output.errors_shown(ctx, as_json="--json" in args):
            try:
                rest = super().parse_args(ctx, args)
                _refuse_empty(ctx)
                return rest
            except click.UsageError as error:
                error.ctx = error.ctx or ctx  # the parser forgets it, and with it which help to point to
                raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the flags under headings."""
        found: dict[str, list[tuple[str, str]]] = {topic: [] for topic in TOPICS}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                found[_topic(param)].append(record)
        for topic, records in found.items():
            if records:
                with formatter.section(topic):
                    formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Check the targets, then run; in a process of its own where that is wanted and possible."""
        with output.errors_shown(ctx, as_json=bool(ctx.params.get("as_json"))):
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        check_targets(ctx)
        limits = ChildLimits(ctx.params.pop("time_limit", MOST_SECONDS), ctx.params.pop("memory_limit", None))
        isolate = ctx.params.pop("isolate", None)
        if isolate is None:
            isolate = ctx.info_name == "verify" or os.environ.get("CI") == "true"
        if not (isolate and ctx.obj and possible()):
            return super().invoke(ctx)
        try:
            raise click.exceptions.Exit(in_child(partial(self._work, ctx), limits))
        finally:
            for target in targets(ctx):
                remove_abandoned(Path(target))

    def _work(self, ctx: click.Context) -> Any:
        """What the child does."""
        with output.errors_shown(ctx, as_json=bool(ctx.params.get("as_json"))):
            return super().invoke(ctx)


def _refuse_empty(ctx: click.Context) -> None:
    """Refuse the value of a variable that is not set, say: as a path it would be the working directory."""
    for param in ctx.command.params:
        value = ctx.params.get(str(param.name))
        if value == "" or (isinstance(value, tuple) and "" in value):
            raise UsageError(f"{param.get_error_hint(ctx)}: found an empty value")


def _topic(param: click.Parameter) -> str:
    """Under which heading of help a parameter stands."""
    if isinstance(param, (Target, KeptFile)):
        return "Files"
    option = OPTIONS.get(str(param.name))
    kinds = (option.name, option.stages[-1]) if option is not None else ()  # scores take data, too
    return next((topic for kind in kinds for topic, own in TOPICS.items() if kind in own), "Options")


class Several(Verb):
    """A verb that works on one model after another where it is given several."""

    def invoke(self, ctx: click.Context) -> Any:
        """Work on one, or on each; the exit code is the worst of theirs."""
        given = tuple(ctx.params["model"])
        models = [model for place in given for model in _inside(place)]
        out = str(ctx.params["out"])
        if len(given) == 1 and models == list(given) and not _folder(out):
            ctx.params["model"] = given[0]
            return super().invoke(ctx)
        jobs = list(_jobs(ctx, models))
        params, worst = dict(ctx.params), 0
        for job in jobs:
            ctx.params = {**params, **job}
            try:
                super().invoke(ctx)
            except click.exceptions.Exit as end:
                worst = max(worst, end.exit_code)
            except OnnxPruneError as error:
                note(f"error: {job['model']}: {error.message}")
                if error.hint:
                    note(f"hint: {error.hint}")
                worst = max(worst, error.exit_code)
        if worst:
            raise click.exceptions.Exit(worst)
        return None


def _inside(place: str) -> list[str]:
    """A model, or those of a folder in the order of their names."""
    path = Path(place)
    if not path.is_dir():
        return [place]
    found = sorted(str(file) for file in path.iterdir() if file.suffix.lower() == ".onnx")
    if not found:
        raise UsageError(f"the folder '{place}' holds no .onnx file", "Folders inside it are not searched.")
    return found


def _folder(place: str) -> bool:
    """Whether a place for results is a folder: it is one, or is written like one."""
    return Path(place).is_dir() or place.endswith(("/", os.sep))


def _jobs(ctx: click.Context, models: Sequence[str]) -> Iterator[dict[str, str]]:
    """Parameters of every model's own; folders are made."""
    chosen = {
        str(p.name): str(v)
        for p in ctx.command.params
        if isinstance(p, Target) and (v := ctx.params.get(str(p.name)))
    }
    for name, place in chosen.items():
        if name not in ENDINGS and len(models) > 1:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is one file: found {plural(len(models), 'model')}", "Leave it out.")
        if name in ENDINGS and len(models) > 1 and Path(place).suffix and not _folder(place):
            raise UsageError(f"found {plural(len(models), 'model')} for '{place}', expected a folder")
    names: dict[str, str] = {}
    for model in models:
        stem = Path(model).stem
        if stem in names:
            raise UsageError(f"'{names[stem]}' and '{model}' would be one file in '{chosen['out']}'")
        names[stem] = model
    for model in models:
        job = {"model": model}
        for name, place in chosen.items():
            if name in ENDINGS and (len(models) > 1 or _folder(place)):
                Path(place).mkdir(parents=True, exist_ok=True)
                job[name] = str(Path(place) / f"{Path(model).stem}{ENDINGS[name]}")
        yield job
