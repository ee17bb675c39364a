"""A model in pieces: around operators of the user's own, or no larger than what is held at a time.

What lies between two cuts runs in a session of its own. That costs a copy of every tensor on a cut, and
no optimization reaches across it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import onnx

from ..errors import ModelError
from ..model.cut import tensor_nbytes
from ..model.file import Model, borrow
from ..model.mapped import let_go
from ..model.protos import reads
from .custom import CUSTOM, is_shipped, results_of
from .handing import handed

HELD = 64 * 2**20
"""Bytes of weights in a piece that is open for one run alone; a single node may have more."""


@dataclass(frozen=True, slots=True)
class Value:
    """Name and shape of an input or output, as a session of onnxruntime tells them."""

    name: str
    shape: list[int | str | None]


@dataclass
class Piece:
    """Nodes that one session runs.

    Attributes
    ----------
    custom : list of NodeProto
        Operators of the user's own, which follow.
    made : list of str
        What is asked for of what the nodes make.
    later : set of str
        What is asked for by all that comes after.
    """

    nodes: list[onnx.NodeProto]
    custom: list[onnx.NodeProto]
    made: list[str]
    later: set[str]


class PiecewiseSession:
    """A model in pieces, used like a session of onnxruntime.

    Parameters
    ----------
    opener : callable
        Opens a session of a piece.
    stack : ExitStack or None
        What holds open sessions; without it, each is open while it runs.
    """

    def __init__(
        self, model: Model, opener: Callable[[Model], AbstractContextManager[Any]], stack: ExitStack | None
    ) -> None:
        self._model, self._proto, self._open, self._stack = model, model.proto, opener, stack
        self._stored = model.initializers
        self._fixed = {node.output[0]: node for node in self._proto.graph.node if node.op_type == "Constant"}
        self._pieces = self._cut(inf if stack is not None else HELD)
        self._sessions: dict[int, Any] = {}
        self._providers: list[str] = []

    def __len__(self) -> int:
        return len(self._pieces)

    def get_inputs(self) -> list[Value]:
        """Inputs that are no stored tensors."""
        return [_value(v) for v in self._proto.graph.input if v.name not in self._stored]

    def get_outputs(self) -> list[Value]:
        """Outputs."""
        return [_value(v) for v in self._proto.graph.output]

    def get_providers(self) -> list[str]:
        """Execution providers of the pieces that were run."""
        none = [] if self._pieces[0].nodes else ["CPUExecutionProvider"]
        return list(dict.fromkeys(self._providers or none))

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """Run piece after piece, and the custom operators between them."""
        known: dict[str, Any] = dict(feeds)
        for number, piece in enumerate(self._pieces):
            if piece.made:
                with self._opened(number, known) as session:
                    given = handed({value.name: known[value.name] for value in session.get_inputs()})
                    known |= zip(piece.made, session.run(piece.made, given), strict=True)
            for proto in piece.custom:
                arrays = [self._array(name, known) if name else None for name in proto.input]
                known |= zip(proto.output, results_of(proto, arrays), strict=True)
            known = {name: value for name, value in known.items() if name in piece.later}
        return [self._array(name, known) for name in names or [v.name for v in self._proto.graph.output]]

    def _array(self, name: str, known: Mapping[str, Any]) -> Any:
        return known[name] if name in known else np.asarray(self._model.array(self._stored[name]))

    @contextmanager
    def _opened(self, number: int, known: Mapping[str, Any]) -> Iterator[Any]:
        """The session of a piece, which stays open if anything holds it."""
        session = self._sessions.get(number)
        if session is not None:
            yield session
            return
        with ExitStack() as stack:
            session = (self._stack or stack).enter_context(self._open(self._piece(number, known)))
            self._providers += session.get_providers()
            if self._stack is not None:
                self._sessions[number] = session
            yield session
        if self._stack is None:
            for array in self._model.files.held.values():
                let_go(array)

    def _piece(self, number: int, known: Mapping[str, Any]) -> Model:
        """Model of one piece; types of what it reads from others are those that they have."""
        piece = self._pieces[number]
        nodes = [*self._constants(piece.nodes), *piece.nodes]
        made = {name for proto in nodes for name in proto.output}
        read = {name for proto in nodes for name in reads(proto)} - made
        model = borrow(self._model, read)
        graph = model.proto.graph
        for field in (graph.node, graph.input, graph.output, graph.value_info):
            del field[:]
        graph.node.extend(nodes)
        graph.input.extend(v for v in self._proto.graph.input if v.name in read)
        listed = {value.name for value in graph.input} | self._stored.keys()
        graph.input.extend(_typed(name, known[name]) for name in sorted(read & known.keys() - listed))
        declared = {value.name: value for value in self._proto.graph.output}
        graph.output.extend(
            declared.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in piece.made
        )
        for opset in [o for o in model.proto.opset_import if not is_shipped(o.domain)]:
            model.proto.opset_import.remove(opset)
        return model

    def _constants(self, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Constant nodes of other pieces that some nodes read: whoever reads one has it."""
        own = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in reads(node))
        return [self._fixed[name] for name in read if name in self._fixed and name not in own]

    def _cut(self, limit: float) -> list[Piece]:
        """All nodes in pieces: each in the first one behind what it reads that has room for its weights."""
        level: dict[str, int] = {}
        held: defaultdict[int, int] = defaultdict(int)
        pieces = [Piece([], [], [], set())]
        for node in self._proto.graph.node:
            read = list(reads(node))
            number = max((level.get(name, 0) for name in read), default=0)
            own = (node.domain, node.op_type) in CUSTOM
            size = 0 if own else sum(self._size(name) for name in read if name in self._stored)
            while size and held[number] and held[number] + size > limit:
                number += 1
            held[number] += size
            pieces += [Piece([], [], [], set()) for _ in range(number + own + 1 - len(pieces))]
            (pieces[number].custom if own else pieces[number].nodes).append(node)
            level.update(dict.fromkeys(node.output, number + own))
        self._hand_on(pieces)
        return pieces

    def _size(self, name: str) -> int:
        return tensor_nbytes(self._stored[name], self._model.cuts.get(name))

    def _hand_on(self, pieces: Sequence[Piece]) -> None:
        """Find what every piece makes that something outside of it reads."""
        wanted = {value.name for value in self._proto.graph.output}
        for piece in reversed(pieces):
            piece.later = set(wanted)
            wanted |= {name for node in piece.custom for name in reads(node)}
            piece.made = [name for node in piece.nodes for name in node.output if name in wanted]
            wanted |= {name for node in piece.nodes for name in reads(node) if name not in self._fixed}


def _typed(name: str, value: Any) -> onnx.ValueInfoProto:
    """What is handed on, as an input."""
    if isinstance(value, np.ndarray):
        dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        return onnx.helper.make_tensor_value_info(name, dtype, [None] * value.ndim)
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        dtype = onnx.helper.np_dtype_to_tensor_dtype(value[0].dtype)
        return onnx.helper.make_tensor_sequence_value_info(name, dtype, None)
    raise ModelError(f"'{name}' is no tensor, so no piece of the model can hand it on")


def _value(value: onnx.ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    known = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    return Value(value.name, known)
