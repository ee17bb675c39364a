"""Signals that end the work, and what becomes of them on the way.

Python raises an interrupt wherever it happens to be. Native code that imports a package can make another
error of it, and where nothing can be raised, in a finaliser, it is printed and lost.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from ..errors import Terminated

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN = 0.01
"""Seconds after which a signal that was lost comes again."""


_CAME: list[int] = []
"""Signals that came since the work began."""


def ending() -> bool:
    """Whether the work is ended by a signal, whatever error is made of it on the way."""
    return bool(_CAME)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the work as Ctrl-C does, so that temporary files go.

    Raises
    ------
    KeyboardInterrupt, Terminated
        If a signal came, whatever was made of it.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        _CAME.append(number)
        raise _ending(number)

    def unraised(found: UnraisableHookArgs) -> None:
        if _CAME and issubclass(found.exc_type, (KeyboardInterrupt, Terminated)):
            threading.Timer(AGAIN, os.kill, (os.getpid(), _CAME[-1])).start()
        else:
            hook(found)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, sys.unraisablehook = sys.unraisablehook, unraised
    old = {number: signal.signal(number, stop) for number in _ours()}
    try:
        yield
    except (KeyboardInterrupt, Terminated, click.Abort):
        raise
    except BaseException:
        if _CAME:
            raise _ending(_CAME[-1]) from None
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        _CAME.clear()


def _ending(number: int) -> KeyboardInterrupt | Terminated:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


def _ours() -> Iterator[int]:
    """Signals that nobody else handles, and that are not ignored."""
    for name, handler in (
        ("SIGINT", signal.default_int_handler),
        ("SIGTERM", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),
    ):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is handler:
            yield number
