"""Normalizations. Statistics along a pruned axis are those of the kept entries."""

from __future__ import annotations

from collections.abc import Sequence

from ..labels.vector import NONE, Labels
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .registry import rule
from .signs import kept


@rule("BatchNormalization", traits=Trait.FUSED)
def batch_norm(c: Walk, n: Node) -> None:
    """One scale, bias, mean and variance per channel; in training it returns such vectors, too."""
    X = n.inputs[0]
    channels = c.axis(X, 1) if c.rank(X) > 1 else NONE
    for vector in n.inputs[1:5]:
        c.meet(vector, 0, channels)
    c.same(n, n.output)
    for statistic in n.outputs[1:]:
        c.out(statistic, [channels])


@rule("InstanceNormalization", along="statistic", traits=Trait.NONE)
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


@rule(
    "LayerNormalization",
    "SimplifiedLayerNormalization",
    along="statistic",
    traits=Trait.LIKE_FIRST | Trait.UNLISTED,
)
@rule("RMSNormalization", along="statistic", traits=Trait.NONE)
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


@rule("GroupNormalization", along="statistic", traits=Trait.LIKE_FIRST)
def group_norm(c: Walk, n: Node) -> None:
    """Statistics inside blocks of channels: whole blocks go without a change of statistics."""
    X, scale, bias = n.inputs
    block_statistics(c, n, c.axis(X, 1), "num_groups", (scale, bias), c.labels(X)[2:])
    c.same(n)


def block_statistics(
    c: Walk, n: Node, channels: Labels, attribute: str, vectors: tuple[str, ...], others: Sequence[Labels]
) -> None:
    """Channels in as many blocks as an attribute says, with vectors per channel or per block."""
    if channels is NONE:
        return
    groups, width = n.attr(attribute), len(channels)
    r, inside = c.split(channels, (groups, width // groups))
    c.stat(inside, *others)
    c.role(r, "norm groups")
    for vector in vectors:  # per group until opset 20, per channel from 21
        c.meet(vector, 0, channels if c.shape(vector)[0] == width else r)
    c.fix(lambda e: e.set(attribute, e.count(r) if r is not NONE else groups))


@rule("LpNormalization", along="exact", sign=kept, traits=Trait.NONE)
def lp_norm(c: Walk, n: Node) -> None:
    """Divides by a sum, to which removed channels add nothing."""
    c.same(n)


@rule("LRN", along="statistic", traits=Trait.NONE)
def lrn(c: Walk, n: Node) -> None:
    """Statistics over neighbouring channels: the neighbours among the kept ones."""
    c.stat(c.axis(n.inputs[0], 1))
    c.same(n)


@rule("MeanVarianceNormalization", along="statistic", traits=Trait.LIKE_FIRST)
def mean_variance(c: Walk, n: Node) -> None:
    """Statistics along the given axes."""
    X = n.inputs[0]
    c.stat(*(c.axis(X, k) for k in n.attr("axes", [0, 2, 3])))
    c.same(n)


@rule(
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    domain="com.microsoft",
    along="statistic",
    traits=Trait.NONE,
)
def skip_layer_norm(c: Walk, n: Node) -> None:
    """Adds a skip connection and a bias, then statistics along the last axis."""
    if n.op == "SkipLayerNormalization":
        X, skip, gamma, beta, bias = n.take(5)
    else:
        (X, skip, gamma, bias), beta = n.take(4), ""
    labels = c.elementwise([X, skip, bias])
    c.stat(labels[-1])
    for vector in (gamma, beta):
        c.meet(vector, 0, labels[-1])
    c.out(n.output, labels)
    for statistic in n.outputs[1:3]:
        c.out(statistic, [*labels[:-1], NONE])
    for total in n.outputs[3:]:
        c.out(total, labels)


@rule("EmbedLayerNormalization", domain="com.microsoft", along="statistic", traits=Trait.NONE)
def embed_layer_norm(c: Walk, n: Node) -> None:
    """Adds rows of up to three tables, then statistics along the last axis."""
    _, _, *tables, gamma, beta = n.take(7)
    h = c.join([(table, 1) for table in filter(None, tables)])
    for table in filter(None, tables):
        c.pin_axes(table, [0], f"{n} picks from it by data")
        c.kernel(n, table, 1)
    c.stat(h)
    for vector in (gamma, beta):
        c.meet(vector, 0, h)
    c.out(n.output, [NONE, NONE, h])
    for total in n.outputs[2:]:
        c.out(total, [NONE, NONE, h])
