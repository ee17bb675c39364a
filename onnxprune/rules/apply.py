"""One walk in topological order: every node by the rule of its operator."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError, UnusableError
from ..labels.facts import Blocked
from ..labels.walk import Walk
from ..model.graph import Graph
from ..model.node import Node
from ..shapes.setting import Shapes
from .registry import find


@np.errstate(all="ignore")  # rules compute with stored numbers, whatever they are
def walk_graph(graph: Graph, shapes: Shapes) -> Walk:
    """Apply the rule of every node in topological order."""
    walk = Walk(graph, shapes)
    for node in graph.main.nodes:
        apply_rule(walk, node)
    walk.node = None
    for name in graph.main.outputs:
        walk.freeze([name], f"graph output '{name}'")
    for name, node in graph.folded.items():
        labelled = [source for source in node.inputs if source in walk.axes]
        walk.freeze(labelled, f"the constant '{name}' is computed from it, too")
    return walk


def apply_rule(walk: Walk, node: Node) -> None:
    """Let one node's rule record its facts; pin what it touches where the rule cannot."""
    if node.op == "Constant" or (node.outputs and node.outputs[0] in walk.graph.folded):
        return
    walk.node = node
    found = find(node)
    try:
        if found is None:
            raise Blocked("there is no rule for this operator")
        found.apply(walk, node)
        walk.hand_on_zeros(node)
        if found.sign is not None:
            walk.hand_on_sign(node, found.sign(walk, node))
    except UnusableError:
        raise
    except (Blocked, ModelError) as error:
        reason = f"{node}: {error.args[0]}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A malformed node fails in its rule in any of these ways. Doubt pins.
        reason = f"{node}: its rule failed: {error!r}"
    else:
        return
    walk.facts.blocked[node.index] = reason
    touched = [*walk.graph.reads(node), *node.outputs]
    for body in node.bodies.values():
        touched += [*body.inputs, *body.outputs]
    walk.freeze(touched, reason)
