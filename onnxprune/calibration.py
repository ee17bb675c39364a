"""What a model computes on calibration data: the tensors that criteria look at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from .data import check_inputs, load_data
from .errors import UsageError
from .model import Model
from .runtime import Arrays, choose_provider, open_session, run
from .samples import graph_inputs
from .trace import Trace

BATCH = 16
"""Samples per run of a model whose batch is free."""


def activations(
    traced: Trace,
    names: Sequence[str],
    data: str | os.PathLike[str] | Arrays,
    samples: int | None = None,
    provider: str = "cpu",
) -> Iterator[dict[str, np.ndarray]]:
    """Computed tensors, batch by batch.

    Parameters
    ----------
    traced : Trace
    names : sequence of str
        Tensors of the main graph.
    data : path of an .npz file, or mapping
        Inputs by name. Where they hold more samples along their first axis than the model takes
        at once, they are fed in batches.
    samples : int, optional
        Use only so many.

    Raises
    ------
    UsageError
        If the data do not fit the model, or there are none.
    """
    feeds = load_data(data)
    with open_session(with_outputs(traced, names), choose_provider(provider)) as session:
        for batch in batches(traced.model.proto, feeds, samples):
            check_inputs(traced.model.proto, batch)
            if not all(array.size for array in batch.values()):
                raise UsageError("data: found no samples, expected at least one")
            yield run(session, batch)


def with_outputs(traced: Trace, names: Sequence[str]) -> Model:
    """The model with some of its tensors as outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(traced.model.proto)
    declared = {value.name for value in proto.graph.output}
    for name in dict.fromkeys(names):
        if name not in declared:
            kind = traced.shapes.first.dtypes.get(name, onnx.TensorProto.FLOAT)
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return Model(proto, traced.model.folder, None, dict(traced.model.cuts))


def batches(proto: onnx.ModelProto, feeds: Arrays, samples: int | None = None) -> Iterator[Mapping[str, np.ndarray]]:  # fmt: skip
    """Parts of the data that the model takes at once; all of it where it cannot be told apart."""
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph_inputs(proto)}
    arrays = [feeds[name] for name in inputs if name in feeds]
    fixed = {dims[0].dim_value for dims in inputs.values() if len(dims)}
    counts = {len(array) if array.ndim else -1 for array in arrays}
    if len(arrays) < len(inputs) or len(counts) != 1 or len(fixed) != 1 or -1 in counts:
        yield feeds
        return
    static, count = fixed.pop(), counts.pop()
    count = min(count, samples or count)
    size = static or min(BATCH, count)
    if not count or count < static:
        yield feeds
        return
    for start in range(0, count - static + 1 if static else count, size):
        stop = min(start + size, count)
        yield {name: feeds[name][start:stop] for name in inputs}
