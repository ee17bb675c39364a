"""Sizes that the free dimensions of a model take while it is analysed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

import onnx

from ..errors import UsageError
from ..printable import plural

FreeDimensions = Mapping[tuple[str, int], int]
"""(input, axis) -> size of a free dimension."""

SAMPLES = tuple(
    {"batch": batch, "sequence": sequence, "spatial": spatial}
    for batch in ((2, 3), (1, 1))
    for sequence, spatial in (
        ((16, 24), (224, 256)),
        ((64, 96), (256, 384)),
        ((512, 640), (32, 64)),
        ((4096, 5120), (512, 640)),
        ((16000, 20000), (1024, 1280)),
    )
)
"""Sizes that free dimensions may take in the two settings; the first that suits the model does.

A batch may be declared free in a graph that an exporter made for a single sample.
"""

SAMPLE_COUNT = (5, 7)
"""Sizes that depend on data (detections, iterations of a loop) in the two settings."""


LARGEST = 2**27
"""Elements of the largest tensor that made-up inputs may lead to."""


def affordable(shapes: Iterable[Sequence[int]]) -> bool:
    """Whether a model may be run at some sizes: attention over 16,000 steps takes all memory."""
    return max(map(prod, shapes), default=0) <= LARGEST


def graph_inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that a caller must feed (initializers listed as inputs left out)."""
    stored = {t.name for t in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in stored]


def declared_size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """Size that a model declares, None where it leaves it open (Paddle writes -1)."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def free_dimensions(proto: onnx.ModelProto) -> list[tuple[str, int]]:
    """(input, axis) of every dimension that the model leaves open."""
    found = [
        (value.name, axis)
        for value in proto.graph.input
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        if declared_size(dim) is None
    ]
    fed = {value.name for value in graph_inputs(proto)} if found else ()
    return [(name, axis) for name, axis in found if name in fed]


def sample_sizes(
    proto: onnx.ModelProto, told: FreeDimensions, setting: int, sample: int = 0
) -> dict[tuple[str, int], int]:
    """Sizes of the free dimensions in one setting; dimensions of one name get one size.

    Parameters
    ----------
    told : mapping
        Sizes of those of which the model tells, see :func:`onnxprune.shapes.told.told_sizes`.
    """
    dims = {value.name: value.type.tensor_type.shape.dim for value in proto.graph.input}
    named = {dims[name][axis].dim_param: size for (name, axis), size in told.items()}
    sizes = {}
    for name, axis in free_dimensions(proto):
        size = told.get((name, axis), SAMPLES[sample][_kind(dims[name], axis)][setting])
        label = dims[name][axis].dim_param
        sizes[name, axis] = named.setdefault(label, size) if label else size
    return sizes


def with_batch(proto: onnx.ModelProto, sizes: FreeDimensions, batch: int) -> dict[tuple[str, int], int]:
    """The same sizes with another batch."""
    dims = {value.name: value.type.tensor_type.shape.dim for value in proto.graph.input}
    found = {place for place in sizes if _kind(dims[place[0]], place[1]) == "batch"}
    labels = {dims[name][axis].dim_param for name, axis in found} - {""}
    return {
        (name, axis): batch if (name, axis) in found or dims[name][axis].dim_param in labels else size
        for (name, axis), size in sizes.items()
    }


def _kind(dims: Sequence[onnx.TensorShapeProto.Dimension], axis: int) -> str:
    """What a free axis is, as far as the other axes tell: [layers, batch, hidden] is a state."""
    state = len(dims) == 3 and dims[0].dim_value > 1 and dims[2].dim_value > 1
    if axis == 0 or (state and axis == 1):
        return "batch"
    return "spatial" if len(dims) >= 4 else "sequence"


def sizes_of(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[tuple[str, int], int]:
    """Sizes of the free dimensions from shapes of the inputs.

    Raises
    ------
    UsageError
        If an input is missing or has too few axes.
    """
    sizes = {}
    for name, axis in free_dimensions(proto):
        given = tuple(shapes.get(name, ()))
        if axis >= len(given):
            found = f"shape {given}" if name in shapes else "none"
            raise UsageError(
                f"input '{name}': found {found}, expected at least {plural(axis + 1, 'axis', 'axes')}"
            )
        sizes[name, axis] = int(given[axis])
    return sizes
