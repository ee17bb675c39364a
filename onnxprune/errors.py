"""The exception tree, and the exit code that each branch carries to the command line.

    OnnxPruneError            2
    ├── ModelError            2   the file is no ONNX model that we can work on
    │   └── UnusableError     2   weights in another file are missing, or it asks for too much
    ├── UsageError            2   a flag, name or value that makes no sense here
    ├── PlanError             2   the plan does not belong to this model
    ├── InstallationError     2   a package that is needed is missing or broken
    ├── SurgeryError          1   the slim model failed a check: nothing is written
    ├── GateError             1   a gate of verify failed
    └── BudgetError           1   the budget cannot be met: nothing is written

A message is one sentence, *op 'node': found, expected*; ``hint`` says what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from .printable import first_of, page

SHOWN = 12
"""Names that a hint lists at most."""


class OnnxPruneError(Exception):
    """Base of every error that a user can cause or must see.

    Parameters
    ----------
    message : str
        One sentence.
    hint : str, optional
        The next step, shown on a line of its own.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return page(filter(None, (self.message, self.hint)))


class ModelError(OnnxPruneError):
    """The input is not an ONNX model, or one that cannot be read or checked."""


class UnusableError(ModelError):
    """External data is missing, or a file asks for too much: no reason to leave a node alone and go on."""


class UsageError(OnnxPruneError):
    """An option, a name or a value is impossible."""


class PlanError(OnnxPruneError):
    """A plan file is malformed, or was made for another model."""


class InstallationError(OnnxPruneError):
    """A package that is needed is missing, or not whole."""


class SurgeryError(OnnxPruneError):
    """The rewritten model contradicts the analysis."""

    exit_code = 1


class GateError(OnnxPruneError):
    """The slim model is beyond a limit that the user set."""

    exit_code = 1


class BudgetError(OnnxPruneError):
    """No selection meets the budget.

    Attributes
    ----------
    budget : str
        The one that cannot be met; empty where it is not a share of something.
    least : float
        Share that the smallest selection is expected to leave.
    """

    exit_code = 1
    budget = ""
    least = float("nan")


class Terminated(BaseException):
    """A signal asked the process to end.

    Attributes
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Whatever a function of somebody else's raises, also to exit, is an error that names it.

    Raises
    ------
    UsageError
        In place of all but our own errors, an interrupt, a signal to end, and a lack of memory.
    """
    try:
        yield
    except (OnnxPruneError, KeyboardInterrupt, Terminated, MemoryError):
        raise
    except SystemExit as error:
        raise UsageError(f"{what}: it exits with {error.code!r}") from error
    except BaseException as error:
        raise UsageError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def reason(error: OSError) -> str:
    """What the system says of a file."""
    return (error.strerror or str(error)).lower()


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Error for a name that is not one of ``valid``, with the nearest that is."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    known = f"Known: {first_of(names, SHOWN)}." if names else f"There is no {kind}."
    hint = f"Did you mean '{near[0]}'?" if near else known
    return UsageError(f"unknown {kind} '{name}'", hint)
