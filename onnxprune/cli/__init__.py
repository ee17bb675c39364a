"""The command line: one file per verb, imported when it is asked for.

Every module of this package defines one ``command`` of its own name, except ``HELPERS``. The first
line of its docstring is its line in ``onnxprune --help``; it is read from the source, so that help
imports no verb and no verb needs an entry elsewhere. Flags that verbs share are in ``options``.

Exit codes: 0 done; 1 a check or a budget failed; 2 bad usage or unreadable model. Results go to
stdout; progress, notes and errors to stderr. No traceback reaches a user.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import importlib
import io
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from .. import __version__
from ..errors import OnnxPruneError, unknown_name

HELPERS = {"files", "options", "output", "progress"}
"""Modules of this package that are no verbs."""

ORDER = ("prune", "clean", "inspect", "explain", "verify", "sensitivity", "bench", "ops", "doctor")
"""Order of the verbs in help; others follow."""

INTERRUPTED, NO_READER = 130, 141
"""What shells report for a program that Ctrl-C, or a closed pipe, ended."""


def verbs() -> dict[str, str]:
    """Name of every verb -> its line of help."""
    found = {m.name for m in pkgutil.iter_modules(__path__)} - HELPERS
    ordered = sorted(found, key=lambda name: (name not in ORDER, [*ORDER, name].index(name), name))
    return {name: _help_line(name) for name in ordered}


def _help_line(name: str) -> str:
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


class Verbs(click.Group):
    """A group of commands that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs in the order of help."""
        return list(verbs())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import a verb.

        Raises
        ------
        UsageError
            If there is none of that name, with the nearest that exists.
        """
        if cmd_name not in verbs():
            raise unknown_name("command", cmd_name, verbs())
        command = importlib.import_module(f".{cmd_name}", __name__).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(verbs().items()))

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb; who reads its output may stop reading."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _close_stdout()
            raise click.exceptions.Exit(NO_READER) from None
        return result


def _close_stdout() -> None:
    """Let the flush at exit go nowhere instead of failing again."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="onnxprune")
def cli() -> None:
    """Remove channels from an exported ONNX model, and prove what was done.

    onnxprune COMMAND --help tells more about a command.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.
    """
    _prepare_streams()
    try:
        return int(cli.main(arguments, prog_name="onnxprune", standalone_mode=False) or 0)
    except OnnxPruneError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", "", INTERRUPTED)
    except MemoryError:
        return _fail("out of memory", "The model or the data is too large for this machine.")
    except ImportError as error:
        if str(error.name).startswith("onnxprune"):
            return _internal(error)
        return _fail(f"a package cannot be imported: {error}", "Install onnxprune again with pip.")
    except OSError as error:
        return _fail(_file_problem(error), "")
    except Exception as error:  # a mistake of ours: say so, but show no traceback
        return _internal(error)


def _prepare_streams() -> None:
    """A name may not fit the terminal's encoding, and a stream may be closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, hint: str, code: int = 2) -> int:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return code


def _usage(error: click.UsageError) -> int:
    """Say what is wrong with the arguments in the form of all other errors."""
    message = error.format_message()
    help_of = error.ctx.command_path if error.ctx else "onnxprune"
    hint = f"Try '{help_of} --help'."
    if isinstance(error, click.NoSuchOption):
        message = f"no such option '{error.option_name}'"
        if error.possibilities:
            hint = f"Did you mean '{error.possibilities[0]}'?"
    return _fail(message[:1].lower() + message[1:].removesuffix("."), hint, error.exit_code)


def _file_problem(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the device"
    detail = (error.strerror or str(error)).lower()
    return f"{detail}: '{error.filename}'" if error.filename else detail


def _internal(error: Exception) -> int:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    text = " ".join(str(error).split())
    return _fail(
        f"internal error in {where}: {type(error).__name__}: {text}",
        "This is a bug in onnxprune; please report it together with the model.",
    )
