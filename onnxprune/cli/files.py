"""Files of a command: what it writes must be nothing that it reads, and nothing twice."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GateError, UsageError
from ..plugins import is_path

if TYPE_CHECKING:
    from ..model.file import Model
    from ..reports.outcome import Quantized
    from ..reports.result import Result

SAMPLES = {".npy", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Endings of the files that are read of a folder of data."""

READ = "onnxprune.read"
"""Where a context lists files that are read while its parameters are."""


class Target(click.Option):
    """An option that names a file which is written; no configuration file may give it."""


PLAN_SHOWN = "plan_out", "as_json"
"""Parameters by which a plan is written, which names the file that it is for by its digest."""

STDIO = "-"
"""What stands for standard input among models, and for standard output as a place for a model."""


class Out(Target):
    """A place for a model, which may be standard output."""


class KeptFile(click.Option):
    """An option that names a file which is read and, where a flag asks for it, written anew.

    Parameters
    ----------
    flag : str
        Name of that flag's parameter.
    """

    def __init__(self, *declarations: Any, flag: str, **settings: Any) -> None:
        super().__init__(*declarations, **settings)
        self.flag = flag


def also_read(context: click.Context, path: str) -> None:
    """Note a file that is read while the parameters are, and not found among their values."""
    context.meta.setdefault(READ, []).append(path)


def check_targets(context: click.Context) -> None:
    """Refuse places for results before any work is done.

    Every value of a parameter that is the path of something is taken as read: models, plan, data,
    labels, profile, scores, ...

    Raises
    ------
    UsageError
        If nothing can be written there, an input would be lost, or one result another.
    """
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if value == STDIO and _written(parameter, context) and not isinstance(parameter, Out):
            raise UsageError(
                f"{parameter.opts[-1]}: only a model goes to standard output", "'./-' is a file of that name."
            )
        if value == STDIO and isinstance(parameter, Out) and context.params.get("as_json"):
            raise UsageError(
                "found both -o - and --json, expected one of them", "Each takes standard output."
            )
    written = targets(context)
    for target in written:
        _writable(target)
    _disjoint(written, _read(context))
    places = [os.path.normcase(os.path.realpath(target)) for target in written]
    for first, one in enumerate(written):
        for second in range(first + 1, len(written)):
            if places[first] == places[second] or _same(Path(one), Path(written[second])):
                raise UsageError(f"'{one}' is given for two outputs")


def open_models(*paths: str, runnable: bool = False) -> tuple[Model, ...]:
    """Load models; no target of the command may be one of their data files.

    Parameters
    ----------
    runnable : bool
        Whether it is enough of the last one, if there are several, that onnxruntime runs it.

    Raises
    ------
    ModelError, UsageError
    """
    from .. import load
    from ..model.loading import load_runnable

    context = click.get_current_context()
    if paths.count(STDIO) > 1:
        raise UsageError("standard input holds one model", "Name a file for the other.")
    found = [sys.stdin.buffer.read() if path == STDIO else path for path in paths]
    loads = [*[load] * (len(paths) - 1), load_runnable if runnable else load]
    models = tuple(read(source) for read, source in zip(loads, found, strict=True))
    _disjoint(targets(context), (file for model in models for file in model.data_files()))
    if any(context.params.get(flag) for flag in PLAN_SHOWN):
        for source in filter(None, (model.source for model in models)):
            source.begin()
    return models


def targets(context: click.Context) -> list[str]:
    """Files that a command is told to write."""
    values = [context.params.get(str(p.name)) for p in context.command.params if _written(p, context)]
    return [str(value) for value in values if value and value != STDIO]


def _written(parameter: click.Parameter, context: click.Context) -> bool:
    """Whether a parameter names a file that is written."""
    if isinstance(parameter, KeptFile):
        return bool(context.params.get(parameter.flag))
    return isinstance(parameter, Target)


def _read(context: click.Context) -> Iterator[Path]:
    """Files that are read before or beside the data files of models."""
    yield from map(Path, context.meta.get(READ, ()))
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if _written(parameter, context) or not isinstance(value, str) or "\0" in value:
            continue
        if value in ("", STDIO):
            continue
        if is_path(value):  # a function: of a file, or of a module of the working directory
            place = value.rpartition(":")[0]
            value = place if place.endswith(".py") else place.replace(".", os.sep) + ".py"
        path = Path(value)
        if len(value) < 4096 and path.is_dir():
            yield from _samples(path)
        else:
            yield path


def _samples(folder: Path) -> Iterator[Path]:
    for name, _, files in os.walk(folder):
        yield from (Path(name, file) for file in files if Path(file).suffix.lower() in SAMPLES)


def _disjoint(targets: Iterable[str], read: Iterable[Path]) -> None:
    existing = {path: (found.st_dev, found.st_ino) for path in targets if (found := _stat(Path(path)))}
    if not existing:
        return
    for source in read:
        found = _stat(source)
        if found and (found.st_dev, found.st_ino) in existing.values():
            raise UsageError(
                f"refusing to overwrite the input '{source}'", "Choose another name for the output."
            )


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):  # no such file, or no name that a file can have
        return None


def _same(one: Path, other: Path) -> bool:
    """Whether two names lead to one file, where there is a file."""
    first, second = _stat(one), _stat(other)
    return bool(first and second and os.path.samestat(first, second))


def _writable(path: str) -> None:
    """Refuse a place where no file can be written."""
    target = Path(path)
    problem = ""
    if "\0" in path:
        problem = "no file can have this name"
    elif target.is_dir():
        problem = "it is a folder"
    elif target.exists() and not target.is_file():
        problem = "it is no regular file"
    elif not target.parent.is_dir():
        problem = f"there is no folder '{target.parent}'"
    elif not os.access(Path(os.path.realpath(target)).parent, os.W_OK):
        problem = f"the folder '{target.parent}' is not writable"
    elif target.exists() and not os.access(target, os.W_OK):
        problem = "it is write-protected"
    if problem:
        raise UsageError(f"cannot write '{path}': {problem}")


def refuse_unchanged(result: Result, path: str) -> None:
    """Refuse a result that lost nothing.

    Raises
    ------
    GateError
    """
    from ..reports.outcome import unchanged

    if unchanged(result.plan):
        raise GateError(f"nothing was removed from '{path}'", "'onnxprune inspect' says why.")


def write_result(
    result: Result,
    out: str,
    plan_out: str | None,
    recovery_out: str | None = None,
    quantized: Quantized | None = None,
) -> None:
    """Write the plan, recovered weights, the model and that in 8 bits: all of them, or none."""
    from ..files.writing import together
    from ..selection.recovered import Recovery

    with together():
        if plan_out:
            result.plan.save(plan_out)
        if recovery_out:
            (result.recovery or Recovery({})).save(recovery_out)
        if out != STDIO:  # see ``send``
            _write_model(result, out)
        if quantized is not None:
            quantized.model.save(quantized.out)


def _write_model(result: Result, out: str) -> None:
    """Write a model; one that lost nothing is copied byte for byte."""
    from ..files.writing import write_graph
    from ..reports.outcome import unchanged

    original = result.trace.model
    whole = unchanged(result.plan) and not original.locations()
    same = original.source.again(original.path) if whole and original.source and original.path else None
    if same is None:
        result.model.save(out)
    else:
        write_graph(Path(out), same)


def send(result: Result) -> None:
    """Write a model to standard output, with all weights in it.

    Raises
    ------
    UsageError
        If it is too large for that.
    """
    from ..model.file import PROTOBUF_LIMIT

    if result.model.weight_bytes > PROTOBUF_LIMIT:
        raise UsageError("the model is too large for standard output", "Name a file with -o.")
    sys.stdout.buffer.write(result.model.embedded().SerializeToString())
