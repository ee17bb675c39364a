"""What is said on stderr while a command works."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from ..printable import printable

DELAY = 1.0
"""Seconds before a bar appears: short work shows none."""

STAGES = (
    "load", "clean", "trace", "score", "probe", "try", "select", "profile", "measure", "rewrite", "recover",
    "verify", "quantise", "write",
)  # fmt: skip


@contextmanager
def stages(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A function to call with the name of each stage; a bar on a terminal, nothing elsewhere.

    What libraries print meanwhile, natively or not, is kept out of the results.
    """
    from ..model.engine import doubled
    from ..runtime.session import logged_from

    if problem := doubled():
        note(problem, quiet)
    with logged_from(3), _off_stdout(quiet):  # warnings about kernels are not for users
        if quiet or not sys.stderr.isatty():
            yield lambda stage: None
        else:
            with _bar() as report:
                yield report


@contextmanager
def _bar() -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:14}"), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(STAGES[0], total=len(STAGES))
    timer = threading.Timer(DELAY, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda stage: bar.update(task, description=stage, completed=STAGES.index(stage.split()[0]))
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


@contextmanager
def _off_stdout(quiet: bool) -> Iterator[None]:
    """Send file descriptor 1 to stderr, or nowhere: onnx and onnxruntime print from C++."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
        elsewhere = os.open(os.devnull, os.O_WRONLY) if quiet else os.dup(2)
    except OSError:  # a closed stream: nothing to protect
        yield
        return
    os.dup2(elsewhere, 1)
    os.close(elsewhere)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def note(message: str, quiet: bool = False) -> None:
    """One line of log."""
    if not quiet:
        click.echo(printable(message), err=True)


def say(line: str = "") -> None:
    """One line of a result."""
    click.echo(printable(line))
