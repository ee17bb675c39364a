"""Rows of the table whose models are written out as text, control flow included."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from .building import Builder

Rows = list[tuple[str, str, Builder]]
"""Operator, name, and function that builds a complete model."""


def entry(table: Rows, *ops: str) -> Callable[[Builder], Builder]:
    """Decorator that enters a builder into a table, once per operator, under the name of its function."""

    def enter(builder: Builder) -> Builder:
        table.extend((op, builder.__name__, builder) for op in ops)
        return builder

    return enter


def model(text: str, opset: int = 18) -> onnx.ModelProto:
    """Model from ONNX text; weights, the tensors that its main graph declares, are drawn, He-initialised."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
    rng = np.random.default_rng(0)
    for weight in proto.graph.value_info:
        shape = tuple(size.dim_value for size in weight.type.tensor_type.shape.dim)
        scale = (2 / math.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.3
        array = rng.normal(0, scale, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, weight.name))
    proto.graph.ClearField("value_info")
    return proto
