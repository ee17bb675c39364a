"""Bounds on what shapes and values ask for, before anything is computed."""

from __future__ import annotations

from math import prod

from ..errors import ModelError, UnusableError
from ..model.effort import SMALL, Effort
from ..model.graph import Graph
from .setting import Setting


def check_ranges(graph: Graph) -> None:
    """Refuse long ranges of constants: shape inference itself writes them out, to know their values.

    Raises
    ------
    UnusableError
    """
    for node in {node.index: node for node in graph.derived.values() if node.op == "Range"}.values():
        try:
            inputs = [graph.value(name) for name in node.inputs]
        except UnusableError:
            raise
        except ModelError:
            continue  # it cannot be computed, so inference does not do so either
        Effort(graph.stored).admit(node, inputs)


def check_constants(graph: Graph, setting: Setting) -> None:
    """Refuse constants that are too large to compute, whoever computes them: onnxruntime does, too.

    Raises
    ------
    UnusableError
    """
    effort = Effort(graph.stored)
    for node in {node.index: node for node in graph.derived.values()}.values():
        made = [setting.shapes[name] for name in node.outputs if name in setting.shapes]
        if sum(map(prod, made)) > SMALL:
            effort.count(node, [setting.shapes.get(name, ()) for name in node.inputs], made)
