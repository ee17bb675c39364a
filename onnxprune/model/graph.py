"""A thin read-only view of a model: nodes, constants, consumers, captured names.

Nested graphs (branches and loop bodies) belong to the same view, because names are unique over all
of them. Three liberties are taken with names, all undone by the rewriter:

- a constant with exactly one axis longer than 1 gets one name per use (``bias``, ``bias#1``, ...):
  exporters de-duplicate equal vectors, which would otherwise couple unrelated layers;
- a constant behind ``Identity`` nodes is used under its own name;
- so is a constant that a loop carries from one iteration to the next as it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..errors import ModelError
from ..printable import plural
from .cut import kept_dims
from .effort import Effort
from .evaluation import evaluate, foreign
from .file import Model
from .names import Names, names_of
from .node import Body, Constant, Node
from .operators import Trait, traits_of
from .protos import bodies, plain_domain

UNLABELLED = {TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}
"""Constants of these types hold indices, sizes and masks: labelled only when they meet labels."""


class Graph:
    """View of a model.

    Parameters
    ----------
    model : Model
        Not changed.

    Attributes
    ----------
    taken : set of str
        Every name of the file and of the view, which no other name may be.
    main : Body
        The outermost graph.
    nodes : list of Node
        Every node, nested ones before the node that holds them.
    constants : dict
        Name in the view -> Constant.
    derived : dict
        Tensors that depend on constants alone -> the node that makes them.
    folded : dict
        Those of them that are computed, not only moved. Analysis takes them as constants, because
        their rules need not be exact on weights (a weight standardisation has statistics along its
        input channels). Nodes that only move a stored tensor (``Trait.MOVES``) are not folded: labels
        follow them to the tensor in the file, and so they do through the arithmetic that makes
        weights of stored integers. Nor is what is computed from a tensor that the
        network reads, too (the lengths of a codebook's entries): both lose the same entries.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.opsets = {plain_domain(o.domain): o.version for o in model.proto.opset_import}
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self.aliases: dict[str, str] = {}
        self.taken = names_of(model.proto)
        self.main = self._body(model.proto.graph, outermost=True)
        self.stored = sum(constant.size for constant in self.constants.values())
        self.effort = Effort(self.stored)
        self._separate_vectors()
        self._values: dict[str, np.ndarray] = {}
        self.derived = dict(self._derive())
        self.folded: dict[str, Node] = {}
        self._fold()

    def _body(self, proto: onnx.GraphProto, outermost: bool = False) -> Body:
        for tensor in proto.initializer:
            self._constant(tensor.name, tensor)
        for sparse in proto.sparse_initializer:
            self._sparse(sparse.values.name, sparse)
        inputs = [v.name for v in proto.input if v.name not in self.constants]
        body = Body(proto, [], inputs, [v.name for v in proto.output])
        for node in proto.node:
            body.nodes.append(self._node(node, outermost))
        return body

    def _constant(self, name: str, tensor: TensorProto) -> None:
        shape = tuple(kept_dims(tensor, self.model.cuts.get(tensor.name)))
        self.constants[name] = Constant(name, shape, tensor.data_type, tensor)

    def _sparse(self, name: str, sparse: onnx.SparseTensorProto) -> None:
        self.constants[name] = Constant(name, tuple(sparse.dims), sparse.values.data_type, sparse=sparse)

    def _node(self, proto: onnx.NodeProto, outermost: bool) -> Node:
        domain = plain_domain(proto.domain)
        inputs = [self.aliases.get(name, name) for name in proto.input]
        for inner, outer in unchanged(proto) if proto.op_type == "Loop" else ():
            outer = self.aliases.get(outer, outer)
            if outer in self.constants:
                self.aliases[inner] = outer
        nested = {key: self._body(graph) for key, graph in bodies(proto)}
        opset = self.opsets.get(domain, 1)
        node = Node(
            proto,
            len(self.nodes),
            domain,
            proto.op_type,
            inputs,
            list(proto.output),
            outermost,
            opset,
            nested,
            {a.name: a for a in proto.attribute},
        )
        self.nodes.append(node)
        if domain == "" and proto.op_type == "Constant":
            self._constant_node(proto)
        elif domain == "" and proto.op_type == "Identity" and inputs[0] in self.constants:
            self.aliases[proto.output[0]] = inputs[0]
        return node

    def _constant_node(self, proto: onnx.NodeProto) -> None:
        if len(proto.attribute) != 1:
            raise ModelError(
                f"Constant '{proto.output[0]}': found {plural(len(proto.attribute), 'value')}, expected one"
            )
        (attribute,) = proto.attribute
        name, value = proto.output[0], onnx.helper.get_attribute_value(attribute)
        if isinstance(value, TensorProto):
            self._constant(name, value)
        elif isinstance(value, onnx.SparseTensorProto):
            self._sparse(name, value)
        else:
            kinds = {"value_int": "i8", "value_ints": "i8", "value_float": "f4", "value_floats": "f4"}
            array = np.array(value, kinds.get(attribute.name, "O"))
            dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            self.constants[name] = Constant(name, array.shape, dtype, None, array)

    def _separate_vectors(self) -> None:
        """Give every further use of a vector-like constant a name of its own."""
        used, names = set(self.returned), Names(self.taken)
        for node in self.nodes:
            loop = unchanged(node.proto) if node.op == "Loop" else ()
            carried = {self.aliases.get(outer, outer) for _, outer in loop}
            for slot, name in enumerate(node.inputs):
                constant = self.constants.get(name)
                if constant is None or [d > 1 for d in constant.shape].count(True) != 1:
                    continue
                if name in carried:
                    continue  # what it is used for is known inside
                if name in used:
                    node.inputs[slot] = names.fresh(name, "#", first=1)
                    self.constants[node.inputs[slot]] = constant
                used.add(name)
        self.taken |= self.constants.keys()

    def _derive(self) -> Iterator[tuple[str, Node]]:
        known = set(self.constants)
        for node in self.nodes:
            names = [name for name in node.inputs if name]
            if not names or node.bodies or foreign(node) or Trait.RANDOM in traits_of(node):
                continue
            if known.issuperset(names):
                known.update(node.outputs)
                yield from ((name, node) for name in node.outputs if name)

    def _fold(self) -> None:
        """Take as constants what is computed from tensors that nothing else reads."""
        shared: set[str] = set()
        followed = self._followed()
        heard = self._heard(followed)
        for node in self.nodes:
            if not node.outputs or node.output not in self.derived:
                continue
            if any(n in shared or (n in heard and self._channels(n)) for n in node.inputs if n):
                shared.update(node.outputs)
            elif node.index not in followed:
                self.folded.update(dict.fromkeys(node.outputs, node))

    def _followed(self) -> set[int]:
        """Nodes behind which labels reach the stored tensor, entry for entry.

        They move constants, or make a weight of what is stored for it. A weight that some other
        computation has a part in (its mean, say) is not the file's any more.
        """
        found: set[int] = set()
        constants = self.constants.items()
        plain = {name for name, c in constants if c.dtype not in UNLABELLED or c.size == 1}
        weights = {name for name, c in constants if name in plain and is_matrix(c.shape)}
        for node in self.nodes:
            if not node.outputs or node.output not in self.derived:
                continue
            whole = plain.issuperset(filter(None, node.inputs))
            weight = not weights.isdisjoint(node.inputs)
            traits = traits_of(node)
            if Trait.MOVES in traits or (Trait.DECODES in traits and whole and weight):
                found.add(node.index)
                plain.update(node.outputs if whole else ())
                weights.update(node.outputs if weight else ())
        return found

    def _heard(self, followed: set[int]) -> set[str]:
        """Tensors that nodes read which depend on data, as they are or behind those followed."""
        heard: set[str] = set()
        for node in reversed(self.nodes):
            made = self.derived.keys() & node.outputs
            if not made or (node.index in followed and not heard.isdisjoint(made)):
                heard.update(node.inputs)
        return heard

    def _channels(self, name: str) -> bool:
        """Whether a constant may have axes of channels."""
        if name in self.constants:
            dtype, shape = self.constants[name].dtype, self.constants[name].shape
        else:
            try:
                value = self.value(name)
            except ModelError:
                return False  # the walk pins it
            dtype, shape = onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        return dtype not in UNLABELLED and any(size > 1 for size in shape)

    def is_constant(self, name: str) -> bool:
        """Whether analysis takes a tensor as a constant."""
        return name in self.constants or name in self.folded

    def has_value(self, name: str) -> bool:
        """Whether a tensor is stored, or computed from stored ones alone."""
        return name in self.constants or name in self.derived

    def value(self, name: str) -> np.ndarray:
        """Value of a tensor that is stored or computed from stored ones alone.

        Raises
        ------
        ModelError
            If it depends on an input of the model, or its operator cannot be evaluated.
        """
        found: dict[str, np.ndarray] = {}
        needed = self._needed(name)
        readers = Counter(i for node in needed for i in dict.fromkeys(node.inputs))
        for node in needed:
            inputs = [self._at_hand(i, found) if i else None for i in node.inputs]
            self.effort.admit(node, inputs)
            results = evaluate(node, inputs)
            if results is None:
                raise ModelError(f"the value of '{node.output}' cannot be computed from constants")
            for output, value in zip(node.outputs, results, strict=False):
                (self._values if output in self.folded else found)[output] = value
            for source in dict.fromkeys(node.inputs):
                readers[source] -= 1
                if not readers[source] and source != name:
                    found.pop(source, None)  # moved weights are not held
        return self._at_hand(name, found)

    def _at_hand(self, name: str, found: Mapping[str, np.ndarray]) -> np.ndarray:
        if name in self.constants:
            return self._payload(self.constants[name])
        return self._values[name] if name in self._values else found[name]

    def _needed(self, name: str) -> list[Node]:
        """Nodes that have to be evaluated for a value, in their order."""
        needed: dict[int, Node] = {}
        pending = [name]
        while pending:
            current = pending.pop()
            if current in self.constants or current in self._values:
                continue
            node = self.producers.get(current)
            if node is None or not any(node.inputs):
                raise ModelError(f"the value of '{current}' cannot be computed from constants")
            if node.index not in needed:
                needed[node.index] = node
                pending += filter(None, node.inputs)
        return [needed[index] for index in sorted(needed)]

    def _payload(self, constant: Constant) -> np.ndarray:
        if constant.array is not None:
            return constant.array
        if constant.sparse is not None:
            return _dense(constant.sparse)
        assert constant.tensor is not None
        return self.model.array(constant.tensor)

    @property
    def bodies(self) -> Iterator[Body]:
        """The main graph and all nested ones."""
        yield self.main
        for node in self.nodes:
            yield from node.bodies.values()

    @cached_property
    def returned(self) -> set[str]:
        """Outputs of the model and of nested graphs."""
        return {name for body in self.bodies for name in body.outputs}

    @cached_property
    def operators(self) -> set[str]:
        """Operators of all nodes, without their domains."""
        return {node.op for node in self.nodes}

    @cached_property
    def producers(self) -> dict[str, Node]:
        """Tensor name -> the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """Tensor name in the view -> the nodes that read it."""
        table: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(filter(None, node.inputs)):
                table[name].append(node)
        return dict(table)

    def passed_through(self, node: Node) -> bool:
        """Whether a node only gives a constant a further name, which is no output."""
        aliases = self.aliases
        return bool(aliases) and any(n in aliases and n not in self.returned for n in node.outputs)

    def reads(self, node: Node) -> list[str]:
        """Inputs of a node, absent ones as ``""``, and what its bodies take from outside."""
        return [*node.inputs, *self._captured(node)]

    def _captured(self, node: Node) -> Iterator[str]:
        for body in node.bodies.values():
            inside = set(body.inputs)
            for child in body.nodes:
                yield from (n for n in self.reads(child) if n and n not in inside)
                inside.update(child.outputs)
            yield from (n for n in body.outputs if n not in inside)


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a tensor has rows and columns."""
    return sum(size > 1 for size in shape) > 1


def unchanged(loop: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    """(name inside, name outside) of what a Loop carries without ever changing it."""
    for _, body in bodies(loop):
        moved = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
        carried = zip(body.input[2:], body.output[1:], loop.input[2:], strict=False)
        for inner, result, outer in carried:
            if inner.name == moved.get(result.name, result.name):
                yield inner.name, outer


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dense.shape)
    dense.reshape(-1)[flat] = values
    return dense
