"""Windows of a convolution as rows of a matrix, at chosen positions only.

Unfolding a whole tensor multiplies it by the size of the kernel. Moments need a few thousand
positions, so windows are a strided view of the padded tensor, from which those are picked.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..model.node import Node

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """Geometry of a convolution over 1, 2 or 3 axes; one entry per axis.

    A ConvTranspose is a convolution of stride 1, with flipped kernels, over an input with
    ``spread - 1`` zeros between neighbours (Dumoulin and Visin, arXiv 1603.07285).

    Attributes
    ----------
    before, after : tuple of int
        Zeros added; entries cut off where negative. Not used with ``same``.
    same : str
        ``SAME_UPPER`` or ``SAME_LOWER``: zeros as many as the input asks for; empty otherwise.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    spread: tuple[int, ...]
    same: str = ""

    @property
    def reach(self) -> tuple[int, ...]:
        """Entries from the first to the last tap of a window."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def view(self, x: np.ndarray) -> np.ndarray:
        """All windows of ``x`` [N, C, *sizes] as a view [N, C, *positions, *kernel]."""
        for axis, step in enumerate(self.spread, 2):
            if step > 1:
                x = _spread(x, axis, step)
        amounts = self._padding(x.shape[2:])
        cut = tuple(slice(max(0, -b), n - max(0, -a)) for (b, a), n in zip(amounts, x.shape[2:], strict=True))
        padding = [(max(0, b), max(0, a)) for b, a in amounts]
        x = x[(slice(None), slice(None), *cut)]
        x = np.pad(x, [(0, 0), (0, 0), *padding]) if any(map(any, padding)) else x
        axes = tuple(range(2, x.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(x, self.reach, axes)
        steps = [slice(None, None, s) for s in (*self.strides, *self.dilations)]
        return windows[(slice(None), slice(None), *steps)]

    def _padding(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        if not self.same:
            return list(zip(self.before, self.after, strict=True))
        found = []
        for size, stride, reach in zip(sizes, self.strides, self.reach, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            less = total // 2
            found.append((total - less, less) if self.same == "SAME_LOWER" else (less, total - less))
        return found

    def pick(self, x: np.ndarray, positions: Positions) -> np.ndarray:
        """Windows at flat positions over (batch, *positions), ascending, shape (rows, C, kernel elements).

        One sample is padded at a time.
        """
        each = self.positions(x[:1])
        found = np.empty((len(positions), x.shape[1], prod(self.kernel)), x.dtype)
        ends = np.searchsorted(positions, each * np.arange(len(x) + 1))
        for k, (start, end) in enumerate(pairwise(ends)):
            windows = self.view(x[k : k + 1])[0]
            sizes = windows.shape[1 : 1 + len(self.kernel)]
            where = np.unravel_index(positions[start:end] - k * each, sizes)
            index: tuple[Any, ...] = (slice(None), *where)
            found[start:end] = windows[index].swapaxes(0, 1).reshape(end - start, *found.shape[1:])
        return found

    def positions(self, x: np.ndarray) -> int:
        """How many positions there are."""
        sizes = [max(0, (n - 1) * step + 1) for n, step in zip(x.shape[2:], self.spread, strict=True)]
        ends = zip(sizes, self._padding(tuple(sizes)), self.reach, self.strides, strict=True)
        steps = [max(0, n + b + a - reach) // stride + 1 for n, (b, a), reach, stride in ends]
        return x.shape[0] * prod(steps)


def _spread(x: np.ndarray, axis: int, step: int) -> np.ndarray:
    shape = list(x.shape)
    shape[axis] = max(0, (shape[axis] - 1) * step + 1)
    wide = np.zeros(shape, x.dtype)
    wide[(slice(None),) * axis + (slice(None, None, step),)] = x
    return wide


def windows_of(node: Node, kernel: tuple[int, ...]) -> Windows:
    """Geometry of a Conv or ConvTranspose with a kernel of given sizes.

    Raises
    ------
    ModelError
        If the padding of a ConvTranspose depends on more than its attributes.
    """
    count = len(kernel)
    strides = tuple(node.attr("strides", [1] * count))
    dilations = tuple(node.attr("dilations", [1] * count))
    pads = node.attr("pads", [0] * 2 * count)
    auto = node.attr("auto_pad", "NOTSET")
    before, after = tuple(pads[:count]), tuple(pads[count:])
    ones = (1,) * count
    if node.op != "ConvTranspose":
        same = auto if auto.startswith("SAME") else ""
        if auto == "VALID":
            before = after = (0,) * count
        return Windows(kernel, strides, dilations, before, after, ones, same)
    if auto.startswith("SAME") or node.attr("output_shape") is not None:
        raise ModelError(f"{node}: its padding follows from the size of its output")
    more = node.attr("output_padding", [0] * count)
    edges = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    before = tuple(e - p for e, p in zip(edges, before, strict=True))
    after = tuple(e - p + m for e, p, m in zip(edges, after, more, strict=True))
    return Windows(kernel, ones, dilations, before, after, strides)
