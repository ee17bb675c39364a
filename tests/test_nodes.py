"""Nodes compared alone, on the tensors of the masked original, where rounding does not add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.checks import alone
from onnxprune.checks import nodes as layers
from onnxprune.checks.alone import nodes_alone
from onnxprune.checks.compare import Comparison
from onnxprune.model.file import Model
from onnxprune.model.protos import bodies

from .building import Builder, net
from .building_text import model
from .cases_sequences import CASES as SEQUENCES


def test_changed_last_bits_are_asked_for_one_by_one() -> None:
    """One that excuses the difference is enough, even if the others should move nothing."""
    read: list[int] = []

    def moved(change: float) -> Iterator[np.ndarray]:
        for number in range(4):
            read.append(number)
            yield np.array([[1 + change]], np.float32)

    reference, found = np.array([[[1]], [[1 + 2e-5]]], np.float32)
    for change, count, right in ((1e-5, 1, True), (2e-6, 2, True), (2e-7, 4, False)):
        sums = Comparison("y", exact=True)
        sums.add(reference, found, moved=moved(2e-5 + change))
        assert (len(read), bool(sums.difference())) == (count, right)
        read.clear()


def test_constants_are_asked_of_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO does not load a model that returns one."""
    asked: list[str] = []

    def exposed(model: Any, names: Any, provider: str) -> Any:
        asked.extend(names)
        return alone.exposed(model, names, provider)

    monkeypatch.setattr(layers, "exposed", exposed)
    text = "a = Conv (x, V)\nc = Constant <value = float[1] {2}> ()\nb = Mul (a, c)\ny = Conv (b, W)"
    built = net(text, inputs="float[1,4,8,8] x", V=(16, 4, 1, 1), W=(4, 16, 1, 1))()
    result = onnxprune.prune(built)
    assert onnxprune.verify(built, result.model, plan=result.plan, provider="cpu", layers=True).exact
    assert {"a", "b", "y"} <= set(asked) <= {"a", "b", "y", "x"}


def test_16_bit_floats_are_compared_in_32_bits() -> None:
    """Inside a whole model onnxruntime hands on products before they are rounded to 16 bits: the
    softmax is off by 7e-3 then.
    """
    text = """
        <ir_version: 10, opset_import: ["" : 18]>
        g (float16[2,16,12] x) => (float16[2,16,8] y) {
          q = MatMul (x, Q)
          k = MatMul (x, K)
          v = MatMul (x, V)
          t = Transpose <perm=[0,2,1]> (k)
          s = MatMul (q, t)
          p = Softmax <axis=-1> (s)
          a = MatMul (p, v)
          y = MatMul (a, O)
        }"""
    dense, rng = onnx.parser.parse_model(text), np.random.default_rng(3)
    for name, shape in {"Q": (12, 24), "K": (12, 24), "V": (12, 16), "O": (16, 8)}.items():
        array = rng.normal(0, 1 if name in "QK" else 0.3, shape).astype(np.float16)
        dense.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    result = onnxprune.prune(dense, granularity=1)
    report = onnxprune.verify(dense, result.model, plan=result.plan, layers=True, provider="cpu")
    assert report.exact
    assert {d.tolerance for d in (*report.surgery, *report.single)} == {1e-5}


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let nothing be known of what rounding does to a node."""
    return lambda: monkeypatch.setattr(layers, "_moved", lambda *given: [])


def test_nodes_in_a_branch_are_compared_alone(unmeasured: Callable[[], None]) -> None:
    """There rounding does not add up either, whatever it does to the branch as a whole."""
    dense = model("""
        g (float[5,2,6] x, bool yes) => (float[5,1,2,4] y)
          <float[6,8] A, float[1,24,8] W, float[1,24,8] R, float[8,4] B> {
          h = MatMul (x, A)
          r = If (yes) <
            then_branch = t () => (float[5,1,2,8] u) {
              s, last = GRU <hidden_size=8> (h, W, R)
              many = Constant <value_float=10000.0> ()
              z = Mul (s, many)
              u = Sin (z)
            },
            else_branch = e () => (float[5,1,2,8] v) {
              q, end = GRU <hidden_size=8> (h, W, R)
              v = Neg (q)
            }
          >
          y = MatMul (r, B)
        }""")
    result = onnxprune.prune(dense, granularity=1)
    data = {"x": np.ones((5, 2, 6), np.float32), "yes": np.array(True)}
    settings: Any = {"plan": result.plan, "data": data, "layers": True, "provider": "cpu"}
    unmeasured()
    report = onnxprune.verify(dense, layers.nudged(result.model.proto), **settings)
    assert report.exact, str(report)
    assert [d.layer for d in report.single] == ["h", "s", "s", "z", "u", "r", "y"]
    (choice,) = [node for node in result.model.proto.graph.node if node.op_type == "If"]
    (many,) = [node for _, graph in bodies(choice) for node in graph.node if "many" in node.output]
    many.attribute[0].f = 10001.0
    wrong = onnxprune.verify(dense, result.model, **settings).wrong
    assert wrong is not None
    assert wrong.layer == "z"


def test_rounding_of_terms_that_cancel_is_measured(unmeasured: Callable[[], None]) -> None:
    """What large terms leave of each other depends on the last bit of a weight."""
    kernel, mixed = (
        np.random.default_rng(0).normal(size=s).astype(np.float32) for s in ((8, 3, 1, 1), (4, 16, 1, 1))
    )
    mixed[2, 8:] = -mixed[2, :8] * np.float32(1 + 3e-7)
    dense = net("h = Conv (x, A)\n[last] y = Conv (h, B)", A=np.concatenate([kernel, kernel]), B=mixed)()
    result = onnxprune.prune(dense, remove={"h": [0, 8]}, clean=False)
    settings: Any = {"plan": result.plan, "layers": True, "provider": "cpu"}
    rounded = layers.nudged(result.model.proto)
    assert all(onnxprune.verify(dense, rounded, **settings).single)
    unmeasured()
    wrong = onnxprune.verify(dense, rounded, **settings).wrong
    assert wrong is not None
    assert wrong.layer == "last"


def test_what_single_nodes_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of tensors are open, because a branch that is not taken may contradict them; but a
    list of sizes has to have its length for inference."""
    dense = model("""
        g (float[N,3,K,K] x) => (float[N,8,12,12] r) <float[8,3,1,1] A> {
          h = Conv (x, A)
          s = Shape <end=2> (h)
          wanted = Constant <value_ints=[12,12]> ()
          t = Concat <axis=0> (s, wanted)
          r = Resize <mode="linear"> (h, , , t)
        }""")
    given = {"h": np.zeros((2, 8, 6, 6), np.float32), "t": np.array([2, 8, 12, 12])}
    ran = Mock(side_effect=lambda session, f: f)
    monkeypatch.setattr(alone, "run", ran)
    with nodes_alone(Model(dense), ["r"], given, "cpu") as run_alone:
        assert run_alone(given).keys() == {"h::given", "t::given"}
    shapes = {value.name: value.shape for value in ran.call_args.args[0].get_inputs()}
    assert shapes == {"h::given": [None] * 4, "t::given": [4]}


@pytest.mark.parametrize("build", [row[2] for row in SEQUENCES], ids=lambda build: build.__name__)
def test_what_is_no_tensor_is_compared_with_its_readers(build: Builder) -> None:
    """An optional tensor comes from onnxruntime as an array like any other."""
    built = build()
    result = onnxprune.prune(built, granularity=1, verify=False)
    report = onnxprune.verify(built, result.model, plan=result.plan, provider="cpu", layers=True)
    assert report.exact, str(report)
