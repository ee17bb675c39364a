"""Functions of a model, written out where they are called."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx.inliner import inline_local_functions

from .protos import bodies, copied, node_protos, plain_domain

Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without functions of its own.

    Raises
    ------
    RuntimeError, ValueError, onnx.shape_inference.InferenceError
        If onnx cannot write them out.
    """
    defaults = {key_of(f): f.attribute_proto for f in proto.functions}
    if any(defaults.values()):
        proto = copied(proto)
        for call in _nodes(proto):
            given = {attribute.name for attribute in call.attribute}
            known = defaults.get(key_called(call), ())
            # onnx leaves out what a call does not give, whatever its function says.
            call.attribute.extend(attribute for attribute in known if attribute.name not in given)
    return inline_local_functions(proto)


def key_of(function: onnx.FunctionProto) -> Key:
    """What a function is called by."""
    return _key(function.domain, function.name, function.overload)


def key_called(node: onnx.NodeProto) -> Key:
    """Which function a node calls, if there is one."""
    return _key(node.domain, node.op_type, node.overload)


def _key(domain: str, name: str, overload: str) -> Key:
    return plain_domain(domain), name, overload


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model, those of its functions and of nested graphs, too."""
    yield from node_protos(proto.graph)
    for node in (node for function in proto.functions for node in function.node):
        for _, body in bodies(node):
            yield from node_protos(body)
        yield node
