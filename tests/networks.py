"""Random networks, grown block by block from a menu: a hypothesis strategy.

Every network is an image network; some turn their pixels into tokens half way. Each block is a
function that adds nodes and returns what the next one reads, so a new idea is one function more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx
from hypothesis import strategies as st

from models.net import Net

T = TypeVar("T")

WIDTHS = (4, 6, 8, 12)


@dataclass
class Grower:
    """A network under construction, and the tensor at its end.

    Attributes
    ----------
    width, size : int
        Channels, and height (which is also the width) of an image or number of tokens.
    """

    draw: st.DrawFn
    net: Net
    x: str
    width: int
    size: int
    count: int = 0
    past: list[tuple[str, int, int]] = field(default_factory=list)

    def pick(self, *options: T) -> T:
        """One of some options."""
        return self.draw(st.sampled_from(options))

    def name(self, kind: str) -> str:
        """A name for a new layer."""
        self.count += 1
        return f"{kind}_{self.count}"

    def conv(self, outputs: int, kernel: int = 1, x: str = "", inputs: int = 0, group: int = 1) -> str:
        """A convolution that keeps the size, of the last tensor unless told otherwise."""
        return self.net.conv(
            self.name("conv"),
            x or self.x,
            inputs or self.width,
            outputs,
            kernel,
            group=group,
            bias=self.draw(st.booleans()),
        )


# Blocks of images -----------------------------------------------------------------------------


def convolution(g: Grower) -> None:
    g.width, g.x = (outputs := g.pick(*WIDTHS)), g.conv(outputs, g.pick(1, 3))


def strided(g: Grower) -> None:
    if g.size % 2 == 0 and g.size > 2:
        outputs = g.pick(*WIDTHS)
        g.x = g.net.conv(g.name("conv"), g.x, g.width, outputs, 3, strides=[2, 2])
        g.width, g.size = outputs, g.size // 2


def grouped(g: Grower) -> None:
    group = g.pick(*(k for k in (2, 3, 4) if g.width % k == 0))
    outputs = group * g.pick(1, 2, 3)
    g.width, g.x = outputs, g.conv(outputs, 3, group=group)


def depthwise(g: Grower) -> None:
    outputs = g.width * (g.pick(1, 2) if g.width <= 8 else 1)
    g.width, g.x = outputs, g.conv(outputs, 3, group=g.width)


def activation(g: Grower) -> None:
    g.x = g.net.node(g.pick("Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "LeakyRelu"), g.x)


def batch_norm(g: Grower) -> None:
    g.x = g.net.batch_norm(g.name("norm"), g.x, g.width)


def group_norm(g: Grower) -> None:
    groups = g.pick(*(k for k in (1, 2, 3, 4) if g.width % k == 0))
    y = g.net.reshape(g.x, 0, groups, -1)
    ones, zeros = (
        g.net.initializer(f"{n}{groups}", np.full(groups, v)) for n, v in (("ones", 1), ("zeros", 0))
    )
    y = g.net.node("InstanceNormalization", y, ones, zeros)
    y = g.net.reshape(y, 0, g.width, g.size, g.size)
    g.x = g.net.node("Mul", y, g.net.gain(g.name("gain"), g.width, 1, 1))


def residual(g: Grower) -> None:
    y = g.net.relu(g.conv(inner := g.pick(*WIDTHS), 3))
    y = g.conv(g.width, 3, y, inner)
    g.x = g.net.node("Add", *((g.x, y) if g.draw(st.booleans()) else (y, g.x)))


def concat(g: Grower) -> None:
    y, outputs = g.conv(outputs := g.pick(*WIDTHS), 3), outputs
    parts = [g.x, y] if g.draw(st.booleans()) else [y, g.x]
    if g.width + outputs <= 24:
        g.x, g.width = g.net.node("Concat", *parts, axis=1), g.width + outputs


def split(g: Grower) -> None:
    if g.width < 2:
        return
    first = g.pick(*range(1, g.width))
    left, right = g.net.split(g.name("split"), g.x, [first, g.width - first], axis=1)
    right = g.net.relu(g.conv(g.width - first, 1, right, g.width - first))
    g.x = g.net.node("Concat", *((left, right) if g.draw(st.booleans()) else (right, left)), axis=1)


def gate(g: Grower) -> None:
    if g.width % 2 == 0:
        g.width //= 2
        left, right = g.net.split(g.name("gate"), g.x, [g.width, g.width], axis=1)
        g.x = g.net.node("Mul", left, g.net.node("Sigmoid", right))


def shuffle(g: Grower) -> None:
    groups = g.pick(*(k for k in (2, 3, 4) if g.width % k == 0))
    y = g.net.reshape(g.x, 0, groups, g.width // groups, g.size, g.size)
    y = g.net.node("Transpose", y, perm=[0, 2, 1, 3, 4])
    g.x = g.net.reshape(y, 0, g.width, g.size, g.size)


def squeeze_excite(g: Grower) -> None:
    y = g.net.node("GlobalAveragePool", g.x)
    y = g.net.relu(g.conv(4, 1, y))
    g.x = g.net.node("Mul", g.x, g.net.node("Sigmoid", g.conv(g.width, 1, y, 4)))


def pool(g: Grower) -> None:
    if g.size % 2 == 0 and g.size > 2:
        g.x = g.net.node(g.pick("MaxPool", "AveragePool"), g.x, kernel_shape=[2, 2], strides=[2, 2])
        g.size //= 2


def enlarge(g: Grower) -> None:
    if g.size <= 4:
        if g.draw(st.booleans()):
            scales = g.net.initializer("scales", [1, 1, 2, 2])
            g.x = g.net.node("Resize", g.x, "", scales, mode=g.pick("nearest", "linear"))
        else:
            group = g.pick(1, 2) if g.width % 2 == 0 else 1
            g.x = g.net.conv_transpose(g.name("rise"), g.x, g.width, g.width, group=group)
        g.size *= 2


def pad(g: Grower) -> None:
    y = g.net.node("Pad", g.x, g.net.integers(0, 0, 1, 1, 0, 0, 1, 1), mode=g.pick("constant", "reflect"))
    g.x = g.net.conv(g.name("conv"), y, g.width, g.width, 3, pads=[0] * 4)


def pad_channels(g: Grower) -> None:
    before, after = g.pick(0, 1), g.pick(0, 2)
    g.x = g.net.node("Pad", g.x, g.net.integers(0, before, 0, 0, 0, after, 0, 0))
    g.width += before + after


def slice_channels(g: Grower) -> None:
    if g.width < 4:
        return
    start, step = g.pick(*range(g.width // 2)), g.pick(1, 1, 2, -1)
    bounds = (start, g.width) if step > 0 else (g.width - 1 - start, -g.width - 1)
    begin, end = map(g.net.integers, bounds)
    g.x = g.net.node("Slice", g.x, begin, end, g.net.integers(1), g.net.integers(step))
    g.width = len(range(start, g.width, abs(step)))


def permute(g: Grower) -> None:
    order = g.draw(st.permutations(range(g.width)))
    g.x = g.net.node("Gather", g.x, g.net.integers(*order), axis=1)


def pixel_shuffle(g: Grower) -> None:
    if g.size <= 4:
        width = g.pick(2, 3)
        y = g.conv(4 * width)
        if g.draw(st.booleans()):
            g.x = g.net.node("DepthToSpace", y, blocksize=2, mode=g.pick("DCR", "CRD"))
        else:
            y = g.net.reshape(y, 0, width, 2, 2, g.size, g.size)
            y = g.net.node("Transpose", y, perm=[0, 1, 4, 2, 5, 3])
            g.x = g.net.reshape(y, 0, width, 2 * g.size, 2 * g.size)
        g.width, g.size = width, 2 * g.size


def channels_last(g: Grower) -> None:
    y = g.net.node("Transpose", g.x, perm=[0, 2, 3, 1])
    y = g.net.linear(g.name("mix"), y, g.width, outputs := g.pick(*WIDTHS))
    g.width, g.x = outputs, g.net.node("Transpose", g.net.relu(y), perm=[0, 3, 1, 2])


def same_weight_twice(g: Grower) -> None:
    weight = g.net.weight(g.name("shared"), g.width, g.width, 1, 1)
    y = g.net.relu(g.net.node("Conv", g.x, weight))
    g.x = g.net.node("Conv", y, weight)


def skip(g: Grower) -> None:
    """Joins an earlier image of the same size, as it is where the widths agree."""
    earlier = [(x, width) for x, width, size in g.past if size == g.size and x != g.x]
    if earlier:
        y, width = g.pick(*earlier)
        if width + g.width <= 24 and g.draw(st.booleans()):
            g.x, g.width = g.net.node("Concat", y, g.x, axis=1), g.width + width
        else:
            y = y if width == g.width else g.conv(g.width, 1, y, width)
            g.x = g.net.node(g.pick("Add", "Mul"), g.x, y)


def prelu(g: Grower) -> None:
    g.x = g.net.node("PRelu", g.x, g.net.bias(g.name("slope"), g.width, 1, 1))


def spatial_gate(g: Grower) -> None:
    if g.draw(st.booleans()):
        y = g.net.node("ReduceSum", g.net.relu(g.x), g.net.integers(1))
    else:
        y = g.net.node(g.pick("ReduceMean", "ReduceL2", "ReduceMax"), g.x, axes=[1])
    g.x = g.net.node("Mul", g.x, g.net.node("Sigmoid", y))


def repeated(g: Grower) -> None:
    if g.width <= 8:
        g.x = (
            g.net.node("Tile", g.x, g.net.integers(1, 2, 1, 1))
            if g.draw(st.booleans())
            else g.net.node("Concat", g.x, g.x, axis=1)
        )
        g.width *= 2


IMAGE_BLOCKS = (
    convolution,
    strided,
    grouped,
    depthwise,
    activation,
    batch_norm,
    group_norm,
    residual,
    concat,
    split,
    gate,
    shuffle,
    squeeze_excite,
    pool,
    enlarge,
    pad,
    pad_channels,
    slice_channels,
    permute,
    pixel_shuffle,
    channels_last,
    same_weight_twice,
    skip,
    prelu,
    spatial_gate,
    repeated,
)


# Blocks of tokens -----------------------------------------------------------------------------


def layer_norm(g: Grower) -> None:
    g.x = g.net.layer_norm(g.name("norm"), g.x, g.width)


def mlp(g: Grower) -> None:
    y = g.net.linear(g.name("hidden"), g.x, g.width, 12)
    y = g.net.linear(g.name("output"), g.net.relu(y), 12, g.width)
    g.x = g.net.node("Add", g.x, y)


def gated_mlp(g: Grower) -> None:
    gate, value = (g.net.linear(g.name("gated"), g.x, g.width, 8) for _ in range(2))
    y = g.net.node("Mul", g.net.node("Sigmoid", gate), value)
    g.x = g.net.linear(g.name("output"), y, 8, g.width)


def attention(g: Grower) -> None:
    heads, dim = g.pick(1, 2, 3), g.pick(2, 4)
    shared = heads if g.draw(st.booleans()) else 1

    def project(count: int, perm: list[int]) -> str:
        y = g.net.linear(g.name("project"), g.x, g.width, count * dim)
        return g.net.node("Transpose", g.net.reshape(y, 0, g.size, count, dim), perm=perm)

    query, key, value = (
        project(heads, [0, 2, 1, 3]),
        project(shared, [0, 2, 3, 1]),
        project(shared, [0, 2, 1, 3]),
    )
    scores = g.net.node("Softmax", g.net.node("MatMul", query, key), axis=-1)
    y = g.net.node("Transpose", g.net.node("MatMul", scores, value), perm=[0, 2, 1, 3])
    y = g.net.reshape(y, 0, g.size, heads * dim)
    g.x = g.net.node("Add", g.x, g.net.linear(g.name("merge"), y, heads * dim, g.width))


def fused_attention(g: Grower) -> None:
    heads, dim = g.pick(1, 2, 3), g.pick(2, 4)
    y = g.net.linear(g.name("fused"), g.x, g.width, 3 * heads * dim)
    if g.draw(st.booleans()):
        y = g.net.reshape(y, 0, g.size, 3, heads, dim)
        y = g.net.node("Transpose", y, perm=[2, 0, 3, 1, 4])
        index = [g.net.initializer(f"part{k}", k, "i8") for k in range(3)]
        query, key, value = (g.net.node("Gather", y, k, axis=0) for k in index)
    else:
        parts = g.net.split(g.name("parts"), y, [heads * dim] * 3, axis=2)
        shaped = [g.net.reshape(part, 0, g.size, heads, dim) for part in parts]
        query, key, value = (g.net.node("Transpose", v, perm=[0, 2, 1, 3]) for v in shaped)
    scores = g.net.node("MatMul", query, g.net.node("Transpose", key, perm=[0, 1, 3, 2]))
    y = g.net.node("MatMul", g.net.node("Softmax", scores, axis=-1), value)
    y = g.net.reshape(g.net.node("Transpose", y, perm=[0, 2, 1, 3]), 0, g.size, heads * dim)
    g.x = g.net.linear(g.name("merge"), y, heads * dim, g.width)


def mix_tokens(g: Grower) -> None:
    y = g.net.node("Transpose", g.x, perm=[0, 2, 1])
    y = g.net.relu(g.net.linear(g.name("tokens"), y, g.size, g.size))
    g.x = g.net.node("Transpose", y, perm=[0, 2, 1])


def class_token(g: Grower) -> None:
    shape = g.net.node("Concat", g.net.node("Shape", g.x, end=1), g.net.integers(1, g.width), axis=0)
    token = g.net.node("Expand", g.net.bias(g.name("class"), 1, 1, g.width), shape)
    g.x, g.size = g.net.node("Concat", token, g.x, axis=1), g.size + 1


TOKEN_BLOCKS = (layer_norm, mlp, gated_mlp, attention, fused_attention, mix_tokens, class_token, activation)


# Ends -----------------------------------------------------------------------------------------


def pooled(g: Grower) -> str:
    return g.net.classifier(g.x, g.width, 3)


def flattened(g: Grower) -> str:
    y = g.net.node("Flatten", g.x) if g.draw(st.booleans()) else g.net.reshape(g.x, 0, -1)
    y = g.net.relu(g.net.gemm("hidden", y, g.width * g.size**2, 6))
    return g.net.gemm("head", y, 6, 3)


def painted(g: Grower) -> str:
    return g.conv(3)


def averaged_tokens(g: Grower) -> str:
    return g.net.linear("head", g.net.node("ReduceMean", g.x, axes=[1], keepdims=0), g.width, 3)


def first_token(g: Grower) -> str:
    y = g.net.node("Gather", g.x, g.net.initializer("zero", 0, "i8"), axis=1)
    return g.net.linear("head", y, g.width, 3)


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """A network of two to eleven blocks."""
    net = Net("random", draw(st.integers(0, 3)))
    g = Grower(draw, net, net.input("image", "batch", 3, 8, 8), 3, 8)
    g.width, g.x = (width := g.pick(*WIDTHS)), g.conv(width, 3)
    for _ in range(draw(st.integers(1, 7))):
        g.past.append((g.x, g.width, g.size))
        possible = [b for b in IMAGE_BLOCKS if b not in (grouped, shuffle) or _divides(g.width)]
        g.pick(*possible)(g)
    if draw(st.booleans()):
        return net.build(g.pick(pooled, flattened, painted)(g))
    g.x = net.node("Transpose", net.reshape(g.x, 0, g.width, g.size**2), perm=[0, 2, 1])
    g.size **= 2
    for _ in range(draw(st.integers(1, 3))):
        g.pick(*TOKEN_BLOCKS)(g)
    return net.build(g.pick(averaged_tokens, first_token)(g))


def _divides(width: int) -> bool:
    return width % 2 == 0 or width % 3 == 0
