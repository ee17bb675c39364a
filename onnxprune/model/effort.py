"""Bounds on what is computed from a file: a few kilobytes can ask for all the memory there is.

Sizes are known before anything is computed: from the shapes that ONNX infers of a node and its input
values. What a model stores sets the scale, so that no bound depends on how large an honest one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ..errors import UnusableError
from ..printable import plural
from .node import Node
from .operators import Trait, traits_of
from .protos import bodies

NOT_INFERRED = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError)
"""What shape inference raises for models that contradict themselves."""

SMALL = 4096
"""Elements of inputs of which no node makes much, unless a value among them is a size."""

MOST_ELEMENTS, PER_STORED = 2**26, 16
"""Elements that may be computed from constants, and further ones for each that the file stores."""

MOST_PRODUCTS = 2 * 10**11
"""Multiplications in products of constants: ten seconds or so."""

MOST_TRIPS = 10**6
"""Iterations of a loop that nothing ends before."""


class Effort:
    """What a model has asked for so far.

    Parameters
    ----------
    stored : int
        Elements that the file stores.
    """

    def __init__(self, stored: int) -> None:
        self.limit = MOST_ELEMENTS + PER_STORED * stored
        self.elements = 0
        self.products = 0

    def admit(self, node: Node, inputs: Sequence[np.ndarray | None]) -> None:
        """Look at a node before it is evaluated.

        Raises
        ------
        UnusableError
            If its outputs, with all that were computed before, are beyond the bounds.
        """
        given = [v for v in inputs if v is not None]
        if Trait.SIZED_BY_VALUES not in traits_of(node) and sum(v.size for v in given) <= SMALL:
            return
        shapes = [v.shape for v in given]
        self.count(node, shapes, _inferred(node, inputs))

    def count(self, node: Node, inputs: Iterable[Sequence[int]], outputs: Iterable[Sequence[int]]) -> None:
        """Add a node with the shapes of its inputs and outputs."""
        made = [prod(shape) for shape in outputs]
        self.elements += sum(made)
        if self.elements > self.limit:
            before = self.elements - sum(made)
            others = f" and {before:,} before" if before else ""
            raise UnusableError(
                f"{node}: found {plural(max(made), 'entry', 'entries')} to compute from constants{others}, expected at most "
                f"{self.limit:,} in all",
                "Models compute what is that large from their inputs.",
            )
        self.products += _products(node, list(inputs), max(made, default=0))
        if self.products > MOST_PRODUCTS:
            raise UnusableError(
                f"{node}: found {self.products:.1e} multiplications of constants, expected at most "
                f"{MOST_PRODUCTS:.0e}",
                "Store their result.",
            )


def _products(node: Node, inputs: Sequence[Sequence[int]], made: int) -> int:
    """Multiplications of a node: those of one output entry are the entries of a factor, shared by none."""
    if len(inputs) < 2 or not inputs[0]:
        return 0
    traits = traits_of(node)
    if Trait.MATRIX in traits:
        return made * (inputs[0][0] if node.attr("transA", 0) else inputs[0][-1])
    if Trait.CONVOLUTION in traits:
        return made * prod(inputs[1][1:])
    if node.op == "Einsum":
        return max(map(prod, inputs)) * made  # an upper bound
    return 0


def _inferred(node: Node, inputs: Sequence[np.ndarray | None]) -> list[Sequence[int]]:
    """Shapes of the outputs, as far as ONNX infers them; what it does not know counts for nothing."""
    types: dict[str, Any] = {}
    data: dict[str, Any] = {}
    proto = onnx.NodeProto(op_type=node.op, domain=node.proto.domain, output=node.proto.output)
    proto.attribute.extend(node.proto.attribute)
    for k, value in enumerate(inputs):
        proto.input.append("" if value is None else f"i{k}")
        if value is not None:
            dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            types[f"i{k}"] = onnx.helper.make_tensor_type_proto(dtype, value.shape)
            if value.size <= SMALL:
                data[f"i{k}"] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape))
    imports = [onnx.helper.make_opsetid(node.domain, node.opset)]
    try:
        schema = onnx.defs.get_schema(node.op, node.opset, node.domain)
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except (onnx.defs.SchemaError, *NOT_INFERRED):
        return []  # evaluating it fails as well
    shapes = (t.tensor_type.shape.dim for t in found.values() if t.tensor_type.HasField("shape"))
    return [[d.dim_value for d in dims] for dims in shapes]


def check_trips(graph: onnx.GraphProto, outside: Mapping[str, onnx.TensorProto] | None = None) -> None:
    """Refuse loops that are known to run for hours: a number of iterations, and nothing that ends them.

    Raises
    ------
    UnusableError
    """
    known = {**(outside or {}), **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute:
            known[node.output[0]] = node.attribute[0].t
        for _, body in bodies(node):
            check_trips(body, known)
            if node.op_type != "Loop" or not node.input or not _endless(body):
                continue
            trips = known.get(node.input[0])
            if trips is None or trips.data_type != onnx.TensorProto.INT64 or trips.external_data:
                continue
            count = numpy_helper.to_array(trips)
            if count.size == 1 and int(count.reshape(-1)[0]) > MOST_TRIPS:
                raise UnusableError(
                    f"Loop '{node.name}': found {int(count.reshape(-1)[0]):,} iterations, expected at most "
                    f"{MOST_TRIPS:,}",
                    "It is not run: prune takes it with --no-verify.",
                )


def _endless(body: onnx.GraphProto) -> bool:
    """Whether the body of a loop only hands on the condition that it is given."""
    if len(body.input) < 2 or not body.output:
        return False
    name = body.output[0].name
    moved = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity" and n.input and n.output}
    for _ in range(len(moved) + 1):
        name = moved.get(name, name)
    stored = {tensor.name for tensor in body.initializer}
    made = {n.output[0] for n in body.node if n.op_type == "Constant" and n.output}
    return name == body.input[1].name or name in stored or name in made
