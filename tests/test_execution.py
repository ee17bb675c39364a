"""Where models run in a verification: sessions, providers, and what is set around them."""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import Mock

import onnxruntime as ort
import pytest

import onnxprune
from onnxprune.checks import subject
from onnxprune.reports.result import Result
from onnxprune.runtime import providers
from onnxprune.runtime import session as runtime

from .conftest import DIGITS


def test_each_model_on_its_own_provider(pruned: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    session = runtime.make_session

    def spy(model: Any, provider: str, exact: bool, *rest: Any, **more: Any) -> Any:
        asked.append((provider, exact))
        return session(model, "cpu", exact, *rest, **more)

    monkeypatch.setattr(runtime, "make_session", spy)
    monkeypatch.setattr(providers, "cuda_problem", lambda: "")
    report = onnxprune.verify(DIGITS, pruned.model, provider="cpu", slim_provider="cuda")
    assert asked == [("cpu", True), ("cuda", True)]
    assert (report.provider, report.slim_provider) == ("cpu", "cuda")
    asked.clear()
    onnxprune.verify(DIGITS, pruned.model, provider="cuda", tf32=True)
    assert asked == [("cuda", False), ("cuda", False)]


def test_each_model_is_opened_and_run_once(pruned: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original, its masked copy and the slim model; changed last bits excuse the rest."""
    opened, ran = Mock(wraps=runtime.make_session), Mock(wraps=runtime.run)
    monkeypatch.setattr(runtime, "make_session", opened)
    monkeypatch.setattr(subject, "run", ran)
    report = onnxprune.verify(DIGITS, pruned.model, plan=pruned.plan, provider="cpu")
    assert report.exact
    assert report.method == "end to end"
    assert opened.call_count == 3
    assert [call.args[2] for call in ran.call_args_list].count("the original") == 1
    assert report.work is not None
    assert min(report.work) > 0


def test_tensorrt_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    providers.tensorrt_problem.cache_clear()
    monkeypatch.setattr(providers, "cuda_problem", lambda: "")
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    monkeypatch.setattr(providers, "_runs_on", lambda provider: False)
    monkeypatch.setattr(providers, "missing_library", lambda provider: "libnvinfer.so.99")
    with pytest.raises(
        onnxprune.UsageError, match=r"cannot run on TensorRT: missing libraries: libnvinfer\.so\.99"
    ):
        providers.choose_provider("tensorrt")
    providers.tensorrt_problem.cache_clear()
    with pytest.raises(onnxprune.UsageError, match="unknown provider 'cudda'\nDid you mean 'cuda'"):
        providers.choose_provider("cudda")


def test_openvino_is_told_what_sessions_of_others_know(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, providers: seen.append(providers[0]))
    runtime.make_session(b"", "openvino", exact=True)
    runtime.make_session(b"", "openvino", exact=False, timed=runtime.Timed(2))
    assert seen == [
        ("OpenVINOExecutionProvider", {"device_type": "CPU", "precision": "ACCURACY"}),
        ("OpenVINOExecutionProvider", {"device_type": "CPU", "num_of_threads": "2"}),
    ]
    providers.openvino_problem.cache_clear()
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        onnxprune.UsageError, match="cannot run on OpenVINO: this build of onnxruntime has no"
    ):
        providers.choose_provider("openvino")
    providers.openvino_problem.cache_clear()


@pytest.mark.skipif(
    "OpenVINOExecutionProvider" not in ort.get_available_providers(),
    reason="this build of onnxruntime has no OpenVINO provider",
)
def test_surgery_is_exact_on_openvino() -> None:
    result = onnxprune.prune(DIGITS, keep_latency=0.9, threads=1, provider="openvino", verify=True)
    assert result.report is not None
    assert (result.report.provider, result.report.exact) == ("openvino", True)
    layers = onnxprune.verify(DIGITS, result.model, plan=result.plan, provider="openvino", layers=True)
    assert layers.exact


def test_tf32_is_off_while_tensorrt_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str | None, Any]] = []

    def session(*_: Any, providers: Any) -> None:
        seen.append((os.environ.get("NVIDIA_TF32_OVERRIDE"), providers[0]))

    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.setattr(ort, "InferenceSession", session)
    runtime.make_session(b"", "tensorrt", exact=True)
    runtime.make_session(b"", "tensorrt", exact=False)
    assert seen == [("0", "TensorrtExecutionProvider"), (None, "TensorrtExecutionProvider")]
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ


def test_the_logger_of_onnxruntime_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a GPU is silent, also inside a command, which then goes on without warnings."""
    told: list[int] = []
    monkeypatch.setattr(ort, "set_default_logger_severity", told.append)
    with runtime.logged_from(3), runtime.logged_from(4):
        pass
    with runtime.logged_from(4), runtime.logged_from(3):
        pass
    assert told == [3, 4, 3, 2, 4, 4, 4, 2]
