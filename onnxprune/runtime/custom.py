"""Operators of the user's own: shapes behind them, and how a model that has them runs.

onnxruntime cannot be taught an operator from Python, so the graph is cut there: what lies between runs
in sessions of its own, and the operator's reference function computes on numpy arrays. That costs a
copy of every tensor on a cut, and no optimization reaches across it. Where an operator has no
reference function, random numbers of the right shape stand in for its results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ..errors import ModelError
from ..model.file import Model
from ..model.protos import bodies, copied, node_protos, reads

Shape = tuple[int, ...]
Sized = Callable[..., Any]
"""``shape(*shapes, **attributes)``: shape of the output, or a list of one per output."""
Reference = Callable[..., Any]
"""``reference(*arrays, **attributes)``: the output, or a tuple of them; absent inputs are None."""

SHIPPED = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.training")
"""Domains of ONNX; those of onnxruntime start with ``com.microsoft`` or ``com.ms``."""


@dataclass(frozen=True, slots=True)
class Custom:
    """What is known of an operator that neither ONNX nor onnxruntime has."""

    shape: Sized
    reference: Reference | None = None


CUSTOM: dict[tuple[str, str], Custom] = {}


def is_shipped(domain: str) -> bool:
    """Whether onnxruntime has the operators of a domain."""
    return domain in SHIPPED or domain.startswith(("com.microsoft", "com.ms."))


def like_first(first: Shape, *others: Shape, **attributes: Any) -> Shape:
    """Shape of the first input."""
    return first


def register(domain: str, op: str, shape: Sized | None, reference: Reference | None) -> None:
    """Make an operator known.

    Raises
    ------
    ValueError
        If it is one of ONNX or onnxruntime, of which all this is known.
    """
    if not is_shipped(domain):
        CUSTOM[domain, op] = Custom(shape or like_first, reference)
    elif shape is not None or reference is not None:
        raise ValueError(f"operator {op} is run by onnxruntime: it takes no shape and no reference function")


def stands_in(domain: str, op: str) -> bool:
    """Whether random numbers stand in for the results of an operator."""
    known = CUSTOM.get((domain, op))
    return known is not None and known.reference is None


def without_reference(model: onnx.ModelProto) -> tuple[str, ...]:
    """Operators of a model that have a rule and no reference function."""
    found = ((proto.domain, proto.op_type) for proto in node_protos(model.graph))
    return tuple(dict.fromkeys(f"{domain}::{op}" for domain, op in found if stands_in(domain, op)))


def attributes_of(proto: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as a function takes them; strings are decoded."""
    found = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    return {name: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for name, v in found.items()}


def shapes_behind(proto: onnx.NodeProto, shapes: Sequence[Shape | None]) -> list[Shape]:
    """Shapes of the outputs of a custom operator.

    Raises
    ------
    ModelError
        If the function that tells them fails, or tells something else.
    """
    where = f"{proto.domain}::{proto.op_type} '{proto.name or proto.output[0]}'"
    sized = CUSTOM[proto.domain, proto.op_type].shape
    try:
        found = sized(*shapes, **attributes_of(proto))
        alone = not found or isinstance(found[0], int | np.integer)
        told = [tuple(int(size) for size in one) for one in ([found] * len(proto.output) if alone else found)]
    except Exception as error:  # a function of the user's raises anything
        raise ModelError(f"{where}: its shape function failed: {error!r}") from None
    if len(told) != len(proto.output):
        raise ModelError(f"{where}: found {len(told)} shapes, expected {len(proto.output)}")
    return told


def results_of(proto: onnx.NodeProto, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """What a custom operator computes, or random numbers in its stead.

    Raises
    ------
    ModelError
        If its reference function fails, or returns something else.
    """
    reference = CUSTOM[proto.domain, proto.op_type].reference
    where = f"{proto.domain}::{proto.op_type} '{proto.name or proto.output[0]}'"
    if reference is None:
        first = np.asarray(inputs[0])
        shapes = shapes_behind(proto, [None if v is None else v.shape for v in inputs])
        random = np.random.default_rng(0)
        return [np.asarray(random.standard_normal(shape)).astype(first.dtype) for shape in shapes]
    try:
        found = reference(*inputs, **attributes_of(proto))
        results = [np.asarray(v) for v in (found if isinstance(found, tuple | list) else (found,))]
    except Exception as error:  # as above
        raise ModelError(f"{where}: its reference function failed: {error!r}") from None
    if len(results) != len(proto.output):
        raise ModelError(f"{where}: found {len(results)} results, expected {len(proto.output)}")
    return results


def has_custom(model: onnx.ModelProto) -> bool:
    """Whether a model has operators that it is to be cut at.

    Raises
    ------
    ModelError
        If one stands inside a branch or a loop, which onnxruntime runs as a whole.
    """
    if not CUSTOM:
        return False
    for proto in model.graph.node:
        for _, body in bodies(proto):
            for child in node_protos(body):
                if (child.domain, child.op_type) in CUSTOM:
                    raise ModelError(
                        f"{child.domain}::{child.op_type} stands inside {proto.op_type} '{proto.name}', "
                        "which runs as a whole"
                    )
    return any((proto.domain, proto.op_type) in CUSTOM for proto in model.graph.node)


@dataclass(frozen=True, slots=True)
class Value:
    """Name and shape of an input or output, as a session of onnxruntime tells them."""

    name: str
    shape: list[int | str | None]


class PiecewiseSession:
    """A model that is cut at its custom operators, used like a session of onnxruntime.

    Parameters
    ----------
    model : Model
    opener : callable
        Opens a session of a ModelProto.
    """

    def __init__(self, model: Model, opener: Callable[[onnx.ModelProto], Any]) -> None:
        self._proto, self._open = model.embedded(), opener
        self._stored = {tensor.name: tensor for tensor in self._proto.graph.initializer}
        self._pieces, self._custom = _cut(self._proto)
        self._outputs = _handed_on(self._proto, self._pieces, self._custom)
        self._sessions: dict[int, Any] = {}
        self._provided = [] if self._pieces[0] else ["CPUExecutionProvider"]

    def get_inputs(self) -> list[Value]:
        """Inputs that are no stored tensors."""
        return [_value(v) for v in self._proto.graph.input if v.name not in self._stored]

    def get_outputs(self) -> list[Value]:
        """Outputs."""
        return [_value(v) for v in self._proto.graph.output]

    def get_providers(self) -> list[str]:
        """Execution providers of the pieces that were run."""
        found = [name for session in self._sessions.values() for name in session.get_providers()]
        return list(dict.fromkeys(found or self._provided))

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """Run piece after piece, and the custom operators between them."""
        known: dict[str, Any] = dict(feeds)
        for number, piece in enumerate(self._pieces):
            if piece:
                if number not in self._sessions:
                    self._sessions[number] = self._open(self._piece(number, known))
                session = self._sessions[number]
                wanted = [value.name for value in session.get_inputs()]
                given = {name: known[name] for name in wanted}
                made = [value.name for value in session.get_outputs()]
                known |= zip(made, session.run(made, given), strict=True)
            for proto in self._custom[number]:
                arrays = [self._array(name, known) if name else None for name in proto.input]
                known |= zip(proto.output, results_of(proto, arrays), strict=True)
        return [self._array(name, known) for name in names or [v.name for v in self._proto.graph.output]]

    def _array(self, name: str, known: Mapping[str, Any]) -> Any:
        return known[name] if name in known else onnx.numpy_helper.to_array(self._stored[name])

    def _piece(self, number: int, known: Mapping[str, Any]) -> onnx.ModelProto:
        """Model of one piece; types of what it reads from others are those that they have."""
        nodes = self._pieces[number]
        made = {name for proto in nodes for name in proto.output}
        read = {name for proto in nodes for name in reads(proto)} - made
        piece = copied(self._proto)
        graph = piece.graph
        for field in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
            del field[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self._stored[name] for name in sorted(read & self._stored.keys()))
        graph.input.extend(v for v in self._proto.graph.input if v.name in read)
        listed = {value.name for value in graph.input}
        for name in sorted(read & known.keys() - listed):
            dtype = onnx.helper.np_dtype_to_tensor_dtype(known[name].dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, [None] * known[name].ndim))
        declared = {value.name: value for value in self._proto.graph.output}
        graph.output.extend(
            declared.get(name) or onnx.helper.make_empty_tensor_value_info(name)
            for name in self._outputs[number]
        )
        for opset in [o for o in piece.opset_import if not is_shipped(o.domain)]:
            piece.opset_import.remove(opset)
        return piece


def _value(value: onnx.ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    known = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    return Value(value.name, known)


def _cut(proto: onnx.ModelProto) -> tuple[list[list[onnx.NodeProto]], list[list[onnx.NodeProto]]]:
    """Nodes in pieces, and the custom operators that follow each piece."""
    level: dict[str, int] = {}
    pieces: list[list[onnx.NodeProto]] = [[]]
    custom: list[list[onnx.NodeProto]] = [[]]
    for node in proto.graph.node:
        number = max((level.get(name, 0) for name in reads(node)), default=0)
        own = (node.domain, node.op_type) in CUSTOM
        (custom if own else pieces)[number].append(node)
        level.update(dict.fromkeys(node.output, number + own))
        if number + own == len(pieces):
            pieces.append([])
            custom.append([])
    return pieces, custom


def _handed_on(
    proto: onnx.ModelProto,
    pieces: Sequence[Sequence[onnx.NodeProto]],
    custom: Sequence[Sequence[onnx.NodeProto]],
) -> list[list[str]]:
    """What every piece makes that something outside of it reads."""
    wanted = {value.name for value in proto.graph.output}
    result = []
    for piece, behind in zip(reversed(pieces), reversed(custom), strict=True):
        wanted |= {name for node in behind for name in reads(node)}
        made = [name for node in piece for name in node.output if name in wanted]
        wanted |= {name for node in piece for name in reads(node)}
        result.append(made)
    return result[::-1]
