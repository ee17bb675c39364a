"""onnxruntime sessions, execution providers and synthetic inputs."""

from __future__ import annotations

import ctypes
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto

from .custom import PiecewiseSession, has_custom
from .effort import check_trips
from .engine import ort
from .errors import ModelError, UsageError, unknown_name
from .graph import Graph
from .model import PROTOBUF_LIMIT, Model
from .samples import Sizes, graph_inputs
from .shapes import analyse, infer

Arrays = Mapping[str, np.ndarray]

ITERATIONS = 3
"""Trip count given to a Loop that takes it as an input of the model."""

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "graph": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


OWN_OPERATOR = "An operator of your own takes a rule with a reference function, or --no-verify."

_SEVERITIES = [2]
"""What onnxruntime's own logger was told last, and before: it cannot be asked. 2 is its default."""


@contextmanager
def logged_from(severity: int) -> Iterator[None]:
    """Let onnxruntime's own logger print, meanwhile, only what is that severe (3: errors)."""
    _SEVERITIES.append(max(severity, _SEVERITIES[-1]))
    ort.set_default_logger_severity(_SEVERITIES[-1])
    try:
        yield
    finally:
        _SEVERITIES.pop()
        ort.set_default_logger_severity(_SEVERITIES[-1])


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
            session = _session(_tiny().SerializeToString(), provider, exact=True)
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
    """The provider to use: ``tensorrt``, ``cuda`` or ``cpu``; ``auto`` takes CUDA where it works.

    Raises
    ------
    UsageError
        If the one that is asked for cannot run.
    """
    if name not in ("auto", *PROVIDERS):
        raise unknown_name("provider", name, ("auto", *PROVIDERS))
    if name == "cpu":
        return "cpu"
    if name == "tensorrt":
        problem, title = tensorrt_problem(), "TensorRT"
    else:
        problem, title = cuda_problem(), "CUDA"
    if problem and name != "auto":
        raise UsageError(f"cannot run on {title}: {problem}", "Run 'onnxprune doctor' for details.")
    return "cpu" if problem else name.replace("auto", "cuda")


def _session(model: bytes | str, provider: str, exact: bool, optimize: str = "all") -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = LEVELS[optimize]
    if exact:
        # Otherwise int8 runs as integers or as floats, depending on the nodes in between, and what
        # meets 4-bit weights is rounded to 8 bits.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    chosen: list[Any] = ["CPUExecutionProvider"]
    if provider != "cpu":
        chosen.insert(0, ("CUDAExecutionProvider", {"use_tf32": int(not exact)}))
    if provider != "tensorrt":
        return ort.InferenceSession(model, options, providers=chosen)
    chosen.insert(0, PROVIDERS["tensorrt"])
    with _without_tf32() if exact else nullcontext():  # TensorRT has no option of its own for it
        return ort.InferenceSession(model, options, providers=chosen)


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Tell NVIDIA's libraries to build no engine with TF32, unless the user has told them."""
    name = "NVIDIA_TF32_OVERRIDE"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def open_session(
    model: Model | onnx.ModelProto,
    provider: str = "cpu",
    what: str = "the model",
    optimize: str = "all",
    *,
    tf32: bool = False,
) -> Iterator[ort.InferenceSession]:
    """Session of a model on one provider; large models go through a file.

    A model with operators of the user's own runs in pieces, see ``custom.py``.

    Parameters
    ----------
    what : str
        What a message calls the model.
    optimize : {"all", "graph", "none"}
        How far onnxruntime may rewrite the graph: also the memory layout, only the nodes, or nothing.
    tf32 : bool
        Let GPUs round the factors of float32 products to 10 bits.

    Raises
    ------
    ModelError
        If onnxruntime cannot load the model.
    """
    if isinstance(model, onnx.ModelProto):
        model = Model(model)
    check_trips(model.proto.graph)
    if has_custom(model.proto):
        with ExitStack() as stack:

            def opener(piece: onnx.ModelProto) -> ort.InferenceSession:
                return stack.enter_context(open_session(piece, provider, what, optimize, tf32=tf32))

            yield cast(ort.InferenceSession, PiecewiseSession(model, opener))
        return
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        source: bytes | str
        if model.external or model.weight_bytes > PROTOBUF_LIMIT:
            source = str(Path(folder) / "model.onnx")
            model.save(source)
        else:
            source = model.proto.SerializeToString()
        try:
            session = _session(source, provider, exact=not tf32, optimize=optimize)
        except Exception as error:  # onnxruntime's exception types share no base but this
            said = _first_line(error)
            hint = OWN_OPERATOR if "is not a registered function/op" in said else ""
            raise ModelError(f"onnxruntime cannot load {what}: {said}", hint) from None
        yield session


def run(session: ort.InferenceSession, feeds: Arrays, what: str = "the model") -> dict[str, np.ndarray]:
    """Outputs of a session by name; those in a sequence are ``name[0]``, ``name[1]``, ...

    Raises
    ------
    ModelError
        If the model fails on these inputs.
    """
    names = [value.name for value in session.get_outputs()]
    wanted = {value.name for value in session.get_inputs()}
    missing = ", ".join(f"'{name}'" for name in sorted(wanted - feeds.keys()))
    if missing:
        raise ModelError(f"nothing is given for inputs of {what}: {missing}")
    try:
        results = session.run(names, {k: v for k, v in feeds.items() if k in wanted})
    except ModelError:
        raise
    except Exception as error:  # as above
        raise ModelError(f"{what} does not run on these inputs: {_first_line(error)}") from None
    return dict(pair for named in zip(names, results, strict=True) for pair in _tensors(*named))


def _tensors(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors in an output: itself, or the elements of a sequence; a table for a list of maps."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield name, np.array([list(row.values()) for row in value], np.float32)
    elif isinstance(value, list):
        for number, element in enumerate(value):
            yield from _tensors(f"{name}[{number}]", element)


def _first_line(error: Exception) -> str:
    """Message of onnxruntime without its error code and without what follows the first line."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip())
    lines = _SOURCE.sub("", text).strip().splitlines()
    return lines[0] if lines else type(error).__name__


_SOURCE = re.compile(
    r"(?:\b[A-Za-z]:)?[/\\][^\s:]+\.(?:cc|cpp|cu|cuh|h|hpp):\d+ "  # the file
    r"(?:[^()\n]*\([^()]*(?:\([^()]*\)[^()]*)*\)(?: const)?(?: \[with [^\]]*\])? )?"  # the function
)
"""Place in onnxruntime's own source, in a message."""


def synthetic_inputs(
    graph: Graph, seed: int = 0, setting: int = 0, sizes: Sizes | None = None
) -> dict[str, np.ndarray]:
    """Random inputs that a model accepts.

    Floats are standard normal. Integers stay inside the tables that they index; an integer that is
    compared with a constant takes that constant; lengths and masks are full.

    Parameters
    ----------
    setting : {0, 1}
        Which sample sizes the free dimensions take.
    sizes : mapping, optional
        Sizes that they take instead.
    """
    rng = np.random.default_rng(seed)
    if sizes is None:
        shapes = analyse(graph)
        sizes = (shapes.second if setting else shapes.first).sizes
    feeds = {}
    for value in graph_inputs(graph.model.proto):
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise ModelError(
                f"input '{value.name}' is no tensor, so no input can be made up for it",
                "Give one with --data.",
            )
        shape = [sizes.get((value.name, k), d.dim_value) for k, d in enumerate(tensor.shape.dim)]
        hint = _integer_hint(graph, value.name, sizes) if tensor.elem_type in _INTEGERS else None
        feeds[value.name] = _random(tensor.elem_type, shape, hint, rng)
    return feeds


def _random(
    dtype: int, shape: list[int], hint: int | np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """Random values of one input; see ``_integer_hint``."""
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    if dtype == TensorProto.BOOL:
        return np.ones(shape, np.bool_)
    if dtype == TensorProto.STRING:
        return np.full(shape, "a", object)
    if dtype not in _INTEGERS:
        return np.asarray(rng.standard_normal(shape)).astype(numpy_dtype)
    if isinstance(hint, np.ndarray):
        return np.broadcast_to(hint.astype(numpy_dtype), shape).copy()
    if hint is None and dtype in (TensorProto.UINT8, TensorProto.INT8):
        return rng.integers(0, 127, shape).astype(numpy_dtype)
    return rng.integers(0, hint, shape).astype(numpy_dtype) if hint else np.ones(shape, numpy_dtype)


_INTEGERS = {
    TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
}  # fmt: skip

_PASS_ON = {
    "Cast", "Clip", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice",
    "Squeeze", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def _integer_hint(graph: Graph, name: str, sizes: Sizes) -> int | np.ndarray | None:
    """Upper bound of an integer input, or the value that it should take."""
    bounds: list[int] = []
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        for node in graph.consumers.get(current, ()):
            if node.op == "Gather" and node.inputs[1] == current:
                table = node.inputs[0]
                while table in graph.derived and graph.derived[table].op == "DequantizeLinear":
                    table = graph.derived[table].inputs[0]
                data = graph.constants.get(table)
                if data is not None:
                    bounds.append(data.shape[node.attr("axis", 0)])
            elif node.op == "Equal":
                other = node.inputs[1] if node.inputs[0] == current else node.inputs[0]
                if other in graph.constants:
                    return graph.value(other).reshape(-1)[:1].reshape(())
            elif node.op in ("LSTM", "GRU", "RNN") and current in node.inputs[4:5]:
                shape = infer(graph, sizes, probing=False).shapes.get(node.inputs[0])
                return np.array(shape[0]) if shape else None
            elif node.op == "Loop" and node.inputs[0] == current:
                return np.array(ITERATIONS)
            elif node.op in _PASS_ON:
                fresh = [o for o in node.outputs if o not in seen]
                seen.update(fresh)
                pending += fresh
    return min(bounds) if bounds else None
