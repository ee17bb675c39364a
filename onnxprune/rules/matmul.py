"""Matrix products."""

from __future__ import annotations

from ..labels.vector import Labels
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from ..shapes.microsoft import reading_order
from .registry import rule
from .signs import product


@rule("MatMul", sign=product, traits=Trait.BLOCKWISE | Trait.MATRIX)
def matmul(c: Walk, n: Node) -> None:
    """Contracts the last axis of A with the last but one of B; the axes before them are batches."""
    A, B = n.inputs
    a, b = c.rank(A), c.rank(B)
    contract(c, A, -1, B, -2 if b > 1 else -1)
    batch = batches(c, A, B) if a > 2 or b > 2 else []
    rows = [c.axis(A, -2)] if a > 1 else []
    columns = [c.axis(B, -1)] if b > 1 else []
    free(c, A, B, [*rows, *columns])
    constants(c, n, A, B)
    c.out(n.output, [*batch, *rows, *columns])
    c.macs(lambda z: z.output(n) * z.size(A, -1))


@rule("FusedMatMul", "TransposeMatMul", domain="com.microsoft", traits=Trait.NONE)
def fused_matmul(c: Walk, n: Node) -> None:
    """A MatMul whose operands are read in another order of axes."""
    A, B = n.inputs
    a = reading_order(c.rank(A), n.attr("transA", 0), n.attr("transBatchA", 0))
    b = reading_order(c.rank(B), n.attr("transB", 0), n.attr("transBatchB", 0))
    contract(c, A, a[-1], B, b[-2] if len(b) > 1 else b[-1])
    batch = []
    for k in range(max(len(a), len(b)), 2, -1):
        places = [(x, order[-k]) for x, order in ((A, a), (B, b)) if len(order) >= k]
        labels = c.join([(x, axis) for x, axis in places if c.shape(x)[axis] != 1])
        c.role(labels, "batch")
        batch.append(labels)
    if c.stored(B) and len(b) > 1:
        c.kernel(n, B, b[-1])
    elif c.stored(A) and len(a) > 1:
        c.kernel(n, A, a[-2])
    rows = [c.axis(A, a[-2])] if len(a) > 1 else []
    columns = [c.axis(B, b[-1])] if len(b) > 1 else []
    free(c, A, B, [*rows, *columns])
    c.out(n.output, [*batch, *rows, *columns])
    c.macs(lambda z: z.output(n) * z.size(A, a[-1]))


def contract(c: Walk, A: str, i: int, B: str, j: int) -> None:
    """Couple the contracted axes; a constant adopts the labels of the other side."""
    if c.graph.is_constant(A) and not c.graph.is_constant(B):
        A, i, B, j = B, j, A, i
    K = c.axis(A, i)
    c.meet(B, j, K)
    c.role(K, "contraction")
    c.role(c.peek(B, j), "contraction")


def batches(c: Walk, A: str, B: str) -> list[Labels]:
    """Broadcast batch axes; one that both have and that carries channels is an axis of heads."""
    count = max(c.rank(A), c.rank(B)) - 2
    axes = [c.broadcast_axis([A, B], -k - 2) for k in range(count, 0, -1)]
    for labels in axes if min(c.rank(A), c.rank(B)) > 2 else ():
        c.role(labels, "batch")
    return axes


def free(c: Walk, A: str, B: str, axes: list[Labels]) -> None:
    """The other axes of a batch of products are used, too: the dimensions of a head's values."""
    for labels in axes if min(c.rank(A), c.rank(B)) > 2 else ():
        c.role(labels, "free")


def constants(c: Walk, n: Node, A: str, B: str) -> None:
    """A stored operand is a layer: its free axis makes the output channels."""
    if c.stored(A) and c.rank(A) > 1 and not c.stored(B):
        c.kernel(n, A, -2)
    elif c.rank(B) == 2 or (c.stored(B) and c.rank(B) > 2):  # of rank 2 it may be a graph input
        c.kernel(n, B, -1)


@rule("Gemm", traits=Trait.MATRIX)
@rule("FusedGemm", domain="com.microsoft", traits=Trait.SATURATES)
def gemm(c: Walk, n: Node) -> None:
    """Contracts A with B, either of them transposed, and adds C."""
    A, B, C = n.take(3)
    i, j = (0 if n.attr("transA", 0) else 1), (1 if n.attr("transB", 0) else 0)
    contract(c, A, i, B, j)
    rows, columns = c.axis(A, 1 - i), c.axis(B, 1 - j)
    if c.stored(A) and not c.stored(B):
        c.kernel(n, A, 1 - i)
    else:
        c.kernel(n, B, 1 - j)
    if C:
        for k, labels in ((-1, columns), (-2, rows)):
            if c.rank(C) >= -k:
                c.meet(C, k, labels)
    c.out(n.output, [rows, columns])
    c.macs(lambda z: z.output(n) * z.size(A, i))
