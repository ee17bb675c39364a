"""Sequences and optional values: every element has labels of its own while its place is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..labels.facts import Blocked
from ..labels.pen import Pen
from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from ..shapes.sequences import position
from .registry import rule

Element = list[Labels]


def elements(c: Walk, name: str) -> list[Element]:
    """Labels of the elements of a sequence."""
    if name not in c.sequences:
        raise Blocked(f"the elements of '{name}' are not known")
    return c.sequences[name]


def counted(c: Walk, name: str) -> bool:
    """Whether the places of all elements are known, whatever the sizes of the inputs."""
    found = [s.sequences.get(name) for s in (c.shapes.first, c.shapes.second)]
    return all(e is not None and e.counted for e in found) and len({len(e.shapes) for e in found if e}) == 1


def common(c: Walk, n: Node, found: Sequence[Element]) -> list[Element]:
    """One element that stands for all of them: their labels are coupled."""
    if not found:
        return []
    if len({len(element) for element in found}) > 1:
        for labels in (v for element in found for v in element):
            c.pin(labels, f"{n} mixes elements with different numbers of axes")
        raise Blocked("its elements differ in the number of axes")
    one = []
    for axes in zip(*found, strict=True):
        same = all((v is NONE) == (axes[0] is NONE) and len(v) == len(axes[0]) for v in axes)
        for labels in axes[1:]:
            c.unify(axes[0], labels)
        one.append(axes[0] if same else NONE)
    return [one]


def settle(c: Walk, n: Node, name: str, found: Sequence[Sequence[Element]]) -> None:
    """Set the elements of a sequence that is one of several, or all of them in turn."""
    count = len(c.shapes.first.sequences[name].shapes) if counted(c, name) else 1
    if all(len(each) == count for each in found):
        c.sequences[name] = [common(c, n, same)[0] for same in zip(*found, strict=True)]
    else:
        one = common(c, n, [element for each in found for element in each])
        c.sequences[name] = [list(element) for element in one for _ in range(count)]


def place(c: Walk, n: Node, slot: int, count: int, default: int | None) -> int | None:
    """Position that an input names, None where it is known only when the model runs."""
    given = slot < len(n.inputs) and n.inputs[slot]
    return position(c.value(n.inputs[slot]), count) if given else default


@rule("SequenceConstruct", traits=Trait.NONE)
def sequence_construct(c: Walk, n: Node) -> None:
    """Its inputs become elements."""
    c.sequences[n.output] = [c.labels(x) for x in n.inputs]


@rule("SequenceEmpty", traits=Trait.NONE)
def sequence_empty(c: Walk, n: Node) -> None:
    """Has no elements."""
    c.sequences[n.output] = []


@rule("SequenceInsert", traits=Trait.NONE)
def sequence_insert(c: Walk, n: Node) -> None:
    """Adds an element."""
    known, new = elements(c, n.inputs[0]), c.labels(n.inputs[1])
    where = place(c, n, 2, len(known), len(known))
    if counted(c, n.output) and where is not None:
        c.sequences[n.output] = [*known[:where], new, *known[where:]]
    else:
        c.sequences[n.output] = common(c, n, [*known, new])


@rule("SequenceErase", traits=Trait.NONE)
def sequence_erase(c: Walk, n: Node) -> None:
    """Removes an element."""
    known = elements(c, n.inputs[0])
    where = place(c, n, 1, len(known), len(known) - 1)
    if counted(c, n.output) and where is not None:
        c.sequences[n.output] = [*known[:where], *known[where + 1 :]]
    else:
        c.sequences[n.output] = common(c, n, known)


@rule("SequenceAt", traits=Trait.NONE)
def sequence_at(c: Walk, n: Node) -> None:
    """Carries the labels of one element, or of all where its position depends on data."""
    known = elements(c, n.inputs[0])
    where = place(c, n, 1, len(known), None)
    if not counted(c, n.inputs[0]) or where is None:
        known, where = common(c, n, known), 0
    if not known:
        raise Blocked("nothing is known of its elements")
    c.out(n.output, known[where])


@rule("SequenceLength", "OptionalHasElement", traits=Trait.NONE)
def number(c: Walk, n: Node) -> None:
    """Has no channels."""


@rule("SplitToSequence", traits=Trait.NONE)
def split_to_sequence(c: Walk, n: Node) -> None:
    """Gives every element its part of the labels; the sizes follow."""
    X = n.inputs[0]
    labels = c.labels(X)
    axis = n.attr("axis", 0) % len(labels)
    parts = [shape[axis] for shape in c.shapes.first.sequences[n.output].shapes] if n.inputs[1:] else []
    if labels[axis] is NONE or not parts or not counted(c, n.output):
        c.pin_axes(X, [axis], f"{n} cuts it into entries, or into parts that are known only when it runs")
        labels[axis] = NONE
        if not parts and not n.attr("keepdims", 1):
            del labels[axis]
        count = len(c.shapes.first.sequences[n.output].shapes) if counted(c, n.output) else 1
        c.sequences[n.output] = [list(labels) for _ in range(count)]
        return
    pieces = np.split(labels[axis], np.cumsum(parts)[:-1])
    c.sequences[n.output] = [[*labels[:axis], piece, *labels[axis + 1 :]] for piece in pieces]

    def mend(e: Pen) -> None:
        sizes = [e.count(piece) for piece in pieces]
        if sizes != parts:
            e.constant_input(1, np.array(sizes, np.int64))

    c.fix(mend)


@rule("ConcatFromSequence", traits=Trait.NONE)
def concat_from_sequence(c: Walk, n: Node) -> None:
    """Joins the labels of the elements along its axis, or gives a new axis."""
    known = elements(c, n.inputs[0])
    if not known:
        raise Blocked("nothing is known of its elements")
    axis = n.attr("axis")
    if n.attr("new_axis", 0):
        (axes,) = common(c, n, known)
        axes.insert(axis % (len(axes) + 1), NONE)
    else:
        axes = joined(c, n, known, axis % len(known[0]))
    c.out(n.output, axes)


def joined(c: Walk, n: Node, known: Sequence[Element], axis: int) -> Element:
    """Labels of elements set one behind the other."""
    ends = [e[axis] for e in known]
    rest = [[v for k, v in enumerate(e) if k != axis] for e in known]
    (axes,) = common(c, n, rest)
    whole: Labels = NONE
    if counted(c, n.inputs[0]) and all(v is not NONE for v in ends):
        whole = np.concatenate(ends)
    else:
        for labels in ends:
            c.pin(
                labels,
                f"{n} joins it with what has no channels, or a number of times that is known only when it runs",
            )
    axes.insert(axis, whole)
    return axes


@rule("Optional", traits=Trait.NONE)
def optional(c: Walk, n: Node) -> None:
    """Carries the labels of its element."""
    source = n.inputs[0] if n.inputs else ""
    if source in c.sequences:
        c.sequences[n.output] = c.sequences[source]
    else:
        c.sequences[n.output] = [c.labels(source)] if source else []


@rule("OptionalGetElement", traits=Trait.NONE)
def optional_get_element(c: Walk, n: Node) -> None:
    """Carries the labels of the element."""
    elements_ = c.shapes.first.sequences.get(n.inputs[0])
    if elements_ is not None and elements_.optional:
        for element in elements(c, n.inputs[0]):
            c.out(n.output, element)
    else:
        c.same(n)
