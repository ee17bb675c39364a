"""Lossless clean-up where other tools set the mark (see the docstring of each test)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .planting import cleaned, graph, inputs_of, kept, log, normal, outputs_of, shape_of, worst

ALIVE = (0, 4, 5, 6, 7)
"""Channels that stay where the filters 1, 2 and 3 of eight are zero."""

DEAD = (1, 2, 3)


def demo() -> dict[str, Any]:
    """RKNN's demo: three layers of 64 filters, of which the 32 smallest are set to zero.

    Weights are drawn as torch does after ``manual_seed(1024)``: MT19937, 24 bits per number,
    weight then bias of every layer.
    """
    bits = np.random.RandomState(1024)
    constants: dict[str, Any] = {}
    for number, (inputs, kernel) in enumerate([(3, 3), (64, 1), (64, 2)], 1):
        bound = 1 / np.sqrt(inputs * kernel**2)
        shapes = {"W": (64, inputs, kernel, kernel), "b": (64,)}
        for name, shape in shapes.items():
            raw = bits.randint(0, 2**32, np.prod(shape), np.uint32) & 0xFFFFFF
            uniform = raw.astype(np.float32) * np.float32(2**-24)
            constants[f"{name}{number}"] = (uniform * 2 * bound - bound).astype(np.float32).reshape(shape)
        weight = constants[f"W{number}"]
        norms = np.linalg.norm(weight.reshape(64, -1), axis=1)
        weight[np.argsort(norms, kind="stable")[:32]] = 0
    return constants


def test_rknn_demo() -> None:
    """RKNN-Toolkit's ``model_pruning`` demo, byte for byte as its log has it (SPEC 3.2)."""
    layers = "\n".join(
        f"c{k} = Conv<pads=[1,1,1,1]>({x}, W{k}, b{k})\n"
        f"n{k} = BatchNormalization(c{k}, one, zero, zero, one)\n{y} = Relu(n{k})"
        for k, x, y in [(1, "x", "r1"), (2, "r1", "r2"), (3, "r2", "y")]
    )
    model = graph(layers, one=np.ones(64), zero=np.zeros(64), **demo())
    result = cleaned(model)
    rows = {row.tensor: (row.before, row.after) for row in log(result).rows}
    assert rows["W1"] == (6912, 5184)
    assert rows["b1"] == (256, 192)
    assert rows["W2"] == (16384, 9024)
    assert rows["b2"] == (256, 188)
    assert rows["W3"] == (65536, 48128)
    assert "b3" not in rows
    assert shape_of(result, "W1")[0] == 48
    assert shape_of(result, "W2")[:2] == (47, 48)
    assert shape_of(result, "W3")[:2] == (64, 47)
    assert dict(log(result).removed) == {"zero": 33}
    report = cleaned(model, verify=True, provider="cpu").report
    assert report is not None
    (change,) = report.change
    assert change.cosine == pytest.approx(1, abs=1e-12)
    assert change.max_abs < 1e-5


def between(middle: str, *, padded: bool = True, bias: float | None = None, **constants: Any) -> Any:
    """Conv of eight filters, three of them zero, then something, then a Conv that reads them."""
    b = "" if bias is None else ", b"
    pads = "<pads=[1,1,1,1]>" if padded else ""
    text = f"h = Conv<pads=[1,1,1,1]>(x, W{b})\n{middle}\ny = Conv{pads}(m, V)"
    if bias is not None:
        live = normal(8, seed=5)
        constants["b"] = np.where(np.isin(np.arange(8), DEAD), bias, live)
    given = {"W": normal(8, 3, 3, 3, dead=DEAD), "V": normal(4, 8, 3, 3)}
    return graph(text, **{**given, **constants})


ONES = np.ones(8, np.float32)

GONE = {
    "no bias": between("m = Relu(h)"),
    "bias of zero": between("m = Relu(h)", bias=0.0),
    "negative bias and Relu": between("m = Relu(h)", bias=-0.3),
    "BatchNormalization without shift": between(
        "n = BatchNormalization(h, g, s, m0, v)\nm = Relu(n)",
        g=normal(8, dead=DEAD), s=normal(8, seed=1, dead=DEAD), m0=normal(8, seed=2), v=ONES,
    ),
    "BatchNormalization below zero": between(
        "n = BatchNormalization(h, g, s, m0, v)\nm = Relu(n)",
        g=ONES, s=-ONES, m0=normal(8, seed=2, dead=DEAD), v=ONES,
    ),
    "relu6": between("m = Clip(h, low, high)", low=0.0, high=6.0),
    "hard swish": between("m = HardSwish(h)"),
    "tanh": between("m = Tanh(h)"),
    "leaky": between("m = LeakyRelu<alpha=0.1>(h)"),
    "prelu": between("m = PRelu(h, slope)", slope=normal(8, 1, 1)),
    "max pool": between("m = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(h)"),
    "average pool": between("m = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(h)"),
    "instance norm": between("m = InstanceNormalization(h, g, s)", g=ONES, s=normal(8, dead=DEAD)),
    "scaled": between("m = Mul(h, s)", s=normal(8, 1, 1)),
    "divided": between("m = Div(h, s)", s=np.abs(normal(8, 1, 1)) + 1),
    "pad of zero": between("m = Pad(h, p)", p=[0, 0, 1, 1, 0, 0, 1, 1]),
    "resized": between("m = Resize<mode=\"linear\">(h, , s)", s=[1.0, 1.0, 2.0, 2.0]),
    "sliced": between("m = Slice(h, s, e, a)", s=[0], e=[6], a=[2]),
    "squeeze and excite": between(
        "p = GlobalAveragePool(h)\nq = Conv(p, S)\nr = Relu(q)\ne = Conv(r, E)\ng = Sigmoid(e)\nm = Mul(h, g)",
        S=normal(6, 8, 1, 1), E=normal(8, 6, 1, 1),
    ),
    "depthwise": between("m = Conv<group=8, pads=[1,1,1,1]>(h, D)", D=normal(8, 1, 3, 3)),
    "depthwise zero alone": between(
        "m = Conv<group=8, pads=[1,1,1,1]>(h, D)", W=normal(8, 3, 3, 3), D=normal(8, 1, 3, 3, dead=DEAD)
    ),
    "split and product": graph(
        """h = Conv(x, W)
        a, b = Split<axis=1>(h, s)
        m = Mul(a, b)
        y = Conv(m, V)""",
        W=normal(16, 3, 3, 3, dead=DEAD), s=[8, 8], V=normal(4, 8, 3, 3),
    ),
    "zero input channels": between("m = Relu(h)", W=normal(8, 3, 3, 3), V=normal(4, 8, 3, 3, dead=DEAD, axis=1)),
    "transposed convolution": graph(
        "h = Conv(x, W)\nm = Relu(h)\ny = ConvTranspose<strides=[2,2]>(m, V)",
        W=normal(8, 3, 3, 3, dead=DEAD), V=normal(8, 4, 2, 2),
    ),
    "flattened": graph(
        "h = Conv(x, W)\nm = Relu(h)\nf = Flatten(m)\ny = Gemm<transB=1>(f, V, b)",
        W=normal(8, 3, 3, 3, dead=DEAD), V=normal(5, 8 * 36), b=normal(5),
    ),
    "chain of products": graph(
        "h = MatMul(x, W)\nm = Relu(h)\ny = MatMul(m, V)",
        inputs="float[4,6] x", W=normal(6, 8, dead=DEAD, axis=1), V=normal(8, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GONE)
def test_removed_as_openvino_does_or_could(name: str) -> None:
    """Every case of SPEC 4.4 that OpenVINO prunes exactly, and those where it finds nothing."""
    result = cleaned(GONE[name])
    assert ALIVE in kept(result).values()


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "Sigmoid": ("m = Sigmoid(h)", {}),
    "Exp": ("m = Exp(h)", {}),
    "Clip": ("m = Clip(h, low, high)", {"low": 1.0, "high": 6.0}),
    "Pad with a value": ("m = Pad(h, p, one)", {"p": [0, 0, 1, 1, 0, 0, 1, 1], "one": 1.0}),
    "Softmax": ("m = Softmax<axis=1>(h)", {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_kept_where_openvino_is_wrong(name: str) -> None:
    """Zero does not survive these; the next layer pads, so nothing can move into a bias."""
    assert not kept(cleaned(between(WRONG[name][0], **WRONG[name][1]), duplicates=False))


@pytest.mark.parametrize("name", [name for name in WRONG if name != "Softmax"])
def test_merged_where_openvino_is_wrong(name: str) -> None:
    """The three constant channels are equal, so one of them can do the work of all."""
    result = cleaned(between(WRONG[name][0], **WRONG[name][1]))
    assert kept(result) == {"h": (0, 1, 4, 5, 6, 7)}
    assert dict(log(result).removed) == {"duplicate": 2}


@pytest.mark.parametrize("name", ["Sigmoid", "Exp", "Clip"])
def test_folded_where_openvino_is_wrong(name: str) -> None:
    """Without padding in the next layer the constant moves into its bias, and the filter goes."""
    result = cleaned(between(WRONG[name][0], padded=False, **WRONG[name][1]))
    assert kept(result) == {"h": ALIVE}
    assert dict(log(result).removed) == {"constant": 3}


def test_pad_on_the_channel_axis() -> None:
    """Padding shifts the channels; the dead ones go, and the added ones are counted right."""
    model = between("m = Pad(h, p)", p=[0, 2, 0, 0, 0, 1, 0, 0], V=normal(4, 11, 3, 3))
    result = cleaned(model)
    assert kept(result) == {"h": ALIVE}
    assert shape_of(result, "V") == (4, 8, 3, 3)


def test_all_zero_layer_keeps_one() -> None:
    result = cleaned(between("m = Relu(h)", W=np.zeros((8, 3, 3, 3))))
    assert kept(result) == {"h": (0,)}


def test_multiplier_of_two() -> None:
    model = between("m = Conv<group=8>(h, D)", D=normal(16, 1, 3, 3), V=normal(4, 16, 3, 3))
    result = cleaned(model)
    assert kept(result) == {"h": ALIVE}
    assert shape_of(result, "D") == (10, 1, 3, 3)
    assert shape_of(result, "V") == (4, 10, 3, 3)


def test_residual_intersection() -> None:
    """A sum is zero where both of its terms are: 8 -> 6."""
    model = graph(
        """a = Conv(x, A)
        b = Conv(x, B)
        s = Add(a, b)
        y = Conv(s, V)""",
        A=normal(8, 3, 3, 3, dead=DEAD),
        B=normal(8, 3, 3, 3, seed=1, dead=(2, 3, 4)),
        V=normal(4, 8, 3, 3),
    )
    result = cleaned(model)
    assert kept(result) == {"a": (0, 1, 4, 5, 6, 7)}


def test_concat_of_two_branches() -> None:
    model = graph(
        """a = Conv(x, A)
        b = Conv(x, B)
        s = Concat<axis=1>(a, b)
        y = Conv(s, V)""",
        A=normal(8, 3, 3, 3, dead=DEAD),
        B=normal(6, 3, 3, 3, dead=(5,)),
        V=normal(4, 14, 3, 3),
    )
    result = cleaned(model)
    assert kept(result) == {"a": ALIVE, "b": (0, 1, 2, 3, 4)}


def test_shuffled_channels() -> None:
    """Reshape, Transpose and Reshape move zeros to other places: whole columns of the shuffle."""
    dead = (1, 5)
    model = graph(
        """h = Conv(x, W)
        r = Reshape(h, s1)
        t = Transpose<perm=[0,2,1,3,4]>(r)
        m = Reshape(t, s2)
        y = Conv(m, V)""",
        W=normal(8, 3, 3, 3, dead=dead),
        V=normal(4, 8, 3, 3),
        s1=[2, 2, 4, 6, 6],
        s2=[2, 8, 6, 6],
    )
    result = cleaned(model)
    assert kept(result) == {"h": (0, 2, 3)}
    assert shape_of(result, "V") == (4, 6, 3, 3)


def test_whole_groups_of_a_grouped_convolution() -> None:
    """Inner channels that are dead in every block go."""
    weight = normal(8, 3, 3, 3, dead=(1, 3, 5, 7))
    model = between("m = Conv<group=4>(h, G)", W=weight, G=normal(8, 2, 3, 3))
    result = cleaned(model)
    assert shape_of(result, "G") == (8, 1, 3, 3)


def test_output_of_the_graph_stays() -> None:
    model = graph("y = Conv(x, W)", W=normal(8, 3, 3, 3, dead=DEAD))
    assert not kept(cleaned(model))


def test_comparison_can_fail() -> None:
    """The check of this module sees a difference of one weight."""
    model = between("m = Relu(h)")
    other = between("m = Relu(h)", V=normal(4, 8, 3, 3) * np.float32(1.001))
    feeds = inputs_of(model)
    assert worst(outputs_of(model, feeds), outputs_of(other, feeds)) > 1e-4
