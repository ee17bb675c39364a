"""Shapes behind the operators that onnxruntime's optimizers write, which ONNX does not know.

What is not in this table is looked up by running the model (see ``probing``), which takes longer
and wants inputs that the model accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..model.node import Node
from ..model.operators import Trait, traits_of
from .setting import Setting, Shape

Known = Sequence["Shape | None"]
Function = Callable[["Node", Known], Sequence["Shape | None"]]


def infer_contributed(node: Node, setting: Setting) -> None:
    """Shapes and types of the outputs of an operator, as far as the shapes of its inputs tell."""
    if node.domain not in ("", "com.microsoft"):
        return
    known = [setting.shapes.get(name) if name else None for name in node.inputs]
    rule = _TABLE.get(node.op)
    if Trait.LIKE_FIRST in traits_of(node):
        rule = _like_first
    if rule is None or not known:
        return
    try:
        found = rule(node, known)
    except (IndexError, TypeError, ValueError):  # an input has no shape, or an odd one
        return
    data = node.inputs[2 if node.op == "EmbedLayerNormalization" else 0]
    for name, shape in zip(node.outputs, found, strict=False):
        if name and shape is not None and data in setting.dtypes:
            setting.shapes[name] = shape
            setting.dtypes[name] = setting.dtypes[data]


def reading_order(rank: int, transposed: int, batch_transposed: int) -> list[int]:
    """Axes of an operand of FusedMatMul as [*batch, row, column].

    Examples
    --------
    >>> reading_order(4, 0, 1), reading_order(3, 1, 0)
    ([1, 2, 0, 3], [0, 2, 1])
    """
    order = list(range(rank))
    if batch_transposed:
        order = [*order[1:-1], 0, order[-1]]
    if transposed and rank > 1:
        order[-2:] = order[:-3:-1]
    return order


def _shape(known: Known, slot: int) -> Shape:
    shape = known[slot]
    if shape is None:
        raise ValueError("unknown")
    return shape


def _like_first(node: Node, known: Known) -> list[Shape | None]:
    return [known[0]]


def _skip_norm(node: Node, known: Known) -> list[Shape | None]:
    x = _shape(known, 0)
    return [x, None, None, x]


def _embedding(node: Node, known: Known) -> list[Shape | None]:
    x = (*_shape(known, 0), _shape(known, 2)[1])
    return [x, None, x]


def _linear(node: Node, known: Known) -> list[Shape | None]:
    return [(*_shape(known, 0)[:-1], _shape(known, 1)[1])]


def _matmul(node: Node, known: Known) -> list[Shape | None]:
    operands = []
    for slot, which in enumerate("AB"):
        shape = _shape(known, slot)
        flags = node.attr(f"trans{which}", 0), node.attr(f"transBatch{which}", 0)
        operands.append([shape[k] for k in reading_order(len(shape), *flags)])
    a, b = operands
    rows, columns = ([a[-2]] if len(a) > 1 else []), ([b[-1]] if len(b) > 1 else [])
    return [(*np.broadcast_shapes(a[:-2], b[:-2]), *rows, *columns)]


def _packed_attention(node: Node, known: Known) -> list[Shape | None]:
    sizes = node.attr("qkv_hidden_sizes") or [_shape(known, 1)[1] // 3] * 3
    return [(*_shape(known, 0)[:2], sizes[2])]


def _multi_head(node: Node, known: Known) -> list[Shape | None]:
    query = _shape(known, 0)
    if len(query) == 5:
        return [(*query[:2], query[2] * query[4])]
    value = known[2] if len(known) > 2 else None
    if value is None:  # packed with the key, or not known
        key = _shape(known, 1)
        return [(*query[:2], key[2] * key[4])]
    return [(*query[:2], value[2] if len(value) == 3 else value[1] * value[3])]


def _group_query(node: Node, known: Known) -> list[Shape | None]:
    query, heads = _shape(known, 0), node.attr("num_heads")
    if not node.inputs[1]:
        return [(*query[:2], query[2] // (heads + 2 * node.attr("kv_num_heads")) * heads)]
    return [query]


_TABLE: dict[str, Function] = {
    "Attention": _packed_attention,
    "BiasSplitGelu": lambda n, s: [(*_shape(s, 0)[:-1], _shape(s, 0)[-1] // 2)],
    "EmbedLayerNormalization": _embedding,
    "FusedMatMul": _matmul,
    "GemmFastGelu": _linear,
    "GroupQueryAttention": _group_query,
    "MultiHeadAttention": _multi_head,
    "SkipGroupNorm": lambda n, s: [s[0], s[0]],
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "TransposeMatMul": _matmul,
}
