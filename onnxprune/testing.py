"""For test suites: assert that a slim model is as good as its original.

    from onnxprune.testing import assert_parity

    def test_slim_model():
        assert_parity("model.onnx", "slim.onnx", plan="plan.json", data="test.npz", min_cosine=0.98)

With ``pytest_plugins = ["onnxprune.testing"]`` in ``conftest.py`` there is the fixture ``parity``,
the same function; it adds the numbers to the JUnit XML that pytest writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .checks.report import Report
from .jobs.verify import verify
from .model.file import ModelLike
from .reports.tables import findings
from .selection.plan import Plan

try:
    import pytest
except ImportError:  # assert_parity needs none
    pass
else:

    @pytest.fixture
    def parity(record_property: Callable[[str, object], None]) -> Callable[..., Report]:
        """``assert_parity`` that records what it measured."""

        def check(*models: ModelLike, **settings: Any) -> Report:
            return assert_parity(*models, record=record_property, **settings)

        return check


def assert_parity(
    dense: ModelLike,
    slim: ModelLike,
    *,
    plan: Plan | str | os.PathLike[str] | None = None,
    record: Callable[[str, object], None] | None = None,
    **settings: Any,
) -> Report:
    """Verify a slim model, and fail with the whole report where a check or a gate fails.

    Parameters
    ----------
    dense, slim : path, bytes, ModelProto, gs.Graph or Model
    plan : Plan or path, optional
        With it the surgery is checked, too.
    record : callable, optional
        Called with the name and the value of every measure.
    **settings
        Those of :func:`onnxprune.verify`, gates among them.

    Raises
    ------
    AssertionError
        If a check fails, or could not be made.
    """
    if isinstance(plan, (str, os.PathLike)):
        plan = Plan.load(plan)
    report = verify(dense, slim, plan=plan, **settings)
    if record is not None:
        for difference in report.change:
            record(f"cosine of {difference.output}", difference.cosine)
        for score in report.scores:
            record(score.name, score.after)
    if not report:
        raise AssertionError("\n".join([*findings(report), str(report)]))
    return report
