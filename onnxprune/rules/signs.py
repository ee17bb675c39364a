"""Signs of outputs: 1 where nothing is negative, -1 where nothing is positive, 0 where that is open.

Functions here are the ``sign`` trait of rules. What they say lets a maximum over channels be exact:
behind a Relu a removed entry, which counts as zero, cannot exceed those that are kept. Only signs of
floats are followed, because integers wrap around.
"""

from __future__ import annotations

from ..labels.walk import Walk
from ..model.node import Node


def positive(c: Walk, n: Node) -> int:
    """Never negative, whatever goes in."""
    return 1


def kept(c: Walk, n: Node) -> int:
    """That of the first input."""
    return c.sign(n.inputs[0])


def above(c: Walk, n: Node) -> int:
    """Not negative where the first input is not."""
    return max(c.sign(n.inputs[0]), 0)


def opposite(c: Walk, n: Node) -> int:
    """The other one of the first input."""
    return -c.sign(n.inputs[0])


def shared(c: Walk, n: Node) -> int:
    """That which all inputs have."""
    found = {c.sign(name) for name in filter(None, n.inputs)}
    return found.pop() if len(found) == 1 else 0


def product(c: Walk, n: Node) -> int:
    """That of a product of the inputs, or of sums of such products."""
    result = 1
    for name in n.inputs:
        result *= c.sign(name)
    return result


def highest(c: Walk, n: Node) -> int:
    """That of the largest of the inputs."""
    return max(c.sign(name) for name in n.inputs) if shared(c, n) >= 0 else -1


def lowest(c: Walk, n: Node) -> int:
    """That of the smallest of the inputs."""
    return min(c.sign(name) for name in n.inputs) if shared(c, n) <= 0 else 1


def clipped(c: Walk, n: Node) -> int:
    """Not negative above a bound that is not."""
    low = n.attr("min") if n.opset < 11 else c.value(n.take(2)[1])
    return int(low is not None and low >= 0)


def power(c: Walk, n: Node) -> int:
    """Not negative for a base that is not, or an even exponent."""
    exponent = c.value(n.inputs[1])
    even = exponent is not None and (exponent % 2 == 0).all()
    return 1 if even else above(c, n)


def chosen(c: Walk, n: Node) -> int:
    """That of both alternatives."""
    signs = {c.sign(name) for name in n.inputs[1:]}
    return signs.pop() if len(signs) == 1 else 0


def interpolated(c: Walk, n: Node) -> int:
    """That of the first input; cubic curves overshoot, and what lies outside may be any number."""
    inside = n.attr("coordinate_transformation_mode") != "tf_crop_and_resize"
    return kept(c, n) if inside and n.attr("mode", "nearest") != "cubic" else 0


def padded(c: Walk, n: Node) -> int:
    """That of the first input, where what is added has it, too."""
    sign = kept(c, n)
    if n.attr("mode", "constant") != "constant":
        return sign
    value = n.attr("value", 0.0) if n.attr("pads") is not None else 0.0
    if n.attr("pads") is None and n.take(3)[2]:
        value = c.value(n.inputs[2])
    return sign if value is not None and value * sign >= 0 else 0
