"""The command line: one file per verb, imported when it is asked for.

Every module of this package defines one ``command`` of its own name, except ``HELPERS``. The first
line of its docstring is its line in ``onnxprune --help``; it is read from the source, so that help
imports no verb and no verb needs an entry elsewhere. Flags that verbs share are in ``options``.

Exit codes: 0 done; 1 a check or a budget failed; 2 bad usage or unreadable model. Results go to
stdout; progress, notes and errors to stderr. No traceback reaches a user.
"""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import shell_complete

from .. import __version__
from ..errors import unknown_name
from ..printable import parsed
from .ending import ended, while_read

HELPERS = {
    "ending", "files", "interrupts", "isolation", "options", "output", "progress", "values", "verb",
}  # fmt: skip
"""Modules of this package that are no verbs."""

COMPLETE = "_ONNXPRUNE_COMPLETE"
"""Variable in which a shell says that it wants completions."""

ORDER = (
    "prune", "clean", "inspect", "explain", "verify", "checkpoint", "reweight", "sensitivity", "bench", "ops",
    "doctor", "tao", "netspresso", "rknn",
)  # fmt: skip
"""Order of the verbs in help; others follow."""


def verbs() -> list[str]:
    """Names of the verbs in the order of help."""
    found = {m.name for m in pkgutil.iter_modules(__path__)} - HELPERS
    return sorted(found, key=lambda name: (name not in ORDER, [*ORDER, name].index(name), name))


def help_line(name: str) -> str:
    """The line of a verb in help, read from its source."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(parsed(source)) or "").partition("\n")[0]


class Verbs(click.Group):
    """A group of commands that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs in the order of help."""
        return verbs()

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
            formatter.write_dl([(name, help_line(name)) for name in verbs()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; ``help prune`` is ``prune --help``."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Read the arguments; help and the version are printed meanwhile."""
        with while_read():
            context = super().make_context(*arguments, **settings)
            sys.stdout.flush()
        return context

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb."""
        with while_read():
            return super().invoke(ctx)


ABOUT = """Remove channels from an exported ONNX model, and prove what was done.

onnxprune COMMAND --help tells more about a command.
"""


@click.group(cls=Verbs, help=ABOUT, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="onnxprune")
def cli() -> None:
    """See ``ABOUT``."""


def main(arguments: Sequence[str] | None = None, *, own: bool = False) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.
    own : bool
        Whether there is nothing else in this process, so that it may be forked.
    """
    if asked := os.environ.get(COMPLETE):  # by a shell, which takes what is printed for its own
        return shell_complete(cli, {}, "onnxprune", COMPLETE, asked)
    return ended(lambda: cli.main(arguments, prog_name="onnxprune", standalone_mode=False, obj=own))
