"""What a model computes on calibration data: the tensors that criteria look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from ..coupling.trace import Trace
from ..errors import UsageError
from ..model.file import Model
from ..model.protos import copied
from ..runtime.providers import choose_provider
from ..runtime.session import open_session, run
from .batches import Data
from .dataset import open_data


def activations(
    traced: Trace,
    names: Sequence[str],
    data: Data,
    samples: int | None = None,
    profile: Any = None,
    provider: str = "cpu",
) -> Iterator[dict[str, np.ndarray]]:
    """Computed tensors, batch by batch.

    Parameters
    ----------
    traced : Trace
    names : sequence of str
        Tensors of the main graph.
    data, samples, profile
        See :func:`onnxprune.data.dataset.open_data`.

    Raises
    ------
    UsageError
        If the data do not fit the model, or there are none.
    """
    found = open_data(traced, data, labels=False, samples=samples, profile=profile)
    with open_session(with_outputs(traced, names), choose_provider(provider)) as session:
        for batch in found:
            if not all(array.size for array in batch.feeds.values()):
                raise UsageError("data: found no samples, expected at least one")
            yield run(session, batch.feeds)


def with_outputs(traced: Trace, names: Sequence[str]) -> Model:
    """The model with some of its tensors as outputs."""
    proto = copied(traced.model.proto)
    declared = {value.name for value in proto.graph.output}
    for name in dict.fromkeys(names):
        if name not in declared:
            kind = traced.shapes.first.dtypes.get(name, onnx.TensorProto.FLOAT)
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return traced.model.derived(proto)
