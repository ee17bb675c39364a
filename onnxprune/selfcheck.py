"""The check of every slim model: its sizes are those that the analysis foretold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from .bare import NOT_INFERRED, bare_model
from .errors import SurgeryError
from .model import Model
from .protos import graphs
from .sizes import Sizes

if TYPE_CHECKING:
    from .trace import Trace


def self_check(slim: Model, traced: Trace, sizes: Sizes) -> None:
    """Compare the shapes that ONNX infers for the slim model with the size view.

    Raises
    ------
    SurgeryError
        At the first tensor that differs, naming the node that makes it.
    """
    bare = bare_model(slim, traced.shapes.first.sizes, declared=False)
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=False, data_prop=True)
    except NOT_INFERRED as error:
        raise SurgeryError(f"the slim model contradicts itself: {error}") from None
    for graph in graphs(inferred.graph):
        for value in (*graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            expected = sizes.shape(value.name)
            dims = tensor.shape.dim
            if not dims or not expected or expected == tuple([dim.dim_value for dim in dims]):
                continue
            for axis, (dim, size) in enumerate(zip(dims, expected, strict=False)):
                if dim.dim_value != size and dim.HasField("dim_value"):
                    node = traced.graph.producers.get(value.name)
                    raise SurgeryError(
                        f"{node}: found size {dim.dim_value} along axis {axis} of '{value.name}', "
                        f"expected {size}",
                        "This is a bug in the rule of an operator on the way; please report it.",
                    )
