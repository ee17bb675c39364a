"""Rules as somebody might write them wrongly; the name of each says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnxprune.labels.vector import NONE
from onnxprune.labels.walk import Walk
from onnxprune.model.node import Node
from onnxprune.rules import RULES
from onnxprune.rules.conv import spatial
from onnxprune.rules.registry import Function

MUTANTS: list[tuple[str, str, Function]] = []


def mutant(op: str) -> Callable[[Function], Function]:
    """Enter a wrong rule into the table; its name says what is wrong."""

    def enter(function: Function) -> Function:
        MUTANTS.append((op, function.__name__, function))
        return function

    return enter


def attributes(n: Node, **changed: object) -> Node:
    """Node with other attributes; None removes one."""
    made = {k: onnx.helper.make_attribute(k, v) for k, v in changed.items() if v is not None}
    kept = {k: a for k, a in n.attributes.items() if k not in changed}
    return replace(n, attributes=kept | made)


def inputs(n: Node, *names: str) -> Node:
    """Node with other inputs."""
    return replace(n, inputs=list(names))


def right(c: Walk, n: Node) -> None:
    """The rule as it should be."""
    ORIGINAL[n.op](c, n)


ORIGINAL = {rule.op: rule.apply for rule in RULES.values() if not rule.domain}


@dataclass
class Lacking:
    """A rule without one kind of fact; ``removed`` counts what it would have recorded."""

    kind: str
    function: Function
    removed: int = 0

    def __call__(self, c: Walk, n: Node) -> None:
        facts = getattr(c.facts, self.kind)
        before = len(facts)
        self.function(c, n)
        self.removed += len(facts) - before
        del facts[before:]


@mutant("Conv")
def forgets_the_bias(c: Walk, n: Node) -> None:
    right(c, inputs(n, *n.inputs[:2]))


@mutant("Conv")
def forgets_the_input_axis(c: Walk, n: Node) -> None:
    X, W, B = n.take(3)
    O = c.axis(W, 0)
    c.kernel(n, W, 0)
    c.meet(B, 0, O)
    c.out(n.output, [c.axis(X, 0), O, *spatial(c, n, X)])


@mutant("Conv")
def ignores_groups(c: Walk, n: Node) -> None:
    right(c, attributes(n, group=None))


@mutant("Conv")
def leaves_the_number_of_groups(c: Walk, n: Node) -> None:
    Lacking("fixes", right)(c, n)


@mutant("Conv")
def multiplier_makes_blocks(c: Walk, n: Node) -> None:
    X, W = n.inputs[:2]
    C, O = c.axis(X, 1), c.axis(W, 0)
    if C is NONE or len(O) % len(C) or len(O) == len(C) or c.shape(W)[1] > 1:
        return right(c, n)
    c.unify(O, np.tile(C, len(O) // len(C)))  # repeat would be right
    c.kernel(n, W, 0)
    c.meet(n.take(3)[2], 0, O)
    c.fix(lambda e: e.set("group", e.count(C)))
    return c.out(n.output, [c.axis(X, 0), O, *spatial(c, n, X)])


@mutant("ConvTranspose")
def reads_the_weight_like_conv(c: Walk, n: Node) -> None:
    ORIGINAL["Conv"](c, n)


@mutant("BatchNormalization")
def forgets_the_variance(c: Walk, n: Node) -> None:
    right(c, inputs(n, *n.inputs[:4]))


@mutant("BatchNormalization")
def normalizes_the_last_axis(c: Walk, n: Node) -> None:
    for vector in n.inputs[1:5]:
        c.meet(vector, 0, c.axis(n.inputs[0], -1))
    c.same(n, n.output)


@mutant("InstanceNormalization")
def forgets_scale_and_bias(c: Walk, n: Node) -> None:
    c.same(n)


@mutant("LayerNormalization")
def forgets_the_scale(c: Walk, n: Node) -> None:
    right(c, inputs(n, n.inputs[0]))


@mutant("GroupNormalization")
def scale_follows_the_wrong_channels(c: Walk, n: Node) -> None:
    right(c, n)
    c.axes[n.inputs[1]] = [v if v is NONE else v[::-1] for v in c.labels(n.inputs[1])]


@mutant("Concat")
def joins_in_reverse(c: Walk, n: Node) -> None:
    right(c, inputs(n, *reversed(n.inputs)))


@mutant("Concat")
def joins_labels_of_the_first_only(c: Walk, n: Node) -> None:
    c.out(n.output, c.labels(n.inputs[0]))


def parts_from(first: int, c: Walk, n: Node) -> None:
    X = n.inputs[0]
    axis = n.attr("axis", 0) % c.rank(X)
    labels, start = c.labels(X), first
    for name in n.outputs:
        width = c.shape(name)[axis]
        part = (
            labels[axis]
            if labels[axis] is NONE
            else labels[axis].take(range(start, start + width), mode="wrap")
        )
        c.out(name, [part if k == axis else v for k, v in enumerate(labels)])
        start += width
    c.fix(lambda e: e.split_sizes([e.size(name, axis) for name in n.outputs]))


@mutant("Split")
def off_by_one(c: Walk, n: Node) -> None:
    parts_from(1, c, n)


@mutant("Split")
def leaves_the_sizes(c: Walk, n: Node) -> None:
    Lacking("fixes", right)(c, n)


@mutant("Slice")
def leaves_the_bounds(c: Walk, n: Node) -> None:
    Lacking("fixes", right)(c, n)


@mutant("Slice")
def takes_the_neighbours(c: Walk, n: Node) -> None:
    right(c, n)
    c.axes[n.output] = [v if v is NONE else np.roll(v, 1) for v in c.labels(n.output)]


@mutant("Gather")
def leaves_the_indices(c: Walk, n: Node) -> None:
    Lacking("fixes", right)(c, n)


@mutant("Gather")
def gathers_along_the_first_axis(c: Walk, n: Node) -> None:
    right(c, attributes(n, axis=0))


@mutant("Pad")
def leaves_the_amounts(c: Walk, n: Node) -> None:
    Lacking("fixes", right)(c, n)


@mutant("Pad")
def pads_only_behind(c: Walk, n: Node) -> None:
    right(c, n)
    X, labels = c.labels(n.inputs[0]), c.labels(n.output)
    for k, v in enumerate(X):
        if v is not NONE and len(labels[k]) > len(v):
            labels[k] = np.concatenate([v, np.setdiff1d(labels[k], v)])
    c.out(n.output, labels)


@mutant("Reshape")
def leaves_the_target(c: Walk, n: Node) -> None:
    Lacking("fixes", right)(c, n)


@mutant("Reshape")
def records_no_product(c: Walk, n: Node) -> None:
    Lacking("products", right)(c, n)


@mutant("Reshape")
def swaps_rows_and_columns(c: Walk, n: Node) -> None:
    before = len(c.facts.products)
    right(c, n)
    for product in c.facts.products[before:]:
        grid = product.labels.reshape(len(product.rows), len(product.columns))
        product.labels = np.ascontiguousarray(grid.T).reshape(-1)
        product.rows, product.columns = product.columns, product.rows
        product.labels = product.labels[::-1]


@mutant("Flatten")
def forgets_the_pixels(c: Walk, n: Node) -> None:
    X = n.inputs[0]
    pixels = c.shape(n.output)[1] // max(1, c.shape(X)[1])
    C = c.axis(X, 1)
    c.out(n.output, [NONE, C if C is NONE else np.tile(C, pixels)])  # repeat would be right


@mutant("Squeeze")
def drops_the_wrong_axis(c: Walk, n: Node) -> None:
    c.out(n.output, c.labels(n.inputs[0])[-c.rank(n.output) :])


@mutant("Transpose")
def permutes_nothing(c: Walk, n: Node) -> None:
    c.same(n)


@mutant("Transpose")
def permutes_the_other_way(c: Walk, n: Node) -> None:
    perm = n.attr("perm")
    right(c, n if perm is None else attributes(n, perm=np.argsort(perm).tolist()))


@mutant("MatMul")
def contracts_nothing(c: Walk, n: Node) -> None:
    A, B = n.inputs
    c.kernel(n, B, -1)
    if c.rank(A) > 1 and c.rank(B) > 1:
        c.out(n.output, [*c.labels(A)[:-1], c.axis(B, -1)])


@mutant("MatMul")
def keeps_the_heads_apart(c: Walk, n: Node) -> None:
    right(c, n)
    labels = c.labels(n.output)
    c.out(n.output, [*(c.fresh(0 if v is NONE else len(v)) for v in labels[:-2]), *labels[-2:]])


@mutant("Gemm")
def ignores_the_transposition(c: Walk, n: Node) -> None:
    right(c, attributes(n, transB=None))


@mutant("Gemm")
def forgets_the_addend(c: Walk, n: Node) -> None:
    right(c, inputs(n, *n.inputs[:2]))


@mutant("Add")
def couples_nothing(c: Walk, n: Node) -> None:
    Lacking("pairs", right)(c, n)


@mutant("Mul")
def carries_the_first_alone(c: Walk, n: Node) -> None:
    if c.rank(n.output) == c.rank(n.inputs[0]):
        c.same(n)


@mutant("PRelu")
def forgets_the_slope(c: Walk, n: Node) -> None:
    right(c, inputs(n, n.inputs[0]))


@mutant("Where")
def forgets_the_condition(c: Walk, n: Node) -> None:
    right(c, inputs(n, *n.inputs[1:]))


@mutant("Softmax")
def normalizes_without_a_pin(c: Walk, n: Node) -> None:
    c.same(n)


@mutant("Softmax")
def pins_one_axis_before_13(c: Walk, n: Node) -> None:
    right(c, replace(n, opset=13))


@mutant("ReduceMax")
def reduces_like_a_sum(c: Walk, n: Node) -> None:
    ORIGINAL["ReduceSum"](c, n)


@mutant("ReduceMean")
def takes_statistics_like_a_sum(c: Walk, n: Node) -> None:
    ORIGINAL["ReduceSum"](c, n)


@mutant("ReduceSum")
def keeps_reduced_axes(c: Walk, n: Node) -> None:
    c.same(n)


@mutant("ArgMax")
def ignores_positions(c: Walk, n: Node) -> None:
    Lacking("pins", right)(c, n)


@mutant("TopK")
def sorts_freely(c: Walk, n: Node) -> None:
    c.same(n)


@mutant("MaxPool")
def counts_channels_freely(c: Walk, n: Node) -> None:
    X = n.inputs[0]
    for name in n.outputs:
        c.out(name, [c.axis(X, 0), c.axis(X, 1), *spatial(c, n, X)])


@mutant("DepthToSpace")
def mixes_up_the_modes(c: Walk, n: Node) -> None:
    right(c, attributes(n, mode="DCR" if n.attr("mode", "DCR") == "CRD" else "CRD"))


@mutant("SpaceToDepth")
def repeats_instead_of_tiling(c: Walk, n: Node) -> None:
    right(c, n)
    C = c.axis(n.inputs[0], 1)
    c.out(n.output, [NONE, np.repeat(C, n.attr("blocksize") ** 2), NONE, NONE])


@mutant("Tile")
def repeats_entries(c: Walk, n: Node) -> None:
    right(c, n)
    C, wide = c.axis(n.inputs[0], 1), c.shape(n.output)[1]
    if C is not NONE and wide > len(C):
        c.out(n.output, [NONE, np.repeat(C, wide // len(C)), NONE, NONE])


@mutant("Expand")
def expands_to_the_old_shape(c: Walk, n: Node) -> None:
    Lacking("fixes", right)(c, n)


@mutant("ConstantOfShape")
def fills_the_old_shape(c: Walk, n: Node) -> None:
    Lacking("fixes", right)(c, n)


@mutant("Shape")
def tells_the_new_sizes(c: Walk, n: Node) -> None:
    """Shape arithmetic then computes with pruned sizes, such as a mean by hand."""


@mutant("Resize")
def resizes_channels(c: Walk, n: Node) -> None:
    Lacking("pins", right)(c, n)
    c.out(n.output, c.labels(n.inputs[0]))


@mutant("Upsample")
def mirrors_channels(c: Walk, n: Node) -> None:
    c.out(n.output, [v if v is NONE else v[::-1] for v in c.labels(n.inputs[0])])
