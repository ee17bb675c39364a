"""Shapes of sequences and optional values, whose elements shape inference does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from ..model.node import Body, Node
from .setting import Elements, Setting, Shape

Known = Callable[[str], np.ndarray | None]
Forward = Callable[["Body", "Setting"], None]


def position(value: np.ndarray | None, count: int, default: int | None = None) -> int | None:
    """A position in a sequence as a non-negative number, None where it is not known."""
    found = default if value is None else int(np.reshape(value, -1)[0])
    return None if found is None or not -count <= found <= count else found % (count + (found == count))


def chunks(split: np.ndarray | None, size: int) -> list[int]:
    """Sizes that SplitToSequence cuts an axis into."""
    if split is None or split.ndim == 0:
        width = 1 if split is None else int(split)
        return [min(width, size - start) for start in range(0, size, width)]
    return [int(part) for part in split]


@dataclass(frozen=True, slots=True)
class Step:
    """One node, and what can be known in front of it."""

    node: Node
    setting: Setting
    known: Known
    forward: Forward

    def value(self, slot: int) -> np.ndarray | None:
        """Value of an input."""
        (name,) = self.node.inputs[slot : slot + 1] or [""]
        return self.known(name) if name else None

    def common(self, shapes: Sequence[Shape]) -> Shape | None:
        """One shape for several: sizes that differ are counted."""
        if len({len(shape) for shape in shapes}) != 1:
            return None
        if len(set(shapes)) > 1:
            self.setting.sampled = True
        return tuple(
            sizes[0] if len(set(sizes)) == 1 else self.setting.count for sizes in zip(*shapes, strict=True)
        )

    def loose(self, elements: Elements) -> Elements:
        """The same sequence without a known number of elements."""
        one = self.common(elements.shapes) if elements.shapes else None
        return Elements((one,) if one is not None else (), False, elements.optional)

    def elements(self, slot: int) -> Elements | None:
        """The sequence that is an input, None where nothing is known of it."""
        return self.setting.sequences.get(self.node.inputs[slot])

    def tensor(self, name: str, shape: Shape | None, dtype: int | None = None) -> None:
        """Record a tensor; nothing where its shape is not known."""
        if name and dtype is not None:
            self.setting.dtypes[name] = dtype
        if name:
            self.setting.shapes.pop(name, None)
        if name and shape is not None:
            self.setting.shapes[name] = tuple(shape)

    def sequence(self, name: str, elements: Elements, source: str) -> None:
        """Record a sequence and the type of its elements."""
        self.setting.sequences[name] = elements
        if source in self.setting.dtypes:
            self.setting.dtypes[name] = self.setting.dtypes[source]

    def bind(self, name: str, source: str) -> None:
        """Give a name what another one has; its value is left behind."""
        setting = self.setting
        if source in setting.sequences:
            setting.sequences[name] = setting.sequences[source]
        else:
            setting.shapes.pop(name, None)
            if source in setting.shapes:
                setting.shapes[name] = setting.shapes[source]
        if source in setting.dtypes:
            setting.dtypes[name] = setting.dtypes[source]


def _construct(step: Step) -> None:
    node, setting = step.node, step.setting
    shapes = [setting.shapes.get(name) for name in node.inputs]
    known = tuple(shape for shape in shapes if shape is not None)
    if len(known) == len(shapes):
        step.sequence(node.output, Elements(known), node.inputs[0])


def _empty(step: Step) -> None:
    step.sequence(step.node.output, Elements(()), "")
    step.setting.dtypes[step.node.output] = step.node.attr("dtype", TensorProto.FLOAT)


def _insert(step: Step) -> None:
    node, elements = step.node, step.elements(0)
    shape = step.setting.shapes.get(node.inputs[1])
    if elements is None or shape is None:
        return
    count = len(elements.shapes)
    place = position(step.value(2), count, count if len(node.inputs) < 3 else None)
    shapes = (*elements.shapes[:place], shape, *elements.shapes[place:])
    found = Elements(shapes)
    if not elements.counted or place is None:
        found = step.loose(Elements((*elements.shapes, shape)))
    step.sequence(node.output, found, node.inputs[1])


def _erase(step: Step) -> None:
    node, elements = step.node, step.elements(0)
    if elements is None:
        return
    count = len(elements.shapes)
    place = position(step.value(1), count, count - 1 if len(node.inputs) < 2 else None)
    if elements.counted and place is not None and place < count:
        elements = Elements((*elements.shapes[:place], *elements.shapes[place + 1 :]))
    else:
        elements = step.loose(elements)
    step.sequence(node.output, elements, node.inputs[0])


def _at(step: Step) -> None:
    node, elements = step.node, step.elements(0)
    if elements is None:
        return
    place = position(step.value(1), len(elements.shapes))
    if not elements.counted or place is None or place == len(elements.shapes):
        elements, place = step.loose(elements), 0
    shape = elements.shapes[place] if elements.shapes else None
    step.tensor(node.output, shape, step.setting.dtypes.get(node.inputs[0]))


def _length(step: Step) -> None:
    elements = step.elements(0)
    step.tensor(step.node.output, (), TensorProto.INT64)
    if elements is not None and elements.counted:
        step.setting.values[step.node.output] = np.array(len(elements.shapes))


def _split(step: Step) -> None:
    node = step.node
    shape = step.setting.shapes.get(node.inputs[0])
    given = len(node.inputs) > 1 and bool(node.inputs[1])
    if shape is None:
        return
    axis = node.attr("axis", 0) % len(shape)
    if given and step.value(1) is None:
        parts, counted = [step.setting.count], False
        step.setting.sampled = True
    else:
        parts, counted = chunks(step.value(1), shape[axis]), True
    keep = given or node.attr("keepdims", 1)
    shapes = tuple((*shape[:axis], *([part] if keep else []), *shape[axis + 1 :]) for part in parts)
    step.sequence(node.output, Elements(shapes, counted), node.inputs[0])


def _concat(step: Step) -> None:
    node, elements = step.node, step.elements(0)
    if elements is None or not elements.shapes:
        return
    one = step.common(elements.shapes)
    if one is None:
        return
    new = node.attr("new_axis", 0)
    axis = node.attr("axis") % (len(one) + bool(new))
    size = len(elements.shapes) if new else sum(shape[axis] for shape in elements.shapes)
    if not elements.counted:
        size, step.setting.sampled = step.setting.count, True
    shape = (*one[:axis], size, *one[axis + (0 if new else 1) :])
    step.tensor(node.output, shape, step.setting.dtypes.get(node.inputs[0]))


def _optional(step: Step) -> None:
    node, setting = step.node, step.setting
    source = node.inputs[0] if node.inputs else ""
    if source in setting.sequences:
        step.bind(node.output, source)
    elif source in setting.shapes:
        step.sequence(node.output, Elements((setting.shapes[source],), optional=True), source)
    else:
        setting.sequences[node.output] = Elements((), optional=True)


def _get(step: Step) -> None:
    node, elements = step.node, step.elements(0)
    if elements is not None and elements.optional:
        shape = elements.shapes[0] if elements.shapes else None
        step.tensor(node.output, shape, step.setting.dtypes.get(node.inputs[0]))
    else:
        step.bind(node.output, node.inputs[0])


def _has(step: Step) -> None:
    step.tensor(step.node.output, (), TensorProto.BOOL)


SEQUENCES: dict[str, Callable[[Step], Any]] = {
    "SequenceConstruct": _construct, "SequenceEmpty": _empty, "SequenceInsert": _insert,
    "SequenceErase": _erase, "SequenceAt": _at, "SequenceLength": _length,
    "SplitToSequence": _split, "ConcatFromSequence": _concat,
    "Optional": _optional, "OptionalGetElement": _get, "OptionalHasElement": _has,
}  # fmt: skip
