"""Large models: nothing grows faster than the model, neither calls nor sessions nor the work done."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from models.net import Net
from onnxprune import folding

THREADS = Path("/proc/self/task")


def test_a_long_chain_of_constants() -> None:
    """A bias of 1,200 additions, each of the one before."""
    net = Net("chained constants", 0)
    bias = net.bias("bias", 16)
    for k in range(1200):
        bias = net.node("Add", bias, net.initializer("one", np.ones(16)), name=f"add{k}")
    x = net.node("Conv", net.input("x", 1, 3, 8, 8), net.weight("w0", 16, 3, 3, 3), bias, name="conv0")
    y = net.node("Conv", net.node("Relu", x), net.weight("w1", 4, 16, 1, 1), name="conv1")
    result = onnxprune.prune(net.build(y), ratio=0.5, verify=True, provider="cpu")
    assert result.report is not None
    assert result.report.exact
    assert len(result.plan.groups[0].keep) == 8


ACTIVATIONS = (
    "Erf", "Sin", "Cos", "Atan", "Softplus", "Softsign", "Elu", "Selu", "HardSigmoid", "Tanh",
    "Sigmoid", "Exp", "Mish", "HardSwish", "Sinh", "Asinh", "Tan", "Acos", "Gelu", "Celu",
)  # fmt: skip


def activations() -> onnx.ModelProto:
    """A layer with constant channels before each of twenty activations."""
    net = Net("activations", 0, opset=20)
    x = net.input("x", 1, 16, 4, 4)
    for op in ACTIVATIONS:
        weight = net.random.normal(0, 0.1, (16, 16, 1, 1))
        weight[0] = 0
        x = net.node("Conv", x, net.initializer(f"{op}.weight", weight), net.bias(f"{op}.bias", 16))
        x = net.node(op, x)
    return net.build(net.node("Conv", x, net.weight("last", 4, 16, 1, 1)))


def test_evaluating_constants_leaves_little_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that wait for the next constant have no threads of their own, and are few."""
    folding._session.cache_clear()
    opened = []
    make = folding._session.__wrapped__
    monkeypatch.setattr(folding, "_session", lambda model: opened.append(make(model)) or opened[-1])
    onnxprune.prune(activations(), ratio=0.5)
    assert len(opened) >= len(ACTIVATIONS)
    assert {s.get_session_options().intra_op_num_threads for s in opened} == {1}


@pytest.mark.skipif(not THREADS.is_dir(), reason="threads of a process are counted in /proc")
def test_evaluating_constants_leaves_no_threads() -> None:
    folding._session.cache_clear()
    onnxprune.prune(activations(), ratio=0.5)
    before = len(os.listdir(THREADS))
    folding._session.cache_clear()
    assert len(os.listdir(THREADS)) == before
    onnxprune.prune(activations(), ratio=0.5)
    assert len(os.listdir(THREADS)) == before
    assert folding._session.cache_info().currsize <= 16
