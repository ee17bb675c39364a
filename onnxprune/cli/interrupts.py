"""Signals that end the work, and what becomes of them on the way.

Python raises an interrupt wherever it happens to be. Native code that imports a package can make another
error of it, and where nothing can be raised, in a finaliser, it is printed and lost. A native module that is
being initialised may print it, too, or crash (onnx does): there it waits.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import TYPE_CHECKING

import click

from ..errors import Terminated

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN = 0.01
"""Seconds after which a signal that was lost, or has to wait, comes again."""

NATIVE = {ExtensionFileLoader.create_module.__code__, ExtensionFileLoader.exec_module.__code__}
"""What runs while a native module is initialised."""

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
    later = _Later()

    def stop(number: int, frame: FrameType | None) -> None:
        _CAME.append(number)
        if _initialising(frame):
            later.send(number)
        else:
            later.cancel()
            raise _ending(number)

    def unraised(found: UnraisableHookArgs) -> None:
        if _CAME and issubclass(found.exc_type, (KeyboardInterrupt, Terminated)):
            later.send(_CAME[-1])
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
        later.cancel()
        for number, handler in old.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        _CAME.clear()


class _Later:
    """A signal that comes again, once."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def send(self, number: int) -> None:
        """Send it to this process, unless one is on its way."""
        if self._timer is None:
            self._timer = threading.Timer(AGAIN, self._sent, (number,))
            self._timer.start()

    def cancel(self) -> None:
        """Send none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sent(self, number: int) -> None:
        self._timer = None
        os.kill(os.getpid(), number)


def _initialising(frame: FrameType | None) -> bool:
    """Whether a frame was called, at some distance, while a native module is initialised."""
    while frame is not None and frame.f_code not in NATIVE:
        frame = frame.f_back
    return frame is not None


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
