"""Which execution providers of onnxruntime run here, and why the others do not."""

from __future__ import annotations

import ctypes
import io
import re
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import onnx
from onnx import TensorProto

from ..errors import UsageError, unknown_name
from ..model.engine import ort
from ..settings.table import TITLES
from .session import PROVIDERS, logged_from, make_session


@cache
def cuda_problem() -> str:
    """Why onnxruntime cannot run on CUDA here; empty where it can.

    The list of available providers says what was compiled in, not what runs, so this makes a
    session and looks at the provider that it got.
    """
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this build of onnxruntime has no CUDA provider"
    said = io.StringIO()
    try:
        with redirect_stdout(said):  # it prints what it cannot load
            ort.preload_dlls()
    except Exception as error:  # the loader raises whatever the platform raises
        return f"its libraries do not load: {error}"
    if _runs_on_cuda():
        return ""
    missing = re.findall(r"^Failed to load ([^:]+):", said.getvalue(), re.MULTILINE)
    if missing:
        return f"missing libraries: {', '.join(dict.fromkeys(missing))}"
    return "the CUDA provider does not start (no GPU, or no driver for it)"


def _runs_on_cuda() -> bool:
    """Whether a session that asks for CUDA gets it."""
    return _runs_on("cuda")


def _runs_on(provider: str) -> bool:
    """Whether a session gets its provider; onnxruntime's own log is silent meanwhile."""
    try:
        with logged_from(4):
            session = make_session(_tiny().SerializeToString(), provider, exact=True)
    except Exception:  # onnxruntime's exception types share no base but this
        return False
    return PROVIDERS[provider] in session.get_providers()


@cache
def tensorrt_problem() -> str:
    """Why onnxruntime cannot run on TensorRT here; empty where it can."""
    if PROVIDERS["tensorrt"] not in ort.get_available_providers():
        return "this build of onnxruntime has no TensorRT provider"
    if cuda_problem():
        return "it takes CUDA, which does not run"
    if _runs_on("tensorrt"):
        return ""
    missing = missing_library("tensorrt")
    return f"missing libraries: {missing}" if missing else "the TensorRT provider does not start"


@cache
def openvino_problem() -> str:
    """Why onnxruntime cannot run on OpenVINO here; empty where it can."""
    if PROVIDERS["openvino"] not in ort.get_available_providers():
        return "this build of onnxruntime has no OpenVINO provider"
    return "" if _runs_on("openvino") else "the OpenVINO provider does not start"


def problem_of(provider: str) -> str:
    """Why one of ``TITLES`` cannot run here; empty where it can."""
    return {"cuda": cuda_problem, "tensorrt": tensorrt_problem, "openvino": openvino_problem}[provider]()


def missing_library(provider: str) -> str:
    """First shared library that the loader does not find for a provider; empty if it finds all."""
    folder = Path(ort.__file__).parent / "capi"
    try:
        for name in ("shared", provider):
            ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error).partition(":")[0]
    return ""


def _tiny() -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "tiny",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def choose_provider(name: str = "auto") -> str:
    """The provider to use, one of ``PROVIDERS``; ``auto`` takes CUDA where it works.

    Raises
    ------
    UsageError
        If the one that is asked for cannot run.
    """
    if name not in ("auto", *PROVIDERS):
        raise unknown_name("provider", name, ("auto", *PROVIDERS))
    if name == "cpu":
        return "cpu"
    wanted = name.replace("auto", "cuda")
    problem = problem_of(wanted)
    if problem and name != "auto":
        raise UsageError(f"cannot run on {TITLES[wanted]}: {problem}", "Run 'onnxprune doctor' for details.")
    return "cpu" if problem else wanted
