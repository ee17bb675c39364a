"""A module in place of an ONNX file: both run on the same inputs, and what they compute is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..checks.accepted import NOISE, ROUNDING
from ..coupling.parts import equal_parts
from ..coupling.trace import trace
from ..data.dataset import runnable
from ..errors import UsageError
from ..model.file import Model
from ..model.protos import copied
from ..printable import plural
from ..runtime.session import open_session, run
from ..shapes.dimensions import graph_inputs


@dataclass(frozen=True)
class Agreement:
    """How far a module is from an ONNX file.

    Attributes
    ----------
    difference : float
        Relative L2 difference of the worst output.
    allowed : float
        What is rounding: what counts as such for float32, or as many times the difference of the pair
        before, whose two engines add up in the same two orders, as is accepted of noise elsewhere.
    """

    difference: float
    allowed: float

    def __bool__(self) -> bool:
        return self.difference <= self.allowed

    def __str__(self) -> str:
        return f"relative L2 difference {self.difference:.2g}, accepted {self.allowed:.2g}"


def agree(
    model: Model,
    module: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    given: Sequence[np.ndarray] | None = None,
    base: Agreement | None = None,
) -> Agreement:
    """Run both on the same inputs.

    Parameters
    ----------
    module : callable
        Arrays in the order of the model's inputs -> arrays in the order of its outputs.
    given : sequence of arrays, optional
        Those inputs; made up otherwise.
    base : Agreement, optional
        Of the pair before it was cut.

    Raises
    ------
    UsageError
        If inputs or outputs do not match.
    """
    names = [value.name for value in graph_inputs(model.proto)]
    if given is not None and len(given) != len(names):
        raise UsageError(f"found {plural(len(given), 'input')}, expected {len(names)}: {', '.join(names)}")
    data = None if given is None else dict(zip(names, given, strict=True))
    with open_session(model, "cpu") as session:
        attempt = partial(run, session, what="the original")
        feeds = data if data is not None else runnable(attempt, trace(model)).first.feeds
        outputs = list(run(session, feeds).values())
    made = list(module([feeds[name] for name in names]))
    if [a.shape for a in made] != [a.shape for a in outputs]:
        raise UsageError(
            f"the module gives outputs of shapes {[list(a.shape) for a in made]}, the ONNX file {[list(a.shape) for a in outputs]}",
            "Give the module that was exported.",
        )
    worst = max((_relative(*pair) for pair in zip(made, outputs, strict=True)), default=0.0)
    rounding = ROUNDING[np.dtype(np.float32)]
    return Agreement(worst, max(rounding, NOISE * base.difference if base else 0.0))


def _relative(made: np.ndarray, expected: np.ndarray) -> float:
    off = np.linalg.norm((made.astype(np.float64) - expected).reshape(-1))
    size = np.linalg.norm(expected.astype(np.float64).reshape(-1))
    return float(off / size) if size else float(off)


def without_training(model: Model) -> Model:
    """The same model as it is used once trained: exports of the training mode keep that mode."""
    proto = copied(model.proto)
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            for attribute in node.attribute:
                if attribute.name == "training_mode" and attribute.i:
                    attribute.i = 0
                    del node.output[1:]
        elif node.op_type == "Dropout" and len(node.input) > 2:
            node.input[2] = ""
    return model.derived(proto)


def uneven(dense: Model, slim: Model) -> str:
    """Where parts that were equal are not any more: a reason for a module that says ``chunk(2)`` to fail."""
    first, second = trace(dense), trace(slim)
    after = second.sizes()
    for node, names in equal_parts(first.graph, first.sizes().shape):
        shapes = [list(after.shape(name)) for name in names]
        if any(shape != shapes[0] for shape in shapes):
            sizes = " and ".join(map(str, shapes))
            return f"{node.op} '{node.name}' gave equal parts, and gives {sizes}: code that divides by a number of parts cannot say that; prune with --parts equal"
    return ""
