"""What a model was read from, as it was then.

A plan names the file that it was made for, and weights in external data are read when they are needed.
Both may be long after the model was loaded, and something else may lie there by then: above all the slim
model, if it was saved in place of its original.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from threading import Thread
from weakref import WeakValueDictionary, finalize

import numpy as np

from ..errors import ModelError, UnusableError
from ..files.state import State

BLOCK = 2**20
"""Bytes that are read at a time to be hashed or copied."""


class Source:
    """Size and digest of what a model was parsed from, and its file where weights were left there.

    The file stays open, so that it is the same one, whatever takes its name.

    Parameters
    ----------
    data : bytes or io.FileIO
        Bytes are hashed beside what follows, so that nobody has to hold them; a file where it is asked for.
    """

    def __init__(self, data: bytes | FileIO) -> None:
        self._file = None if isinstance(data, bytes) else data
        self._digest = sha256()
        self._work: Thread | None = None
        if isinstance(data, bytes):
            self.size = len(data)
            self._begin(iter((data,)))
        else:
            self._state = State.of(os.fstat(data.fileno()))
            self.size = self._state.size
            finalize(self, data.close).atexit = False

    def begin(self) -> None:
        """Hash beside what follows; that takes longer than all else that is done with most weights."""
        if self._work is None:
            self._begin(self.blocks())

    def _begin(self, blocks: Iterator[bytes]) -> None:
        self._work = Thread(target=self._hash, args=(blocks,), daemon=True)
        self._work.start()

    def _hash(self, blocks: Iterator[bytes]) -> None:
        for block in blocks:
            self._digest.update(block)

    def blocks(self) -> Iterator[bytes]:
        """The bytes of the file, some at a time."""
        assert self._file is not None
        for offset in range(0, self.size, BLOCK):
            yield os.pread(self._file.fileno(), BLOCK, offset)

    def look(self, owner: str) -> FileIO:
        """The file, if it is what it was when the model was read.

        Parameters
        ----------
        owner : str
            Whose data lie there, for the sentence of an error.

        Raises
        ------
        UnusableError
            If it was changed.
        """
        assert self._file is not None
        if State.of(os.fstat(self._file.fileno())) != self._state:
            raise _changed(owner, "the model's file")
        return self._file

    def is_at(self, path: Path) -> bool:
        """Whether a file is still the one that was read."""
        return path.is_file() and State.of(path.stat()) == self._state

    def again(self, path: Path) -> Iterable[bytes] | None:
        """What was read, byte for byte, some at a time; None where something else is there by now.

        Parameters
        ----------
        path : pathlib.Path
            Where it was read.
        """
        if self._file is not None:
            self.look(f"'{path}'")
            return self.blocks()
        data = path.read_bytes()
        return (data,) if Source(data).sha256 == self.sha256 else None

    @property
    def sha256(self) -> str:
        """Digest, as hexadecimal digits.

        Raises
        ------
        UnusableError
            If the file was changed before it was hashed.
        """
        self.begin()
        assert self._work is not None
        self._work.join()
        if self._file is not None:
            self.look(f"'{self._file.name}'")
        return self._digest.hexdigest()


class DataFiles:
    """Files of external data, and what they were when they were first looked at.

    Parameters
    ----------
    folder : pathlib.Path or None
        Folder that locations are relative to.
    own : Source or None
        The file of the model, where weights were left in it.

    Attributes
    ----------
    held : mapping
        What was read of them, as long as somebody holds it: then nobody reads it once more.
    """

    def __init__(self, folder: Path | None, own: Source | None = None) -> None:
        self.own = own
        self.held: WeakValueDictionary[tuple[object, ...], np.ndarray] = WeakValueDictionary()
        self.folder = (folder or Path()).resolve()
        self._states: dict[Path, State] = {}

    def look(self, location: str, owner: str = "") -> Path:
        """Path of a file that is there, and is what it was when it was looked at first.

        Parameters
        ----------
        location : str
            Relative to the folder.
        owner : str
            Whose data they are, for the sentence of an error.

        Raises
        ------
        ModelError
            If it is missing, lies outside the folder, or was changed or replaced.
        """
        path = (self.folder / location).resolve()
        if path in self._states and not path.is_file():
            raise _changed(owner, f"external data '{location}'")
        if not path.is_relative_to(self.folder) or not path.is_file():
            raise UnusableError(
                f"{owner}: external data '{location}' not found beside the model",
                f"Put it into {self.folder}.",
            )
        state = State.of(path.stat())
        if self._states.setdefault(path, state) != state:
            raise _changed(owner, f"external data '{location}'")
        return path

    def remember(self, locations: Iterable[str]) -> None:
        """Look at files now; what is missing yet is looked at when it is read."""
        for location in locations:
            with suppress(ModelError):
                self.look(location)


def _changed(owner: str, what: str) -> UnusableError:
    return UnusableError(f"{owner}: {what} was changed after the model was loaded", "Load the model again.")
