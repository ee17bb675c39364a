"""Normalizations. Statistics along a pruned axis are those of the kept entries."""

from __future__ import annotations

from ..graph import Node
from ..labels import NONE, Walk
from .registry import rule


@rule("BatchNormalization")
def batch_norm(c: Walk, n: Node) -> None:
    """One scale, bias, mean and variance per channel."""
    X = n.inputs[0]
    channels = c.axis(X, 1) if c.rank(X) > 1 else NONE
    for vector in n.inputs[1:5]:
        c.meet(vector, 0, channels)
    c.same(n, n.output)


@rule("InstanceNormalization")
def instance_norm(c: Walk, n: Node) -> None:
    """One scale and bias per channel, statistics along all axes after it."""
    X, scale, B = n.inputs
    channels = c.axis(X, 1)
    c.meet(scale, 0, channels)
    c.meet(B, 0, channels)
    inside = c.labels(X)[2:]
    c.stat(*inside)
    if any(labels is not NONE for labels in inside):
        c.role(channels, "norm groups")
    c.same(n)


@rule("LayerNormalization")
def layer_norm(c: Walk, n: Node) -> None:
    """Statistics along the last axes, which scale and bias share."""
    X, Scale, B = n.take(3)
    rank = c.rank(X)
    axis = n.attr("axis", -1) % rank
    for k in range(axis, rank):
        c.stat(c.axis(X, k))
        for vector in filter(None, (Scale, B)):
            if c.rank(vector) >= rank - k:
                c.meet(vector, k - rank, c.axis(X, k))
    c.out(n.output, c.labels(X))
    for statistic in n.outputs[1:]:
        c.out(statistic, [*c.labels(X)[:axis], *[NONE] * (rank - axis)])


@rule("GroupNormalization")
def group_norm(c: Walk, n: Node) -> None:
    """Statistics inside blocks of channels: whole blocks go without a change of statistics."""
    X, scale, bias = n.inputs
    channels, groups = c.axis(X, 1), n.attr("num_groups")
    width = c.shape(X)[1]
    if channels is not NONE:
        r, inside = c.split(channels, (groups, width // groups))
        c.stat(inside, *c.labels(X)[2:])
        c.role(r, "norm groups")
        for vector in (scale, bias):  # per group until opset 20, per channel from 21
            c.meet(vector, 0, channels if c.shape(vector)[0] == width else r)
        c.fix(lambda e: e.set("num_groups", e.count(r) if r is not NONE else groups))
    c.same(n)


@rule("LpNormalization")
def lp_norm(c: Walk, n: Node) -> None:
    """Divides by a sum, to which removed channels add nothing."""
    c.same(n)


@rule("LRN")
def lrn(c: Walk, n: Node) -> None:
    """Statistics over neighbouring channels: the neighbours among the kept ones."""
    c.stat(c.axis(n.inputs[0], 1))
    c.same(n)


@rule("MeanVarianceNormalization")
def mean_variance(c: Walk, n: Node) -> None:
    """Statistics along the given axes."""
    X = n.inputs[0]
    c.stat(*(c.axis(X, k) for k in n.attr("axes", [0, 2, 3])))
    c.same(n)
