"""Shapes that the slim model declares: recorded ones, and those of inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from ..labels.sizes import Sizes
from ..labels.vector import NONE, Labels
from ..model.protos import graphs

Sequences = Mapping[str, Sequence[Sequence[Labels]]]
"""Sequence -> labels of its elements."""


def update_declared(
    main: onnx.GraphProto, sizes: Sizes, sequences: Sequences, dims: Mapping[str, Sequence[int]]
) -> None:
    """Mend the shapes that a model and the graphs nested in it declare.

    Parameters
    ----------
    dims : mapping
        Stored tensor -> its sizes, which may be listed as an input.
    """
    for graph in graphs(main):
        for value in (*graph.value_info, *graph.input, *graph.output):
            declared = _declared(value.type)
            slim = dims.get(value.name)
            shrunk = _shrunk(sizes, sequences.get(value.name, ()))
            for axis, dim in enumerate(declared):
                if axis in shrunk:
                    dim.Clear()
                elif slim is not None and len(slim) == len(declared):
                    dim.dim_value = slim[axis]
                elif sizes.index(value.name, axis) is not None and dim.HasField("dim_value"):
                    dim.dim_value = sizes.size(value.name, axis)


def _shrunk(sizes: Sizes, elements: Sequence[Sequence[Labels]]) -> set[int]:
    """Axes of the elements of a sequence that shrink; they need not be of one size any more."""
    return {
        axis
        for element in elements
        for axis, labels in enumerate(element)
        if labels is not NONE and not sizes.mask(labels).all()
    }


def _declared(kind: onnx.TypeProto) -> Any:
    """Dimensions of a tensor type, or of the elements of a sequence or optional type."""
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    return kind.tensor_type.shape.dim
