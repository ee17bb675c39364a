"""Static shapes and shape arithmetic, before any label is set.

A dynamic model is looked at with two *sample settings* of its free dimensions. Every tensor has a
concrete shape in both; what agrees is static, and a value computed from shapes that agrees is a
constant. ONNX shape inference runs on a copy without weights (2 ms instead of 560 ms on
ResNet-50); a forward pass fills its gaps and evaluates the shape arithmetic that exporters write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, numpy_helper

from . import nested
from .bare import NOT_INFERRED, bare_model, say_onesided
from .contributed import infer_contributed
from .custom import CUSTOM, shapes_behind
from .effort import check_constants, check_ranges
from .elements import Elements
from .folding import evaluable, evaluate
from .graph import Body, Graph, Node
from .quantized import infer_quantized
from .samples import SAMPLE_COUNT, SAMPLES, Sizes, free_dimensions, sample_sizes

Shape = tuple[int, ...]

VALUE_LIMIT = 4096
"""Largest tensor, in elements, whose value is followed through shape arithmetic."""

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}

DATA_SIZED = {"Compress", "NonMaxSuppression", "NonZero", "Range", "Slice", "TopK", "Unique"}
"""Operators whose output sizes may depend on data."""


@dataclass(slots=True)
class Setting:
    """Shapes, element types and known small values at one choice of the free dimensions.

    Attributes
    ----------
    sizes : mapping
        The free dimensions.
    count : int
        Stands in for every size that depends on data.
    sampled : bool
        Whether there is such a size.
    probed : bool
        Whether the model ran at these sizes.
    sequences : dict
        Shapes of the elements of sequences and optional values.
    """

    sizes: Sizes = field(default_factory=dict)
    count: int = SAMPLE_COUNT[0]
    sampled: bool = False
    probed: bool = False
    shapes: dict[str, Shape] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    sequences: dict[str, Elements] = field(default_factory=dict)

    def copy(self) -> Setting:
        """A setting whose tables can be changed on their own."""
        tables = dict(self.shapes), dict(self.dtypes), dict(self.values), dict(self.sequences)
        return Setting(self.sizes, self.count, self.sampled, self.probed, *tables)


@dataclass(frozen=True, slots=True)
class Shapes:
    """What two settings say together. In a static model both are the same.

    Attributes
    ----------
    first, second : Setting
    at : Setting, optional
        Sizes to look at instead of those of the first setting. What is static, and how a Reshape
        cuts, is judged by the two settings: sizes given by data may agree by chance, or be 1.
    """

    first: Setting
    second: Setting
    at: Setting | None = None

    @property
    def shown(self) -> Setting:
        """The setting that sizes are read from."""
        return self.at or self.first

    def get(self, name: str) -> Shape | None:
        """Shape in the first setting, None where it is unknown."""
        return self.shown.shapes.get(name)

    def static(self, name: str, axis: int) -> bool:
        """Whether an axis has the same size in both settings."""
        if self.first is self.second:
            return name in self.shown.shapes
        one, two = self.first.shapes.get(name), self.second.shapes.get(name)
        if one is None or two is None or len(one) != len(two):
            return False
        return one[axis] == two[axis]

    @property
    def held(self) -> dict[tuple[str, int], int]:
        """Free dimensions that the model was looked at with one size of only."""
        first, second = self.first.sizes, self.second.sizes
        return {dim: size for dim, size in first.items() if second[dim] == size}

    def value(self, name: str) -> np.ndarray | None:
        """Value that is the same in both settings, None where there is none."""
        one = self.first.values.get(name)
        if one is None or self.first is self.second:
            return one
        two = self.second.values.get(name)
        return one if two is not None and np.array_equal(one, two) else None


def analyse(graph: Graph) -> Shapes:
    """Find the static shapes and values of a model, at the first sample sizes that suit it."""
    proto = graph.model.proto
    found = []
    for sample in range(len(SAMPLES) if free_dimensions(proto) else 1):
        shapes = analyse_at(graph, *(sample_sizes(proto, setting, sample) for setting in (0, 1)))
        found.append((problems(graph, shapes), sample, shapes))
        if not found[-1][0] or shapes.first.probed:
            break
    return min(found, key=lambda entry: entry[:2])[2]


def analyse_at(graph: Graph, first: Sizes, second: Sizes) -> Shapes:
    """The same for given sizes of the free dimensions in the two settings."""
    check_ranges(graph)
    one = infer(graph, first, 0)
    check_constants(graph, one)
    if first == second and not one.sampled:
        return Shapes(one, one)
    return Shapes(one, infer(graph, second, 1))


def problems(graph: Graph, shapes: Shapes) -> int:
    """Number of float tensors without a shape, without an element, or that hide a free dimension.

    Views of another number of elements count, too. It is zero at sizes that suit.
    """
    names = [name for node in graph.nodes for name in node.outputs if name]
    count = 0
    for setting in (shapes.first, shapes.second):  # twice the same one counts twice, to be fair
        count += sum(_contradicts(node, setting) for node in graph.nodes)
        for name in names:
            shape = setting.shapes.get(name)
            if name not in setting.sequences and setting.dtypes.get(name, 1) in FLOATS:
                count += shape is None or any(size <= 0 for size in shape)
    return count + sum(_hides(node, shapes) for node in graph.nodes)


def _contradicts(node: Node, setting: Setting) -> bool:
    """Whether a Reshape gives a shape of another number of elements, which inference lets pass."""
    if node.kind != "Reshape" or setting.sampled:  # what stands in for data need not fit
        return False
    given, made = setting.shapes.get(node.inputs[0]), setting.shapes.get(node.output)
    return given is not None and made is not None and prod(given) != prod(made)


def _hides(node: Node, shapes: Shapes) -> bool:
    """Whether a sliding window leaves of a free axis a single step, or equally many at both sizes."""
    if "kernel_shape" not in node.attributes or shapes.first is shapes.second:
        return False
    given, made = node.inputs[0], node.output
    sizes = shapes.first.shapes.get(made, ())
    if len(shapes.first.shapes.get(given, ())) != len(sizes):
        return False
    steps = [k for k in range(2, len(sizes)) if not shapes.static(given, k)]
    return any(sizes[k] == 1 or shapes.static(made, k) for k in steps)


def infer(graph: Graph, sizes: Sizes, number: int = 0, probing: bool = True) -> Setting:
    """Shapes, types and small values of one setting, with the free dimensions set to ``sizes``.

    Parameters
    ----------
    number : {0, 1}
        Of the setting, which says what stands in for sizes that depend on data.
    probing : bool
        Whether to run the model where operators have no inference in ONNX.
    """
    setting = Setting(sizes, SAMPLE_COUNT[number])
    bare = bare_model(graph.model, sizes)
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except NOT_INFERRED:
        inferred = bare
    _collect(inferred.graph, setting)
    for name, constant in graph.constants.items():
        setting.shapes[name] = constant.shape
        setting.dtypes[name] = constant.dtype
        if constant.dtype == TensorProto.INT64 and constant.size <= 64:
            _known(graph, name, setting)  # sizes, axes and bounds
    _forward(graph, graph.main, setting)
    if probing:
        from .probing import probe  # it makes up inputs, for which it needs this module

        setting.probed = probe(graph, setting)
        if setting.probed:
            _forward(graph, graph.main, setting)
    return setting


def _collect(graph: onnx.GraphProto, setting: Setting) -> None:
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.HasField("tensor_type"):
            tensor = value.type.tensor_type
            if tensor.elem_type:
                setting.dtypes.setdefault(value.name, tensor.elem_type)
            dims = _declared(tensor)
            if dims is not None:
                setting.shapes.setdefault(value.name, dims)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _collect(attribute.g, setting)


def _declared(kind: TypeProto.Tensor) -> Shape | None:
    """Shape of a tensor type, None where it has an open dimension (Paddle writes -1)."""
    if not kind.HasField("shape"):
        return None
    dims = kind.shape.dim
    sizes = tuple([dim.dim_value for dim in dims])
    if min(sizes, default=1) > 0:
        return sizes
    return sizes if all(d.HasField("dim_value") and d.dim_value >= 0 for d in dims) else None


def _forward(graph: Graph, body: Body, setting: Setting) -> None:
    """Evaluate shape arithmetic and fill the gaps of shape inference, in topological order."""
    for node in body.nodes:
        if nested.follows(node):
            known = partial(_known, graph, setting=setting)
            nested.follow(node, setting, known, partial(_forward, graph))
        elif node.op == "Identity" and node.inputs[0] in setting.sequences:
            setting.sequences[node.output] = setting.sequences[node.inputs[0]]
        elif not _evaluate(graph, node, setting) and any(
            name and name not in setting.shapes for name in node.outputs
        ):
            _infer_node(graph, node, setting)


def _known(graph: Graph, name: str, setting: Setting) -> np.ndarray | None:
    """Value of a tensor if it is small and known."""
    if name in setting.values:
        return setting.values[name]
    constant = graph.constants.get(name)
    if constant is None or constant.size > VALUE_LIMIT or constant.dtype == TensorProto.STRING:
        return None
    value = np.asarray(graph.value(name))
    setting.values[name] = value
    return value


def _evaluate(graph: Graph, node: Node, setting: Setting) -> bool:
    """Compute the outputs of a node from known values; False where that is not possible."""
    if not evaluable(node):
        return False
    if node.kind in ("Shape", "Size"):
        shape = setting.shapes.get(node.inputs[0])
        if shape is None:
            return False
        dims = np.array(shape, np.int64)
        window = dims[slice(node.attr("start", 0), node.attr("end"))]
        results = [window if node.op == "Shape" else np.array(dims.prod())]
    else:
        if node.kind == "Constant" or any(
            prod(setting.shapes.get(o, ())) > VALUE_LIMIT for o in node.outputs
        ):
            return False
        if any(n and n not in setting.values and n not in graph.constants for n in node.inputs):
            return False  # before the constants among them are decoded
        inputs = [_known(graph, name, setting) if name else None for name in node.inputs]
        if any(v is None for v, name in zip(inputs, node.inputs, strict=True) if name):
            return False
        graph.effort.admit(node, inputs)
        found = evaluate(node, inputs)
        if found is None:
            return False
        results = found
    for name, value in zip(node.outputs, results, strict=False):
        if name:
            setting.shapes[name] = value.shape
            setting.dtypes[name] = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            if value.size <= VALUE_LIMIT:
                setting.values[name] = value
    return True


LIKE_INPUT = {"GroupNormalization", "LayerNormalization", "MeanVarianceNormalization"}
"""Operators without shape inference in ONNX, whose output is like their first input."""


def _infer_node(graph: Graph, node: Node, setting: Setting) -> None:
    """Infer the output types of one node from the shapes and values known by now."""
    if node.domain or node.op == "SimplifiedLayerNormalization":
        infer_quantized(node, setting)
        infer_contributed(node, setting)
        _infer_custom(node, setting)
    if node.domain or not all(name in setting.dtypes for name in node.inputs if name):
        return
    if node.op in LIKE_INPUT and node.inputs[0] in setting.shapes:
        setting.shapes[node.output] = setting.shapes[node.inputs[0]]
        setting.dtypes[node.output] = setting.dtypes[node.inputs[0]]
        return
    types, data = {}, {}
    for name in filter(None, node.inputs):
        shape = setting.shapes.get(name)
        types[name] = onnx.helper.make_tensor_type_proto(setting.dtypes[name], shape)
        value = _known(graph, name, setting)
        if value is not None and value.size <= VALUE_LIMIT:
            data[name] = numpy_helper.from_array(value)
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.input[:] = node.inputs
    say_onesided(proto)
    try:
        schema = onnx.defs.get_schema(node.op, node.opset, node.domain)
        found: dict[str, TypeProto] = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=_opsets(graph)
        )
    except (onnx.defs.SchemaError, *NOT_INFERRED):
        return
    for name, found_type in found.items():
        tensor = found_type.tensor_type
        if tensor.elem_type:
            setting.dtypes[name] = tensor.elem_type
        if tensor.HasField("shape"):
            dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
            _complete(graph, node, name, dims, setting)


def _infer_custom(node: Node, setting: Setting) -> None:
    """Shapes behind an operator of the user's own, of the type of its first input."""
    inputs = [setting.shapes.get(name) if name else None for name in node.inputs]
    known = all(shape is not None for shape, name in zip(inputs, node.inputs, strict=True) if name)
    if (node.domain, node.op) not in CUSTOM or not known or not node.inputs:
        return
    for name, shape in zip(node.outputs, shapes_behind(node.proto, inputs), strict=True):
        if name and node.inputs[0] in setting.dtypes:
            setting.shapes[name] = shape
            setting.dtypes[name] = setting.dtypes[node.inputs[0]]


def _complete(graph: Graph, node: Node, name: str, dims: list[int | None], setting: Setting) -> None:
    """Record a shape; sizes that depend on data take the sample count."""
    if None in dims and node.op in DATA_SIZED:
        kept: Sequence[int] = ()
        if node.op == "Slice" and len(node.inputs) > 3:
            axes = _known(graph, node.inputs[3], setting)
            kept = setting.shapes.get(node.inputs[0], ()) if axes is not None else ()
            sliced = {int(k) % len(dims) for k in axes} if axes is not None else set()
            kept = [setting.count if k in sliced else size for k, size in enumerate(kept)]
        kept = kept or [setting.count] * len(dims)
        dims = [k if d is None else d for d, k in zip(dims, kept, strict=True)]
        setting.sampled = True
    if None not in dims:
        setting.shapes[name] = tuple(int(d) for d in dims if d is not None)


def _opsets(graph: Graph) -> list[onnx.OperatorSetIdProto]:
    return [onnx.helper.make_opsetid(d, v) for d, v in graph.opsets.items()]
