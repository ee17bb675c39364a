"""What is known of every operator, beside its rule: one registry, filled by the rules.

A rule says what an operator does to labels. Other stages ask plainer things: whether entries are only
moved, whether numbers are drawn, whether a result rises with its input. The answers are the traits that
stand in the decorator of the rule, so that an operator is told of in one place; each stage reads them
here. Doubt leaves a trait out: every stage is right, if slower or less precise, without it.
"""

from __future__ import annotations

from enum import KEEP, Flag

from ..plugins import load_ours
from .node import Node


class Trait(Flag, boundary=KEEP):
    """Something that holds of an operator whatever its attributes are, unless it says otherwise.

    Some have a bit that has no name of its own; the boundary keeps it, which Python 3.11.0 to 3.11.3 would
    drop otherwise.

    Attributes
    ----------
    NONE
        Nothing of what follows.
    MOVES
        Entries keep what they stand for, in another place or type: labels reach a stored tensor through
        it, entry for entry.
    COPIES
        Every entry of the outputs is one of the first input.
    KEEPS_BOUNDS
        The outputs hold entries of inputs, cast or clipped perhaps: what bounds the integers behind it
        bounds those that it reads.
    IN_ORDER
        Several entries of one channel keep their order among themselves.
    BLOCKWISE
        It treats every block of channels by itself, as long as the blocks are an axis.
    BLOCKWISE_WHERE_KEPT
        So it does where it leaves both axes as they are, that of the blocks and that inside them.
    VIEW
        The entries of its input in their order, in another shape or the same.
    UNARY
        ``f(x)``, entry by entry; what it reads besides is the same for all entries.
    COMBINES
        ``f(x, y, ...)``, entry by entry, with numpy broadcasting.
    HANDS_ON
        Analysis takes its output for its first input.
    RISES
        ``f`` of an operator with UNARY never falls, for an ``alpha`` that is not negative.
    BOUNDED
        Its result is finite whatever it reads, a mask of minus infinity say.
    DECODES
        It makes weights of stored numbers: scales, zero points, masks.
    JOINS
        It adds what several layers produce.
    FUSED
        Part of patterns that a quantiser or onnxruntime fuses, in which removed entries stay apart: a
        mask can wait until they end.
    RANDOM
        It may draw random numbers; what has ``random=`` in its rule has this, too.
    MATRIX
        A product of a matrix, stored or computed, with multiplications along one axis.
    CONVOLUTION
        A product with windows; of its weight, all axes but the first belong to one output.
    SATURATES
        A result near zero may be what something leaves of 1, as in a closed gate: no digit below the
        last one of 1 is computed of it.
    RECURRENT
        It steps along a sequence, with gates; its fifth input is the lengths.
    LIKE_FIRST
        Its first output has shape and type of its first input, and ONNX may not say so.
    SIZED_BY_VALUES
        Its outputs are as large as a value or an attribute says.
    SIZED_BY_DATA
        The sizes of its outputs may depend on data.
    READS_SIZES
        It reads how large a tensor is, not what it holds.
    READS_TYPE
        Of all that it reads but its first input, it reads of which type that is, not what it holds.
    SHARED_OUT
        onnxruntime rounds what its threads share out, rows of a batch say, part by part: how many threads
        there are, and whether it is worth while, changes results.
    UNLISTED
        It is in the default domain of onnxruntime, or was in ONNX's first days; ONNX has it not, or not before
        opset 17.
    """

    NONE = 0
    MOVES = 1 << 0
    KEEPS_BOUNDS = 1 << 1
    IN_ORDER = 1 << 2
    BLOCKWISE = 1 << 3
    BLOCKWISE_WHERE_KEPT = 1 << 4
    HANDS_ON = 1 << 5
    RISES = 1 << 6
    BOUNDED = 1 << 7
    DECODES = 1 << 8
    JOINS = 1 << 9
    FUSED = 1 << 10
    RANDOM = 1 << 11
    MATRIX = 1 << 12
    CONVOLUTION = 1 << 13
    LIKE_FIRST = 1 << 15
    SIZED_BY_VALUES = 1 << 16
    SIZED_BY_DATA = 1 << 17
    READS_SIZES = 1 << 18
    UNLISTED = 1 << 19
    READS_TYPE = 1 << 24
    SATURATES = 1 << 25
    SHARED_OUT = 1 << 26
    RECURRENT = 1 << 14 | SATURATES
    COPIES = 1 << 20 | KEEPS_BOUNDS
    VIEW = 1 << 21 | MOVES | COPIES | IN_ORDER | BLOCKWISE
    UNARY = 1 << 22 | IN_ORDER | BLOCKWISE
    COMBINES = 1 << 23 | BLOCKWISE


TRAITS: dict[tuple[str, str], Trait] = {}
"""Domain and operator -> its traits. Read it through ``traits_of``, which has the rules loaded first."""


def tell(domain: str, *ops: str, traits: Trait) -> None:
    """Record what is known of some operators of a domain; those without a rule, too."""
    TRAITS.update(dict.fromkeys(((domain, op) for op in ops), traits))


def traits_of(node: Node) -> Trait:
    """What is known of the operator of a node; nothing of one that nobody told of."""
    return told(node.domain, node.op)


def told(domain: str, op: str) -> Trait:
    """What is known of an operator."""
    load_ours("rules")
    return TRAITS.get((domain, op), Trait.NONE)
