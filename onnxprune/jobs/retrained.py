"""A slim model that was trained since: it is what the plan makes, and as accurate as is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..checks.report import Report
from ..checks.structure import check_structure
from ..errors import UsageError
from ..model.file import Model, ModelLike
from ..model.loading import load
from ..model.names import names_of
from ..model.protos import copied, node_protos
from ..selection.plan import Plan
from .replay import rewrite
from .verify import verify


def verify_retrained(dense: ModelLike, slim: ModelLike, plan: Plan, **settings: Any) -> Report:
    """Compare the structure of a retrained model with a plan, and its accuracy with the dense network.

    Its weights are new, so there is nothing to compare them with.

    Parameters
    ----------
    dense, slim : path, bytes, ModelProto, gs.Graph or Model
        ``slim`` may be a new export, whose constants have other names.
    plan : Plan
        Made for ``dense``.
    **settings
        Those of :func:`onnxprune.verify`, without ``plan``, ``recovery`` and ``layers``.

    Raises
    ------
    SurgeryError
        If a weight is missing, or has another shape than the plan gives it.
    """
    for name in ("layers", "recovery"):
        if settings.pop(name, None):
            raise UsageError(
                f"found both {name} and retrained, expected one of them", "New weights have no original."
            )
    original, result = load(dense), load(slim)
    structure = check_structure(rewrite(original, plan), result)
    result = called_like(original, result)
    return replace(verify(original, result, **settings), structure=structure)


def called_like(original: Model, result: Model) -> Model:
    """A model whose inputs and outputs have the names of another's, where there are as many.

    A new export numbers its tensors anew.
    """
    names: dict[str, str] = {}
    for side in ("input", "output"):
        theirs, ours = ([v.name for v in getattr(m.proto.graph, side)] for m in (result, original))
        if len(theirs) == len(ours):
            names |= dict(zip(theirs, ours, strict=True))
    names = {theirs: ours for theirs, ours in names.items() if theirs != ours}
    if not names or names.keys() & names.values() or names_of(result.proto) & set(names.values()):
        return result
    proto = copied(result.proto)
    for node in node_protos(proto.graph):
        for place in (node.input, node.output):
            place[:] = [names.get(name, name) for name in place]
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = names.get(value.name, value.name)
    return result.derived(proto)
