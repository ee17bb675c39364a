"""For test suites: assert that a slim model is as good as its original.

    from onnxprune.testing import assert_parity

    def test_slim_model():
        assert_parity("model.onnx", "slim.onnx", plan="plan.json", data="test.npz", min_cosine=0.98)

With ``pytest_plugins = ["onnxprune.testing"]`` in ``conftest.py`` there is the fixture ``parity``,
the same function; it adds the numbers to the JUnit XML that pytest writes. (With pytest-xdist take
``junit_family = xunit1``: its workers do not hand on what xunit2 has room for.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .checks.report import Report
from .jobs.verify import verify
from .model.file import ModelLike
from .reports.tables import findings
from .selection.config import read_config
from .selection.plan import Plan
from .settings.table import of

try:
    import pytest
except ImportError:  # assert_parity needs none
    pass
else:

    @pytest.fixture
    def parity(request: pytest.FixtureRequest) -> Callable[..., Report]:
        """``assert_parity`` that records what it measured."""

        def check(*models: ModelLike, **settings: Any) -> Report:
            return assert_parity(*models, record=_recorder(request), **settings)

        return check

    def _recorder(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
        """What writes a number into the JUnit XML of pytest.

        xunit2, the default, has no properties of a test: there it becomes one of the suite that is called
        after the test. pytest warns of everything else, which ends a run under ``-W error``.
        """
        if request.config.getini("junit_family") != "xunit2":
            return request.getfixturevalue("record_property")
        of_suite = request.getfixturevalue("record_testsuite_property")
        return lambda name, value: of_suite(f"{request.node.nodeid}: {name}", value)


def assert_parity(
    dense: ModelLike,
    slim: ModelLike,
    *,
    plan: Plan | str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    record: Callable[[str, object], None] | None = None,
    **settings: Any,
) -> Report:
    """Verify a slim model, and fail with the whole report where a check or a gate fails.

    Parameters
    ----------
    dense, slim : path, bytes, ModelProto, gs.Graph or Model
    plan : Plan or path, optional
        With it the surgery is checked, too.
    config : path of a TOML file, optional
        Settings, gates and data among them; those given here come first. It is what ``verify --config``
        reads, but for flags of the command line alone.
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
    if config is not None:
        names = [option.name for option in of("data", "job", "pair", "gates") if option.name != "preset"]
        settings = {**read_config(config, [*names, "layers", "metric"]), **settings}
    report = verify(dense, slim, plan=plan, **settings)
    if record is not None:
        for difference in report.change:
            record(f"cosine of {difference.output}", difference.cosine)
        for score in report.scores:
            record(score.name, score.after)
    if not report:
        raise AssertionError("\n".join([*findings(report), str(report)]))
    return report
