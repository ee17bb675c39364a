"""What a file must be like before anything looks at it closely.

Analysis, onnx and onnxruntime take much for granted that a file need not hold to: names that are text,
sizes that numbers can count, offsets inside a file. Some of it crashes the libraries natively. What is
refused here is refused in one sentence that names the place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from math import prod
from typing import Any

import onnx
from onnx import AttributeProto, TensorProto, TypeProto, external_data_helper

from ..errors import ModelError
from ..printable import plural
from .cut import payload
from .functions import Key, key_called, key_of
from .protos import GRAPH, GRAPHS, TENSOR, TENSORS, bodies, plain_domain, tensors

HIGHEST_RANK = 32
"""Most axes of a tensor: numpy and onnxruntime have limits of their own beyond."""

LARGEST = 2**31 - 1
"""Largest value of an attribute that onnxruntime's kernels keep in 32 bits."""

MOST_ELEMENTS = 2**62
"""Elements of a tensor, in bytes of the widest type, that a 64-bit number still counts."""

DEEPEST = 20
"""Graphs inside each other: protobuf reads about thirty, and copies must have room for more."""

MOST_NODES = 1_000_000
"""Nodes of a model whose functions are written out."""

BOUNDS = {"end", "ends", "seed", "start", "starts", "value", "value_int", "value_ints"}
"""Integer attributes for which 2**63 - 1 means something."""

LONGEST_PATH, LONGEST_NAME = 4096, 255
"""Characters of a path, and of a name in it, that file systems take."""

ELEMENTS = set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


def check_form(proto: onnx.ModelProto, size: int | None) -> None:
    """Refuse what nothing that follows is prepared for.

    Parameters
    ----------
    size : int or None
        Bytes of the file, where it is known: the tensors in it cannot claim more.

    Raises
    ------
    ModelError
        With the first that is found.
    """
    for message in (proto, proto.graph):
        for field, value in message.ListFields():
            if isinstance(value, bytes):
                raise ModelError(f"the model's {field.name} {value!r} is no UTF-8")
    _operator_sets(proto)
    _graph(proto.graph, 0)
    for function in proto.functions:
        _texts("function", (function.name, function.domain, *function.input, *function.output))
        _nodes(function.node, 0)
    for value in proto.graph.input:
        if value.type.WhichOneof("value") is None:
            raise ModelError(f"input '{value.name}' has no type")
    if size is not None:
        _claims(proto, size)
    _expansion(proto)


def _claims(proto: onnx.ModelProto, size: int) -> None:
    """Refuse tensors that say they hold more than there is: memory would be taken for it."""
    for tensor in tensors(proto.graph):
        if not external_data_helper.uses_external_data(tensor):
            raw = tensor.HasField("raw_data")  # numbers take a byte each at least, or hold eight
            claimed = payload(tensor.data_type, prod(tensor.dims)) if raw else prod(tensor.dims) // 8
            if claimed > size:
                raise ModelError(
                    f"tensor '{tensor.name}': its data does not fill the shape {list(tensor.dims)}"
                )


def _operator_sets(proto: onnx.ModelProto) -> None:
    newest = onnx.defs.onnx_opset_version()
    imported = {(plain_domain(o.domain), o.version) for o in proto.opset_import}
    seen = Counter(domain for domain, _ in imported)
    owners: list[onnx.ModelProto | onnx.FunctionProto] = [proto, *proto.functions]
    for owner in owners:
        for entry in owner.opset_import:
            _texts("operator set", (entry.domain,))
            if not 0 < entry.version <= LARGEST:
                raise ModelError(f"operator set '{entry.domain or 'ai.onnx'}': found version {entry.version}")
            if not plain_domain(entry.domain) and entry.version > newest:
                raise ModelError(
                    f"opset {entry.version} is newer than {newest}, the newest that onnx {onnx.__version__} knows",
                    "Install a newer onnx.",
                )
    for domain, count in seen.items():
        if count > 1:
            raise ModelError(
                f"operator set '{domain or 'ai.onnx'}': found {plural(count, 'version')}, expected one"
            )


def _texts(what: str, names: Iterable[Any]) -> None:
    """Refuse names that are no text: protobuf gives bytes where they are no UTF-8."""
    for name in names:
        if isinstance(name, bytes):
            raise ModelError(f"{what} {name!r}: its name is no UTF-8")


def _graph(graph: onnx.GraphProto, depth: int) -> None:
    if depth > DEEPEST:
        raise ModelError(f"found graphs nested more than {DEEPEST} deep")
    _texts("graph", (graph.name,))
    for value in (*graph.input, *graph.output, *graph.value_info):
        _texts("value", (value.name,))
        _type(value.name, value.type, 0)
    for tensor in graph.initializer:
        _tensor(tensor)
    for sparse in graph.sparse_initializer:
        _tensor(sparse.values)
        _tensor(sparse.indices)
        if any(map(external_data_helper.uses_external_data, (sparse.values, sparse.indices))):
            raise ModelError(f"tensor '{sparse.values.name}': found sparse values in external data")
        _dims(f"tensor '{sparse.values.name}'", sparse.dims)
        if len(sparse.values.dims) != 1 or not sparse.dims:
            raise ModelError(f"tensor '{sparse.values.name}': its sparse values are no list")
    _nodes(graph.node, depth)


def _nodes(nodes: Iterable[onnx.NodeProto], depth: int) -> None:
    for node in nodes:
        inputs, outputs = list(node.input), list(node.output)
        if bytes in map(type, (node.name, node.op_type, node.domain, *inputs, *outputs)):
            _texts("node", (node.name, node.op_type, node.domain, *inputs, *outputs))
        if "" in inputs or "" in outputs:
            _absent(node)
        if node.op_type == "Constant" and (len(node.attribute) != 1 or not any(outputs)):
            found = f"{plural(len(node.attribute), 'value')} and {plural(len(outputs), 'output')}"
            raise ModelError(f"Constant '{_called(node)}': found {found}, expected one of each")
        for attribute in node.attribute:
            _attribute(node, attribute, depth)


def _absent(node: onnx.NodeProto) -> None:
    """Refuse a gap in a list of any length, on which shape inference crashes."""
    for names, many in ((node.input, _any_inputs), (node.output, _any_outputs)):
        if not all(names) and many(node.op_type, node.domain):
            raise ModelError(f"{node.op_type} '{_called(node)}': found an empty name among those of a list")


@cache
def _any_inputs(op: str, domain: str) -> bool:
    """Whether an operator takes a list of inputs, none of which may be absent."""
    try:
        formal = onnx.defs.get_schema(op, plain_domain(domain)).inputs
    except onnx.defs.SchemaError:
        return False
    kind = onnx.defs.OpSchema.FormalParameterOption.Variadic
    return op != "Scan" and len(formal) == 1 and formal[0].option == kind


@cache
def _any_outputs(op: str, domain: str) -> bool:
    return not plain_domain(domain) and op == "Split"


def _called(node: onnx.NodeProto) -> str:
    return node.name or next(filter(None, node.output), "")


def _attribute(node: onnx.NodeProto, attribute: AttributeProto, depth: int) -> None:
    kind = attribute.type
    if kind == AttributeProto.INT:
        _bounded(node, attribute.name, [attribute.i])
    elif kind == AttributeProto.INTS:
        _bounded(node, attribute.name, list(attribute.ints))
    elif kind == TENSOR:
        _tensor(attribute.t)
    elif kind == TENSORS:
        for tensor in attribute.tensors:
            _tensor(tensor)
    elif kind in (GRAPH, GRAPHS):
        for graph in [attribute.g] if kind == GRAPH else attribute.graphs:
            _graph(graph, depth + 1)


def _bounded(node: onnx.NodeProto, name: str, numbers: list[int]) -> None:
    """Refuse sizes, axes and counts beyond 32 bits: kernels cut them off, some to a divisor of zero."""
    if numbers and not -LARGEST <= min(numbers) <= max(numbers) <= LARGEST and name not in BOUNDS:
        raise ModelError(f"{node.op_type} '{_called(node)}': found {name} of {max(numbers, key=abs)}")


def _tensor(tensor: TensorProto) -> None:
    """Refuse a stored tensor of an unknown type, of impossible sizes, or that lies nowhere."""
    _texts("tensor", (tensor.name,))
    what = f"tensor '{tensor.name}'"
    if tensor.data_type not in ELEMENTS:
        raise ModelError(f"{what}: found element type {tensor.data_type}, which is unknown")
    _dims(what, tensor.dims)
    if tensor.HasField("segment"):
        raise ModelError(f"{what}: found a segment, expected a tensor in one piece")
    if external_data_helper.uses_external_data(tensor):
        if tensor.data_type == TensorProto.STRING:
            raise ModelError(f"{what}: found texts in external data")
        _external(what, tensor)


def _dims(what: str, dims: Iterable[int]) -> None:
    sizes = list(dims)
    if len(sizes) > HIGHEST_RANK:
        raise ModelError(f"{what}: found {len(sizes)} axes, expected at most {HIGHEST_RANK}")
    if sizes and min(sizes) < 0:
        raise ModelError(f"{what}: found a size of {min(sizes)}")
    if prod(max(size, 1) for size in sizes) > MOST_ELEMENTS // 16:
        raise ModelError(f"{what}: found the shape {sizes}, which is larger than any memory")


def _external(what: str, tensor: TensorProto) -> None:
    """Refuse places of external data that no file can have."""
    entries = [(entry.key, entry.value) for entry in tensor.external_data]
    _texts("tensor", (text for entry in entries for text in entry))
    keys = Counter(key for key, _ in entries)
    twice = next((key for key, count in keys.items() if count > 1), None)
    if twice is not None:
        raise ModelError(f"{what}: its external data has several entries '{twice}'")
    given = dict(entries)
    location = given.get("location", "")
    parts = re.split(r"[/\\]", location)
    if not location:
        raise ModelError(
            f"{what}: its external data have no location",
            "Weights of a large file stay there: give the Model that was loaded, or its embedded().",
        )
    if "\0" in location or len(location) > LONGEST_PATH or max(map(len, parts)) > LONGEST_NAME:
        shown = location if len(location) < 80 else f"{location[:80]}..."
        raise ModelError(f"{what}: no file can be called '{shown}', where its external data is said to be")
    for key in ("offset", "length"):
        text = given.get(key, "0")
        if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) >= MOST_ELEMENTS:
            raise ModelError(f"{what}: found {key} '{text}' of its external data, expected a number of bytes")


def _type(name: str, kind: TypeProto, depth: int) -> None:
    """Refuse element types and shapes that nothing can have."""
    what = f"'{name}'"
    which = kind.WhichOneof("value")
    if depth > 4:
        raise ModelError(f"{what}: found a type nested more than 4 deep")
    if which in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(kind, which)
        if tensor.elem_type and tensor.elem_type not in ELEMENTS:
            raise ModelError(f"{what}: found element type {tensor.elem_type}, which is unknown")
        if tensor.HasField("shape"):
            dims = tensor.shape.dim
            _texts(f"a size of {what}", (d.dim_param for d in dims))
            sizes = [d.dim_value for d in dims]
            if min(sizes, default=0) < -1:  # Paddle writes -1 for sizes that are free
                raise ModelError(f"{what}: found a size of {min(sizes)}")
            _dims(what, [max(size, 0) for size in sizes])
    elif which in ("sequence_type", "optional_type"):
        _type(name, getattr(kind, which).elem_type, depth + 1)
    elif which == "map_type":
        _type(name, kind.map_type.value_type, depth + 1)


# Functions ------------------------------------------------------------------------------------


def _expansion(proto: onnx.ModelProto) -> None:
    """Count the nodes of a model with its functions written out, before they are.

    Thirty functions that each call the next one twice are a billion nodes.
    """
    if not proto.functions:
        return
    table = {key_of(f): f for f in proto.functions}
    if len(table) < len(proto.functions):
        raise ModelError("found two functions of the same name")
    sizes: dict[Key, int] = {}
    for key in _callees_first(table):
        sizes[key] = sum(sizes.get(key_called(n), 1) for n in _calls(table[key].node))
    total = sum(sizes.get(key_called(n), 1) for n in _calls(proto.graph.node))
    if total > MOST_NODES:
        raise ModelError(
            f"the functions of the model expand to {total:,} nodes, expected at most {MOST_NODES:,}"
        )


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for _, body in bodies(node):
            yield from _calls(body.node)


def _callees_first(table: dict[Key, onnx.FunctionProto]) -> Iterator[Key]:
    """Every function, after those that it calls.

    Raises
    ------
    ModelError
        If one calls itself, however far around.
    """
    done: set[Key] = set()
    above: set[Key] = set()
    pending = [(key, False) for key in table]
    while pending:
        key, left = pending.pop()
        if left:
            above.discard(key)
            done.add(key)
            yield key
        elif key in above:
            raise ModelError(f"function '{key[1]}' calls itself")
        elif key not in done:
            above.add(key)
            called = {key_called(n) for n in _calls(table[key].node)}
            pending += [(key, True), *((k, False) for k in called if k in table and k not in done)]
