"""What a model was read from, as it was then.

A plan names the file that it was made for, and weights in external data are read when they are needed.
Both may be long after the model was loaded, and something else may lie there by then: above all the slim
model, if it was saved in place of its original.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from ..errors import ModelError, UnusableError


class Source:
    """Size and digest of the bytes that a model was parsed from.

    Parameters
    ----------
    data : bytes
        Hashed beside what follows: that takes longer than parsing, and rarely has to be waited for.
    """

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._digest = sha256()
        self._work = Thread(target=self._digest.update, args=(data,), daemon=True)
        self._work.start()

    def let_go(self) -> None:
        """Wait until the bytes are hashed, and gone."""
        self._work.join()

    @property
    def sha256(self) -> str:
        """Digest, as hexadecimal digits."""
        self.let_go()
        return self._digest.hexdigest()


class _State(NamedTuple):
    """What tells a file from another one of the same name, without reading it."""

    device: int
    inode: int
    size: int
    modified: int


class DataFiles:
    """Files of external data, and what they were when they were first looked at.

    Parameters
    ----------
    folder : pathlib.Path or None
        Folder that locations are relative to.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = (folder or Path()).resolve()
        self._states: dict[Path, _State] = {}

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
            raise _changed(owner, location)
        if not path.is_relative_to(self.folder) or not path.is_file():
            raise UnusableError(
                f"{owner}: external data '{location}' not found beside the model",
                f"Put it into {self.folder}.",
            )
        found = path.stat()
        state = _State(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._states.setdefault(path, state) != state:
            raise _changed(owner, location)
        return path

    def remember(self, locations: Iterable[str]) -> None:
        """Look at files now; what is missing yet is looked at when it is read."""
        for location in locations:
            with suppress(ModelError):
                self.look(location)


def _changed(owner: str, location: str) -> UnusableError:
    return UnusableError(
        f"{owner}: external data '{location}' was changed after the model was loaded", "Load the model again."
    )
