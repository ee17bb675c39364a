"""Is a slim model that was trained since still what a plan makes? Its weights are new; its shape is not."""

from __future__ import annotations

from collections import Counter

from ..errors import SurgeryError
from ..model.file import Model
from ..model.graph import UNLABELLED, Graph, is_matrix
from ..printable import plural
from ..shapes.setting import Shape

HINT = "It was made by another plan, or exported from another network."


def check_structure(expected: Model, found: Model) -> str:
    """Compare the stored tensors of a retrained model with those that a plan makes.

    By name where the names are the same; those of a new export are not, and then the matrices and kernels
    that the network reads are counted by their sizes, in whatever order an exporter holds the axes.

    Returns
    -------
    What was compared, as half a sentence.

    Raises
    ------
    SurgeryError
        If a tensor is missing, or has another shape.
    """
    wanted, held = _shapes(expected), _shapes(found)
    shared = wanted.keys() & held.keys()
    if len(shared) == len(wanted):
        for name in wanted:
            if wanted[name] != held[name]:
                raise SurgeryError(
                    f"'{name}' of the retrained model: found shape {list(held[name])}, expected {list(wanted[name])}",
                    HINT,
                )
        return f"{plural(len(wanted), 'stored tensor')} as planned, by name"
    one, other = (Counter(map(_plain, filter(is_matrix, shapes.values()))) for shapes in (wanted, held))
    for shape in sorted(one.keys() | other.keys()):
        if one[shape] != other[shape]:
            raise SurgeryError(
                f"the retrained model has {plural(other[shape], 'weight')} of the sizes {list(shape)}, expected {one[shape]}",
                HINT,
            )
    return f"{plural(sum(one.values()), 'weight')} as planned, by their sizes"


def _shapes(model: Model) -> dict[str, Shape]:
    """Shapes of the stored tensors of floats that nodes read."""
    graph = Graph(model)
    names = {name for node in graph.nodes for name in node.inputs if name in graph.constants}
    read = (graph.constants[name] for name in names)
    return {c.name: c.shape for c in read if c.size > 1 and c.dtype not in UNLABELLED}


def _plain(shape: Shape) -> Shape:
    return tuple(sorted(size for size in shape if size > 1))
