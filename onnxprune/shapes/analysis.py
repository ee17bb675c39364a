"""Shapes at two settings of the free dimensions, at the first sample sizes that suit the model."""

from __future__ import annotations

from math import prod

from ..model.graph import Graph
from ..model.node import Node
from .dimensions import SAMPLES, FreeDimensions, free_dimensions, sample_sizes
from .inference import FLOATS, forward, infer
from .limits import check_constants, check_ranges
from .probing import probe
from .setting import Setting, Shapes
from .told import told_sizes


def analyse(graph: Graph) -> Shapes:
    """Find the static shapes and values of a model, at the first sample sizes that suit it."""
    proto, told = graph.model.proto, told_sizes(graph)
    found = []
    for sample in range(len(SAMPLES) if free_dimensions(proto) else 1):
        shapes = analyse_at(graph, *(sample_sizes(proto, told, setting, sample) for setting in (0, 1)))
        found.append((problems(graph, shapes), sample, shapes))
        if not found[-1][0] or shapes.first.probed:
            break
    return min(found, key=lambda entry: entry[:2])[2]


def analyse_at(graph: Graph, first: FreeDimensions, second: FreeDimensions) -> Shapes:
    """The same for given sizes of the free dimensions in the two settings."""
    check_ranges(graph)
    one = examine(graph, first, 0)
    check_constants(graph, one)
    if first == second and not one.sampled:
        return Shapes(one, one)
    return Shapes(one, examine(graph, second, 1))


def problems(graph: Graph, shapes: Shapes) -> int:
    """Number of float tensors without a shape, without an element, or that hide a free dimension.

    Views of another number of elements count, too. It is zero at sizes that suit, so what is stored as it
    is, such as the empty region of a Resize, and what nothing reads, such as the mask of a Dropout, is no
    problem.
    """
    read = graph.consumers.keys() | graph.returned
    names = [name for name in graph.producers if name in read and name not in graph.constants]
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


def examine(graph: Graph, sizes: FreeDimensions, number: int = 0) -> Setting:
    """Shapes, types and small values of one setting; parameters are those of :func:`infer`.

    Where operators have no inference in ONNX the model runs, and what it returns tells.
    """
    setting = infer(graph, sizes, number)
    setting.probed = probe(graph, setting)
    if setting.probed:
        forward(graph, graph.main, setting)
    return setting
