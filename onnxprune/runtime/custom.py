"""Operators of the user's own: shapes behind them, and what they compute.

onnxruntime cannot be taught an operator from Python, so a model runs in pieces around them, see
``pieces.py``, and the operator's reference function computes on numpy arrays. Where it has none, random
numbers of the right shape stand in for its results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ..errors import ModelError
from ..model.protos import bodies, node_protos
from ..printable import plural

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
        raise ModelError(f"{where}: found {plural(len(told), 'shape')}, expected {len(proto.output)}")
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
        raise ModelError(f"{where}: found {plural(len(results), 'result')}, expected {len(proto.output)}")
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
