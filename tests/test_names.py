"""Names that are made up are none of the file, wherever they stand in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import onnxprune
from models.build import BUILDERS, Net
from onnxprune.checks.oracle import masked_model
from onnxprune.model.names import Names, names_of
from onnxprune.model.protos import bodies, graphs
from onnxprune.reports.result import Result

from .building import net
from .conftest import exact
from .full import in_turn

SETTINGS = {"ratio": 0.5, "granularity": 1, "clean": False, "provider": "cpu"}


def test_a_fresh_name() -> None:
    names = Names({"b", "b#1", "b_2"}, ["b#2"])
    assert [names.fresh("b", "#", first=1) for _ in range(2)] == ["b#3", "b#4"]
    assert [names.fresh("b") for _ in range(2)] == ["b_3", "b_4"]
    assert [names.fresh("c") for _ in range(3)] == ["c", "c_2", "c_3"]
    assert "b#3" in names
    assert "d" not in names


def test_every_name_of_a_file() -> None:
    """In bodies, in functions, of what is stored, declared or unused."""
    model = net(
        """
        c = If (flag) <
            then_branch = a () => (float[2] t) { t = Neg (x) },
            else_branch = b () => (float[2] e) { inner = Abs (x)  e = Sign (inner) }
        >
        y = Identity (c)
        """,
        inputs="float[2] x, bool flag, float[2] unused",
        outputs="y",
    )()
    model.graph.node[0].name = "choice"
    model.graph.value_info.append(helper.make_tensor_value_info("stale", onnx.TensorProto.FLOAT, [1]))
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
    body = helper.make_graph([helper.make_node("Neg", ["p"], ["deep"], "deepest")], "g", [], [])
    inside = helper.make_node("If", ["f"], ["q"], "in_function", then_branch=body, else_branch=body)
    opset = helper.make_opsetid("", 17)
    model.functions.append(helper.make_function("d", "F", ["p", "f"], ["q"], [inside], [opset]))
    assert names_of(model) >= {
        "x", "flag", "unused", "c", "t", "inner", "e", "y", "choice", "stale", "sparse", "p", "f", "q",
        "deep", "deepest", "in_function",
    }  # fmt: skip


# Names of the file that look made up ----------------------------------------------------------------


def renamed(model: onnx.ModelProto, new: Mapping[str, str]) -> onnx.ModelProto:
    """A model in which tensors and nodes have other names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in graphs(copy.graph):
        named: Any
        for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            named.name = new.get(named.name, named.name)
        for node in graph.node:
            node.name = new.get(node.name, node.name)
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]
    return copy


def made_up(model: onnx.ModelProto, result: Result) -> list[str]:
    """Names of views, groups, the slim model, the oracle, and of its nodes when they run alone."""
    traced = result.trace
    sizes = traced.sizes(result.plan.removed(traced))
    oracle = names_of(masked_model(traced, sizes, result.model.proto).embedded())
    found = {group.name for group in (*traced.groups, *traced.blocked)}
    found |= traced.graph.taken | names_of(result.model.proto) | oracle
    found |= {f"{name}::given" for name in traced.graph.producers}
    return sorted(found - names_of(model))


def pairs(model: onnx.ModelProto, made: list[str]) -> Iterator[tuple[str, str]]:
    """A name of the file and a made-up one of another origin, as many as there are."""
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)}
    left = sorted(names_of(model) - fixed)
    for name in made:
        victim = next((old for old in left if not name.startswith(old)), None)
        if victim is not None:
            left.remove(victim)
            yield victim, name


def structure(result: Result) -> tuple[object, ...]:
    shapes = Counter(tuple(t.dims) for graph in graphs(result.model.proto.graph) for t in graph.initializer)
    return shapes, [(g.channels, g.keep, g.status) for g in result.plan.groups]


@pytest.mark.parametrize(("name", "turned"), in_turn(sorted(BUILDERS), [False, True], step=3))
def test_a_file_whose_names_look_made_up(name: str, turned: bool) -> None:
    """The same network under names that would be made up otherwise is pruned alike, and exact."""
    model = BUILDERS[name]()
    before = onnxprune.prune(model, **SETTINGS)  # type: ignore[arg-type]
    made = made_up(model, before)
    given = renamed(model, dict(pairs(model, made[::-1] if turned else made)))
    after = onnxprune.prune(given, **SETTINGS, verify=True)  # type: ignore[arg-type]
    assert exact(after)
    assert structure(after) == structure(before)
    names = [group.name for group in (*after.trace.groups, *after.trace.blocked)]
    assert len(set(names)) == len(names)
    assert onnxprune.verify(given, after.model, plan=after.plan, layers=True, provider="cpu").exact


def test_groups_of_one_node_beside_a_node_of_their_name() -> None:
    """The second half of 'conv' and the node 'conv#2': each loses its own share."""
    net_ = Net("collide", 0)
    x = net_.node("Conv", net_.input("x", 1, 3, 8, 8), net_.weight("w0", 32, 3, 3, 3), name="conv")
    a, b = net_.split("halves", x, [16, 16], axis=1)
    one = net_.node("Conv", net_.node("Relu", a), net_.weight("w1", 16, 16, 3, 3), name="conv#2")
    one = net_.node("Conv", net_.node("Relu", one), net_.weight("w2", 4, 16, 1, 1), name="last")
    two = net_.node("Conv", net_.node("Relu", b), net_.weight("w3", 4, 16, 1, 1), name="other")
    model = net_.build(one, two)
    result = onnxprune.prune(model, **SETTINGS, verify=True)  # type: ignore[arg-type]
    assert sorted(g.name for g in result.trace) == ["conv", "conv#2", "conv#3"]
    removed = result.plan.removed(result.trace)
    assert len(set(removed.tolist())) == len(removed) == 24
    shapes = {t.name: list(t.dims) for t in result.model.proto.graph.initializer}
    assert (shapes["w0"], shapes["w3"]) == ([16, 3, 3, 3], [4, 8, 1, 1])
    assert result.report


def test_channels_of_a_group_that_no_layer_is_called_after() -> None:
    """'conv#2' is the second half of 'conv': its channels have the numbers that plan and explain give."""
    net_ = Net("halves", 0)
    x = net_.node("Conv", net_.input("x", 1, 3, 8, 8), net_.weight("w0", 32, 3, 3, 3), name="conv")
    a, b = net_.split("halves", x, [16, 16], axis=1)
    readers = [net_.node("Conv", net_.node("Relu", y), net_.weight(f"w{y}", 4, 16, 1, 1)) for y in (a, b)]
    model = net_.build(*readers)
    plan = onnxprune.prune(model, remove={"conv#2": [0, 3], "conv": [1]}, verify=True, provider="cpu").plan
    kept = {g.name: g.keep for g in plan.groups}
    assert sorted(set(range(16)) - set(kept["conv#2"])) == [0, 3]
    assert sorted(set(range(32)) - set(plan.constants["w0"]["keep"]["0"])) == [1, 16, 19]
    explained = onnxprune.explain(model, "conv#2", remove={"conv#2": [0, 3]})[0]
    assert [c.index for c in explained.channels if c.why == "given by index"] == [0, 3]
    assert {c.why for c in explained.channels if c.kept} == {"not given by index"}


@pytest.mark.parametrize("name", ["b#1", "b_version1", "b_pruned"])
def test_a_vector_beside_the_view_of_another(name: str) -> None:
    """Three layers, two biases; one of them is called as the second use of the other would be."""
    net_ = Net("views", 1)
    x, shared = net_.input("x", 1, 3, 8, 8), net_.bias("b", 16)
    own = net_.initializer(name, 100 + np.arange(16, dtype=np.float32))
    for k, bias in enumerate((shared, shared, own)):
        weight = net_.weight(f"w{k}", 16, 3 if k == 0 else 16, 3, 3)
        x = net_.node("Relu", net_.node("Conv", x, weight, bias, name=f"conv{k}"))
    model = net_.build(net_.node("Conv", x, net_.weight("w3", 4, 16, 1, 1), name="last"))
    result = onnxprune.prune(model, **SETTINGS, verify=True)  # type: ignore[arg-type]
    assert result.report
    assert result.report.exact
    kept = {g.name: list(g.keep) for g in result.plan.groups}["conv2"]
    slim = {t.name: numpy_helper.to_array(t) for t in result.model.proto.graph.initializer}
    (reader,) = (n for n in result.model.proto.graph.node if n.name == "conv2")
    np.testing.assert_array_equal(slim[reader.input[2]], 100 + np.array(kept))


def test_names_in_nested_graphs_that_are_renamed() -> None:
    """Both branches define 't'; what the second is called instead is no name of the graph outside."""
    model = net(
        """
        c = If (flag) <
            then_branch = a () => (float[2] t) { t = Neg (x) },
            else_branch = b () => (float[2] t) { t = Abs (x) }
        >
        t_2 = Sign (c)
        y = Mul (t_2, t_3)
        """,
        inputs="float[2] x, float[2] t_3, bool flag",
        outputs="y",
    )()
    found = onnxprune.load(model).proto
    inner = [body.output[0].name for _, body in bodies(found.graph.node[0])]
    assert inner == ["t", "t_4"]
    x = np.array([1, -2], np.float32)
    for flag in (True, False):
        feeds = {"x": x, "t_3": x, "flag": np.array(flag)}
        one, two = (
            ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[
                0
            ]
            for m in (model, found)
        )
        np.testing.assert_array_equal(one, two)
