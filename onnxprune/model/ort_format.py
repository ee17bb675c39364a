"""Models in the ORT format of onnxruntime, which nothing else reads."""

from __future__ import annotations

from dataclasses import dataclass

from .file import Model
from .wire import Content

MARK = b"ORTM"
"""What stands behind the first four bytes."""


@dataclass(eq=False, repr=False)
class OrtModel(Model):
    """A model that can be run, and not looked into: its ``proto`` is empty.

    Attributes
    ----------
    data : bytes
        The file.
    """

    data: bytes = b""

    @staticmethod
    def holds(data: Content) -> bool:
        """Whether bytes are of that format."""
        return data[4:8] == MARK
