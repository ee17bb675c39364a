"""What a graph is made of: nodes, nested graphs and stored tensors, under the view's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import AttributeProto, SparseTensorProto, TensorProto


@dataclass(eq=False, slots=True)
class Node:
    """One node: the operator schema's names over its proto.

    ``inputs`` holds the view's names (see ``graph.py``), ``""`` for an absent input;
    ``outermost`` is whether the node stands in the main graph. There is no way back from a node to
    its graph: a cycle of references would keep the weights in memory until the collector runs.
    """

    proto: onnx.NodeProto
    index: int
    domain: str
    op: str
    inputs: list[str]
    outputs: list[str]
    outermost: bool
    opset: int
    bodies: dict[str, Body]
    attributes: dict[str, AttributeProto]

    def attr(self, name: str, default: Any = None) -> Any:
        """Value of an attribute, ``default`` where it is absent; strings are decoded."""
        attribute = self.attributes.get(name)
        if attribute is None:
            return default
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return list(value) if attribute.type == AttributeProto.INTS else value

    def take(self, count: int) -> list[str]:
        """The first ``count`` inputs, absent ones as ``""``."""
        return (self.inputs + [""] * count)[:count]

    def give(self, count: int) -> list[str]:
        """The first ``count`` outputs, absent ones as ``""``."""
        return (self.outputs + [""] * count)[:count]

    @property
    def inside(self) -> Iterator[Node]:
        """Nodes of the graphs that it holds."""
        for body in self.bodies.values():
            yield from body.nodes

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    @property
    def name(self) -> str:
        """Name of the node, or of its first output where it has none."""
        return self.proto.name or next(filter(None, self.proto.output), "")

    @property
    def kind(self) -> str:
        """Operator type, with its domain where that is not the default one."""
        return self.op if not self.domain else f"{self.domain}::{self.op}"

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


@dataclass(eq=False, slots=True)
class Body:
    """One graph of the model: the main one or one nested in a node."""

    proto: onnx.GraphProto
    nodes: list[Node]
    inputs: list[str]
    outputs: list[str]


class Constant(NamedTuple):
    """A tensor that is stored in the model.

    Attributes
    ----------
    name : str
        Name in the file: of an initializer, or of the output of a Constant node.
    tensor : onnx.TensorProto or None
        Its payload; None for a sparse tensor or one given by a list attribute.
    array : numpy.ndarray or None
        Value of one given by a list attribute.
    sparse : onnx.SparseTensorProto or None
        Payload of a sparse tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: int
    tensor: TensorProto | None = None
    array: np.ndarray | None = None
    sparse: SparseTensorProto | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)
