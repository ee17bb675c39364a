"""Trained networks in which random channels are set to zero: all are found, and no answer changes.

The networks and images are not part of the project; see the catalogue beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxprune.coupling.trace import trace
from onnxprune.jobs.clean import clean
from onnxprune.model.file import Model
from onnxprune.model.loading import load
from onnxprune.shapes.dimensions import graph_inputs

from .planting import Array, outputs_of, plant

SHARED = Path(__file__).parent.parent.parent / "shared"
MODELS, IMAGES = SHARED / "models", SHARED / "data" / "photos"

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no trained networks in {MODELS}")


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: ``(pixels - mean) / scale``, in a layout and a size."""

    size: tuple[int, int]
    mean: float = 0.0
    scale: float = 255.0
    layout: str = "NCHW"
    channels: int = 3

    def load(self, path: Path, dtype: np.dtype[np.generic]) -> Array:
        """Read, resize and normalise one image."""
        image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
        mode = "RGB" if self.channels == 3 else "L"
        with image.open(path) as opened:
            pixels = np.asarray(opened.convert(mode).resize(self.size[::-1]), np.float32)
        pixels = (pixels.reshape(*self.size, self.channels) - self.mean) / self.scale
        return (pixels.transpose(2, 0, 1) if self.layout == "NCHW" else pixels)[None].astype(dtype)


NETWORKS = {
    "derived_mobilenet_v2_fp32": Preprocessing((224, 224), 118, 58),
    "squeezenet1_0_fp16": Preprocessing((224, 224), 113, 1),
    "mlperf_resnet8": Preprocessing((32, 32), 0, 1, "NHWC"),
    "cifar10_resnet_4b": Preprocessing((32, 32), 118, 58),
    "mnist8_cntk": Preprocessing((28, 28), channels=1),
    "food101_fastvit": Preprocessing((224, 224)),
    "yolox_nano": Preprocessing((416, 416), 0, 1),
    "nanodet_m": Preprocessing((416, 416), 113, 58),
    "ultraface_rfb320": Preprocessing((240, 320), 127, 128),
    "osnet_x0_25": Preprocessing((256, 128), 118, 58),
    "deeplab_v3_mnv2": Preprocessing((257, 257), 127.5, 127.5, "NHWC"),
    "ppocr_v3_det": Preprocessing((224, 320), 118, 58),
    "yunet_n_dynamic": Preprocessing((224, 320), 0, 1),
    "superres_pytorch_tutorial": Preprocessing((224, 224), channels=1),
}


def feeds_of(model: Model, preprocessing: Preprocessing) -> Iterator[dict[str, Array]]:
    """A photograph as input."""
    value = graph_inputs(model.proto)[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    for path in sorted(IMAGES.glob("*.jpg"))[:1]:
        yield {value.name: preprocessing.load(path, dtype)}


def largest(before: Mapping[str, Array], after: Mapping[str, Array]) -> float:
    """Largest difference, in units of the largest value (of 1 for a saturated sigmoid)."""
    assert all(np.isfinite(array).all() for array in before.values())
    return max(
        float(np.abs(after[name] - array).max() / max(1, np.abs(array).max()))
        for name, array in before.items()
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_planted_channels_are_found(name: str) -> None:
    traced = trace(MODELS / f"{name}.onnx", norm="pin")
    model, planted = plant(traced, seed=len(name))
    result = clean(model, granularity=1)
    kept = {g.name: set(g.keep) for g in result.plan.groups}
    assert sum(map(len, planted.values())) >= 3
    missed = {group: positions & kept[group] for group, positions in planted.items()}
    assert not {group: positions for group, positions in missed.items() if positions}
    for feeds in feeds_of(load(model), NETWORKS[name]):
        gap = largest(outputs_of(model, feeds), outputs_of(result.model, feeds))
        assert gap < 5e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_untouched_networks_keep_their_answers(name: str) -> None:
    result = clean(MODELS / f"{name}.onnx")
    for feeds in feeds_of(result.trace.model, NETWORKS[name]):
        gap = largest(outputs_of(result.trace.model, feeds), outputs_of(result.model, feeds))
        assert gap < 5e-6
