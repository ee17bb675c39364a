"""Verbs that take several models, or folders of them, and write into a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import OnnxPruneError, UsageError
from .files import Target
from .options import Verb
from .progress import note

ENDINGS = {"out": ".onnx", "plan_out": ".json", "recovery_out": ".npz", "quantize": ".onnx"}
"""Parameters that may name folders, and the endings of what is written there."""


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
                note(f"hint: {error.hint}" if error.hint else "")
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
            raise UsageError(f"--{flag} is one file: found {len(models)} models", "Leave it out.")
        if name in ENDINGS and len(models) > 1 and Path(place).suffix and not _folder(place):
            raise UsageError(f"found {len(models)} models for '{place}', expected a folder")
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
