"""Bounds on what shapes and values ask for, before anything is computed."""

from __future__ import annotations

from math import prod

from ..errors import ModelError, UnusableError
from ..model.effort import SMALL, Effort
from ..model.graph import Graph
from ..printable import plural
from .dimensions import LARGEST
from .setting import Setting

MOST_MADE_UP, PER_GIVEN = 2**25, 256
"""Entries of a tensor in a run on made-up inputs, and further ones for each entry given or stored."""


def runs_on_made_up(graph: Graph, setting: Setting) -> None:
    """Refuse to make up inputs for a model that makes far more of them than it is given.

    A Pad by a million, or an input of a billion entries, is a matter of a few bytes in the file. Who has
    inputs for such a model can give them.

    Raises
    ------
    ModelError
        With the largest tensor.
    """
    inputs = sum(prod(setting.shapes.get(name, ())) for name in graph.main.inputs)
    limit = MOST_MADE_UP + PER_GIVEN * (min(inputs, LARGEST) + graph.stored)
    sizes = {name: prod(shape) for name, shape in setting.shapes.items() if name not in graph.constants}
    name = max(sizes, key=sizes.__getitem__, default="")
    if name and (sizes[name] > limit or inputs > LARGEST):
        raise ModelError(
            f"'{name}' has {plural(sizes[name], 'entry', 'entries')}, too many for inputs that are made up",
            "Give some with --data.",
        )


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
