"""Large models: nothing grows faster than the model, neither calls nor sessions nor the work done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from models.net import Net
from onnxprune.cleanup import dead as finding
from onnxprune.cleanup.compensation import merged_columns
from onnxprune.cleanup.dead import find_dead
from onnxprune.cleanup.duplicates import find_twins
from onnxprune.cleanup.values import Mix
from onnxprune.coupling.groups import Group
from onnxprune.coupling.incidence import Incidence
from onnxprune.coupling.trace import Trace
from onnxprune.data import dataset, declared
from onnxprune.jobs.bench import peak_activations
from onnxprune.model import evaluation as folding
from onnxprune.model.graph import Graph
from onnxprune.moments.consumers import Reading
from onnxprune.reports.explanation import explain_groups, named
from onnxprune.runtime import session
from onnxprune.shapes.dimensions import graph_inputs

from .conftest import exact

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
    assert exact(result)
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
    opened: Any = []
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


# How often something is done, for twice the model -------------------------------------------------


def counting(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[int]:
    """Number of calls of a method, as the only entry of a list."""
    calls, method = [0], getattr(owner, name)

    def counted(*args: Any, **named: Any) -> Any:
        calls[0] += 1
        return method(*args, **named)

    monkeypatch.setattr(owner, name, counted)
    return calls


def constants(layers: int) -> onnx.ModelProto:
    """A chain that its first layer makes constant: each layer is heard by the next one alone."""
    net = Net("constants", 0)
    x = net.node(
        "Conv", net.input("x", 1, 4, 4, 4), net.initializer("none", np.zeros((4, 4, 1, 1))), net.bias("b", 4)
    )
    for k in range(layers):
        x = net.node("Conv", x, net.weight(f"w{k}", 4, 4, 1, 1))
    return net.build(net.node("Conv", x, net.weight("last", 4, 4, 1, 1)))


def test_a_clean_up_looks_at_every_layer_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch, Mix, "heard")
    for layers in (20, 80):
        calls[0] = 0
        assert find_dead(onnxprune.trace(constants(layers), norm="pin")).kinds
        assert calls[0] <= 10 * (layers + 2)


def alike(layers: int) -> onnx.ModelProto:
    """A chain of layers all weights of which are alike: every channel has twins."""
    net = Net("alike", 0)
    x = net.input("x", 1, 8, 4, 4)
    for k in range(layers):
        x = net.node("Relu", net.node("Conv", x, net.initializer(f"w{k}", np.full((8, 8, 1, 1), 0.1))))
    return net.build(x)


class Unit(int):
    """A unit that counts how often any is looked for, or compared with another."""

    asked = 0

    def __eq__(self, other: object) -> bool:
        Unit.asked += 1
        return int(self) == other

    def __hash__(self) -> int:
        Unit.asked += 1
        return hash(int(self))


def test_twins_are_looked_for_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither layer by layer nor among all that stay for the steps of their groups."""

    def counted(*args: Any) -> dict[int, int]:
        return {Unit(u): kept for u, kept in find_twins(*args).items()}

    monkeypatch.setattr(finding, "find_twins", counted)
    for layers in (20, 80):
        traced = onnxprune.trace(alike(layers), norm="pin")
        Unit.asked = 0
        dead = find_dead(traced, steps={group.name: 4 for group in traced})
        assert len(dead.twins) == dead.spared * 4 / 3 == 4 * (layers - 1)
        assert len(merged_columns(traced, dead, dead.units)) == layers - 1
        assert Unit.asked <= 100 * layers


def test_a_peak_asks_for_the_sizes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = onnxprune.trace(activations())
    calls = counting(monkeypatch, Trace, "sizes")
    # Two tensors of 16 channels, 4 by 4 entries of 4 bytes, are alive at a time.
    assert peak_activations(traced) == 2 * 16 * 4 * 4 * 4
    assert calls[0] == 1


def outputs(layers: int) -> onnx.ModelProto:
    """Layers that are outputs of the model, each blocked by itself."""
    net = Net("outputs", 0)
    x = net.input("x", 1, 4, 4, 4)
    return net.build(*[net.node("Conv", x, net.weight(f"w{k}", 4, 4, 1, 1)) for k in range(layers)])


def test_chains_look_at_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch, Graph, "reads")
    for layers in (10, 40):
        traced = onnxprune.trace(outputs(layers))
        scores = onnxprune.score(traced)
        calls[0] = 0
        found = explain_groups(traced, scores, named(traced, "*"), "*")
        assert [part.chain[-1] for part in found] == [
            f"graph output '{n}'" for n in traced.graph.main.outputs
        ]
        assert calls[0] <= layers


def test_readers_of_every_group_are_looked_for_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch, Reading, "_carried")
    for layers in (20, 80):
        calls[0] = 0
        traced = onnxprune.trace(constants(layers))
        reading = Reading(traced)
        assert [len(reading.of(group).consumers) for group in traced] == [1] * (layers + 1)
        assert calls[0] <= 8 * (layers + 2)


def test_onnxruntime_gets_no_crowd_of_unread_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops them one by one, each from a list that it moves; those that are inputs stay."""
    model = constants(1)
    names = [f"unread{k}" for k in range(2000)]
    model.graph.initializer.extend(numpy_helper.from_array(np.ones(2, np.float32), n) for n in names)
    model.graph.input.append(helper.make_tensor_value_info("unread7", TensorProto.FLOAT, [2]))
    got = []
    make = session.make_session

    def caught(given: bytes, *args: Any, **named: Any) -> Any:
        got.append({t.name for t in onnx.ModelProto.FromString(given).graph.initializer})
        return make(given, *args, **named)

    monkeypatch.setattr(session, "make_session", caught)
    with session.open_session(model) as opened:
        session.run(opened, {"x": np.ones((1, 4, 4, 4), np.float32)})
    assert got == [{"none", "b", "w0", "last", "unread7"}]


def grouped(blocks: int) -> onnx.ModelProto:
    """Grouped convolutions, whose blocks can keep inner channels of their own."""
    net = Net("grouped", 0)
    x = net.input("x", 1, 8, 4, 4)
    for k in range(blocks):
        x = net.node("Conv", x, net.weight(f"v{k}", 8, 8, 1, 1), name=f"stage{k}/plain")
        x = net.node("Conv", x, net.weight(f"w{k}", 8, 4, 1, 1), name=f"stage{k}/grouped", group=2)
    return net.build(net.node("Conv", x, net.weight("last", 4, 8, 1, 1)))


@pytest.mark.parametrize("options", [{"group_policy": "none"}, {"reshape_channel_axis": "both"}], ids=str)
def test_a_budget_follows_labels_that_depend_on_others(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where blocks keep channels of their own, or a label has two units, nothing starts anew."""
    calls = counting(monkeypatch, Trace, "alive")
    for blocks in (4, 16):
        traced = onnxprune.trace(grouped(blocks), **options)
        scores = onnxprune.score(traced)
        calls[0] = 0
        onnxprune.select(traced, scores, keep_macs=0.5, granularity=1)
        assert calls[0] <= 2


def test_blocks_are_compared_with_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counting(monkeypatch, Incidence, "__init__")
    for blocks in (4, 16):
        calls[0] = 0
        assert onnxprune.trace(grouped(blocks), group_policy="none").apart is not None
        assert calls[0] <= 3


def test_a_name_is_looked_up_where_its_parts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = onnxprune.trace(grouped(20))
    scores = onnxprune.score(traced)
    calls = counting(monkeypatch, Group, "matches")
    plan = onnxprune.select(traced, scores, ratio={f"stage{k}": k / 40 for k in range(20)}, granularity=1)
    kept = {len(g.keep) for g in plan.groups if g.name == "stage10/plain"}
    assert kept == {3}  # of four pairs
    assert calls[0] <= 2 * len(traced)


def test_inputs_are_looked_up_once_for_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    traced, calls = onnxprune.trace(constants(1)), [0]

    def counted(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
        calls[0] += 1
        return graph_inputs(proto)

    for module in (dataset, declared):
        monkeypatch.setattr(module, "graph_inputs", counted, raising=False)
    for samples in (4, 16):
        calls[0] = 0
        data = dataset.open_data(traced, {"x": np.zeros((samples, 4, 4, 4), np.float32)})
        assert len(list(data)) == samples
        assert calls[0] <= 2
