"""The digest of a file that is being written: it is computed beside that, on another core."""

from __future__ import annotations

import os
from hashlib import sha256
from threading import Event, Thread
from typing import Self

BLOCK = 2**20
"""Bytes that are hashed at a time."""

PAUSE = 0.005
"""Seconds after which one looks whether there is more of a file."""


class Following:
    """Digest of a file that is written from its start to its end; it is followed within a ``with``.

    Parameters
    ----------
    handle : int
        Of the open file; its position is left alone.
    """

    def __init__(self, handle: int) -> None:
        self._handle, self._at = handle, 0
        self._digest, self._complete = sha256(), Event()
        self._error: OSError | None = None
        self._work = Thread(target=self._follow, daemon=True)
        self._work.start()

    def _follow(self) -> None:
        try:
            while not self._complete.wait(PAUSE):
                self._catch_up()
            self._catch_up()
        except OSError as error:
            self._error = error

    def _catch_up(self) -> None:
        """Hash what has come since."""
        while block := os.pread(self._handle, BLOCK, self._at):
            self._digest.update(block)
            self._at += len(block)

    def digest(self) -> bytes:
        """Digest of the file, which is complete now.

        Raises
        ------
        OSError
            If it could not be read.
        """
        self._stop()
        if self._error is not None:
            raise self._error
        return self._digest.digest()

    def _stop(self) -> None:
        self._complete.set()
        self._work.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
