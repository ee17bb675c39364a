"""Shapes of operators that ONNX cannot infer are those that onnxruntime finds."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.build import BUILDERS
from onnxprune.coupling.trace import trace
from onnxprune.errors import ModelError
from onnxprune.model.graph import Graph
from onnxprune.model.loading import load
from onnxprune.model.protos import tensors
from onnxprune.runtime.session import open_session, run
from onnxprune.shapes.analysis import analyse
from onnxprune.shapes.inference import infer
from onnxprune.shapes.microsoft import infer_contributed
from onnxprune.shapes.probing import probe
from onnxprune.shapes.setting import Setting
from onnxprune.shapes.weightless import SMALL, bare_model

from . import cases_attention, cases_control, cases_fused, cases_matmul, cases_sequences
from .building import Case, made_up
from .cases import CASES
from .full import first_of_each

APART = {name for _, name, _ in (*cases_control.CASES, *cases_sequences.CASES)}
"""Rows with tensors that cannot be made outputs: those inside nodes, and sequences."""

RUN = first_of_each(
    (case for case in CASES if not case.reference and case.name not in APART), lambda case: case.op
)


@pytest.mark.parametrize("case", RUN, ids=str)
def test_shapes_are_those_of_the_run(case: Case) -> None:
    graph = Graph(load(case.build()))
    setting = analyse(graph).first
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.model.proto)
    listed = {value.name for value in proto.graph.output}
    names = [name for node in graph.nodes for name in node.outputs if name and name not in listed]
    proto.graph.output.extend(map(helper.make_empty_tensor_value_info, names))
    with open_session(proto) as session:
        found = run(session, made_up(graph))
    for name, array in found.items():
        if not setting.sampled and name in setting.shapes:
            assert setting.shapes[name] == array.shape, name


def test_inference_is_given_no_large_numbers() -> None:
    dense = BUILDERS["constant_nodes"]()
    bare = bare_model(load(dense), {})
    assert dense.ByteSize() > 10_000 > bare.ByteSize()
    assert max(prod(t.dims) for t in tensors(dense.graph)) > SMALL
    assert all(len(t.raw_data) <= 8 * SMALL for t in tensors(bare.graph))


def test_table_needs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table of contributed operators tells is not looked up."""
    monkeypatch.setattr("onnxprune.shapes.probing.open_session", None)
    for case in (*cases_attention.CASES, *cases_fused.CASES, *cases_matmul.CASES):
        if case.op.split("::")[-1] in ("MultiHeadAttention", "GroupQueryAttention", "FusedMatMul"):
            assert len(trace(case.build())) > 0


def unknown_operator(domain: str) -> Graph:
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["h"]),
        helper.make_node("CDist", ["h", "h"], ["d"], domain=domain, metric="euclidean"),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "unknown", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    return Graph(load(helper.make_model(graph, opset_imports=opsets, ir_version=8)))


def test_probe_fills_what_is_unknown() -> None:
    graph = unknown_operator("com.microsoft")
    setting = infer(graph, {})
    assert "d" not in setting.shapes
    assert probe(graph, setting)
    assert setting.shapes["d"] == (3, 3)
    assert setting.dtypes["d"] == TensorProto.FLOAT


def test_model_that_does_not_run_stays_unknown() -> None:
    graph = unknown_operator("acme")
    setting = infer(graph, {})
    with pytest.raises(ModelError, match="cannot load"), open_session(graph.model):
        pass
    assert not probe(graph, setting)
    assert "d" not in setting.shapes


def test_operators_of_other_domains_are_not_in_the_table() -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], domain="acme")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([node], "other", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    view = Graph(load(helper.make_model(graph, opset_imports=opsets, ir_version=8)))
    setting = Setting(shapes={"x": (2,)}, dtypes={"x": TensorProto.FLOAT})
    infer_contributed(view.nodes[0], setting)
    assert "y" not in setting.shapes


def test_a_model_that_ran_is_not_tried_at_other_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays unknown although the model runs is not for other sizes to tell."""
    text = """
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[n,4] x) => (float[n,n] y, float[n,n] z) {
          d = com.microsoft.CDist <metric="euclidean"> (x, x)
          y = Relu (d)
          z = com.microsoft.CDist <metric="euclidean"> (x, x)
        }"""
    graph = Graph(load(onnx.parser.parse_model(text)))
    runs: list[Any] = []

    def counted(*given: Any) -> dict[str, np.ndarray]:
        runs.append(given)
        return run(*given)

    monkeypatch.setattr("onnxprune.shapes.probing.run", counted)
    shapes = analyse(graph)
    assert shapes.first.shapes["z"] == shapes.first.shapes["y"] == (2, 2)
    assert len(runs) == 2, "once per setting"
    monkeypatch.setattr("onnxprune.shapes.analysis.problems", lambda *given: 1)
    analyse(graph)
    assert len(runs) == 4
