"""Sessions of onnxruntime, and running them."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from ..errors import ModelError
from ..model.effort import check_trips
from ..model.engine import ort
from ..model.file import PROTOBUF_LIMIT, Model
from ..model.operators import Trait, told
from ..model.ort_format import OrtModel
from ..model.protos import node_protos, skeleton, unread
from .custom import has_custom
from .handing import NO_ARRAY, handed
from .lending import lend
from .pieces import PiecewiseSession

Arrays = Mapping[str, np.ndarray]


PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

COMPILED = ("tensorrt", "openvino")
"""Those that make one kernel of all the nodes that they take: what single ones take is not known."""

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


@dataclass(frozen=True, slots=True)
class Timed:
    """How a session runs whose time counts: with the options that a user has by default.

    But its threads do not wait for the next run with their processors busy.

    Attributes
    ----------
    threads : int
        Threads of one operator; 0 leaves their number to onnxruntime.
    folder : str
        Where the profile and the optimized graph go; empty where neither is wanted.
    """

    threads: int = 0
    folder: str = ""


WHOLE_SUMS = "session.x64quantprecision"
"""Session option by which products of 8 bits are added in 32 bits on processors without VNNI, too."""

OPTIMIZED = "optimized.onnx"
"""File of the optimized graph."""


def make_session(
    model: bytes | str,
    provider: str,
    exact: bool,
    optimize: str = "all",
    timed: Timed | None = None,
    options: ort.SessionOptions | None = None,
) -> ort.InferenceSession:
    """Session with the options of all of ours; ``exact`` where results are compared to rounding."""
    options = options or ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = LEVELS[optimize]
    if timed is not None:
        _time(options, timed, provider)
    elif exact:
        # Otherwise int8 runs as integers or as floats, depending on the nodes in between, and what meets
        # 4-bit weights is rounded to 8 bits.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        # Older processors add neighbouring products in 16 bits, which saturates: then sums depend on which
        # channels are neighbours.
        options.add_session_config_entry(WHOLE_SUMS, "1")
    chosen = _providers(provider, exact, timed)
    no_tf32 = _without_tf32() if exact and provider == "tensorrt" else nullcontext()
    with no_tf32:  # TensorRT has no option of its own for it
        try:
            return ort.InferenceSession(model, options, providers=chosen)
        except Exception as error:  # onnxruntime's exception types share no base but this
            if not exact or timed is not None or "Failed to find kernel" not in str(error):
                raise
            # It makes weights unsigned for whole sums, and has no kernels for those beside signed activations.
            with logged_from(3):  # it warns of an option that is given twice
                options.add_session_config_entry(WHOLE_SUMS, "0")
            return ort.InferenceSession(model, options, providers=chosen)


def _time(options: ort.SessionOptions, timed: Timed, provider: str) -> None:
    """Let a session run as a user's does, and write down what it did."""
    options.intra_op_num_threads = timed.threads
    # Two of them take turns: threads that wait for more work would take the processors from the other's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if timed.folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(timed.folder) / "profile")
        if provider not in COMPILED:  # a graph with such kernels cannot be written
            options.optimized_model_filepath = str(Path(timed.folder) / OPTIMIZED)


def _providers(provider: str, exact: bool, timed: Timed | None) -> list[Any]:
    """A provider with its options, and those that take what it does not, as onnxruntime names them."""
    cpu, cuda = PROVIDERS["cpu"], (PROVIDERS["cuda"], {"use_tf32": int(not exact)})
    if provider == "cpu":
        return [cpu]
    if provider == "openvino":
        return [(PROVIDERS[provider], _for_openvino(exact, timed)), cpu]
    return [PROVIDERS["tensorrt"], cuda, cpu] if provider == "tensorrt" else [cuda, cpu]


def precision(provider: str, tf32: bool) -> str:
    """What a session computes in that is compared, for people.

    Parameters
    ----------
    tf32 : bool
        As in ``open_session``.
    """
    if provider == "cpu":
        return "the model's"
    if provider == "openvino":
        return "OpenVINO's choice" if tf32 else "the model's"
    return f"the model's, TF32 {'on' if tf32 else 'off'}"


def _for_openvino(exact: bool, timed: Timed | None) -> dict[str, str]:
    """Options of OpenVINO's provider, which does not read those of the session."""
    found = {"device_type": "CPU"}
    if exact:
        found["precision"] = "ACCURACY"  # that of the model; by default processors with bfloat16 take it
    if timed is not None and timed.threads:
        found["num_of_threads"] = str(timed.threads)
    return found


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


MANY_UNREAD = 1000
"""Unread initializers from which on they are left out: onnxruntime takes time that grows with the
square of their number to drop them, 4 ms for so many, and copying the others takes time, too."""


def _what_is_read(model: Model) -> Model:
    """The model without initializers that nothing reads, where they are many."""
    if len(model.proto.graph.initializer) < MANY_UNREAD:
        return model
    names = unread(model.proto.graph)
    if len(names) < MANY_UNREAD:
        return model
    proto = skeleton(model.proto)
    proto.graph.initializer.extend(t for t in model.proto.graph.initializer if t.name not in names)
    return model.derived(proto)


@contextmanager
def open_session(
    model: Model | onnx.ModelProto,
    provider: str = "cpu",
    what: str = "the model",
    optimize: str = "all",
    *,
    tf32: bool = False,
    timed: Timed | None = None,
    in_turns: bool = False,
) -> Iterator[ort.InferenceSession]:
    """Session of a model on one provider.

    On the CPU it reads large weights where they lie, see ``lending.py``; elsewhere, and where its time
    counts, it is made as a user makes it, and large models go through a file. A model with operators
    of the user's own runs in pieces, see ``custom.py``.

    Parameters
    ----------
    what : str
        What a message calls the model.
    optimize : {"all", "graph", "none"}
        How far onnxruntime may rewrite the graph: also the memory layout, only the nodes, or nothing.
    tf32 : bool
        Let GPUs round the factors of float32 products to 10 bits.
    timed : Timed, optional
        The session is there to be timed, so it runs as a user's does.
    in_turns : bool
        Run a large model in pieces, each of which is open while it runs: every run opens them anew.

    Raises
    ------
    ModelError
        If onnxruntime cannot load the model.
    """
    if isinstance(model, onnx.ModelProto):
        model = Model(model)
    sharing = timed is None and provider == "cpu" and not isinstance(model, OrtModel)
    check_trips(model.proto.graph)
    if (in_turns and not isinstance(model, OrtModel)) or has_custom(model.proto):
        again = partial(open_session, provider=provider, what=what, optimize=optimize, tf32=tf32, timed=timed)
        with ExitStack() as stack:
            pieces = PiecewiseSession(model, again, None if in_turns else stack)
            if len(pieces) > 1 or has_custom(model.proto):
                yield cast(ort.InferenceSession, pieces)
                return
    if model.lender is not None and not sharing:
        model = Model(model.embedded())
    model = _what_is_read(model)
    options = ort.SessionOptions() if timed is not None else _frugal(model.proto, tf32)
    found = lend(model, options) if sharing else None
    with ExitStack() as stack:
        if found is None:
            source = readable(model, stack.enter_context(tempfile.TemporaryDirectory(prefix="onnxprune-")))
        else:
            source = found[0]
        with _loading(what):
            session = make_session(source, provider, not tf32, optimize, timed, options)
        yield session


def _frugal(proto: onnx.ModelProto, tf32: bool) -> ort.SessionOptions:
    """Options of a session whose time does not count: it takes no more than its results need."""
    options = ort.SessionOptions()
    # Threads that wait in a loop take as much CPU time as those that work, and the block that is
    # planned for a second run comes on top of what the first one took piece by piece.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not tf32 and _shared_out(proto):
        options.intra_op_num_threads = 1
    return options


def _shared_out(proto: onnx.ModelProto) -> bool:
    """Whether results depend on the number of threads by more than the last digits."""
    return any(Trait.SHARED_OUT in told(node.domain, node.op_type) for node in node_protos(proto.graph))


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """Say of which model it is that onnxruntime cannot load it."""
    try:
        yield
    except Exception as error:  # onnxruntime's exception types share no base but this
        said = first_line(error)
        hint = OWN_OPERATOR if "is not a registered function/op" in said else ""
        raise ModelError(f"onnxruntime cannot load {what}: {said}", hint) from None


def readable(model: Model, folder: str) -> bytes | str:
    """The model in bytes, or a file of it in the folder where that is too large for them."""
    if isinstance(model, OrtModel):
        return model.data
    if not model.external and model.weight_bytes <= PROTOBUF_LIMIT:
        return model.proto.SerializeToString()
    source = str(Path(folder) / "model.onnx")
    model.save(source)
    return source


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
        given = {k: v for k, v in feeds.items() if k in wanted}
        whole = not isinstance(session, PiecewiseSession)  # which hands them over piece by piece
        results = session.run(names, handed(given) if whole else given)
    except ModelError:
        raise
    except Exception as error:  # as above
        hint = NO_ARRAY if "No corresponding Numpy type" in str(error) else ""
        raise ModelError(f"{what} does not run on these inputs: {first_line(error)}", hint) from None
    return dict(pair for named in zip(names, results, strict=True) for pair in _tensors(*named))


def owned(found: Arrays, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Some outputs in memory of their own: what a run returns keeps all that the session took for runs."""
    return {name: np.array(found[name]) for name in names}


def _tensors(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors in an output: itself, or the elements of a sequence; a table for a list of maps."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield name, np.array([list(row.values()) for row in value], np.float32)
    elif isinstance(value, list):
        for number, element in enumerate(value):
            yield from _tensors(f"{name}[{number}]", element)


def first_line(error: Exception) -> str:
    """Message of onnxruntime without its error code and without what follows the first line."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip())
    lines = _SOURCE.sub("", text).strip().splitlines()
    return lines[0] if lines else type(error).__name__


_SOURCE = re.compile(
    r"(?:(?:\b[A-Za-z]:)?[/\\][^\s:]+|\b\w+)\.(?:cc|cpp|cu|cuh|h|hpp):\d+ "  # the file
    r"(?:[^()\n]*\([^()]*(?:\([^()]*\)[^()]*)*\)(?: const)?(?: \[with [^\]]*\])? )?"  # the function
)
"""Place in onnxruntime's own source, in a message."""
