"""Control flow. Bodies are walked in the scope around them: names are unique over all graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..labels.facts import Blocked
from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.node import Body, Node
from ..model.operators import Trait
from .apply import apply_rule
from .registry import rule
from .sequences import common, elements, settle


def walk_body(c: Walk, n: Node, body: Body) -> None:
    """Apply the rules of a nested graph; every node counts once, however often it runs."""
    for node in body.nodes:
        apply_rule(c, node)
    c.node = n


@rule("If", traits=Trait.NONE)
def if_(c: Walk, n: Node) -> None:
    """Walks both branches and couples their outputs."""
    branches = [n.bodies["then_branch"], n.bodies["else_branch"]]
    for body in branches:
        walk_body(c, n, body)
    condition = c.value(n.inputs[0])
    taken = None if condition is None else int(not condition.reshape(-1)[0])
    for k, name in enumerate(n.outputs):
        pair = [body.outputs[k] for body in branches]
        if any(source in c.sequences for source in pair):
            settle(c, n, name, [elements(c, source) for source in pair])
        elif name and taken is None:
            c.out(name, join(c, n, name, pair))
        elif name and taken is not None:
            follow_branch(c, n, name, pair[taken], pair[1 - taken])


def join(c: Walk, n: Node, name: str, sources: Sequence[str]) -> list[Labels]:
    """Labels of an output that is one or the other; sizes that differ pin."""
    if any(c.shapes.get(x) is None for x in (name, *sources)):
        c.freeze(sources, f"{n}: its branches differ in the number of axes")
        return [NONE] * len(c.shapes.get(name) or ())
    axes = []
    for k, size in enumerate(c.shape(name)):
        if all(c.shape(x)[k] == size for x in sources):
            axes.append(c.broadcast_axis(sources, k - c.rank(name)))
            continue
        for source in sources:
            c.pin_axes(source, [k], f"{n}: its branches differ in size there")
        axes.append(NONE)
    return axes


def follow_branch(c: Walk, n: Node, name: str, taken: str, other: str) -> None:
    """The shapes decide which branch is taken; the other may differ in axes of size 1."""
    if c.shapes.get(name) is None:
        c.freeze([taken, other], f"{n}: the shape of '{name}' is not known")
        return
    wide = [[k for k, s in enumerate(c.shapes.get(x) or ()) if s != 1] for x in (taken, other)]
    sizes = [
        [c.shape(x)[k] for k in axes] for x, axes in zip((taken, other), wide, strict=True) if c.shapes.get(x)
    ]
    if len(sizes) == 2 and sizes[0] == sizes[1]:
        for i, j in zip(*wide, strict=True):
            c.meet(other, j, c.axis(taken, i))
    else:
        c.freeze([other], f"{n}: its branches differ in shape")
    c.out(name, c.labels(taken))


@rule("Loop", traits=Trait.NONE)
def loop(c: Walk, n: Node) -> None:
    """Walks the body; what it carries keeps its labels, what it collects gains an axis."""
    body, count = n.bodies["body"], len(n.inputs) - 2
    enter(c, n, body.inputs[2:], n.inputs[2:])
    walk_body(c, n, body)
    leave(c, n, body.inputs[2:], body.outputs[1:])
    for name, result in zip(n.outputs[count:], body.outputs[count + 1 :], strict=True):
        collect(c, n, name, result, 0)


@rule("Scan", traits=Trait.NONE)
def scan(c: Walk, n: Node) -> None:
    """Walks the body with slices along the scanned axes, which must survive."""
    if n.opset < 9:
        raise Blocked("operator sets before 9 define it differently")
    body, count = n.bodies["body"], n.attr("num_scan_inputs")
    states = len(n.inputs) - count
    enter(c, n, body.inputs[:states], n.inputs[:states])
    axes = n.attr("scan_input_axes", [0] * count)
    for inner, outer, axis in zip(body.inputs[states:], n.inputs[states:], axes, strict=True):
        c.pin_axes(outer, [axis], f"{n} iterates along it")
        labels = c.labels(outer)
        del labels[axis]
        c.out(inner, labels)
    walk_body(c, n, body)
    leave(c, n, body.inputs[:states], body.outputs)
    axes = n.attr("scan_output_axes", [0] * (len(n.outputs) - states))
    for name, result, axis in zip(n.outputs[states:], body.outputs[states:], axes, strict=True):
        collect(c, n, name, result, axis)


@rule("SequenceMap", traits=Trait.NONE)
def sequence_map(c: Walk, n: Node) -> None:
    """Walks the body once with labels that all elements share."""
    body = n.bodies["body"]
    for inner, outer in zip(body.inputs, n.inputs, strict=True):
        if outer in c.sequences:
            for one in common(c, n, elements(c, outer)):
                c.out(inner, one)
        else:
            c.out(inner, c.labels(outer))
    walk_body(c, n, body)
    for name, result in zip(n.outputs, body.outputs, strict=True):
        c.sequences[name] = [c.labels(result)]


def enter(c: Walk, n: Node, inner: Iterable[str], outer: Iterable[str]) -> None:
    """What is carried enters with the labels of its initial value."""
    for name, source in zip(inner, outer, strict=True):
        if source in c.sequences:
            settle(c, n, name, [elements(c, source)])
            continue
        shape = c.shapes.get(name)
        if shape is None:
            c.freeze([source], f"{n} changes the number of its axes, or does what cannot be followed")
            continue
        changing = [k for k, size in enumerate(c.shape(source)) if size != shape[k]]
        c.pin_axes(source, changing, f"{n} changes its size from one iteration to the next")
        c.out(name, [NONE if k in changing else v for k, v in enumerate(c.labels(source))])


def leave(c: Walk, n: Node, inner: Sequence[str], results: Iterable[str]) -> None:
    """What leaves an iteration enters the next one, and in the end the outputs."""
    for output, name, result in zip(n.outputs, inner, results, strict=False):
        if name in c.sequences:
            settle(c, n, output or name, [c.sequences[name], elements(c, result)])
        elif c.shapes.get(name) is None or c.shapes.get(result) is None:
            c.freeze([name, result], f"{n} changes the number of its axes, or does what cannot be followed")
        else:
            axes = c.labels(name)
            for k, size in enumerate(c.shape(name)):
                if c.shape(result)[k] != size:
                    c.pin_axes(result, [k], f"{n} changes its size from one iteration to the next")
                elif size > 1:
                    c.meet(result, k, axes[k])
            c.out(output, axes)


def collect(c: Walk, n: Node, name: str, result: str, axis: int) -> None:
    """Results of all iterations, stacked along a new axis."""
    if c.shapes.get(result) is None:
        c.freeze([result], f"{n}: the shape of '{result}' is not known")
        return
    axes = c.labels(result)
    axes.insert(axis % (len(axes) + 1), NONE)
    c.out(name, axes)
