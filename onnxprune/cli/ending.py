"""How a run ends: an exit code, and one sentence where it did not go well."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import click

from ..errors import OnnxPruneError, Terminated, reason
from .interrupts import interruptible
from .progress import note

INTERRUPTED, NO_READER = 130, 141
"""What shells report for a program that Ctrl-C, or a closed pipe, ended."""


class NoReader(Exception):
    """Nobody reads the output any more. click makes a failure of what Python raises then."""


@contextmanager
def while_read() -> Iterator[None]:
    """Tell a closed pipe from other failures.

    Raises
    ------
    NoReader
    """
    try:
        yield
    except BrokenPipeError:
        raise NoReader from None


def ended(work: Callable[[], object]) -> int:
    """Do some work, and give the exit code; whatever goes wrong is said in one sentence."""
    _prepare_streams()
    try:
        code = _sentence(work)
        sys.stdout.flush()
    except (BrokenPipeError, NoReader):
        return _no_reader()
    except click.Abort:  # what click makes of an interrupt, once it has left the line of the ^C
        code = _fail("interrupted", "", INTERRUPTED)
    except KeyboardInterrupt:
        click.echo(err=True)
        code = _fail("interrupted", "", INTERRUPTED)
    except Terminated as found:
        code = _fail(f"ended by {signal.Signals(found.number).name}", "", 128 + found.number)
    except OSError as error:  # stdout cannot be written
        code = _fail(_file_problem(error), "")
    return code


def _sentence(work: Callable[[], object]) -> int:
    """Exit code of some work; an error becomes a sentence."""
    try:
        with interruptible():
            return int(work() or 0)  # type: ignore[call-overload]
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, BrokenPipeError, NoReader):
        raise
    except (Exception, SystemExit) as error:
        found = failure(error)
        return _fail(found.message, found.hint, found.exit_code)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, as a user is told it.

    Attributes
    ----------
    kind : str
        Name of the error's class.
    """

    kind: str
    message: str
    hint: str = ""
    exit_code: int = 2

    def to_dict(self) -> dict[str, object]:
        """As JSON types."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def failure(error: BaseException) -> Failure:
    """What to say of an error."""
    kind = type(error).__name__
    match error:
        case OnnxPruneError():
            return Failure(kind, error.message, error.hint, error.exit_code)
        case click.UsageError():
            return Failure("UsageError", *_usage(error), error.exit_code)
        case MemoryError():
            return Failure(kind, "out of memory", "The model or the data is too large for this machine.")
        case ImportError() if not str(error.name).startswith("onnxprune"):
            return Failure(
                kind, f"a package cannot be imported: {error}", "Install onnxprune again with pip."
            )
        case OSError():
            return Failure(kind, _file_problem(error))
        case SystemExit():  # a rule of the user's, say: it must not decide how this ends
            return Failure(kind, f"something that was called exits with {error.code!r}")
    return Failure(kind, *_internal(error))  # a mistake of ours: say so, but show no traceback


def _no_reader() -> int:
    """Exit code where nobody reads; the flush at exit goes nowhere instead of failing again."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return NO_READER


def _prepare_streams() -> None:
    """A name may not fit the terminal's encoding, and a stream may be closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, hint: str, code: int = 2) -> int:
    try:
        note(f"error: {message}")
        if hint:
            note(f"hint: {hint}")
    except OSError:  # stderr is closed: the code still says it
        _no_reader()
    return code


def _usage(error: click.UsageError) -> tuple[str, str]:
    """What is wrong with the arguments in the form of all other errors, and a hint."""
    message = (
        error.format_message()
        .replace("a valid float", "a number")
        .replace("a valid integer", "a whole number")
    )
    help_of = error.ctx.command_path if error.ctx else "onnxprune"
    hint = f"Try '{help_of} --help'."
    if isinstance(error, click.NoSuchOption):
        message = f"no such option '{error.option_name}'"
        if error.possibilities:
            hint = f"Did you mean '{error.possibilities[0]}'?"
    return message[:1].lower() + message[1:].removesuffix("."), hint


def _file_problem(error: OSError) -> str:
    detail = "no space left on the device" if error.errno == errno.ENOSPC else reason(error)
    return f"{detail}: '{error.filename}'" if error.filename else detail


def _internal(error: BaseException) -> tuple[str, str]:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    text = " ".join(str(error).split())
    return (
        f"internal error in {where}: {type(error).__name__}: {text}",
        "This is a bug in onnxprune; please report it together with the model.",
    )
