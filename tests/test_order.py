"""Nodes out of order, which onnxruntime sorts and converters therefore write."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxprune
from onnxprune.model.ordering import sort_nodes

from .building_text import model
from .conftest import exact

BRANCHES = """
    g (float[2,6] x, bool yes) => (float[2,10] y) <float[8,6] A, float[10,8] B> {
      a = Gemm <transB=1> (x, A)
      b = Relu (a)
      c = If (yes) <
        then_branch = t () => (float[2,8] u) { t1 = Neg (b) u = Relu (t1) },
        else_branch = e () => (float[2,8] v) { v = Identity (b) }
      >
      d = Sigmoid (c)
      y = Gemm <transB=1> (d, B)
    }"""


def branches() -> onnx.ModelProto:
    return model(BRANCHES)


def turned_round(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with the nodes of every graph in reverse order."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    (choice,) = [node for node in copy.graph.node if node.op_type == "If"]
    for graph in (*(attribute.g for attribute in choice.attribute), copy.graph):
        nodes = [*graph.node][::-1]
        del graph.node[:]
        graph.node.extend(nodes)
    return copy


def test_nodes_are_put_in_order() -> None:
    dense = branches()
    mixed = turned_round(dense)
    before = mixed.SerializeToString(deterministic=True)
    result = onnxprune.prune(mixed, granularity=1, verify=True, provider="cpu")
    assert exact(result)
    assert mixed.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(result.model.proto, full_check=True)
    expected = onnxprune.prune(dense, granularity=1).model.proto
    assert result.model.proto.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


def test_what_can_stay_stays() -> None:
    """Of the nodes that are possible next, the first in the file comes."""
    mixed = turned_round(branches())
    assert sort_nodes(mixed)
    assert [n.op_type for n in mixed.graph.node] == ["Gemm", "Relu", "If", "Sigmoid", "Gemm"]
    assert not sort_nodes(mixed)
    cast = helper.make_node("Cast", ["x"], ["half"], to=onnx.TensorProto.FLOAT16)
    proto = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Relu", ["half"], ["r"]),
                helper.make_node("Neg", ["x"], ["n"]),
                cast,
                helper.make_node("Abs", ["n"], ["a"]),
            ],
            "casts",
            [],
            [],
        )
    )
    assert sort_nodes(proto)
    assert [n.op_type for n in proto.graph.node] == ["Neg", "Cast", "Relu", "Abs"]


def test_a_long_chain() -> None:
    nodes = [helper.make_node("Relu", [f"t{k}"], [f"t{k + 1}"]) for k in range(5000)]
    proto = helper.make_model(helper.make_graph(nodes[::-1], "chain", [], []))
    assert sort_nodes(proto)
    assert [n.input[0] for n in proto.graph.node] == [f"t{k}" for k in range(5000)]


def test_a_cycle_is_refused() -> None:
    proto = branches()
    proto.graph.node[0].input[0] = "c"
    with pytest.raises(onnxprune.ModelError, match="the ONNX checker refuses the model: Nodes"):
        onnxprune.load(proto)


@pytest.mark.parametrize("opset", [13, 16])
def test_layer_normalization_before_it_was_in_onnx(opset: int) -> None:
    """onnxruntime's optimizer writes it into models of any opset."""
    dense = model("""
        g (float[2,5,6] x) => (float[2,5,10] y) <float[6,8] A, float[8] S, float[8] H, float[8,10] B> {
          a = MatMul (x, A)
          n = LayerNormalization <axis=-1> (a, S, H)
          y = MatMul (n, B)
        }""")
    dense.opset_import[0].version = opset
    result = onnxprune.prune(dense, granularity=1, verify=True, provider="cpu")
    assert exact(result)
    shapes = {t.name: tuple(t.dims) for t in result.model.proto.graph.initializer}
    assert (shapes["A"], shapes["S"], shapes["B"]) == ((6, 4), (4,), (4, 10))
    assert np.prod(shapes["H"]) == 4
