"""Samples for real networks, and what tells how well each still does its work.

Models and data lie in two folders beside each other, ``models`` and ``data``: photographs, sounds,
and labelled images of ImageNet and CIFAR-10. Where no data of a network's own kind are at hand, others of
the same look are taken; ``Task.note`` says so.
"""

from __future__ import annotations

import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

Arrays = dict[str, np.ndarray]
Measure = Callable[[Arrays, Arrays], float]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


@dataclass(frozen=True)
class Task:
    """What a network is for.

    Attributes
    ----------
    samples : callable
        ``(data folder, model file, how many) -> (calibration, test, labels of the test or None)``; one sample per
        entry of the first axis.
    measure : callable
        Of the outputs of the original and of the slim model; more is better.
    unit : str
        What that is.
    calibration, test : int
        How many samples.
    """

    samples: Callable[[Path, Path, int, int], tuple[Arrays, Arrays, np.ndarray | None]]
    measure: Measure
    unit: str
    calibration: int = 64
    test: int = 16
    note: str = ""


# Measures -----------------------------------------------------------------------------------------


def scored(array: np.ndarray) -> np.ndarray:
    """Scores of classes along the last axis."""
    return array.reshape(len(array), -1) if array.ndim == 4 and array.shape[-1] == 1 else array


def agreement(before: Arrays, after: Arrays) -> float:
    """Share of best classes that are the same, in the first output."""
    (a, *_), (b, *_) = before.values(), after.values()
    return float((scored(a).argmax(-1) == scored(b).argmax(-1)).mean())


def overlap(score: Callable[[Arrays], np.ndarray], before: Arrays, after: Arrays) -> float:
    """Places whose score is above 0.3 in both, over those where it is in one."""
    a, b = score(before) > 0.3, score(after) > 0.3
    return float((a & b).sum() / max(1, (a | b).sum()))


def decibels(before: Arrays, after: Arrays) -> float:
    """Mean over outputs of the power of the original over that of the difference."""
    found = []
    for name, a in before.items():
        a, b = a.astype(np.float64), after[name].astype(np.float64)
        found.append(10 * np.log10(np.square(a).sum() / max(np.square(a - b).sum(), 1e-20)))
    return float(np.mean(found))


def peak(before: Arrays, after: Arrays) -> float:
    """PSNR of images, by the range of the original."""
    (a, *_), (b, *_) = before.values(), after.values()
    error = np.square(a.astype(np.float64) - b).mean()
    return float(20 * np.log10((a.max() - a.min()) / max(np.sqrt(error), 1e-10)))


def cosine(before: Arrays, after: Arrays) -> float:
    """Mean cosine of embeddings."""
    (a, *_), (b, *_) = before.values(), after.values()
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())


def boxes_of_yolox(found: Arrays) -> np.ndarray:
    """Objectness times class."""
    (y, *_) = found.values()
    return y[..., 4:5] * y[..., 5:]


def matching(suffix: str, width: int, found: Arrays) -> np.ndarray:
    """Outputs with a name or width."""
    parts = [
        v.reshape(len(v), -1)
        for name, v in found.items()
        if (suffix and suffix in name) or (width and v.shape[-1] == width)
    ]
    return np.concatenate(parts, axis=1)


# Samples ------------------------------------------------------------------------------------------


@cache
def files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.iterdir()))


def picture(path: Any, size: tuple[int, int], box: Any = None) -> np.ndarray:
    """RGB, 0 to 255, [height, width, 3]."""
    image = Image.open(path).convert("RGB")
    height, width = size
    if image.size != (width, height) or box:
        image = image.resize((width, height), Image.Resampling.BILINEAR, box)
    return np.asarray(image, np.float32)


@dataclass(frozen=True)
class Look:
    """How pictures become inputs."""

    size: tuple[int, int]
    scale: float = 1.0
    mean: Any = 0.0
    std: Any = 1.0
    bgr: bool = False
    last: bool = False
    dtype: Any = np.float32
    luminance: bool = False
    more: int = 0

    def __call__(self, pictures: list[np.ndarray]) -> np.ndarray:
        x = np.stack(pictures)
        if self.luminance:
            x = x @ np.array([[0.299], [0.587], [0.114]], np.float32)
        if self.bgr:
            x = x[..., ::-1]
        x = (x * self.scale - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        if self.more:
            x = np.concatenate([x, np.ones((*x.shape[:3], self.more))], axis=3)
        x = x if self.last else x.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(x.astype(self.dtype))


def fed(model: Path, *arrays: np.ndarray) -> list[Arrays]:
    """Arrays under the name of the first input."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [{session.get_inputs()[0].name: x} for x in arrays]


def imagenet(look: Look, data: Path, model: Path, calibration: int, test: int) -> Any:
    """Images of one class each: even positions calibrate, odd ones test."""
    found = files(data / "imagenet")
    even, odd = found[::2][:calibration], found[1::2][:test]
    labels = np.array([int(path.name.split("_")[0]) for path in odd])
    first, second = (look([picture(p, look.size) for p in part]) for part in (even, odd))
    return *fed(model, first, second), labels


def cifar(look: Look, data: Path, model: Path, calibration: int, test: int) -> Any:
    """Images of CIFAR-10 in a seeded order: the first ones calibrate."""
    with zipfile.ZipFile(data / "cifar10_half.zip") as archive:
        names = sorted(archive.namelist())
        classes = sorted({name.split("/")[1] for name in names})
        order = np.random.default_rng(0).permutation(len(names))[: calibration + test]
        pictures = [picture(BytesIO(archive.read(names[k])), look.size) for k in order]
    labels = np.array([classes.index(names[k].split("/")[1]) for k in order[calibration:]])
    return *fed(model, look(pictures[:calibration]), look(pictures[calibration:])), labels


def photos(look: Look, data: Path, model: Path, calibration: int, test: int) -> Any:
    """Photographs: crops of every other one, and images of ImageNet, calibrate; the others test."""
    rng = np.random.default_rng(0)
    taken, others = files(data / "photos")[::2], files(data / "photos")[1::2]
    more = files(data / "imagenet")
    crops = []
    for k in range(calibration // 2):
        path = taken[k % len(taken)]
        width, height = Image.open(path).size
        share = rng.uniform(0.5, 1)
        left, top = rng.uniform(0, 1 - share, 2)
        box = left * width, top * height, (left + share) * width, (top + share) * height
        crops.append(picture(path, look.size, box))
    seen = [picture(p, look.size) for p in more[::2][: calibration - len(crops)]]
    apart = [*others, *more[1::2]][:test]
    mixed = [p for pair in zip(crops, seen, strict=True) for p in pair]
    return *fed(model, look(mixed), look([picture(p, look.size) for p in apart])), None


def digits(shape: tuple[int, ...], data: Path, model: Path, calibration: int, test: int) -> Any:
    """Handwritten digits of 8 x 8 pixels, enlarged to 28 x 28 with a margin."""
    folder = Path(__file__).resolve().parents[2] / "models"

    def large(name: str, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        with np.load(folder / name) as archive:
            x, labels = archive["image"][:count], archive["labels"][:count] if "labels" in archive else None
        x = (x.reshape(-1, 8, 8) - x.min()) / (x.max() - x.min()) * 255
        pictures = [np.asarray(Image.fromarray(v.astype(np.uint8)).resize((20, 20), 3)) for v in x]
        wide = np.pad(np.stack(pictures), [(0, 0), (4, 4), (4, 4)]).astype(np.float32) / 255
        return wide.reshape(len(x), *shape), labels

    (first, _), (second, labels) = large("digits_train.npz", calibration), large("digits_test.npz", test)
    return *fed(model, first, second), labels


@cache
def sound(path: Path, rate: int) -> np.ndarray:
    """Samples of a file at a rate, -1 to 1."""
    with wave.open(str(path)) as file:
        own = file.getframerate()
        x = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    where = np.arange(0, len(x) - 1, own / rate)
    return np.interp(where, np.arange(len(x)), x).astype(np.float32) if own != rate else x


def pieces(folder: Path, length: int, rate: int, count: int, part: int, step: int = 0) -> np.ndarray:
    """Windows of every other sound, in turns."""
    rows: list[np.ndarray] = []
    for path in files(folder)[part::2]:
        x = sound(path, rate)
        if len(x) < length:
            x = np.pad(x, (0, length - len(x)))
        rows += list(np.lib.stride_tricks.sliding_window_view(x, length)[:: step or length])
    order = np.random.default_rng(part).permutation(len(rows))[:count]
    return np.stack([rows[k] for k in order])


def sounds(
    length: int, rate: int, shape: tuple[int, ...], step: int, data: Path, model: Path, *n: int
) -> Any:
    """Windows of sound as they are."""
    parts = [pieces(data / "audio", length, rate, n[k], k, step).reshape(-1, *shape) for k in (0, 1)]
    return *fed(model, *parts), None


def coefficients(data: Path, model: Path, calibration: int, test: int) -> Any:
    """Ten cepstral coefficients of 49 windows of 40 ms over a second."""
    parts = []
    for k, count in enumerate((calibration, test)):
        x = pieces(data / "audio", 16000, 16000, count, k, 4000)
        windows = np.lib.stride_tricks.sliding_window_view(x, 640, 1)[:, ::320][:, :49]
        power = np.square(np.abs(np.fft.rfft(windows * np.hanning(640), 1024)))
        mel = np.log(power @ filters(40, 513) + 1e-6)
        basis = np.cos(np.pi / 40 * (np.arange(40)[:, None] + 0.5) * np.arange(10))
        parts.append((mel @ basis)[..., None].astype(np.float32))
    return *fed(model, *parts), None


def filters(count: int, bins: int) -> np.ndarray:
    """Triangles that are equally wide in mel, [bins, count], from 20 to 4,000 Hz at 16 kHz."""
    low, high = (1127 * np.log1p(f / 700) for f in (20, 4000))
    edges = 700 * np.expm1(np.linspace(low, high, count + 2) / 1127) / 8000 * (bins - 1)
    at = np.arange(bins)[:, None]
    up, down = (at - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - at) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(up, down))


def streamed(
    frames: Callable[[Path, int], np.ndarray], back: dict[str, str], data: Path, model: Path, *n: int
) -> Any:
    """Frames in their order, beside the states that the original carries from each to the next."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (first, *states) = session.get_inputs()
    found = []
    for part, count in enumerate(n):
        rows: dict[str, list[np.ndarray]] = {}
        feeds: Arrays = {}
        for number, frame in enumerate(frames(data, part)[: 4 * count]):
            if number % 400 == 0:
                shapes = {s.name: [d if isinstance(d, int) else 1 for d in s.shape] for s in states}
                feeds = {
                    s.name: np.array(16000)
                    if s.type == "tensor(int64)"
                    else np.zeros(shapes[s.name], np.float32)
                    for s in states
                }
            feeds[first.name] = frame
            if number % 4 == 3:
                for name, array in feeds.items():
                    rows.setdefault(name, []).append(array)
            outputs = dict(
                zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True)
            )
            feeds.update({name: outputs[made] for name, made in back.items()})
        found.append({name: np.stack(part) if part[0].ndim else part[0] for name, part in rows.items()})
    return *found, None


def spoken(data: Path, part: int) -> np.ndarray:
    """All speech at 16 kHz, of every other file."""
    return np.concatenate([sound(path, 16000) for path in files(data / "audio")[part::2]])


def spectra(data: Path, part: int) -> np.ndarray:
    """Real and imaginary part of a transform of 512 samples, by steps of 256."""
    x = spoken(data, part)
    windows = np.lib.stride_tricks.sliding_window_view(x, 512)[::256] * np.sqrt(np.hanning(512))
    found = np.fft.rfft(windows)
    return np.stack([found.real, found.imag], -1).astype(np.float32)[:, None, :, None, :]


def frames(length: int, step: int, shape: tuple[int, ...], data: Path, part: int) -> np.ndarray:
    """Windows of speech in their order."""
    windows = np.lib.stride_tricks.sliding_window_view(spoken(data, part), length)[::step]
    return windows.reshape(-1, *shape)


def text(data: Path, model: Path, calibration: int, test: int) -> Any:
    """Small crops of photographs, beside a length that is always the same."""
    rng, found = np.random.default_rng(0), []
    for part, count in enumerate((calibration, test)):
        taken, crops = files(data / "photos")[part::2], []
        for k in range(count):
            path = taken[k % len(taken)]
            width, height = Image.open(path).size
            left, top = rng.uniform(0, width * 0.7), rng.uniform(0, height * 0.85)
            crops.append(picture(path, (60, 128), (left, top, left + 0.3 * width, top + 0.15 * height)))
        lengths = np.full((count, 1), 32, np.int32)
        found.append({"data": Look((60, 128), 1 / 255)(crops)[:, None], "seq_lengths": lengths})
    return *found, None


def runs(model: Any, arrays: Arrays) -> Iterator[tuple[int, Arrays]]:
    """Number of the sample, and the inputs of its run."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ranks = {entry.name: len(entry.shape) for entry in session.get_inputs()}
    many = {name for name, x in arrays.items() if x.ndim and x.ndim >= ranks[name] and ranks[name]}
    count = max(len(arrays[name]) for name in many)
    for k in range(count):
        part = {
            n: (x[k] if x.ndim > ranks[n] else x[k : k + 1]) if n in many else x for n, x in arrays.items()
        }
        found = session.run(None, part)
        yield k, dict(zip((o.name for o in session.get_outputs()), found, strict=True))


def outputs(model: Any, arrays: Arrays) -> Arrays:
    """Outputs of a model on all samples, one after the other."""
    rows: dict[str, list[np.ndarray]] = {}
    for _, found in runs(model, arrays):
        for name, y in found.items():
            rows.setdefault(name, []).append(np.asarray(y))
    return {name: np.concatenate([np.atleast_1d(y) for y in part]) for name, part in rows.items()}


TORCH: dict[str, Any] = {"scale": 1 / 255, "mean": IMAGENET[0], "std": IMAGENET[1]}

TASKS: dict[str, Task] = {
    "agllnet_256": Task(partial(photos, Look((256, 256), 1 / 255)), peak, "PSNR, dB", 12, 8),
    "basic_pitch": Task(partial(sounds, 43844, 22050, (43844, 1), 11025), partial(overlap, partial(matching, "", 88)), "notes > .3", 24, 12),
    "carvana_unet_upsample_small": Task(partial(imagenet, Look((31, 47), 1 / 255, more=1)), decibels, "SNR, dB", 256, 64, "no cars: images of ImageNet"),
    "cifar10_resnet_4b": Task(partial(cifar, Look((32, 32), 1 / 255, *CIFAR)), agreement, "same class", 512, 2000),
    "cifar10_vit_ibp_3_3_8": Task(partial(cifar, Look((32, 32), 1 / 255, *CIFAR)), agreement, "same class", 512, 2000),
    "deeplab_v3_mnv2": Task(partial(photos, Look((257, 257), 1 / 127.5, 1.0, last=True)), agreement, "same mask"),
    "derived_mobilenet_v2_fp32": Task(partial(imagenet, Look((224, 224), **TORCH)), agreement, "same class", 250, 250),
    "derived_mobilenet_v2_qdq": Task(partial(imagenet, Look((224, 224), **TORCH)), agreement, "same class", 96, 250),
    "dtln_2": Task(partial(streamed, partial(frames, 512, 512, (1, 1, 512)), {"input_5": "tf_op_layer_stack_5"}), decibels, "SNR, dB", 256, 128, "sound in place of its features"),
    "fns_candy": Task(partial(photos, Look((720, 720))), peak, "PSNR, dB", 6, 4),
    "food101_fastvit": Task(partial(imagenet, Look((224, 224), **TORCH)), agreement, "same class", 128, 128, "no dishes: images of ImageNet"),
    "gtcrn_simple": Task(partial(streamed, spectra, {"conv_cache": "conv_cache_out", "tra_cache": "tra_cache_out", "inter_cache": "inter_cache_out"}), decibels, "SNR, dB", 128, 64),
    "kws_dscnn_l": Task(coefficients, agreement, "same class", 128, 128, "speech without its words"),
    "mlperf_resnet8": Task(partial(cifar, Look((32, 32), last=True)), agreement, "same class", 512, 2000),
    "mnist8_cntk": Task(partial(digits, (1, 28, 28)), agreement, "same class", 512, 450, "digits of 8 x 8"),
    "mnist_fc_256x6": Task(partial(digits, (784, 1)), agreement, "same class", 512, 450, "digits of 8 x 8"),
    "mobilenet_v2_qoperator_int8": Task(partial(imagenet, Look((224, 224), **TORCH)), agreement, "same class", 96, 250),
    "nanodet_m": Task(partial(photos, Look((416, 416), mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), bgr=True)), partial(overlap, partial(matching, "", 80)), "boxes > .3"),
    "ocr_crnn_lstm": Task(text, agreement, "same letters", 64, 64, "crops without text, too"),
    "osnet_x0_25": Task(partial(photos, Look((256, 128), **TORCH)), cosine, "cosine", note="not only people"),
    "ppocr_v3_det": Task(partial(photos, Look((320, 320), **TORCH)), partial(overlap, partial(matching, "sigmoid", 0)), "pixels > .3", 48),
    "silero_mini_v1": Task(partial(sounds, 16000, 16000, (16000,), 8000), partial(overlap, lambda f: next(iter(f.values()))), "frames > .3", 48, 48),
    "silero_vad_16k_op15": Task(partial(streamed, partial(frames, 576, 512, (1, 576)), {"state": "stateN"}), partial(overlap, partial(matching, "output", 0)), "frames > .3", 400, 256),
    "squeezenet1_0_fp16": Task(partial(imagenet, Look((224, 224), mean=(104, 117, 123), bgr=True, dtype=np.float16)), agreement, "same class", 128, 250),
    "superres_pytorch_tutorial": Task(partial(photos, Look((224, 224), 1 / 255, luminance=True)), peak, "PSNR, dB", 32),
    "tao_lpdnet_usa_pruned": Task(
        partial(photos, Look((480, 640), 1 / 255)), decibels, "SNR, dB", 24, note="no number plates"
    ),
    "ultraface_rfb320": Task(partial(photos, Look((240, 320), 1 / 128, 127 / 128)), partial(overlap, lambda f: f["scores"][..., 1]), "boxes > .3"),
    "yolox_nano": Task(partial(photos, Look((416, 416), bgr=True)), partial(overlap, boxes_of_yolox), "boxes > .3", 32),
    "yunet_n_dynamic": Task(partial(photos, Look((320, 320), bgr=True)), partial(overlap, lambda f: np.sqrt(matching("cls", 0, f) * matching("obj", 0, f))), "boxes > .3"),
}  # fmt: skip
