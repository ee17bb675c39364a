"""What a report says of itself: it is true only of what was checked and found right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune import pipeline
from onnxprune.model import Model
from onnxprune.testing import assert_parity

from .building import net


def two_layers() -> onnx.ModelProto:
    return net("h = Conv (x, W)\nr = Relu (h)\ny = Conv (r, V)", W=(16, 3, 3, 3), V=(4, 16, 1, 1))()


def unrunnable() -> onnx.ModelProto:
    """Made-up tokens lie outside its table."""
    text = "k = Add (i, far)\ne = Gather (T, k)\nh = MatMul (e, W)\nr = Relu (h)\ny = MatMul (r, V)"
    return net(text, inputs="int64[3] i", far=100, T=(4, 8), W=(8, 32), V=(32, 5))()


def stored(model: onnx.ModelProto, name: str, edit: Callable[[np.ndarray], Any]) -> onnx.ModelProto:
    """Copy of a model with a stored tensor changed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensor = next(t for t in changed.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    edit(array)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return changed


# What a report is worth -----------------------------------------------------------------------


def test_what_could_not_be_verified_is_not_true() -> None:
    result = onnxprune.prune(unrunnable(), verify=True, provider="cpu")
    assert result.report is not None
    assert "the original does not run on these inputs" in result.report.problem
    assert not result.report
    assert not result.report.failed
    assert result.report.exact is None
    with pytest.raises(AssertionError, match="not verified"):
        assert_parity(unrunnable(), result.model, plan=result.plan, provider="cpu")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rewriter halve a weight."""
    right = pipeline.rewrite_trace

    def wrong(*given: Any) -> Model:
        slim = right(*given)
        return Model(stored(slim.proto, "V", lambda v: np.multiply(v, 0.5, out=v)))

    monkeypatch.setattr(pipeline, "rewrite_trace", wrong)


@pytest.mark.usefixtures("broken")
def test_a_wrong_result_is_not_handed_out() -> None:
    with pytest.raises(onnxprune.SurgeryError, match=r"the slim model is wrong: cpu: surgery WRONG") as error:
        onnxprune.prune(two_layers(), verify=True, provider="cpu")
    assert error.value.exit_code == 1
    assert "on_failure='return'" in error.value.hint


@pytest.mark.usefixtures("broken")
def test_a_wrong_result_is_returned_on_request() -> None:
    result = onnxprune.prune(two_layers(), verify=True, provider="cpu", on_failure="return")
    assert result.report is not None
    assert (bool(result.report), result.report.exact, result.report.verdict) == (False, False, "WRONG")


@pytest.mark.parametrize("function", [onnxprune.prune, onnxprune.clean])
def test_unknown_ways_to_fail(function: Callable[..., Any]) -> None:
    with pytest.raises(onnxprune.UsageError, match="unknown value of on_failure 'ignore'"):
        function(two_layers(), on_failure="ignore")
