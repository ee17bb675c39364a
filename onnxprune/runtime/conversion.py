"""Models as onnxruntime writes them in its own format."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from ..errors import ModelError
from ..model.engine import ort
from ..model.file import Model
from ..model.ort_format import OrtModel
from ..model.source import Source
from .session import PROVIDERS, first_line, readable


def in_ort_format(model: Model) -> OrtModel:
    """A model as onnxruntime's converter makes it: all rewritings but those for one kind of processor.

    Raises
    ------
    ModelError
        If onnxruntime cannot convert it.
    """
    if isinstance(model, OrtModel):
        return model
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.save_model_format", "ORT")
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        target = Path(folder, "model.ort")
        options.optimized_model_filepath = str(target)
        given = {"providers": [PROVIDERS["cpu"]], "disabled_optimizers": ["NchwcTransformer"]}
        try:
            ort.InferenceSession(readable(model, folder), options, **given)
        except Exception as error:  # onnxruntime's exception types share no base but this
            raise ModelError(f"onnxruntime cannot convert it to ORT format: {first_line(error)}") from None
        data = target.read_bytes()
    return OrtModel(onnx.ModelProto(), source=Source(data), data=data)
