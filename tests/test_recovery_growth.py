"""Large models: recovering weights, and probing groups, grows no faster than what is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from models.net import Net
from onnxprune.errors import PlanError
from onnxprune.model.graph import Graph
from onnxprune.moments.segment import Parts
from onnxprune.recovery.job import probed
from onnxprune.selection.recovered import Lending, Recovery, Taking

from .test_growth import counting


def sharing(layers: int) -> onnx.ModelProto:
    """Layers that share a bias, of which each has a use of its own."""
    net = Net("sharing", 0)
    x, bias = net.input("x", 1, 4, 4, 4), net.bias("bias", 4)
    for k in range(layers):
        x = net.node("Conv", x, net.weight(f"w{k}", 4, 4, 1, 1), bias, name=f"conv{k}")
    return net.build(net.node("Conv", x, net.weight("last", 4, 4, 1, 1)))


def test_recovered_uses_of_one_vector_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = onnxprune.trace(sharing(40))
    names = [name for name in traced.graph.constants if name.startswith("bias")]
    assert len(names) == 40
    sizes = traced.sizes([group.units[0] for group in traced])
    walks, start = [0], Graph.__init__

    class Nodes(list[Any]):
        def __iter__(self) -> Any:
            walks[0] += 1
            return super().__iter__()

    def watched(graph: Graph, *arguments: Any) -> None:
        start(graph, *arguments)
        graph.nodes = Nodes(graph.nodes)

    monkeypatch.setattr(Graph, "__init__", watched)
    for spread in (False, True):
        walks[0] = 0
        values = {name: np.full(3 if spread else 4, k, np.float32) for k, name in enumerate(names)}
        found = Recovery(values)
        model = found.spread(traced.model, sizes) if spread else found.apply(traced.model)
        assert walks[0] <= 10
        stored = {t.name: numpy_helper.to_array(t) for t in model.proto.graph.initializer}
        read = [np.median(stored[node.input[2]]) for node in model.proto.graph.node[:-1]]
        assert read == list(range(40))


def test_a_recovery_looks_at_the_slim_model_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(64, 4, 4, 4)).astype(np.float32))
    views = []
    for layers in (3, 9):
        made = counting(monkeypatch, Graph, "__init__")
        result = onnxprune.prune(sharing(layers), ratio=0.5, granularity=1, data=tmp_path / "x.npz")
        assert result.recovery is not None
        assert len(result.recovery.recovered) == layers
        views.append(made[0])
        monkeypatch.undo()
    assert views[0] == views[1]


def test_weights_that_are_taken_twice_are_those_taken_last() -> None:
    model = onnxprune.load(sharing(3))
    first = {"bias": np.full(4, 1, np.float32), "bias#1": np.full(4, 2, np.float32)}
    last = {"bias#1": np.full(4, 3, np.float32), "bias#2": np.full(4, 4, np.float32)}
    taking = Taking(model)
    assert [taking.take(weights) for weights in (first, last, last)] == [True, True, False]
    whole = Recovery({**first, **last}).apply(model)
    assert taking.finished().proto == whole.proto
    assert "bias" not in {tensor.name for tensor in whole.proto.graph.initializer}


def samples(count: int) -> dict[str, np.ndarray]:
    """What ``sharing`` reads."""
    return {"x": np.random.default_rng(0).normal(size=(count, 4, 4, 4)).astype(np.float32)}


def test_weights_that_are_lent_change_nothing_behind() -> None:
    model = onnxprune.load(sharing(3))
    lending, before = Lending(model), model.proto.SerializeToString()
    other = {name: np.full(4, k, np.float32) for k, name in enumerate(("bias", "bias#1"))}
    other["w0"] = np.ones((4, 4, 1, 1), np.float32)
    whole = Recovery(other).apply(model).proto
    with lending.lent(other) as lent:
        part = Parts(model).cut(samples(1), [value.name for value in model.proto.graph.output], lent)
    assert _read_values(part) == _read_values(whole)
    assert model.proto.SerializeToString() == before
    with pytest.raises(PlanError), lending.lent({**other, "none": np.ones(1, np.float32)}):
        pass
    assert model.proto.SerializeToString() == before


def _read_values(proto: onnx.ModelProto) -> list[list[Any]]:
    """What every node reads: values of stored tensors, names of others."""
    stored = {t.name: numpy_helper.to_array(t).tolist() for t in proto.graph.initializer}
    return [[stored.get(name, name) for name in node.input] for node in proto.graph.node]


def test_probes_look_at_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other weights are lent, and only what is behind them is cut."""
    seen = []
    for layers in (3, 9):
        traced = onnxprune.trace(sharing(layers))
        made = [counting(monkeypatch, owner, "__init__") for owner in (Graph, Parts)]
        table, probes, _ = probed(traced, {"data": samples(16), "criterion": "reconstruction"}, "cpu")
        assert [probe.refitted for probe in probes] == [True] * len(table) == [True] * layers
        seen.append([calls[0] for calls in made])
        monkeypatch.undo()
    assert seen[0] == seen[1]


def test_a_recovery_walks_what_a_step_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    walked, needed = [0], Parts.needed

    def counted(*given: Any) -> list[int]:
        found = needed(*given)
        walked[0] += len(found)
        return found

    monkeypatch.setattr(Parts, "needed", counted)
    for layers in (10, 40):
        walked[0] = 0
        made = counting(monkeypatch, Parts, "__init__")
        onnxprune.prune(sharing(layers), ratio=0.5, granularity=1, data=samples(16), provider="cpu")
        assert layers <= walked[0] <= 10 * layers
        assert made[0] <= 10
