"""Where a network reads what it stores, and what a plan leaves of it there.

Exporters store equal vectors once, so a stored tensor can be several parameters: each place where it is
read is one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..coupling.trace import trace, without_statistics
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
    computed : str
        Tensor that the network computes from this one, and that shrinks in its place.
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
    computed: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """What identifies it in copies of the model."""
        return self.output, self.slot

    @property
    def shrinks(self) -> bool:
        """Whether the plan takes something of it."""
        return bool(self.computed) or any(index is not None for index in self.cut)

    @property
    def left(self) -> np.ndarray:
        """What the plan leaves of its value."""
        return take(self.value, self.cut)


def uses(graph: Graph) -> Iterator[Use]:
    """Every use of a stored float tensor of more than one element."""
    values: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if graph.passed_through(node):
            continue  # its readers read the constant itself
        for slot, view in enumerate(node.inputs):
            constant = graph.constants.get(view)
            if constant is None or constant.size < 2:
                continue
            if constant.name not in values:
                values[constant.name] = graph.value(view)
            value = values[constant.name]
            if value.dtype.kind == "f" or value.dtype.name.startswith(("bfloat", "float")):
                modules = tuple(modules_of(node))
                yield Use(constant.name, view, node.name, node.op, node.output, slot, modules, value)


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
    """Every use of a stored float tensor."""
    return list(uses(Graph(model)))


def planned_uses(model: Model, plan: Plan) -> list[Use]:
    """Every use of a stored float tensor, and what a plan leaves of it.

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
            use = replace(use, cut=cut or (), computed=use.computed or then.computed)
        found.append(use)
    return found


def _cut(graph: Graph, sizes: Sizes) -> Iterator[Use]:
    """Uses with what remains of them."""
    computed = {
        source: name
        for name in graph.folded
        if any(index is not None for index in sizes.indices(name))
        for source in origin(graph, name)
    }
    for use in uses(graph):
        cut, name = sizes.indices(use.view), computed.get(use.name, "")
        if name and not any(index is not None for index in cut):
            cut = _through(use.value, graph.value(name), sizes.indices(name))
        yield replace(use, cut=cut, computed=name)


def _through(root: np.ndarray, made: np.ndarray, cut: Cut) -> Cut:
    """What remains of a stored tensor, if it is repeated to make another one, or changed entry by entry."""
    alike = root.shape == made.shape
    if not alike:
        try:
            alike = np.array_equal(np.broadcast_to(root, made.shape), made)
        except ValueError:
            return ()
    last = cut[made.ndim - root.ndim :]
    return tuple(i if n > 1 else None for n, i in zip(root.shape, last, strict=True)) if alike else ()
