"""What the masked original finds, though the rewriter believes in it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxprune.loading import load
from onnxprune.verify import verify

from . import battery
from .cases_constants import CASES

CODEBOOKS = [case for case in CASES if case.op == "ReduceSum"]


@pytest.mark.parametrize("case", CODEBOOKS, ids=str)
def test_a_sum_over_all_stored_entries_is_found(case: battery.Case) -> None:
    """The slim model holds what was computed before anything was removed."""
    pruned = battery.prune(case.build())
    whole = pruned.trace.graph.value("l")
    baked = onnx.ModelProto()
    baked.CopyFrom(pruned.slim.proto)
    kept = [node for node in baked.graph.node if node.output[0] != "l"]
    del baked.graph.node[:]
    baked.graph.node.extend(kept)
    baked.graph.initializer.append(numpy_helper.from_array(whole, "l"))
    feeds = {"i": np.arange(12)}
    report = verify(pruned.trace.model, load(baked), plan=pruned.plan, data=feeds, provider="cpu")
    assert report.exact is False
    assert verify(pruned.trace.model, pruned.slim, plan=pruned.plan, data=feeds, provider="cpu").exact
