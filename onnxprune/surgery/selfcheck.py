"""The check of every slim model: its sizes are those that the analysis foretold.

Shape inference runs over the slim model without its weights, and every shape is compared with the size
view: that costs milliseconds, needs no data and is always done.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx

from ..coupling.trace import Trace
from ..errors import ModelError, SurgeryError
from ..labels.sizes import Sizes
from ..model.effort import NOT_INFERRED
from ..model.file import Model
from ..model.protos import graphs
from ..runtime.session import open_session, run
from ..shapes.made_up import synthetic_inputs
from ..shapes.weightless import bare_model


class Contradiction(NamedTuple):
    """Where the sizes that ONNX infers differ from those of the analysis.

    Without a name of a tensor, inference itself fails, as ``error`` says.
    """

    name: str = ""
    axis: int = 0
    found: int = 0
    expected: int = 0
    error: str = ""


def self_check(slim: Model, traced: Trace, sizes: Sizes) -> None:
    """Compare the shapes that ONNX infers for the slim model with the size view.

    Raises
    ------
    ModelError
        If the original contradicts itself in the same way.
    SurgeryError
        At the first tensor that differs, naming the node that makes it.
    """
    found = contradiction(slim, traced, sizes)
    if found is None:
        return
    before = contradiction(traced.model, traced, traced.sizes())
    if before is not None:
        refuse_original(before, traced)
        raise ModelError(
            f"{traced.graph.producers.get(before.name)}: ONNX infers size {before.found} along axis "
            f"{before.axis} of '{before.name}', where its inputs give {before.expected}",
            "The model contradicts itself; export it again.",
        )
    must_run(traced)
    if found.error:
        raise SurgeryError(f"the slim model contradicts itself: {found.error}")
    raise SurgeryError(
        f"{traced.graph.producers.get(found.name)}: found size {found.found} along axis {found.axis} of "
        f"'{found.name}', expected {found.expected}",
        "This is a bug in the rule of an operator on the way; please report it.",
    )


def contradiction(model: Model, traced: Trace, sizes: Sizes) -> Contradiction | None:
    """The first tensor whose inferred sizes are not those of the view; None if all are."""
    bare = bare_model(model, traced.shapes.first.sizes, declared=False)
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=False, data_prop=True)
    except NOT_INFERRED as error:
        return Contradiction(error=str(error))
    for graph in graphs(inferred.graph):
        for value in (*graph.value_info, *graph.output):
            dims = value.type.tensor_type.shape.dim
            expected = sizes.shape(value.name)
            if not dims or not expected or expected == tuple([dim.dim_value for dim in dims]):
                continue
            for axis, (dim, size) in enumerate(zip(dims, expected, strict=False)):
                if dim.dim_value != size and dim.HasField("dim_value"):
                    return Contradiction(value.name, axis, dim.dim_value, size)
    return None


def must_run(traced: Trace) -> None:
    """Nothing is our mistake where the original does not run: then its sizes mean nothing.

    Raises
    ------
    ModelError
        Why it does not run.
    """
    feeds = synthetic_inputs(traced.graph, sizes=traced.shapes.first.sizes)
    with open_session(traced.model, what="the original") as session:
        run(session, feeds, "the original")


def refuse_original(found: Contradiction, traced: Trace) -> None:
    """Say what is wrong with the original, as far as the file and not the analysis is at fault.

    Raises
    ------
    ModelError
        If inference fails, or the file declares a size that its nodes do not give.
    """
    if found.error:
        raise ModelError(f"the model contradicts itself: {found.error}")
    for graph in graphs(traced.model.proto.graph):
        for value in (*graph.value_info, *graph.output):
            dims = value.type.tensor_type.shape.dim
            if value.name == found.name and found.axis < len(dims):
                declared = dims[found.axis].dim_value
                given = found.found if declared == found.expected else found.expected
                if declared in (found.expected, found.found):
                    raise ModelError(
                        f"{traced.graph.producers.get(found.name)}: the model declares size {declared} along "
                        f"axis {found.axis} of '{found.name}', but its nodes give {given}",
                        "Take the declared shape out of the file (its value_info), or export it again.",
                    )
