"""How results are written: tables and JSON on stdout."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..errors import SurgeryError
from ..printable import finite, json_text, printable
from ..reports.page import Part, Reported, Table, layout
from .ending import NoReader, failure
from .interrupts import ending
from .progress import note, say

if TYPE_CHECKING:
    from ..checks.report import Report
    from ..coupling.trace import Trace
    from ..selection.plan import Plan

LIMIT = 20
"""Rows of a table that may leave some out; the rest is counted."""


TYPED = "onnxprune.typed"
"""Where a context holds the command as it was typed."""

PRINTED = "onnxprune.printed"
"""Where it holds whether a document was printed."""


@contextmanager
def errors_shown(context: click.Context, *, as_json: bool) -> Iterator[None]:
    """Print what goes wrong as a document, too, where one was asked for and none was printed."""
    try:
        yield
    except (
        click.Abort,
        click.exceptions.Exit,
        click.exceptions.NoArgsIsHelpError,
        BrokenPipeError,
        NoReader,
    ):
        raise
    except (Exception, SystemExit) as error:
        if as_json and not context.meta.get(PRINTED) and not ending():
            context.meta[PRINTED] = True
            print_json(str(context.info_name), {"error": failure(error).to_dict()})
        raise


def print_json(command: str, document: Mapping[str, Any]) -> None:
    """Print one JSON document; numbers that are not finite become null."""
    if (context := click.get_current_context(silent=True)) is not None:
        context.meta[PRINTED] = True
    complete = {"command": command, "version": __version__, **document}
    click.echo(json_text(finite(complete)))


def show(command: str, found: Reported, *, as_json: bool, quiet: bool = False) -> None:
    """Print what a verb has to say, as one document or for people."""
    if as_json:
        print_json(command, found.to_dict())
    elif not quiet:
        print_page(found.page())


def write_html(
    path: str | None,
    found: Reported,
    models: Iterable[str],
    traced: Trace,
    plan: Plan | None = None,
    report: Report | None = None,
) -> None:
    """Write what a verb has to say as a page for a browser, where that was asked for."""
    if path is None:
        return
    from ..files.writing import write_atomically
    from ..html.document import write_page
    from ..reports.tables import similarity, verdict

    context = click.get_current_context()
    command = context.meta[TYPED]
    title, verb = " and ".join(models), str(context.info_name)
    told = (similarity(report), verdict(report)) if report is not None else (None, "")
    page = write_page(verb, title, __version__, command, found.page(), traced, plan, *told)
    write_atomically(Path(path), page)


def print_page(page: Iterable[Part]) -> None:
    """Print lines and tables as they come."""
    for part in page:
        if isinstance(part, Table):
            print_table(part)
        else:
            say(part)


def print_table(table: Table) -> None:
    """Print a table, folded to the width of the terminal, or to 80 columns."""
    from rich.cells import cell_len

    limit = LIMIT if table.rest else len(table.rows)
    rows = [tuple(map(printable, row)) for row in table.rows[:limit]]
    width = shutil.get_terminal_size((80, 24)).columns
    for number, lines in enumerate(layout(table, rows, width, cell_len)):
        for line in lines:
            click.echo(click.style(line, bold=True) if not number and any(table.titles) else line)
    if left := len(table.rows) - len(rows):
        say(f"... and {left} more; {table.rest}")
    say()


def judge(report: Report | None, kind: str, quiet: bool) -> None:
    """Fail where a result was found to be wrong; tell where that could not be found out."""
    if report is not None and report.failed:
        raise SurgeryError(
            f"the {kind} model is {report.judgement}: {report.headline}",
            f"Nothing was written. {report.cause}",
        )
    if report is not None and report.problem:
        note("; ".join(filter(None, ("the result is not verified", wanted(report)))), quiet)


def wanted(report: Report) -> str:
    """What may mend that a check could not be made."""
    which = "other inputs" if report.data else "inputs"
    return f"give {which} with --data" if report.takes_data else ""
