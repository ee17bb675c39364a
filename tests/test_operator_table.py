"""Every operator of the newest ONNX is carried, or pinned on purpose; none is unknown."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.model.file import Model
from onnxprune.model.graph import Graph
from onnxprune.rules import RULES, Rule
from onnxprune.rules.apply import walk_graph
from onnxprune.rules.table import operator_table
from onnxprune.shapes.setting import Setting, Shape, Shapes

TABLE = operator_table()
PINNED = [rule for rule in RULES.values() if rule.pinned]


def test_no_operator_is_unknown() -> None:
    assert not [row for row in TABLE if row.status == "unknown"]


def test_table_covers_the_newest_onnx_and_every_rule() -> None:
    listed = {(row.domain, row.op) for row in TABLE}
    assert listed >= {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}
    assert listed >= RULES.keys()
    assert len(listed) == len(TABLE)


def test_rows_say_something() -> None:
    for row in TABLE:
        assert row.status in ("carried", "pinned", "unknown")
        assert len(row.summary) > 10, row
        assert row.status == "pinned" or row.summary.endswith((".", "pinned")), row


def pinned_graph(rule: Rule) -> Graph:
    """The operator on a computed tensor and a stored one."""
    stored = [
        numpy_helper.from_array(np.ones(shape, "f4"), name)
        for name, shape in (("W", (3, 8)), ("other", (8, 8)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"], "layer"),
        helper.make_node(rule.op, ["h", "other"], ["y"], "pinned", domain=rule.domain),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [2, 3]), ("y", None))]
    graph = helper.make_graph(nodes, "pinned", values[:1], values[1:], stored)
    domains = {"": 17, rule.domain: 1} if rule.domain else {"": 17}
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return Graph(Model(helper.make_model(graph, opset_imports=opsets)))


@pytest.mark.parametrize("rule", PINNED, ids=lambda rule: f"{rule.domain}::{rule.op}")
def test_pinned_operator_pins_what_it_touches(rule: Rule) -> None:
    sizes: dict[str, Shape] = {"x": (2, 3), "W": (3, 8), "h": (2, 8), "other": (8, 8)}
    setting = Setting(shapes=sizes, dtypes=dict.fromkeys(sizes, TensorProto.FLOAT))
    walk = walk_graph(pinned_graph(rule), Shapes(setting, setting))
    pins = [pin for pin in walk.facts.pins if rule.pinned in pin.reason]
    assert not walk.facts.blocked
    assert {len(pin.labels) for pin in pins} == {8}
    assert "y" not in walk.axes
