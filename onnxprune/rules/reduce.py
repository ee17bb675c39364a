"""Reductions, softmax, and what orders or searches along an axis."""

from __future__ import annotations

from collections.abc import Sequence

from ..labels.facts import Blocked
from ..labels.vector import NONE
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .registry import rule
from .signs import kept, positive


def reduced_axes(c: Walk, n: Node) -> list[int]:
    """Non-negative axes that a Reduce* runs along, from its attribute or its input."""
    rank = c.rank(n.inputs[0])
    given = n.attr("axes")
    if given is None and len(n.inputs) > 1 and n.inputs[1]:
        given = c.known(n.inputs[1]).tolist()
    if not given:
        return [] if n.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [k % rank for k in given]


def _out(c: Walk, n: Node, axes: list[int]) -> None:
    """Reduced axes vanish, or stay with size 1."""
    labels = c.labels(n.inputs[0])
    if n.attr("keepdims", 1):
        c.out(n.output, [NONE if k in axes else v for k, v in enumerate(labels)])
    else:
        c.out(n.output, [v for k, v in enumerate(labels) if k not in axes])


@rule("ReduceLogSum", along="exact", traits=Trait.BLOCKWISE)
@rule("ReduceSum", along="exact", sign=kept, traits=Trait.BLOCKWISE)
@rule("ReduceL1", "ReduceL2", "ReduceSumSquare", along="exact", sign=positive, traits=Trait.BLOCKWISE)
def reduce_sum(c: Walk, n: Node) -> None:
    """A sum, to which removed entries add nothing."""
    _out(c, n, reduced_axes(c, n))


@rule("ReduceLogSumExp", "ReduceProd", along="statistic", traits=Trait.NONE)
@rule("ReduceMean", along="statistic", sign=kept, traits=Trait.NONE)
def reduce_mean(c: Walk, n: Node) -> None:
    """A statistic of the kept entries."""
    axes = reduced_axes(c, n)
    statistic(c, n.inputs[0], axes)
    _out(c, n, axes)


def statistic(c: Walk, X: str, axes: Sequence[int]) -> None:
    """A statistic along some axes: what the others number are the groups of a normalization."""
    labels = c.labels(X)
    inside = [labels[k] for k in axes]
    c.stat(*inside)
    if any(v is not NONE for v in inside):
        for k in set(range(len(labels))) - set(axes):
            c.role(labels[k], "norm groups")


def extreme(c: Walk, X: str, axes: Sequence[int], sign: int) -> None:
    """The largest entry along some axes (``sign`` 1), or the smallest (-1).

    A removed entry counts as zero: it cannot exceed what is not negative, so it takes no part.
    """
    if c.sign(X) != sign:
        statistic(c, X, axes)


@rule("ReduceMax", along="exact or statistic", sign=kept, traits=Trait.NONE)
def reduce_max(c: Walk, n: Node) -> None:
    """The largest of the kept entries; exact where none is negative."""
    axes = reduced_axes(c, n)
    extreme(c, n.inputs[0], axes, 1)
    _out(c, n, axes)


@rule("ReduceMin", along="exact or statistic", sign=kept, traits=Trait.NONE)
def reduce_min(c: Walk, n: Node) -> None:
    """The smallest of the kept entries; exact where none is positive."""
    axes = reduced_axes(c, n)
    extreme(c, n.inputs[0], axes, -1)
    _out(c, n, axes)


@rule("LogSoftmax", along="pinned", traits=Trait.NONE)
@rule("Hardmax", "Softmax", along="pinned", sign=positive, traits=Trait.BOUNDED)
def softmax(c: Walk, n: Node) -> None:
    """Pins its axis: every entry takes part in the normalization of all others."""
    X = n.inputs[0]
    rank = c.rank(X)
    if n.opset >= 13:
        axes = [n.attr("axis", -1) % rank]
    else:  # flattened to two dimensions before opset 13
        axes = list(range(n.attr("axis", 1) % rank, rank))
    c.pin_axes(X, axes, f"{n} normalizes along it")
    c.same(n)


@rule("ArgMax", "ArgMin", along="pinned", sign=positive, traits=Trait.NONE)
def arg_extreme(c: Walk, n: Node) -> None:
    """Pins its axis, whose positions it returns."""
    axis = n.attr("axis", 0) % c.rank(n.inputs[0])
    c.pin_axes(n.inputs[0], [axis], f"{n} returns positions along it")
    _out(c, n, [axis])


@rule("TopK", along="pinned", traits=Trait.SIZED_BY_DATA)
def top_k(c: Walk, n: Node) -> None:
    """Pins its axis, along which it orders."""
    X = n.inputs[0]
    axis = n.attr("axis", -1) % c.rank(X)
    c.pin_axes(X, [axis], f"{n} orders along it")
    labels = c.labels(X)
    if c.rank(n.output) != len(labels):
        raise Blocked("its output has another rank")
    labels[axis] = NONE
    for name in n.outputs:
        c.out(name, labels)


@rule("CumSum", along="exact", sign=kept, traits=Trait.NONE)
def cumsum(c: Walk, n: Node) -> None:
    """Carries the labels: removed entries add nothing to the running sum."""
    c.same(n)
