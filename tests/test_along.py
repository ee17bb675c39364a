"""What becomes of channels along an axis that is reduced: the table says it, and the cases show it."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from onnxprune import clean, trace
from onnxprune.rules import RULES, Rule

from .building import between
from .cases import CASES
from .conftest import exact
from .test_rules import model

Seen = dict[str, set[str]]

ALONG = [rule for rule in RULES.values() if rule.along]


@cache
def seen() -> Seen:
    """Operator -> what its nodes do in the cases: take a statistic, pin an axis, or neither."""
    found: Seen = defaultdict(set)
    for case in CASES:
        traced = trace(model(case))
        facts, nodes = traced.walk.facts, traced.graph.nodes
        statistics = {node.index for node, _ in facts.stats}
        pins = {pin.node for pin in facts.pins}
        for node in nodes:
            if any(name in traced.walk.axes for name in node.inputs):
                found[node.kind] |= {
                    "statistic" if node.index in statistics else "pinned" if node.index in pins else "exact"
                }
    return found


@pytest.mark.parametrize("rule", ALONG, ids=lambda rule: rule.op)
def test_cases_show_what_the_table_says(rule: Rule) -> None:
    shown = seen()[f"{rule.domain}::{rule.op}" if rule.domain else rule.op]
    assert set(rule.along.split(" or ")) <= shown
    assert "statistic" in rule.along or "statistic" not in shown
    assert rule.along != "exact" or "pinned" not in shown


def test_only_operators_of_the_table_take_statistics() -> None:
    named = {f"{rule.domain}::{rule.op}" if rule.domain else rule.op for rule in ALONG}
    assert {kind for kind, shown in seen().items() if "statistic" in shown} <= named


SIGNS = {
    "Relu": "a = Relu (h)",
    "Sigmoid": "a = Sigmoid (h)",
    "Clip": "a = Clip (h, zero, two)",
    "HardSwish of a Relu": "b = Relu (h)\n a = HardSwish (b)",
    "gate": "b = Relu (h)\n g = Sigmoid (h)\n a = Mul (b, g)",
    "gate by Relu6": "b = Add (h, two)\n c = Clip (b, zero, six)\n d = Abs (h)\n a = Mul (d, c)",
    "square": "a = Pow (h, two)",
    "residual": "b = Relu (h)\n c = Exp (h)\n d = Add (b, c)\n a = Dropout (d)",
    "joined": "b, c = Split <axis=1, num_outputs=2> (h)\n d = Relu (b)\n e = Abs (c)\n a = Concat <axis=1> (d, e)",
    "highest": "a = Max (h, zero)",
    "lowest": "b = Relu (h)\n a = Min (b, two)",
    "pooled": "b = Relu (h)\n a = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1]> (b)",
    "larger": "b = Relu (h)\n a = Resize <mode=\"linear\"> (b, , s)",
    "padded": "b = Relu (h)\n a = Pad (b, p, zero)",
    "weighted": "b = Softmax <axis=3> (h)\n c = Abs (h)\n a = MatMul (c, b)",
    "chosen": "q = Greater (h, zero)\n b = Relu (h)\n a = Where (q, b, two)",
    "quantised": "b = Relu (h)\n q = QuantizeLinear (b, two, u)\n a = DequantizeLinear (q, two, u)",
}  # fmt: skip
"""What is never negative, made of ``h``, which is any number."""

OPEN = {
    "LeakyRelu": "a = LeakyRelu (h)",
    "Clip": "a = Clip (h, minus, two)",
    "HardSwish": "a = HardSwish (h)",
    "difference": "b = Relu (h)\n a = Sub (b, two)",
    "gate": "g = Sigmoid (h)\n a = Mul (h, g)",
    "odd power": "a = Pow (h, three)",
    "residual": "b = Relu (h)\n a = Add (b, h)",
    "joined": "b, c = Split <axis=1, num_outputs=2> (h)\n d = Relu (b)\n a = Concat <axis=1> (d, c)",
    "lowest": "a = Min (h, two)",
    "cubic": "b = Relu (h)\n a = Resize <mode=\"cubic\"> (b, , s)",
    "padded": "b = Relu (h)\n a = Pad (b, p, minus)",
    "turned": "b = Relu (h)\n a = Neg (b)",
    "convolution": "b = Relu (h)\n a = Conv <pads=[1,1,1,1], group=8> (b, V)",
    "quantised": "b = Relu (h)\n q = QuantizeLinear (b, two, i)\n a = DequantizeLinear (q, two, i)",
}  # fmt: skip
"""What may be negative."""

STORED = {
    "zero": 0.0, "two": 2.0, "six": 6.0, "three": 3.0, "minus": -1.0, "s": np.array([1, 1, 2, 2], np.float32),
    "p": [0, 0, 1, 1, 0, 0, 1, 1], "V": (8, 1, 3, 3), "u": np.uint8(0), "i": np.int8(0),
}  # fmt: skip


def largest(text: str, **settings: object) -> bool:
    """Whether the channels go although statistics are not touched: the maximum is exact."""
    used = {name: value for name, value in STORED.items() if name in text.replace(",", " ").replace(")", " ")}
    build = between(f"{text}\n p_ = ReduceMax (a, one)\n r = Add (a, p_)", opset=18, one=[1], **used)
    return "first" in {group.name for group in trace(build(), norm="pin")}


@pytest.mark.parametrize("name", SIGNS)
def test_a_maximum_of_what_is_never_negative_is_exact(name: str) -> None:
    assert largest(SIGNS[name])


@pytest.mark.parametrize("name", OPEN)
def test_a_maximum_of_what_may_be_negative_is_a_statistic(name: str) -> None:
    assert not largest(OPEN[name])


def test_a_dead_channel_below_a_maximum_is_cleaned_away() -> None:
    W, B = np.ones((8, 3, 3, 3), np.float32), np.linspace(-1, 1, 8, dtype=np.float32)
    W[2], B[2] = 0, -0.5
    text = "a = Relu (h)\n p = ReduceMax <axes=[1]> (a)\n r = Mul (a, p)"
    build = between(text, W1=W, B1=B)
    result = clean(build(), granularity=1, verify=True, provider="cpu")
    assert result.log is not None
    assert result.log.removed == {"zero": 1}
    assert exact(result)
