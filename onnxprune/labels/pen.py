"""What the fix of a rule may do to its node; the rewriter implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .vector import Labels


class Pen(Protocol):
    """What a fix is given (``e`` in the rules): sizes, and changes to its node.

    The first five methods are those of :class:`onnxprune.labels.sizes.Sizes`.
    """

    def size(self, name: str, axis: int) -> int:
        """Size of an axis after pruning."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of all axes after pruning."""

    def count(self, labels: Labels) -> int:
        """Number of living labels."""

    def mask(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Which labels live."""

    def original(self, name: str) -> tuple[int, ...]:
        """Sizes before pruning."""

    def living(self, labels: Labels, size: int) -> npt.NDArray[np.int64]:
        """Kept indices of an axis of ``size``, with its labels or ``NONE``."""

    def set(self, name: str, value: Any) -> None:
        """Set an attribute."""

    def constant_input(self, slot: int, value: np.ndarray) -> None:
        """Make an input this constant."""

    def shape_input(self, slot: int, output: str) -> None:
        """Let a shape-like input say the kept sizes of ``output``."""

    def scale_input(self, slot: int, before: Sequence[int], after: Sequence[int]) -> None:
        """Scale an integer input entry by entry by ``after / before``."""

    def scale_output(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Scale the output entry by entry by ``after / before``, for whoever reads it."""

    def split_sizes(self, sizes: Sequence[int]) -> None:
        """Set the sizes of a Split."""

    def slice_bounds(self, X: str, bounds: tuple[Any, ...], windows: Mapping[int, slice]) -> None:
        """Follow the kept entries of sliced axes."""

    def pads(self, amounts: Sequence[int]) -> None:
        """Set the amounts of a Pad."""

    def omit_input(self, slot: int) -> None:
        """Leave out an optional input."""
