"""Attention operators of ONNX. Whole heads go, or the same dimensions of every head."""

from __future__ import annotations

import numpy as np

from ..labels.pen import Pen
from ..labels.vector import NONE
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .heads import Heads, attend, couple, follow_heads, hidden, keep_scale, packed, rotate, unpacked
from .registry import rule


@rule("Attention", traits=Trait.NONE)
def attention(c: Walk, n: Node) -> None:
    """Heads of query, key and value go together; with them the counts of heads."""
    Q, K, V, mask, past_key, past_value = n.take(6)
    flat = c.rank(Q) == 3
    if flat:
        counts = n.attr("q_num_heads"), n.attr("kv_num_heads")
        q, k, v = (hidden(c, x, h) for x, h in zip((Q, K, V), (counts[0], *counts[1:] * 2), strict=True))
    else:
        q, k, v = (unpacked(c, x, 1, 3) for x in (Q, K, V))
    for x in (Q, K, V):
        c.pin_axes(x, [-2], f"{n} attends along it")
    batch = c.join([(x, 0) for x in (Q, K, V)])
    y = attend(c, n, q, k, v)
    attention_mask(c, n, mask, q)
    cache(c, past_key, k)
    cache(c, past_value, v)
    if flat:
        follow_heads(c, n, q_num_heads=q, kv_num_heads=k)
    keep_scale(c, n, q)
    outputs = n.give(4)
    c.out(outputs[0], [batch, NONE, y.merged(c)] if flat else [batch, y.heads, NONE, y.inside])
    c.out(outputs[1], [batch, k.heads, NONE, k.inside])
    c.out(outputs[2], [batch, v.heads, NONE, v.inside])
    c.out(outputs[3], [batch, q.heads, NONE, NONE])
    c.macs(lambda z: (z.numel(Q) + z.output(n)) * z.size(K, -2))


def attention_mask(c: Walk, n: Node, mask: str, q: Heads) -> None:
    """A mask may have an axis of heads; its other axes are positions."""
    if not mask:
        return
    rank = c.rank(mask)
    c.pin_axes(mask, [k for k in range(rank) if k != rank - 3], f"{n} masks positions with it")
    if rank >= 3:
        c.meet(mask, -3, q.heads)


def cache(c: Walk, name: str, x: Heads) -> None:
    """A cache [batch, heads, positions, dimensions]."""
    if name:
        c.meet(name, 1, x.heads)
        c.meet(name, 3, x.inside)


@rule("LinearAttention", traits=Trait.NONE)
@rule("LinearAttention", domain="com.microsoft", traits=Trait.NONE)
def linear_attention(c: Walk, n: Node) -> None:
    """Like Attention, with a state of key by value dimensions for every head."""
    Q, K, V, past, decay, beta = n.take(6)
    counts = n.attr("q_num_heads"), n.attr("kv_num_heads")
    if n.attr("state_window", 0) or counts[0] % counts[1]:
        c.freeze(n.inputs, f"{n} keeps a window of states, or has fewer query heads than key heads")
        return
    q, k, v = hidden(c, Q, counts[0]), hidden(c, K, counts[1]), hidden(c, V, counts[1])
    for x in filter(None, (Q, K, V, decay, beta)):
        c.pin_axes(x, [1], f"{n} steps along it")
    batch = c.join([(x, 0) for x in (Q, K, V)])
    y = attend(c, n, q, k, v)
    if past:
        for axis, labels in ((0, batch), (1, k.heads), (2, k.inside), (3, v.inside)):
            c.meet(past, axis, labels)
    if decay:
        c.meet(decay, 2, k.heads if c.shape(decay)[2] == k.count else k.merged(c))
    c.meet(beta, 2, k.heads)
    follow_heads(c, n, q_num_heads=q, kv_num_heads=k)
    keep_scale(c, n, q)
    c.out(n.output, [batch, NONE, y.merged(c)])
    for present in n.outputs[1:]:
        c.out(present, [batch, k.heads, k.inside, v.inside])
    c.macs(lambda z: z.numel(K) * v.kept(z) + z.output(n) * q.kept(z))


@rule("CausalConvWithState", traits=Trait.NONE)
@rule("CausalConvWithState", domain="com.microsoft", traits=Trait.NONE)
def causal_conv(c: Walk, n: Node) -> None:
    """A depthwise convolution along time: every channel has a kernel and a state of its own."""
    X, W, B, past = n.take(4)
    if c.rank(X) != 3 or n.attr("channels_last", 0) or n.attr("state_window", 0):
        c.freeze(n.inputs, f"{n} has another layout than [batch, channels, time]")
        return
    batch, C, _ = c.fixed(X, [2], f"{n} slides a window along it")
    c.meet(W, 0, C)
    c.meet(B, 0, C)
    c.meet(past, 1, C)
    c.kernel(n, W, 0)
    for name in n.outputs:
        c.out(name, [batch, C, NONE])
    c.macs(lambda z: z.output(n) * z.kernel(W))


@rule("RotaryEmbedding", traits=Trait.NONE)
def rotary(c: Walk, n: Node) -> None:
    """Heads go freely; the dimensions of a rotated pair go together, with their angles."""
    X, cos_cache, sin_cache, position_ids = n.take(4)
    turn(c, n, X, (cos_cache, sin_cache), position_ids)


@rule("RotaryEmbedding", domain="com.microsoft", traits=Trait.LIKE_FIRST)
def rotary_ms(c: Walk, n: Node) -> None:
    """Heads go freely; the dimensions of a rotated pair go together, with their angles."""
    X, position_ids, cos_cache, sin_cache = n.inputs
    turn(c, n, X, (cos_cache, sin_cache), position_ids)


def turn(c: Walk, n: Node, X: str, caches: tuple[str, str], positions: str) -> None:
    """Rotate [batch, sequence, hidden] or [batch, heads, sequence, dimensions]."""
    flat, half = c.rank(X) == 3, c.shape(caches[0])[-1]
    width = n.attr("rotary_embedding_dim", 0)
    if not flat:
        x = unpacked(c, X, 1, 3)
    elif n.attr("num_heads", 0):
        x = hidden(c, X, n.attr("num_heads"))
    else:
        x = hidden(c, X, c.shape(X)[2] // (2 * half))
    c.pin_axes(X, [-2], f"{n} counts positions along it")
    c.role(x.heads, "batch")
    rotate(c, n, x, caches, 2 * half, bool(n.attr("interleaved", 0)))
    if n.attr("num_heads", 0) and flat:
        follow_heads(c, n, num_heads=x)
    if width:
        c.fix(lambda e: e.set("rotary_embedding_dim", 2 * e.size(caches[0], -1)))
    c.same(n)


@rule("MultiHeadAttention", domain="com.microsoft", traits=Trait.NONE)
def multi_head_attention(c: Walk, n: Node) -> None:
    """Heads of query, key and value go together; with them ``num_heads``."""
    query, key, value, bias, _, attention_bias, past_key, past_value = n.take(8)
    count = n.attr("num_heads")
    q, k, v = _operands(c, n, (query, key, value), count)
    if bias:
        _joined_bias(c, n, bias, (q, k, v))
    batch = c.axis(query, 0)
    if past_key or any(n.outputs[1:3]) or (key and c.rank(key) == 4):
        couple(c, k.inside, v.inside)  # a cache has a single head size
    y = attend(c, n, q, k, v)
    attention_mask(c, n, attention_bias, q)
    cache(c, past_key, k)
    cache(c, past_value, v)
    follow_heads(c, n, num_heads=q)
    keep_scale(c, n, q)
    outputs = n.give(4)
    c.out(outputs[0], [batch, NONE, y.merged(c)])
    c.out(outputs[1], [NONE, k.heads, NONE, k.inside])
    c.out(outputs[2], [NONE, v.heads, NONE, v.inside])
    c.out(outputs[3], [NONE, q.heads, NONE, NONE])
    steps = c.shape(query)[1]
    c.macs(lambda z: 2 * z.output(n) * steps)


def _operands(c: Walk, n: Node, names: tuple[str, str, str], count: int) -> list[Heads]:
    """Query, key and value, of which the query may hold all three and the key the last two."""
    found = []
    for name in filter(None, names):
        rank = c.rank(name)
        c.pin_axes(name, [2 if rank == 4 else 1], f"{n} attends along it")
        if rank == 5:  # [batch, sequence, heads, 2 or 3, dimensions]
            c.pin_axes(name, [3], f"{n} tells query, key and value apart along it")
            found += [unpacked(c, name, 2, 4)] * c.shape(name)[3]
        elif rank == 4:
            found.append(unpacked(c, name, 1, 3))
        else:
            found.append(hidden(c, name, count))
    return found


def _joined_bias(c: Walk, n: Node, bias: str, parts: tuple[Heads, ...]) -> None:
    """One vector of biases for query, key and value."""
    vectors = [part.merged(c) for part in parts]
    if all(vector is NONE for vector in vectors):
        return
    if any(vector is NONE for vector in vectors):
        for vector in vectors:
            c.pin(vector, f"{n} adds its bias to channels that cannot go, too")
    else:
        c.meet(bias, 0, np.concatenate(vectors))


@rule("GroupQueryAttention", domain="com.microsoft", traits=Trait.NONE)
def group_query_attention(c: Walk, n: Node) -> None:
    """Key heads go with all query heads that share them, or the same query heads of each go."""
    names = n.take(16)
    query, key, value, past_key, past_value = names[:5]
    attention_bias, head_sink = names[10:12]
    many, few = n.attr("num_heads"), n.attr("kv_num_heads")
    if key:
        q, k, v = hidden(c, query, many), hidden(c, key, few), hidden(c, value, few)
    else:
        q, k, v = _packed_parts(c, query, (many, few, few))
    for name in filter(None, (query, key, value)):
        c.pin_axes(name, [1], f"{n} attends along it")
    for x in (q, k, v):
        c.pin(x.inside, f"{n} runs for a few head sizes only")
    c.freeze([*names[7:9], *names[12:]], f"{n} rotates, normalizes or scales every head with it")
    y = attend(c, n, q, k, v)
    attention_mask(c, n, attention_bias, q)
    c.meet(head_sink, 0, q.heads)
    cache(c, past_key, k)
    cache(c, past_value, v)
    follow_heads(c, n, num_heads=q, kv_num_heads=k)
    outputs = n.give(4)
    c.out(outputs[0], [c.axis(query, 0), NONE, y.merged(c)])
    c.out(outputs[1], [NONE, k.heads, NONE, k.inside])
    c.out(outputs[2], [NONE, v.heads, NONE, v.inside])
    c.out(outputs[3], [NONE, q.heads, NONE, NONE])
    steps = c.shape(query)[1]
    c.macs(lambda z: 2 * z.output(n) * steps)


def _packed_parts(c: Walk, name: str, counts: tuple[int, ...]) -> list[Heads]:
    """Query, key and value side by side on the last axis."""
    labels, size = c.axis(name, -1), c.shape(name)[-1] // sum(counts)
    found, start = [], 0
    for count in counts:
        width = count * size
        part = NONE if labels is NONE else labels[start : start + width]
        found.append(packed(c, part, width, count))
        start += width
    return found


@rule("Attention", domain="com.microsoft", traits=Trait.NONE)
def packed_attention(c: Walk, n: Node) -> None:
    """Projects to query, key and value first: the columns of its weights go with the heads."""
    X, W, B, _, past, attention_bias = n.take(6)
    count, wide = n.attr("num_heads"), c.shape(W)[1]
    widths = n.attr("qkv_hidden_sizes") or [wide // 3] * 3
    C = c.axis(X, 2)
    c.meet(W, 0, C)
    c.role(C, "contraction")
    columns = np.split(c.real(W, 1), np.cumsum(widths)[:-1])
    q, k, v = (packed(c, part, width, count) for part, width in zip(columns, widths, strict=True))
    c.kernel(n, W, 1)
    c.meet(B, 0, c.axis(W, 1))
    c.pin_axes(X, [1], f"{n} attends along it")
    y = attend(c, n, q, k, v)
    attention_mask(c, n, attention_bias, q)
    if past or any(n.outputs[1:]):
        couple(c, k.inside, v.inside)  # one tensor holds both
    if n.attr("do_rotary", 0):
        c.pin(q.inside, f"{n} rotates every head by a table of its own")
    if past:
        c.meet(past, 2, q.heads)
        c.meet(past, 4, k.inside)
    follow_heads(c, n, num_heads=q)
    keep_scale(c, n, q)

    def mend(e: Pen) -> None:
        sizes = [int(e.mask(part).sum()) for part in columns]
        if "qkv_hidden_sizes" in n.attributes or len(set(sizes)) > 1:
            e.set("qkv_hidden_sizes", sizes)

    c.fix(mend)
    c.out(n.output, [c.axis(X, 0), NONE, y.merged(c)])
    for present in n.outputs[1:]:
        c.out(present, [NONE, NONE, q.heads, NONE, k.inside])
    c.macs(lambda z: z.numel(X) * z.size(W, 1) + 2 * z.output(n) * z.size(X, 1))
