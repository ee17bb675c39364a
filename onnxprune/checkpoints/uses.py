"""Where a network reads what it stores, and what a plan leaves of it there.

Exporters store equal vectors once, so a stored tensor can be several parameters: each place where it is
read is one. What a network computes from stored tensors alone (a weight of a direction and a length) is
read like one that is stored.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..coupling.trace import trace, without_statistics
from ..errors import ModelError
from ..jobs.replay import first_stage, prepared
from ..labels.sizes import Sizes
from ..model.cut import Cut, compose, take
from ..model.file import Model
from ..model.graph import Graph
from ..model.node import Node
from ..selection.plan import Plan
from ..surgery.computed import origin

SCOPES = "pkg.torch.onnx.name_scopes"
"""Where the newer PyTorch exporter says which module a node comes from."""


@dataclass(frozen=True)
class Use:
    """One place where a stored tensor is read.

    Attributes
    ----------
    name : str
        Name of the tensor in the file.
    view : str
        Its name in the view of the graph, where further uses of a vector have names of their own.
    node : str
        Name of the node.
    op : str
    output : str
        The node's first output, by which it is found again in a slim copy.
    slot : int
        Input of the node.
    modules : tuple of str
        Paths of modules that the node may come from, as exporters write them; may be empty.
    cut : tuple
        Kept indices of every axis, None where all are kept; empty without a plan.
    inner : bool
        Whether the node computes constants alone: what of it goes is known where these are read.
    sources : tuple of str
        Stored tensors that this one is computed from; empty for one that is stored.
    """

    name: str
    view: str
    node: str
    op: str
    output: str
    slot: int
    modules: tuple[str, ...]
    value: np.ndarray
    cut: Cut = ()
    inner: bool = False
    sources: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, int]:
        """What identifies it in copies of the model."""
        return self.output, self.slot

    @property
    def shrinks(self) -> bool:
        """Whether the plan takes something of it."""
        return any(index is not None for index in self.cut)

    @property
    def left(self) -> np.ndarray:
        """What the plan leaves of its value."""
        return take(self.value, self.cut)


def uses(graph: Graph) -> Iterator[Use]:
    """Every use of a constant of floats of more than one element."""
    values: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if graph.passed_through(node):
            continue  # its readers read the constant itself
        inner = bool(node.outputs) and node.output in graph.derived
        for slot, view in enumerate(node.inputs):
            stored = graph.constants.get(view)
            if stored is None and (inner or view not in graph.derived):
                continue
            name = stored.name if stored is not None else view
            if name not in values:
                values[name] = _value(graph, view)
            if values[name].size > 1:
                sources = () if stored is not None else tuple(origin(graph, view))
                modules = tuple(modules_of(node))
                place = node.name, node.op, node.output, slot
                yield Use(name, view, *place, modules, values[name], inner=inner, sources=sources)


def _value(graph: Graph, view: str) -> np.ndarray:
    """The value of a constant of floats; nothing where it is another one, or cannot be had."""
    stored = graph.constants.get(view)
    if stored is not None and stored.size < 2:
        return np.empty(0)
    try:
        value = graph.value(view)
    except ModelError:
        return np.empty(0)
    known = value.dtype.kind == "f" or value.dtype.name.startswith(("bfloat", "float"))
    return value if known else np.empty(0)


def modules_of(node: Node) -> Iterator[str]:
    """Paths of the modules that a node may come from, as both PyTorch exporters write them."""
    for entry in node.proto.metadata_props:
        if entry.key == SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError):
                continue  # somebody else's: no more than a hint is lost
            yield from (str(scope) for scope in scopes[-2:0:-1])
    if node.proto.name.startswith("/"):
        path = node.proto.name.split("/")[1:-1]
        yield from (_joined(path[:end]) for end in range(len(path), 0, -1))


def _joined(parts: list[str]) -> str:
    """``layer1/layer1.0/conv1`` as ``layer1.0.conv1``: members of a sequence repeat its name."""
    kept = [
        part
        for part, following in zip(parts, [*parts[1:], ""], strict=True)
        if not following.startswith(f"{part}.")
    ]
    return ".".join(kept)


def uses_of(model: Model) -> list[Use]:
    """Every use of a constant of floats."""
    return list(uses(Graph(model)))


def planned_uses(model: Model, plan: Plan) -> list[Use]:
    """Every use of a constant of floats, and what a plan leaves of it.

    Raises
    ------
    PlanError
        If the plan belongs to another model.
    """
    first = first_stage(plan)
    traced = trace(model, **plan.trace_options)
    if first is None:
        lossless = without_statistics(traced) if plan.options.get("lossless") else traced
        return list(_cut(traced.graph, lossless.sizes(plan.removed(lossless))))
    lossless = without_statistics(traced)
    cleaned, second, _ = prepared(model, plan)
    sizes = cleaned.sizes(second.removed(cleaned))
    later = {use.place: use for use in _cut(cleaned.graph, sizes)}
    found = []
    for use in _cut(traced.graph, lossless.sizes(first.removed(lossless))):
        then = later.get(use.place)
        if then is not None:
            cut = compose(use.cut, then.cut) if use.cut and then.cut else use.cut or then.cut
            use = replace(use, cut=cut or ())
        found.append(use)
    return found


def _cut(graph: Graph, sizes: Sizes) -> Iterator[Use]:
    """Uses with what remains of them."""
    for use in uses(graph):
        yield use if use.inner else replace(use, cut=sizes.indices(use.view))
