"""One run of the value analysis (``v`` in the value rules)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ...cores import BLOCK
from ...errors import ModelError
from ...labels.vector import NONE, Bools, Labels, carried
from ...labels.walk import Walk
from ...model.mapped import let_go
from ...model.node import Node
from ...model.operators import Trait, traits_of
from ...shapes.inference import FLOATS
from . import bounds as b
from .acting import Acting
from .bounds import Bounds
from .slices import Slices, slices_of


@dataclass(frozen=True, eq=False, slots=True)
class Mix:
    """Entries along an axis that act on other entries, such as the inputs of a convolution.

    Attributes
    ----------
    labels : Labels, shape (groups * inputs,)
        The entries.
    values : Bounds
        What they can be.
    targets : Labels or None, shape (groups * outputs,)
        The entries that they act on; None for entries that always matter.
    weights : Acting or None
        Which input acts on which output; None for each on all.
    kernel : array, shape (groups, outputs, inputs, taps), or None
        The stored weight.
    stored : (str, int) or None
        Name of the weight and its axis of inputs, where an equal input can be added to another.
    obstacle : str
        Why a constant contribution cannot move into the bias; empty where it can.
    """

    node: Node
    labels: Labels
    values: Bounds
    targets: Labels | None = None
    weights: Acting | None = None
    kernel: np.ndarray | None = None
    stored: tuple[str, int] | None = None
    obstacle: str = "it is no product with a stored weight"

    @property
    def fits(self) -> bool:
        """Whether all sizes agree; in a model that contradicts itself they need not."""
        count = len(self.labels)
        if self.values.shape[1] not in (1, count):
            return False
        if self.kernel is None:
            return True
        groups, outputs, inputs = self.kernel.shape[:3]
        return groups * inputs == count and (self.targets is None or len(self.targets) == groups * outputs)

    @property
    def silent(self) -> Bools:
        """Entries that are zero, so that they act on nothing."""
        return b.zeros(b.wide(self.values, len(self.labels)))

    @property
    def movable(self) -> Bools:
        """Entries of a constant that is not zero and can move into the bias."""
        constant = b.constants(b.wide(self.values, len(self.labels)))
        return ~np.isnan(constant) & (constant != 0) & (not self.obstacle)

    def heard(self, live: Bools, unit: Labels) -> Bools:
        """Entries with a weight to a living target.

        ``live`` tells it of every unit, ``unit`` is that of every label.
        """
        groups, outputs = (1, 1) if self.kernel is None else self.kernel.shape[:2]
        rows = np.ones((groups, outputs), np.bool_)
        if self.targets is not None:
            rows = live[unit[self.targets]].reshape(groups, outputs)
        if self.weights is None:
            return np.repeat(rows.any(axis=1), len(self.labels) // groups)
        return self.weights.heard(rows).reshape(-1)


class Values:
    """Bounds of every slice along every axis that they are known for.

    Parameters
    ----------
    walk : Walk
        Finished: its labels say which entries are channels.
    ranges : mapping
        Graph input -> least and greatest value that are assumed.

    Attributes
    ----------
    mixes : list of Mix
    unclear : list of str
        Outputs of operators without a rule, and of those that draw random numbers.
    """

    def __init__(self, walk: Walk, ranges: Mapping[str, tuple[float, float]]) -> None:
        self.c = walk
        self.mixes: list[Mix] = []
        self.unclear: list[str] = []
        self._axes: dict[str, list[Bounds | None]] = {}
        self._whole = {name: b.between(*limits) for name, limits in ranges.items()}
        self._infinite: set[str] = set()
        self._arrays: dict[str, np.ndarray | None] = {}
        self._slices: dict[tuple[str, int], Slices] = {}
        self._unseen: set[str] = set()  # stored, so that their axes have bounds once they are asked for
        self._channels = {kernel.tensor: kernel.axis for kernel in walk.facts.kernels}

    # Reading ------------------------------------------------------------------------------

    def array(self, name: str) -> np.ndarray | None:
        """Value of a stored tensor, None for one that is computed from inputs."""
        if not name or not self.c.stored(name):
            return None
        if name not in self._arrays:
            try:
                found = self.c.graph.value(name)
            except ModelError:
                found = None
            numeric = found is not None and found.size and found.dtype.kind not in "OSUc"
            self._arrays[name] = found if numeric else None
        return self._arrays[name]

    def slices(self, name: str, axis: int) -> Slices:
        """What the slices of a stored tensor along an axis hold."""
        found = self._slices.get((name, axis))
        if found is None:
            array = self._arrays[name]
            assert array is not None
            found = self._slices[name, axis] = slices_of(array, axis)
        return found

    def _all_finite(self, name: str, array: np.ndarray) -> bool:
        """Whether there is no infinity and no NaN; a large array is read for all that may be asked of it."""
        if array.dtype.kind in "iub" or array.size < BLOCK:
            return b.finite(array)
        return self.slices(name, self._channels.get(name, 0)).finite

    def finite(self, *names: str) -> bool:
        """Whether tensors hold no infinity and no NaN, given that the inputs hold none."""
        return not any(name in self._infinite for name in names)

    def whole(self, name: str) -> Bounds:
        """Bounds of a whole tensor, shape (2, 1)."""
        known = self._whole.get(name)
        if known is None:
            array = self.array(name) if self.finite(name) else None
            known = b.ANYTHING if array is None else self._hull(name, array)
            self._whole[name] = known
        return known

    def _hull(self, name: str, array: np.ndarray) -> Bounds:
        if not array.ndim:
            return b.tidy(b.exactly(array))
        return b.over(self.slices(name, self._channels.get(name, 0)).bounds)

    def known(self, name: str, axis: int) -> Bounds | None:
        """Bounds of the slices along an axis, None where nothing tells them apart."""
        axis %= self.c.rank(name)
        axes = self._axes.get(name)
        if axes is None:
            array = self.array(name) if self.finite(name) else None
            axes = self._axes[name] = [None] * self.c.rank(name)
            if array is not None:
                self._unseen.add(name)
        if name in self._unseen and axes[axis] is None and self.c.shape(name)[axis] > 1:
            axes[axis] = self.slices(name, axis).bounds
        return axes[axis]

    def axis(self, name: str, axis: int) -> Bounds:
        """Bounds of the slices along an axis, shape (2, size)."""
        known = self.known(name, axis)
        return b.wide(self.whole(name), self.c.shape(name)[axis]) if known is None else known

    # Recording ----------------------------------------------------------------------------

    def out(self, name: str, axes: Sequence[Bounds | None] = (), whole: Bounds = b.ANYTHING) -> None:
        """Set what is known of an output."""
        if not name:
            return
        largest = _largest_constant(self.c.shapes.first.dtypes.get(name))
        parts = [None if a is None else _tidy(a, largest) for a in axes]
        sized = [p for p in parts if p is not None]
        for part in sized:
            whole = b.meet(whole, b.over(part))
        whole = _tidy(whole, largest)
        self._whole[name] = whole
        self._axes[name] = [None if p is None else b.meet(p, whole) for p in parts] or [
            None for _ in self.c.shapes.get(name) or ()
        ]

    def mix(self, node: Node, name: str, axis: int, **facts: object) -> None:
        """The node lets entries along an axis of an input act on others.

        Facts are those of :class:`Mix`.
        """
        labels = self.c.peek(name, axis % self.c.rank(name))
        if labels is not NONE:
            facts.setdefault("values", self.axis(name, axis))
            mix = Mix(node, labels, **facts)  # type: ignore[arg-type]
            self.mixes.append(mix if mix.fits else Mix(node, labels, b.ANYTHING))

    def opaque(self, node: Node) -> None:
        """Mix every axis of every input, and know nothing of the outputs."""
        for name in filter(None, node.inputs):
            shape = self.c.shapes.get(name)
            floats = self.c.shapes.first.dtypes.get(name) in FLOATS
            for axis in range(len(shape or ())):
                # Zero is no neutral element of an integer with a zero point.
                self.mix(node, name, axis, **({} if floats else {"values": b.ANYTHING}))
        self.leave_open(node)

    def leave_open(self, node: Node) -> None:
        """Know nothing of the outputs, also not that those of equal channels are equal."""
        for name in node.outputs:
            self.out(name)
        self.unclear += node.outputs

    def hold(self, node: Node) -> None:
        """Let everything that a node with nested graphs sees, and all inside, always matter."""
        names = [*self.c.graph.reads(node), *node.outputs]
        pending = [*node.inside]
        while pending:
            child = pending.pop()
            names += [*child.inputs, *child.outputs]
            pending += child.inside
        for name in dict.fromkeys(filter(None, names)):
            for labels in self.c.axes.get(name, ()):
                if carried(labels):
                    self.mixes.append(Mix(node, labels, b.ANYTHING))
        self.leave_open(node)

    def let_go(self, node: Node) -> None:
        """Give back the memory of weights that lie outside the model."""
        for name in node.inputs:
            array = self._arrays.get(name)
            if array is not None:
                let_go(array)

    def note_infinite(self, node: Node) -> None:
        """Follow infinities and NaNs that are stored: zero times those is not zero."""
        for name in node.inputs:
            array = self.array(name)
            if array is not None and not self._all_finite(name, array):
                self._infinite.add(name)
        if not self.finite(*node.inputs) and Trait.BOUNDED not in traits_of(node):
            self._infinite.update(node.outputs)


def _largest_constant(dtype: int | None) -> float:
    """Size up to which constants of an integer type are followed; infinite for floats."""
    if dtype in FLOATS:
        return np.inf
    kind: Any = onnx.helper.tensor_dtype_to_np_dtype(dtype or onnx.TensorProto.BOOL)
    return min(float(np.iinfo(kind).max), 2.0**53) if kind.kind in "iu" else 1.0


def _tidy(part: Bounds, largest: float) -> Bounds:
    """Open what is NaN; of integers only constants are followed, because they wrap around."""
    part = b.tidy(part)
    if np.isinf(largest):
        return part
    return np.where(b.fixed(part) & (np.abs(part[0]) <= largest), part, b.ANYTHING)
