"""Every row of the table with dead channels in it: cleaning changes no answer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxprune.checks.compare import difference
from onnxprune.coupling.trace import trace
from onnxprune.jobs.clean import clean
from onnxprune.model.loading import load
from onnxprune.reports.result import Result
from onnxprune.shapes.made_up import synthetic_inputs

from . import battery
from .building import TOLERANCE, Case
from .cases import CASES
from .full import first_of_each
from .planting import plant


def gap(model: onnx.ModelProto, result: Result, reference: bool) -> float:
    """Largest relative difference of an output, over its norm or that of as many ones."""
    traced = trace(model)
    feeds = synthetic_inputs(traced.graph, traced.shapes.first.sizes)
    before, after = (battery.outputs(m, feeds, reference) for m in (load(model), result.model))
    worst = 0.0
    for name, array in before.items():
        found = difference(name, array, after[name])
        norm = np.linalg.norm(np.nan_to_num(array.astype(np.float64))) if array.dtype.kind == "f" else 1
        worst = max(worst, found.relative * min(1.0, float(norm) / np.sqrt(max(array.size, 1))))
    return worst


@pytest.mark.parametrize("case", first_of_each(CASES, lambda c: c.op), ids=str)
def test_cleaning_changes_no_answer(case: Case) -> None:
    model, _ = plant(trace(case.build(), norm="pin"), seed=1)
    result = clean(model, granularity=1)
    assert gap(model, result, case.reference) <= max(case.limit, 2 * TOLERANCE)
