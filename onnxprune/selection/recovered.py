"""Recovered weights as a file of their own, and how they come into a slim model.

They are keyed by the constants of the input file, whose slices the plan lists. A further use of a
vector that several nodes share is called as the view of the graph calls it (``bias#1``).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..data.archives import archive_bytes, read_archive
from ..errors import PlanError, UsageError
from ..files.writing import write_atomically
from ..labels.sizes import Sizes
from ..model.file import Model
from ..model.graph import Graph
from ..model.names import Names
from ..model.protos import UNLISTED, copied, refill, stored, unread
from ..printable import plural
from ..surgery.slices import find_slices
from .plan import Plan


@dataclass(frozen=True, slots=True)
class LayerOutcome:
    """What became of one layer.

    Attributes
    ----------
    layer : str
    error, kept : float
        Squared error of the layer on held-out samples over the variance of its target, with the
        recovered weights and with those that surgery left.
    how : str
        What was done; empty where the layer keeps its weights.
    reason : str
        Why it keeps them.
    named : bool
        Whether that is because of the layer or the file, not because nothing was better.
    """

    layer: str
    error: float = 0.0
    kept: float = 0.0
    how: str = ""
    reason: str = ""
    named: bool = False


@dataclass(frozen=True, eq=False)
class Recovery:
    """New values of constants of a slim model.

    Attributes
    ----------
    weights : mapping of str to array
    outcomes : tuple of LayerOutcome
        Layer by layer, in the order of the nodes; empty for weights that were read from a file.
    options : mapping
        What the plan records.
    """

    weights: Mapping[str, np.ndarray]
    outcomes: tuple[LayerOutcome, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recovered(self) -> list[LayerOutcome]:
        """Layers that took new weights."""
        return [o for o in self.outcomes if o.how]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without the weights."""
        return {"options": dict(self.options), "layers": [asdict(o) for o in self.outcomes]}

    def __str__(self) -> str:
        if not self.outcomes:
            return f"recovered: {plural(len(self.weights), 'stored weight')}"
        text = f"recovered: {len(self.recovered)} of {plural(len(self.outcomes), 'layer')}"
        if (harm := self.options.get("harm")) is not None:
            text += f" from {plural(self.options['samples'], 'sample')}; harm on held-out ones "
            text += f"{harm[0]:.3g} before, {harm[1]:.3g} after"
        return text

    def to_bytes(self) -> bytes:
        """The .npz file; equal weights give equal bytes."""
        return archive_bytes({name: self.weights[name] for name in sorted(self.weights)})

    def sha256(self) -> str:
        """Digest of the file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the .npz file, atomically."""
        write_atomically(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recovery:
        """Read an .npz file of recovered weights.

        Raises
        ------
        PlanError
            If it cannot be read.
        """
        return cls(read_archive(path, "recovery", PlanError))

    def apply(self, slim: Model) -> Model:
        """A slim model with the recovered weights in it.

        Raises
        ------
        PlanError
            If it lacks one of the constants, or holds one of another shape or type.
        """
        taking = Taking(slim)
        taking.take(self.weights)
        return taking.finished()

    def spread(self, dense: Model, sizes: Sizes) -> Model:
        """The original with the recovered weights where the plan keeps them.

        Masked by the plan, it computes what the recovered slim model should: removed entries are
        masked whatever their weights are.
        """
        proto = copied(dense.embedded())
        result = dense.derived(proto, {})
        graph = Graph(result)
        stores, uses = _Stores(graph), _uses(graph, sizes)
        for given, value in self.weights.items():
            name = uses.get(given, given)
            whole = graph.constants.get(name)
            if name not in graph.derived and (whole is None or whole.tensor is None):
                raise PlanError(f"recovery: the original has no constant '{name}'", _OTHER)
            array = np.array(graph.value(name))
            place = _places(array.shape, sizes.indices(name))
            if array[place].shape != value.shape:
                raise PlanError(
                    f"recovery: '{name}': found shape {list(value.shape)}, "
                    f"expected {list(array[place].shape)}",
                    _OTHER,
                )
            array[place] = value.view(array.dtype)
            alone = whole.tensor if whole is not None and not stores.shared(name) else None
            _set(stores.own(name) if alone is None else alone, array)
        return result


class Taking:
    """A copy of a slim model that takes recovered weights, some at a time.

    Attributes
    ----------
    model : Model
        The copy, with all weights that it took so far.
    """

    def __init__(self, slim: Model) -> None:
        self.model = slim.derived(copied(slim.proto))
        self._graph = Graph(self.model)
        self._stores = _Stores(self._graph)
        self._own: dict[str, onnx.TensorProto] = {}

    def take(self, weights: Mapping[str, np.ndarray]) -> bool:
        """Let constants have new values; whether nodes read anything under another name since.

        Raises
        ------
        PlanError
            If the model lacks one of the constants, or holds one of another shape or type.
        """
        owned = len(self._own)
        for name, value in weights.items():
            target, value = _fitting(self._graph, name, value)
            if self._stores.shared(name):
                if name not in self._own:
                    self._own[name] = self._stores.own(name)
                target = self._own[name]
            _set(target, value)
            self.model.cuts.pop(target.name, None)
        return len(self._own) > owned

    def finished(self) -> Model:
        """The model, without vectors that several nodes shared and none reads any more."""
        graph = self.model.proto.graph
        if shared := {self._graph.constants[name].name for name in self._own}:
            gone, stored = unread(graph).intersection(shared), graph.initializer
            for place in reversed([k for k, tensor in enumerate(stored) if tensor.name in gone]):
                del stored[place]
        return self.model


class Lending:
    """Other values of constants of a model, some at a time: nothing is copied but they.

    Parameters
    ----------
    model : Model
        Its nodes read uses of shared vectors under other names while those are lent.
    """

    def __init__(self, model: Model) -> None:
        self._graph = Graph(model)
        self._stores = _Stores(self._graph)
        self._stored = {tensor.name for tensor in model.proto.graph.initializer}

    @contextmanager
    def lent(self, weights: Mapping[str, np.ndarray]) -> Iterator[dict[str, onnx.TensorProto]]:
        """Tensors by name that take the place of stored ones, or that nodes read for the time.

        Raises
        ------
        PlanError
            If the model lacks one of the constants, or holds one of another shape or type.
        """
        found: dict[str, onnx.TensorProto] = {}
        with ExitStack() as stack:
            for name, value in weights.items():
                old, value = _fitting(self._graph, name, value)
                key = self._graph.constants[name].name
                if self._stores.shared(name) or key not in self._stored:
                    key = stack.enter_context(self._stores.renamed(name))
                    found[key] = stored(value, key)
                else:
                    refill(found.setdefault(key, onnx.TensorProto()), old, np.ascontiguousarray(value))
            yield found


def opened_recovery(given: Recovery | str | os.PathLike[str] | None, plan: Plan | None) -> Recovery | None:
    """Recovered weights from a file, or as they are.

    Raises
    ------
    UsageError
        If there is no plan that they belong to.
    """
    if given is not None and plan is None:
        raise UsageError("recovered weights belong to a plan: found none", "Give it with --plan.")
    return Recovery.load(given) if isinstance(given, (str, os.PathLike)) else given


def require_none(options: Mapping[str, Any]) -> None:
    """Refuse to judge a slim model without the recovered weights that its plan records.

    Raises
    ------
    UsageError
    """
    if "recovery" in options:
        raise UsageError(
            "the plan records a recovery: found no recovered weights, expected those of the slim model",
            "Give them with --recovery FILE.npz.",
        )


_OTHER = "The recovered weights belong to another plan or model."


def _places(shape: tuple[int, ...], cut: tuple[Any, ...]) -> tuple[Any, ...]:
    """Index of the kept part of a tensor; blocks of the first axis may keep their own."""
    cut = cut or (None,) * len(shape)
    if not shape:
        return ()
    axes = [np.arange(n) if i is None or i.ndim == 2 else i for n, i in zip(shape, cut, strict=True)]
    grid = list(np.ix_(*axes))
    for axis, index in enumerate(cut):
        if index is not None and index.ndim == 2:
            block = grid[0] * len(index) // shape[0]
            column = np.arange(index.shape[1]).reshape([-1 if k == axis else 1 for k in range(len(shape))])
            grid[axis] = index[block, column]
    return tuple(grid)


def _uses(graph: Graph, sizes: Sizes) -> dict[str, str]:
    """Name of a use of a tensor that is cut in the view of the slim model -> its name in that of the original.

    Every view numbers the uses of a vector; there are fewer of each where its uses keep parts of their own.
    """
    return {
        f"{part.name}#{number}" if number else part.name: graph.nodes[node].inputs[slot]
        for part in find_slices(graph, sizes)
        for number, (node, slot) in enumerate(part.uses, part.name in graph.returned)
    }


class _Stores:
    """Stored tensors of a model that take new values, use by use.

    Parameters
    ----------
    graph : Graph
        View of the model; nodes of the model, not of the view, read what is stored anew.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph, self._names = graph, Names(graph.taken)
        self._uses = Counter(constant.name for constant in graph.constants.values())

    def shared(self, name: str) -> bool:
        """Whether other uses read the same stored tensor under other names."""
        return self._uses[self._graph.constants[name].name] > 1

    def own(self, name: str) -> onnx.TensorProto:
        """A stored tensor for one use of a vector that several nodes share, or of a computed one."""
        graph, proto = self._graph, self._graph.model.proto
        fresh = self._names.fresh(f"{name.replace('#', '_')}_recovered")
        for node, slot in self._places(name):
            node.input[slot] = fresh
        if proto.ir_version < UNLISTED:
            value = graph.value(name)
            dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            proto.graph.input.append(onnx.helper.make_tensor_value_info(fresh, dtype, list(value.shape)))
        tensor = proto.graph.initializer.add()
        tensor.name = fresh
        return tensor

    @contextmanager
    def renamed(self, name: str) -> Iterator[str]:
        """A name of its own that nodes read one use under for the time."""
        fresh = self._names.fresh(f"{name.replace('#', '_')}_lent")
        before = [(node, slot, node.input[slot]) for node, slot in self._places(name)]
        try:
            for node, slot, _ in before:
                node.input[slot] = fresh
            yield fresh
        finally:
            for node, slot, old in before:
                node.input[slot] = old

    def _places(self, name: str) -> list[tuple[onnx.NodeProto, int]]:
        """Where nodes read one use."""
        readers = self._graph.consumers.get(name, ())
        return [(n.proto, slot) for n in readers for slot, read in enumerate(n.inputs) if read == name]


def _fitting(graph: Graph, name: str, value: np.ndarray) -> tuple[onnx.TensorProto, np.ndarray]:
    """The tensor of a constant, and a value for it in its type.

    Raises
    ------
    PlanError
        If the model lacks the constant, or holds one of another shape or type.
    """
    constant = graph.constants.get(name)
    if constant is None or constant.tensor is None:
        raise PlanError(f"recovery: the slim model has no constant '{name}'", _OTHER)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(constant.dtype)
    if value.shape != constant.shape or value.dtype.itemsize != dtype.itemsize:
        raise PlanError(
            f"recovery: '{name}': found {value.dtype} {list(value.shape)}, "
            f"expected {dtype} {list(constant.shape)}",
            _OTHER,
        )
    return constant.tensor, value.view(dtype)


def _set(tensor: onnx.TensorProto, value: np.ndarray) -> None:
    old = copied(tensor)
    tensor.Clear()
    refill(tensor, old, np.ascontiguousarray(value))
