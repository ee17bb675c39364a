"""Every operator case: slim equals the masked original, at half and at random ratios."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from onnxprune.masked import masked
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.rewrite import rewrite_trace
from onnxprune.runtime import synthetic_inputs
from onnxprune.scoring import score
from onnxprune.select import select
from onnxprune.trace import Trace, trace
from onnxprune.verify import difference, verify
import tests.cases_attention  # noqa: F401  (fills the table)
from tests.cases_operators import BLOCKED, BY_REFERENCE, CASES
from tests.reference_ops import OPERATORS

PRUNED = [case for case in CASES if case[:2] not in BLOCKED]
NOT_PRUNED = [case for case in CASES if case[:2] in BLOCKED]


def ids(cases: list[tuple[str, str, Callable[[], onnx.ModelProto]]]) -> list[str]:
    return [f"{op}-{name}".replace(" ", "_") for op, name, _ in cases]


@pytest.mark.parametrize(("op", "name", "build"), NOT_PRUNED, ids=ids(NOT_PRUNED))
def test_blocked(op: str, name: str, build: Callable[[], onnx.ModelProto]) -> None:
    traced = trace(build())
    assert not traced.walk.facts.blocked
    assert not traced.groups
    assert any(BLOCKED[op, name] in group.reason for group in traced.blocked)


@pytest.mark.parametrize("axis", [None, 1], ids=["heads", "inside"])
@pytest.mark.parametrize(("op", "name", "build"), PRUNED, ids=ids(PRUNED))
def test_slim_equals_masked(
    op: str, name: str, build: Callable[[], onnx.ModelProto], axis: int | None
) -> None:
    traced = trace(build(), reshape_channel_axis=axis)
    assert not traced.walk.facts.blocked
    if axis is not None and not traced.walk.facts.products:
        return  # nothing to choose: the other run says it all
    assert len(traced) > 0
    rng = np.random.default_rng(1)
    uneven = {group.name: float(rng.uniform(0.05, 0.95)) for group in traced}
    check = by_reference if (op, name) in BY_REFERENCE else by_runtime
    for seed, ratio in enumerate([0.5, uneven]):
        table = score(traced, criterion="random", seed=seed)
        plan = select(traced, table, ratio=ratio, granularity=1)
        slim = rewrite_trace(traced, plan.removed(traced))
        check(traced, plan, slim)


def by_runtime(traced: Trace, plan: Plan, slim: Model) -> None:
    report = verify(traced.model, slim, plan=plan, traced=traced, provider="cpu")
    assert not report.problem
    assert report.exact is True, str(report)


def by_reference(traced: Trace, plan: Plan, slim: Model) -> None:
    """For operators that onnxruntime cannot run on a CPU."""
    sizes = traced.sizes(plan.removed(traced))
    feeds = synthetic_inputs(traced.graph)
    names = [value.name for value in slim.proto.graph.output]
    oracle = masked(traced, sizes, slim.proto)
    expected, found = (
        ReferenceEvaluator(proto, new_ops=OPERATORS).run(names, feeds)
        for proto in (oracle, slim.proto)
    )
    for name, a, b in zip(names, expected, found, strict=True):
        assert difference(name, a, b, 1e-5), name
