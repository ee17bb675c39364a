"""The slim model in 8 bits: onnxruntime's own quantizer, on the samples that pruning used."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from ..coupling.trace import Trace, trace
from ..data.batches import Data, DataSet
from ..errors import ModelError, OnnxPruneError
from ..model.file import PROTOBUF_LIMIT, Model, ModelLike
from ..model.loading import load
from ..model.protos import node_protos, opset_of
from ..recovery.job import chosen_samples
from ..runtime.session import first_line, logged_from, open_session
from .growth import growth, larger

PER_CHANNEL = 13
"""Opset from which on QuantizeLinear and DequantizeLinear take a scale per channel."""


def quantize(
    source: ModelLike,
    data: Data,
    *,
    samples: int | None = None,
    profile: Any = None,
    traced: Trace | None = None,
) -> Model:
    """Quantise a model to 8 bits, weights and activations, as onnxruntime's static quantizer does.

    It writes QuantizeLinear and DequantizeLinear around what it quantises (QDQ), one scale per channel
    of a weight where the opset has that, and the ranges of activations from the samples' extremes. How
    far the result is from an original tells :func:`onnxprune.verify`.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    data : path of an .npz file or of a folder, mapping of arrays by input, or DataSet
        Samples, without labels.
    samples : int, optional
        Use so many, evenly spread; 512 by default.
    profile : str or mapping, optional
        How images become inputs.
    traced : Trace, optional
        Analysis of a model with the same inputs, where it was made already.

    Raises
    ------
    ModelError
        If the quantizer does not take the model, leaves it as it is, or makes it larger.
    UsageError
        If the data do not fit.
    """
    model = load(source)
    if model.weight_bytes > PROTOBUF_LIMIT:
        raise ModelError("onnxruntime's quantizer takes models up to 2 GiB: found a larger one")
    if written := _scales(model.proto):
        raise ModelError(f"QuantizeLinear '{written[0]}': found a quantised model, expected floats")
    settings = {"data": data, "samples": samples, "profile": profile}
    found = _quantized(model, chosen_samples(traced or trace(model), settings))
    if not _scales(found.proto):
        raise ModelError("onnxruntime's quantizer found nothing to quantise: it takes layers in float32")
    if more := growth(traced.model if traced else model, found):
        raise ModelError(f"in 8 bits {larger(more)}", "Small models are no smaller in 8 bits.")
    with open_session(found, "cpu", "what its quantizer made"):
        return found


def _quantized(model: Model, samples: DataSet) -> Model:
    """What onnxruntime's quantizer makes of a model, with batch normalization folded first."""
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    fine = opset_of(model.proto) >= PER_CHANNEL
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder, _unheard(), logged_from(4):
        given, ready, small = (str(Path(folder) / f"{name}.onnx") for name in ("given", "ready", "small"))
        onnx.save(model.embedded(), given)
        try:
            quant_pre_process(given, ready, skip_symbolic_shape=True)
            quantize_static(
                ready,
                small,
                _Reader(samples),
                per_channel=fine,
                calibration_providers=["CPUExecutionProvider"],
            )
        except OnnxPruneError:
            raise  # of the samples
        except Exception as error:  # the quantizer raises whatever comes
            raise ModelError(
                f"onnxruntime's quantizer does not take the model: {first_line(error)}"
            ) from None
        return load(Path(small).read_bytes())


class _Reader:
    """Samples as the quantizer asks for them, batch by batch."""

    def __init__(self, samples: DataSet) -> None:
        self.left = iter(samples)

    def get_next(self) -> dict[str, Any] | None:
        """Inputs by name; None after the last."""
        batch = next(self.left, None)
        return None if batch is None else dict(batch.feeds)


def _scales(proto: onnx.ModelProto) -> list[str]:
    """Names of the nodes that quantise."""
    return [
        node.name or node.output[0] for node in node_protos(proto.graph) if node.op_type == "QuantizeLinear"
    ]


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep the quantizer's advice, which it logs at the root, from the user's terminal."""
    root, silent = logging.getLogger(), logging.NullHandler()
    before = root.manager.disable
    root.addHandler(silent)  # without one, the first message sets up the root's output for good
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(silent)
