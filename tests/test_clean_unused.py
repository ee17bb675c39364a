"""Channels that nobody weights, and what dies with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxprune.selection.plan import Plan

from .conftest import Run, digest
from .planting import cleaned, graph, kept, log, normal, shape_of


def test_chain_without_weights() -> None:
    """A channel that only a dead channel reads is dead, too."""
    V = normal(8, 8, 1, 1)
    V[[0, 1, 2, 4, 5, 6, 7], 5] = 0  # only filter 3 reads channel 5
    model = graph(
        "h = Conv(x, W)\ni = Relu(h)\nj = Conv(i, V)\nk = Relu(j)\ny = Conv(k, U)",
        W=normal(8, 3, 3, 3),
        V=V,
        U=normal(4, 8, 1, 1, dead=(3,), axis=1),
    )
    result = cleaned(model)
    assert kept(result) == {"h": (0, 1, 2, 3, 4, 6, 7), "j": (0, 1, 2, 4, 5, 6, 7)}
    assert dict(log(result).removed) == {"unused": 2}


def test_dead_branch_keeps_one_channel_of_each_layer() -> None:
    model = graph(
        "a = Conv(x, A)\nb = Relu(a)\nc = Conv(b, B)\nd = Conv(c, Z)\ne = Conv(x, E)\ny = Add(d, e)",
        A=normal(8, 3, 1, 1),
        B=normal(8, 8, 1, 1),
        Z=np.zeros((4, 8, 1, 1)),
        E=normal(4, 3, 1, 1),
    )
    result = cleaned(model)
    assert kept(result) == {"a": (0,), "c": (0,)}


def test_the_channel_that_is_kept_of_a_dead_layer_keeps_its_inputs() -> None:
    """Layer j is killed by its Relu; without the second input its first channel would live."""
    V = np.zeros((4, 8, 1, 1), np.float32)
    V[:, 0], V[:, 1] = 1, -1
    shift = np.zeros((8, 1, 1), np.float32)
    shift[1] = 5
    model = graph(
        """h = Conv(x, W)
        g = Sigmoid(h)
        i = Add(g, s)
        j = Conv(i, V)
        k = Relu(j)
        l = Conv(k, U)
        m = Conv(x, D)
        y = Add(l, m)""",
        W=normal(8, 3, 1, 1),
        V=V,
        s=shift,
        U=normal(4, 4, 1, 1),
        D=normal(4, 3, 1, 1),
    )
    result = cleaned(model)
    assert kept(result) == {"h": (0, 1), "j": (0,)}


def in_steps(second: str, kernel: int) -> onnx.ModelProto:
    """Four of 16 channels are constant; one of 16 behind them reads the first, and is zero because of it."""
    bias, other = np.zeros(16), np.full(16, 0.2)
    bias[:4] = 0.5
    other[5] -= kernel > 1  # zero at the borders, too
    V = normal(16, 16, kernel, kernel)
    V[:, :4] = V[5] = 0
    V[5, 0, kernel // 2, kernel // 2] = -1
    text = f"h = Conv(x, W, b)\nm = Relu(h)\ns = {second}(m, V, c)\nt = Relu(s)\ny = Conv(t, U)"
    constants: dict[str, Any] = {"b": bias, "V": V, "c": other, "U": normal(4, 16, 1, 1)}
    return graph(text, W=normal(16, 3, 3, 3, dead=range(4)), **constants)


@pytest.mark.parametrize(
    ("second", "kernel", "options", "left", "spared"),
    [
        ("Conv", 1, {"granularity": 1}, {"h": 12, "s": 15}, 0),
        ("Conv", 1, {"granularity": "auto"}, {"h": 12}, 1),  # what a channel reads that stays moves into its bias
        ("Conv", 1, {"granularity": "auto", "target": "openvino"}, {"h": 12, "s": 15}, 0),
        ("Conv", 1, {"granularity": 8}, {}, 5),
        ("Conv<pads=[1,1,1,1]>", 3, {"granularity": 1}, {"h": 12, "s": 15}, 0),
        ("Conv<pads=[1,1,1,1]>", 3, {"granularity": "auto"}, {}, 5),  # or stays, too, and others with it
    ],
)  # fmt: skip
def test_numbers_of_channels_stay_in_their_steps(
    second: str, kernel: int, options: dict[str, Any], left: dict[str, int], spared: int
) -> None:
    result = cleaned(in_steps(second, kernel), **options)
    assert {name: len(channels) for name, channels in kept(result).items()} == left
    assert log(result).spared == spared
    assert ("--granularity 1 removes all" in str(log(result))) == (spared > 0)
    assert ("none of" in log(result).headline) == (not left and not spared)


def test_dead_cycle_through_a_residual_stream() -> None:
    """Channel 2 of the stream is written and read, but never gets to the output."""
    V, U = normal(8, 8, 1, 1, seed=3), normal(8, 8, 1, 1, seed=1)
    U[:, 2], V[:, 2] = 0, 0
    U[2, 2] = V[2, 2] = 1
    model = graph(
        """h = Conv(x, W)
        i = Relu(h)
        j = Conv(i, V)
        k = Relu(j)
        l = Conv(k, U)
        s = Add(h, l)
        y = Conv(s, T)""",
        W=normal(8, 3, 1, 1),
        V=V,
        U=U,
        T=normal(4, 8, 1, 1, dead=(2,), axis=1),
    )
    result = cleaned(model)
    assert kept(result) == {"h": (0, 1, 3, 4, 5, 6, 7), "j": (0, 1, 3, 4, 5, 6, 7)}


def test_head_of_attention() -> None:
    """A head goes as a whole when the output projection ignores it."""
    O = normal(8, 8)
    O[4:] = 0
    model = graph(
        """q0 = MatMul(x, Q)
        k0 = MatMul(x, K)
        v0 = MatMul(x, V)
        q1 = Reshape(q0, s)
        k1 = Reshape(k0, s)
        v1 = Reshape(v0, s)
        q = Transpose<perm=[0,2,1,3]>(q1)
        k = Transpose<perm=[0,2,3,1]>(k1)
        v = Transpose<perm=[0,2,1,3]>(v1)
        a = MatMul(q, k)
        p = Softmax(a)
        m = MatMul(p, v)
        t = Transpose<perm=[0,2,1,3]>(m)
        r = Reshape(t, u)
        y = MatMul(r, O)""",
        inputs="float[2,5,8] x",
        Q=normal(8, 8),
        K=normal(8, 8, seed=1),
        V=normal(8, 8, seed=2),
        O=O,
        s=[2, 5, 2, 4],
        u=[2, 5, 8],
    )
    result = cleaned(model)
    assert shape_of(result, "Q") == (8, 4)
    assert shape_of(result, "O") == (4, 8)


HEADS = 'e = Einsum<equation="nsc,chd->nshd">(x, E)\nu = Reshape(e, s)\n'
CHAIN = "h = MatMul(x, W)\nm = Relu(h)\ny = MatMul(m, V)"
TIED = "v = Transpose<perm=[0,2,1]>(x)\nc = Conv<group=8>(v, D)\nr = Transpose<perm=[0,2,1]>(c)\nh = MatMul(r, W)\nm = Relu(h)\nt = Transpose(W)\nz = MatMul(m, t)\ny = MatMul(z, V)"
FREED: dict[str, tuple[str, dict[str, Any], str, int]] = {
    "heads, of which one channel each is left": (HEADS + CHAIN, {"W": normal(8, 8), "V": normal(8, 4)}, "e", 2),
    "some of the heads": (
        f"{HEADS}p = Slice(u, a, b, i, i)\n{CHAIN}",
        {"W": normal(8, 8), "V": normal(8, 4), "a": [3], "b": [5], "i": [2]}, "e", 2,
    ),
    "uses of a matrix that is a vector then": (
        TIED, {"D": normal(8, 1, 1), "W": normal(8, 8, dead=range(1, 8), axis=1), "V": normal(8, 4)}, "z", 4,
    ),
}  # fmt: skip
"""Text, constants, a group that can go once the clean-up is done, and how many are left of it."""


@pytest.mark.parametrize("name", FREED)
def test_what_a_clean_up_frees_is_pruned_in_the_plan(run: Run, tmp_path: Path, name: str) -> None:
    text, constants, group, left = FREED[name]
    heads: dict[str, Any] = {"E": normal(8, 3, 4), "s": [0, 6, 12]} if text.startswith(HEADS) else {}
    source, slim, plan = (tmp_path / name for name in ("model.onnx", "slim.onnx", "plan.json"))
    onnx.save(graph(text, inputs="float[2,6,8] x", **heads, **constants), source)
    flags = "--provider", "cpu", "--quiet"
    made = run("prune", source, "-o", slim, "--granularity", 1, "--plan-out", plan, *flags)
    assert made.code == 0, made.err
    found = {
        entry.name.partition("#")[0]: entry for entry in Plan.load(plan).groups if entry.status == "pruned"
    }
    assert len(found[group].keep) == left
    again = run("prune", source, "-o", tmp_path / "again.onnx", "--plan", plan, *flags)
    assert again.code == 0, again.err
    assert digest(tmp_path / "again.onnx") == digest(slim)
    assert run("verify", source, slim, "--plan", plan, "--no-isolate", *flags).code == 0
