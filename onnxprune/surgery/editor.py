"""What the fix of a rule may do to its node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..errors import SurgeryError
from ..labels.vector import NONE, Labels
from ..model.node import Node
from .rewriter import Rewriter


class Editor:
    """What a fix may do to its node (``e`` in the rules): the size view, and a pen.

    The size view's methods (``size``, ``shape``, ``count``, ``mask``, ``original``) are those of
    :class:`onnxprune.labels.sizes.Sizes`.
    """

    def __init__(self, rewriter: Rewriter, node: Node) -> None:
        self._rewriter = rewriter
        self._node = node
        self._proto = rewriter.protos[node.index]
        sizes = rewriter.sizes
        self.size, self.shape, self.count = sizes.size, sizes.shape, sizes.count
        self.mask, self.original = sizes.mask, sizes.original

    def living(self, labels: Labels, size: int) -> npt.NDArray[np.int64]:
        """Kept indices of an axis of ``size``, with its labels or ``NONE``."""
        return np.arange(size) if labels is NONE else np.flatnonzero(self.mask(labels))

    def set(self, name: str, value: Any) -> None:
        """Set an attribute, unless it has that value already."""
        if self._node.attr(name) == value:
            return
        self._drop(name)
        self._proto.attribute.append(onnx.helper.make_attribute(name, value))

    def constant_input(self, slot: int, value: np.ndarray) -> None:
        """Make an input this constant, unless it has that value already."""
        name = self._node.inputs[slot]
        known = self._rewriter.shapes.value(name)
        if known is None and self._rewriter.graph.is_constant(name):
            known = self._rewriter.graph.value(name)
        if known is None or not np.array_equal(known, value):
            self._rewriter.replace_input(self._node, slot, value)

    def shape_input(self, slot: int, output: str) -> None:
        """Let a shape-like input say the kept sizes of ``output``; 0 and -1 stay."""
        before, after = self.original(output), self.shape(output)
        if before == after:
            return
        given = self._rewriter.shapes.first.values.get(self._node.inputs[slot])
        if given is None:
            raise SurgeryError(f"{self._node}: the target shape is computed from data")
        # Entries are aligned with the last axes: Expand may name fewer than the output has.
        lead = len(before) - len(given)
        wanted = [
            int(v) if v in (0, -1) or v == 1 < before[lead + k] else after[lead + k]
            for k, v in enumerate(given.tolist())
        ]
        if self._rewriter.shapes.value(self._node.inputs[slot]) is not None:
            self.constant_input(slot, np.array(wanted, given.dtype))
        else:
            self.scale_input(slot, given.tolist(), wanted)

    def scale_input(self, slot: int, before: Sequence[int], after: Sequence[int]) -> None:
        """Scale an integer input entry by entry by ``after / before``."""
        if list(before) == list(after):
            return
        name = self._node.inputs[slot]
        known = self._rewriter.shapes.value(name)
        if known is not None:
            scaled = [v * a // b for v, a, b in zip(known.tolist(), after, before, strict=True)]
            self.constant_input(slot, np.array(scaled, known.dtype))
        else:
            self._proto.input[slot] = self._rewriter.insertions.scaled(name, before, after, self._node)

    def scale_output(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Scale the output entry by entry by ``after / before``, for whoever reads it."""
        if list(before) != list(after):
            self._rewriter.insertions.scale_output(self._node, before, after)

    def split_sizes(self, sizes: Sequence[int]) -> None:
        """Set the sizes of a Split, as attribute or input, whichever the opset has."""
        given = self._node.attr("split")
        if given is None and len(self._node.inputs) > 1 and self._node.inputs[1]:
            given = self._rewriter.shapes.value(self._node.inputs[1])
        if given is not None and list(given) == list(sizes):
            return
        if given is None and len(set(sizes)) == 1:
            return
        if self._node.opset < 13:
            self.set("split", list(sizes))
            return
        self._drop("num_outputs")
        self._rewriter.replace_input(self._node, 1, np.array(sizes, np.int64))

    def slice_bounds(self, X: str, bounds: tuple[Any, ...], windows: Mapping[int, slice]) -> None:
        """Follow the kept entries of sliced axes; a stride becomes a Gather."""
        starts, ends, axes, steps = (list(b) for b in bounds)
        for position, axis in enumerate(axes):
            if axis not in windows:
                continue
            alive = self.mask(self._rewriter.sizes.labels(X, axis))
            if alive.all():
                continue
            taken = np.arange(len(alive))[windows[axis]]
            if steps[position] != 1:
                place = np.cumsum(alive) - 1
                self._rewriter.insertions.gather_behind(self._node, axis, place[taken[alive[taken]]])
                starts[position], ends[position] = 0, np.iinfo(np.int32).max
                steps[position] = 1
            elif len(taken):
                starts[position] = int(alive[: taken[0]].sum())
                ends[position] = starts[position] + int(alive[taken].sum())
        self._set_bounds(starts, ends, steps)

    def _set_bounds(self, starts: list[int], ends: list[int], steps: list[int]) -> None:
        """Write the bounds of a Slice, as attributes or inputs, whichever the opset has."""
        if self._node.attr("starts") is not None:
            self.set("starts", starts)
            self.set("ends", ends)
            return
        for slot, value in ((1, starts), (2, ends), (4, steps)):
            if slot < len(self._node.inputs) and self._node.inputs[slot]:
                given = self._rewriter.shapes.value(self._node.inputs[slot])
                dtype = np.int64 if given is None else given.dtype
                self.constant_input(slot, np.array(value, dtype))

    def pads(self, amounts: Sequence[int]) -> None:
        """Set the amounts of a Pad, as attribute or input; given for all axes."""
        if self._node.attr("pads") is not None:
            self.set("pads", list(amounts))
            return
        self._rewriter.replace_input(self._node, 1, np.array(amounts, np.int64))
        if len(self._proto.input) > 3:
            del self._proto.input[3:]

    def omit_input(self, slot: int) -> None:
        """Leave out an optional input."""
        self._rewriter.omit_input(self._node, slot)

    def _drop(self, name: str) -> None:
        kept = [a for a in self._proto.attribute if a.name != name]
        del self._proto.attribute[:]
        self._proto.attribute.extend(kept)
