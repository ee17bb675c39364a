"""Shapes behind control flow.

Bodies are followed with the shapes of what enters them. A size that changes from one iteration to
the next, or that depends on data, takes the sample count of its setting (see ``shapes.Setting``),
hence counts as dynamic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from onnx import TensorProto

from ..model.evaluation import evaluate
from ..model.node import Body, Node
from .sequences import SEQUENCES, Forward, Known, Step
from .setting import Elements, Setting

LONGEST = 1024
"""Iterations of a loop that are followed to find out when it ends."""


def follows(node: Node) -> bool:
    """Whether this module knows the operator."""
    return node.domain == "" and node.op in _TABLE


def follow(node: Node, setting: Setting, known: Known, forward: Forward) -> None:
    """Record the shapes of a node's outputs, and of everything inside its bodies.

    Parameters
    ----------
    known : callable
        Value of a tensor, None where it is not known.
    forward : callable
        Follows the nodes of a body.
    """
    # A malformed node fails in any of these ways, and leaves shapes unknown.
    with suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        _TABLE[node.op](Step(node, setting, known, forward))


def _if(step: Step) -> None:
    """The branch that is taken, or what both have in common."""
    node, setting = step.node, step.setting
    branches = [node.bodies["then_branch"], node.bodies["else_branch"]]
    for body in branches:
        step.forward(body, setting)
    condition = step.value(0)
    for k, name in enumerate(node.outputs):
        sources = [body.outputs[k] for body in branches]
        if condition is not None and condition.size:
            sources = [sources[0 if condition.reshape(-1)[0] else 1]]
            if sources[0] in setting.values:
                setting.values[name] = setting.values[sources[0]]
        step.bind(name, sources[0])
        if len(sources) == 2:
            _both(step, name, sources)


def _both(step: Step, name: str, sources: Sequence[str]) -> None:
    setting = step.setting
    if name in setting.sequences:
        shapes = [s for n in sources for s in setting.sequences.get(n, Elements(())).shapes]
        setting.sequences[name] = step.loose(Elements(tuple(shapes)))
    elif all(n in setting.shapes for n in sources):
        step.tensor(name, step.common([setting.shapes[n] for n in sources]))
    else:
        step.tensor(name, None)


def _loop(step: Step) -> None:
    node, setting = step.node, step.setting
    body = node.bodies["body"]
    step.tensor(body.inputs[0], (), TensorProto.INT64)
    step.tensor(body.inputs[1], (), TensorProto.BOOL)
    _carry(step, body, node.inputs[2:], body.inputs[2:], body.outputs[1:])
    count = len(node.inputs) - 2
    for name, result in zip(node.outputs[count:], body.outputs[1 + count :], strict=True):
        step.bind(name, result)
        if name and name in setting.shapes:
            step.tensor(name, (_trips(step, body), *setting.shapes[name]))


def _trips(step: Step, body: Body) -> int:
    """Number of iterations: known where constants and counters alone say when the loop ends."""
    makers = {name: child for child in body.nodes for name in child.outputs}
    counter, going, *_ = body.inputs
    after = dict(zip(body.inputs[1:], body.outputs, strict=False))
    leading = _leading_to(going, makers, after)
    deciding = [name for name in after if name in leading]
    found = {name: step.value(k) for k, name in enumerate(after, 1)}
    if not step.node.inputs[1]:
        found[going] = np.array(True)
    maximum = step.value(0)
    most = None if maximum is None else int(maximum.reshape(-1)[0])
    for trip in range(LONGEST):
        state = {n: v for n in deciding if (v := found[n]) is not None}
        if len(state) < len(deciding):
            break  # it depends on data
        if trip == most or not state[going].all():
            return trip
        values = {**state, counter: np.array(trip)}
        found = {n: _computed(after[n], values, makers, step.known) for n in deciding}
        if most and counter not in leading and _equal(found, state):
            return most  # nothing changes from here on
    step.setting.sampled = True
    return step.setting.count


def _equal(a: Mapping[str, np.ndarray | None], b: Mapping[str, np.ndarray]) -> bool:
    """Whether values are known and the same."""
    return all(v is not None and np.array_equal(v, b[n]) for n, v in a.items())


def _leading_to(name: str, makers: Mapping[str, Node], after: Mapping[str, str]) -> set[str]:
    """What decides a value, in this iteration of a loop or a later one."""
    found: set[str] = set()
    open_ = [name]
    while open_:
        one = open_.pop()
        if one not in found:
            found.add(one)
            open_ += [after[one]] if one in after else []
            open_ += makers[one].inputs if one in makers else []
    return found


def _computed(
    name: str, values: dict[str, Any], makers: Mapping[str, Node], known: Known
) -> np.ndarray | None:
    """Value of a tensor in one iteration, None where it depends on data or on a growing shape."""
    node = makers.get(name)
    if name not in values and (node is None or not node.inputs):
        values[name] = known(name)
    elif name not in values and node is not None:
        inputs = {n: _computed(n, values, makers, known) for n in node.inputs if n}
        whole = all(v is not None for v in inputs.values())
        found = evaluate(node, [inputs.get(n) for n in node.inputs]) if whole else None
        values.update(dict.fromkeys(node.outputs))
        values.update(zip(node.outputs, found or (), strict=False))
    result: np.ndarray | None = values.get(name)
    return result


def _scan(step: Step) -> None:
    node, setting = step.node, step.setting
    if node.opset < 9:
        return
    body, scanned = node.bodies["body"], node.attr("num_scan_inputs")
    states = len(node.inputs) - scanned
    length = None
    axes = node.attr("scan_input_axes", [0] * scanned)
    for inner, outer, axis in zip(body.inputs[states:], node.inputs[states:], axes, strict=True):
        step.bind(inner, outer)
        shape = setting.shapes.get(outer)
        if shape:
            length = shape[axis]
            rest = list(shape)
            del rest[axis]
            step.tensor(inner, tuple(rest))
    _carry(step, body, node.inputs[:states], body.inputs[:states], body.outputs)
    axes = node.attr("scan_output_axes", [0] * (len(node.outputs) - states))
    for name, result, axis in zip(node.outputs[states:], body.outputs[states:], axes, strict=True):
        step.bind(name, result)
        whole = setting.shapes.get(result)
        if name and whole is not None and length is not None:
            place = axis % (len(whole) + 1)
            step.tensor(name, (*whole[:place], length, *whole[place:]))


def _carry(
    step: Step, body: Body, outer: Sequence[str], inner: Sequence[str], results: Sequence[str]
) -> None:
    """Follow a body until what it carries keeps its shape, and give it to the outputs."""
    setting = step.setting
    for name, source in zip(inner, outer, strict=True):
        step.bind(name, source)
    for _ in range(2 + sum(len(setting.shapes.get(name, ())) + 1 for name in inner)):
        trial = setting.copy()
        step.forward(body, trial)
        changed = [_settle(step, name, result, trial) for name, result in zip(inner, results, strict=False)]
        if not any(changed):
            break
    step.forward(body, setting)
    for name, source in zip(step.node.outputs, inner, strict=False):
        if name:
            step.bind(name, source)


def _settle(step: Step, name: str, result: str, trial: Setting) -> bool:
    """Widen what enters an iteration to what leaves it; whether that changed anything."""
    setting = step.setting
    if name in setting.sequences:
        before, after = setting.sequences[name], trial.sequences.get(result, Elements((), False))
        if before == after:
            return False
        setting.sequences[name] = step.loose(Elements((*before.shapes, *after.shapes)))
        return setting.sequences[name] != before
    shape, found = setting.shapes.get(name), trial.shapes.get(result)
    if shape is None:
        return False
    if found is None or len(found) != len(shape):
        step.tensor(name, None)
        return True
    wide = tuple(a if a == b else setting.count for a, b in zip(shape, found, strict=True))
    setting.sampled |= wide != found
    step.tensor(name, wide)
    return wide != shape


def _sequence_map(step: Step) -> None:
    node, setting = step.node, step.setting
    body = node.bodies["body"]
    for inner, outer in zip(body.inputs, node.inputs, strict=True):
        elements = setting.sequences.get(outer)
        if elements is None:
            step.bind(inner, outer)
        else:
            one = step.loose(elements).shapes
            step.tensor(inner, one[0] if one else None, setting.dtypes.get(outer))
    step.forward(body, setting)
    for name, result in zip(node.outputs, body.outputs, strict=True):
        shape = setting.shapes.get(result)
        step.sequence(name, Elements(() if shape is None else (shape,), False), result)


_TABLE: dict[str, Callable[[Step], Any]] = {
    **SEQUENCES, "If": _if, "Loop": _loop, "Scan": _scan, "SequenceMap": _sequence_map,
}  # fmt: skip
