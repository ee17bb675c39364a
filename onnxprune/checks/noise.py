"""Random numbers: whatever one model draws, the other one is given.

A node that draws numbers gives others in every model and run, so nothing behind it can be compared.
The masked original tells what it drew; the slim model takes the kept part of that as inputs in the
place of nodes that draw. What the drawing reads (the probabilities of a Bernoulli) is compared
like an output, because nothing else of the slim model tells of it.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..coupling.trace import Trace
from ..labels.sizes import Sizes
from ..model.file import Model
from ..model.names import Names, names_of
from ..model.node import Node
from ..model.protos import copied, return_also
from ..rules import find
from ..runtime.custom import stands_in
from ..runtime.session import Arrays


def draws(node: Node, traced: Trace) -> bool:
    """Whether a node, or one inside its bodies, draws random numbers, or those stand in for it."""
    rule = find(node)
    if stands_in(node.domain, node.op):
        return True
    if rule is not None and rule.random is not None and rule.random(traced.walk, node):
        return True
    return any(draws(child, traced) for child in node.inside)


class Noise:
    """Random numbers of the main graph. Those of nested graphs are drawn run by run: no output tells.

    Attributes
    ----------
    drawn : list of str
        Tensors of random numbers.
    sources : list of str
        What they are drawn from.
    """

    def __init__(self, traced: Trace, slim: onnx.ModelProto) -> None:
        made = {name for proto in slim.graph.node for name in proto.output}
        nodes = [n for n in traced.graph.main.nodes if not n.bodies and draws(n, traced)]
        nodes = [n for n in nodes if all(name in made for name in n.outputs if name)]
        self.drawn = [name for n in nodes for name in n.outputs if name]
        names = Names(names_of(slim))
        self._given = {name: names.fresh(f"{name}::given") for name in self.drawn}
        known = traced.graph.producers.keys() - traced.graph.derived.keys() - set(self.drawn)
        self.sources = sorted({name for n in nodes for name in n.inputs if name in known and name in made})

    def told(self, oracle: Model) -> Model:
        """The masked original, which returns what it draws, and what from."""
        if not self.drawn:
            return oracle
        proto = copied(oracle.proto)
        return_also(proto, [*self.drawn, *self.sources])
        return oracle.derived(proto)

    def taken(self, slim: Model, numbers: Arrays) -> Model:
        """The slim model, to which the random numbers are given."""
        if not self.drawn:
            return slim
        proto = copied(slim.proto)
        drawn = set(self.drawn)
        kept = [node for node in proto.graph.node if drawn.isdisjoint(node.output)]
        for name in self.drawn:
            dtype = onnx.helper.np_dtype_to_tensor_dtype(numbers[name].dtype)
            dims = [None] * numbers[name].ndim
            proto.graph.input.append(onnx.helper.make_tensor_value_info(self._given[name], dtype, dims))
        moved = [onnx.helper.make_node("Identity", [self._given[n]], [n], self._given[n]) for n in self.drawn]
        del proto.graph.node[:], proto.graph.value_info[:]
        proto.graph.node.extend([*moved, *kept])
        return_also(proto, self.sources)
        return slim.derived(proto)

    def feeds(self, sizes: Sizes, numbers: Arrays) -> dict[str, np.ndarray]:
        """Inputs of the slim model, beside its own, from what the masked original returned."""
        return {self._given[name]: sizes.compact(name, numbers[name]) for name in self.drawn}

    def compared(self, sizes: Sizes, found: Arrays) -> dict[str, np.ndarray]:
        """What the masked original returned, without random numbers, and kept entries alone."""
        hidden = set(self.drawn)
        return {
            name: sizes.compact(name, value) if name in self.sources else value
            for name, value in found.items()
            if name not in hidden
        }
