"""The walk: what a rule sees of the model, and where it records its facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from ..model.graph import UNLABELLED, Graph
from ..model.node import Node
from ..shapes.inference import FLOATS, VALUE_LIMIT
from ..shapes.setting import Shape, Shapes
from .facts import Blocked, Kernel
from .recorder import Recorder
from .refinement import refine
from .vector import NONE, Labels


class Walk(Recorder):
    """What a rule sees of the model, and where it records its facts (``c`` in the rules).

    Parameters
    ----------
    graph : Graph
    shapes : Shapes

    Attributes
    ----------
    axes : dict
        Tensor name -> list of label vectors, one per axis. Tensors without labels are absent.
    sequences : dict
        Sequence or optional value -> labels of its elements, as many as its ``Elements`` has.
    signs : dict
        Computed tensor -> 1 where nothing in it is negative, -1 where nothing is positive.
    """

    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        super().__init__()
        self.graph = graph
        self.shapes = shapes
        self._known = shapes.shown.shapes
        self.axes: dict[str, list[Labels | None]] = {}
        self.sequences: dict[str, list[list[Labels]]] = {}
        self.signs: dict[str, int] = {}

    # Reading ------------------------------------------------------------------------------

    def shape(self, name: str) -> Shape:
        """Shape of a tensor at the first sample setting."""
        try:  # a rule asks for shapes more often than for anything else
            return self._known[name]
        except KeyError:
            raise Blocked(f"the shape of '{name}' is not known") from None

    def rank(self, name: str) -> int:
        """Number of axes."""
        return len(self.shape(name))

    def stored(self, name: str) -> bool:
        """Whether a tensor is a constant, or a constant that was moved."""
        return self.graph.has_value(name)

    def value(self, name: str) -> np.ndarray | None:
        """Statically known value of a tensor, None where it has none."""
        if not name:
            return None
        found = self.shapes.value(name)
        if found is None and self.stored(name):
            found = self.graph.value(name)
        return found

    def known(self, name: str) -> np.ndarray:
        """Statically known value of a tensor that the rule cannot do without."""
        found = self.value(name)
        if found is None:
            raise Blocked(f"'{name}' is computed from data")
        return found

    def sign(self, name: str) -> int:
        """1 where nothing in a tensor is negative, -1 where nothing is positive, 0 if that is open."""
        known = self.signs.get(name)
        if known is not None or not self.stored(name):
            return known or 0
        value = self.value(name) if prod(self.shape(name)) <= VALUE_LIMIT else None
        if value is None or value.dtype.kind not in "bfiu":
            return 0
        return 1 if (value >= 0).all() else -1 if (value <= 0).all() else 0

    def axis(self, name: str, axis: int) -> Labels:
        """Labels of one axis; the axis of a constant gets fresh ones when first asked for."""
        return self._axis(name, axis % self.rank(name))

    def _axis(self, name: str, axis: int) -> Labels:
        known = self.axes.get(name)
        if known is not None and known[axis] is not None:
            return known[axis]  # type: ignore[return-value]
        if not self.graph.is_constant(name):
            return NONE
        if self.shapes.first.dtypes.get(name) in UNLABELLED:
            return NONE
        return self._store(name, axis, self.fresh(self.shape(name)[axis]))

    def labels(self, name: str) -> list[Labels]:
        """Labels of every axis."""
        return [self._axis(name, k) for k in range(self.rank(name))]

    def peek(self, name: str, axis: int) -> Labels:
        """Labels of one axis, without labelling a constant that has none yet."""
        known = self.axes.get(name)
        found = known[axis] if known is not None else None
        return NONE if found is None else found

    def real(self, name: str, axis: int) -> Labels:
        """Labels of an axis as a full vector: pinned fresh ones where it carries no channels."""
        found = self.axis(name, axis)
        size = self.shape(name)[axis]
        if found is NONE and size:
            found = self.allot(size)
            self.pin(found, f"{self.node} joins it with '{name}', which has no channels there")
        return found

    def _store(self, name: str, axis: int, labels: Labels) -> Labels:
        constant = self.graph.constants.get(name)
        if constant is not None and constant.sparse is not None:
            self.pin(labels, f"'{name}' is stored as a sparse tensor, which is not cut")
        self.axes.setdefault(name, [None] * self.rank(name))[axis] = labels
        return labels

    # Facts --------------------------------------------------------------------------------

    def unify(self, a: Labels, b: Labels) -> None:
        """Two vectors live and die together."""
        if a is b:
            return
        if a is NONE or b is NONE:
            self.pin(b if a is NONE else a, f"{self.node} {self._bare_partner()}")
        elif len(a) != len(b):
            self.pin(a, f"{self.node} joins axes of different sizes")
            self.pin(b, f"{self.node} joins axes of different sizes")
        else:
            self.facts.pairs.append((a, b, self._index))

    def _bare_partner(self) -> str:
        """What the current node joins labels with, where that carries none, and where it is from."""
        names = [n for n in (self.node.inputs if self.node else ()) if n and not self.stored(n)]
        bare = [n for n in names if n not in self.axes]
        if not bare:
            return "meets an axis that carries no channels"
        source = bare[0]
        while (maker := self.graph.producers.get(source)) is not None:
            source = next((n for n in maker.inputs if n and not self.stored(n)), "")
        origin = f" (from graph input '{source}')" if source else ""
        return f"joins it with '{bare[0]}', which carries no channels{origin}"

    def kernel(self, node: Node, name: str, axis: int) -> None:
        """Slices of a stored ``name`` along ``axis`` each produce one output channel of ``node``."""
        if self.stored(name):
            self.facts.kernels.append(Kernel(node, name, axis % self.rank(name)))
        elif name in self.graph.main.inputs:
            self.facts.fed.append((node, name))

    def zero(self, name: str, zero_point: str) -> None:
        """Removed entries of a quantised tensor are its zero point; 0 where that is absent."""
        if not zero_point or prod(self.shape(zero_point)) == 1:
            self.facts.zeros[name] = zero_point

    def hand_on_zeros(self, node: Node) -> None:
        """Outputs of an operator that only moves quantised values keep their zero point."""
        zeros, dtypes = self.facts.zeros, self.shapes.first.dtypes
        for name in node.outputs:
            for source in node.inputs:
                if source in zeros and dtypes.get(source) == dtypes.get(name):
                    zeros.setdefault(name, zeros[source])

    def hand_on_sign(self, node: Node, sign: int) -> None:
        """Outputs have a sign; of integers, which wrap around, none is followed."""
        dtypes = self.shapes.first.dtypes
        self.signs.update((name, sign) for name in node.outputs if sign and dtypes.get(name) in FLOATS)

    # Common steps of rules ----------------------------------------------------------------

    def meet(self, name: str, axis: int, labels: Labels) -> None:
        """An axis of a tensor is coupled with labels; a constant met for the first time adopts."""
        if not name:
            return
        axis %= self.rank(name)
        if self.shape(name)[axis] == 1 and labels is not NONE and len(labels) > 1:
            return  # broadcast
        known = self.axes.get(name)
        fits = labels is NONE or len(labels) == self.shape(name)[axis]
        if fits and self.graph.is_constant(name) and (known is None or known[axis] is None):
            self._store(name, axis, labels)
        else:
            self.unify(self._axis(name, axis), labels)

    def out(self, name: str, axes: Sequence[Labels]) -> None:
        """Set the labels of an output; an axis of dynamic size carries none."""
        if name and any(labels is not NONE for labels in axes):
            shape = self.shapes.get(name)
            if shape is not None and len(shape) != len(axes):
                raise Blocked("its sizes contradict each other")
            self.axes[name] = list(axes)

    def same(self, node: Node, *names: str) -> None:
        """Outputs carry the labels of the first input (unary operators)."""
        if node.inputs[0] in self.sequences:
            self.sequences[node.output] = self.sequences[node.inputs[0]]
            return
        axes = self.labels(node.inputs[0])
        for name in names or node.outputs:
            self.out(name, axes)

    def freeze(self, names: Iterable[str], reason: str) -> None:
        """Pin every label of some tensors; the axes of constants carry none from here on."""
        for name in filter(None, names):
            shape = self.shapes.get(name)
            known = self.axes.get(name)
            for element in self.sequences.get(name, ()):
                for vector in element:
                    self.pin(vector, reason)
            if known is None and not (self.graph.is_constant(name) and shape is not None):
                continue
            known = known if known is not None else [None] * len(shape or ())
            for labels in known:
                if labels is not None:
                    self.pin(labels, reason)
            self.axes[name] = [NONE if labels is None else labels for labels in known]

    def pin_axes(self, name: str, axes: Iterable[int], reason: str) -> None:
        """Pin some axes of a tensor."""
        for axis in axes:
            axis %= self.rank(name)
            if self.graph.is_constant(name) and self.peek(name, axis) is NONE:
                self._store(name, axis, NONE)
            self.pin(self._axis(name, axis), reason)

    def fixed(self, name: str, axes: Iterable[int], reason: str) -> list[Labels]:
        """Labels of a tensor, of which some axes are pinned and carry none from here on."""
        chosen = {axis % self.rank(name) for axis in axes}
        self.pin_axes(name, chosen, reason)
        return [NONE if k in chosen else self._axis(name, k) for k in range(self.rank(name))]

    def elementwise(self, names: Sequence[str]) -> list[Labels]:
        """Labels after numpy broadcasting of several tensors; what meets is unified."""
        names = [name for name in names if name]
        rank = max(map(self.rank, names))
        return [self.broadcast_axis(names, k) for k in range(-rank, 0)]

    def broadcast_axis(self, names: Sequence[str], axis: int) -> Labels:
        """One axis (negative) of that."""
        wide = [n for n in names if len(s := self.shape(n)) >= -axis and s[axis] != 1]
        return self.join([(name, axis) for name in wide])

    def join(self, places: Iterable[tuple[str, int]]) -> Labels:
        """Labels that axes (tensor, axis) of equal size share; constants adopt those of others."""
        first: Labels | None = None
        for name, axis in sorted(places, key=lambda place: self.graph.is_constant(place[0])):
            if first is None:
                first = self.axis(name, axis)
            elif first is NONE and not self.graph.is_constant(name):
                first = self.axis(name, axis)
                self.unify(NONE, first)
            else:
                self.meet(name, axis, first)
        return NONE if first is None else first

    # Reshape ------------------------------------------------------------------------------

    def regroup(
        self, axes: Sequence[Labels], shape: Shape, target: Shape, samples: Sequence[tuple[Shape, Shape]] = ()
    ) -> list[Labels]:
        """Labels of ``target`` for the labels of ``shape`` read in the same order of elements.

        Both shapes are cut into their common refinement; each axis is a run of factors. A split
        creates one vector per factor, a merge creates the vector of the pairs. Where the cut
        points do not nest, the labels of that block are pinned.

        Parameters
        ----------
        samples : sequence of (shape, target), optional
            The same shapes at the two sample settings: blocks that are cut differently there are
            pinned.
        """
        result: list[Labels] = [NONE] * len(target)
        blocks, others = (refine(*pair) for pair in samples or [(shape, target)] * 2)
        for number, block in enumerate(blocks):
            if all(axes[k] is NONE for k in block.sources):
                continue
            same = number < len(others) and block.cuts_like(others[number])
            if block.factors is None or not same:
                for k in block.sources:
                    self.pin(
                        axes[k],
                        f"{self.node} cuts {_dims(shape)} into {_dims(target)}, which mixes it with another axis",
                    )
                continue
            sizes = block.factors_at(shape, target)
            factors: list[Labels] = [NONE] * len(sizes)
            for k, run in block.source_runs:
                if axes[k] is not NONE:
                    factors[run] = self.split(axes[k], sizes[run])
            for k, run in block.target_runs:
                result[k] = self.merge(factors[run], sizes[run])
        return result


def _dims(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
