"""Shapes behind operators that ONNX shape inference does not know.

Contributed and experimental operators (``com.microsoft``, ``ImageScaler``) and some of classical
models (``Scaler``) have no inference in onnx. As the last resort the model runs once on made-up
inputs, and what it returns tells.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from ..errors import ModelError
from ..model.graph import Graph
from ..model.node import Node
from ..model.protos import copied, return_also
from ..runtime.session import open_session, run
from .dimensions import affordable
from .made_up import synthetic_inputs
from .setting import Setting


def probe(graph: Graph, setting: Setting) -> bool:
    """Look up the unknown shapes behind operators that inference does not know.

    Parameters
    ----------
    graph : Graph
    setting : Setting
        Receives the shapes and element types.

    Returns
    -------
    bool
        Whether anything was found. A model that does not run, or takes too much memory at these
        sizes, leaves everything unknown.
    """
    wanted = list(_unknown(graph, setting))
    if not wanted or not affordable(setting.shapes.values()):
        return False
    proto = copied(graph.model.embedded())
    return_also(proto, wanted)
    try:
        with open_session(proto) as session:
            found = run(session, synthetic_inputs(graph, setting.sizes))
    except ModelError:
        return False
    for name in found.keys() & set(wanted):
        setting.shapes[name] = found[name].shape
        setting.dtypes[name] = onnx.helper.np_dtype_to_tensor_dtype(found[name].dtype)
    return True


def _unknown(graph: Graph, setting: Setting) -> Iterator[str]:
    """Tensors without a shape, which something reads, of operators without inference in onnx."""
    for node in graph.main.nodes:
        for name in node.outputs:
            read = name in graph.consumers or name in graph.returned
            if read and name not in setting.shapes and not _inferred(node):
                yield name


def _inferred(node: Node) -> bool:
    """Whether onnx can tell the shapes behind an operator."""
    if not onnx.defs.has(node.op, node.opset, node.domain):
        return False
    schema = onnx.defs.get_schema(node.op, node.opset, node.domain)
    return schema.has_type_and_shape_inference_function
