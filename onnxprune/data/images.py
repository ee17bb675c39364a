"""Image files as inputs of a model, by a profile.

A profile is the name of a preset, or settings in JSON (a file, or the text itself) on top of one::

    {"preset": "imagenet", "size": [224, 224], "channels": "BGR", "layout": "NHWC"}

An image is resized until its shorter side fits, cropped in the middle, and becomes
``(pixel * scale - mean) / std``, channel by channel. Sizes that the model fixes, its channel count
and the layout need no mention. Pillow is imported when the first image is read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..errors import UsageError, unknown_name
from ..plugins import needed
from ..printable import plural

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 2**26
"""Pixels of an image: a file of a few bytes can say that it has billions."""

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class ImageProfile:
    """How an image becomes an input.

    Attributes
    ----------
    size : (height, width) or None
        Of the input; by default what the model fixes.
    resize : int or None
        Length of the shorter side before the crop; by default the size over ``crop``.
    crop : float
        Share of the shorter side that the crop keeps.
    layout : {"auto", "NCHW", "NHWC"}
    channels : {"RGB", "BGR"}
        A model with one channel gets grey.
    scale, mean, std : float, and sequences of one float per channel
    """

    size: tuple[int, int] | None = None
    resize: int | None = None
    crop: float = 1.0
    layout: str = "auto"
    channels: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


PRESETS = {
    "none": ImageProfile(),
    "imagenet": ImageProfile(crop=0.875, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    "caffe": ImageProfile(crop=0.875, channels="BGR", mean=(104.0, 117.0, 123.0)),
    "tf": ImageProfile(crop=0.875, scale=1 / 127.5, mean=(1.0,)),
    "unit": ImageProfile(scale=1 / 255),
}  # fmt: skip
"""``none`` feeds 0..255, ``unit`` 0..1, ``tf`` -1..1."""


def read_profile(source: str | os.PathLike[str] | Mapping[str, Any] | ImageProfile | None) -> ImageProfile:
    """A profile from its name, its JSON file, its JSON text or its settings.

    Raises
    ------
    UsageError
        If there is none of that name, or a setting is unknown.
    """
    if isinstance(source, ImageProfile):
        return source
    if source is None:
        raise UsageError(
            "found images, and no profile that says how they become inputs",
            f"Give --profile with one of {', '.join(sorted(PRESETS))}, or with settings in JSON.",
        )
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if text in PRESETS:
            return PRESETS[text]
        source = _read_json(text)
    settings = dict(source)
    base = settings.pop("preset", "none")
    if base not in PRESETS:
        raise unknown_name("preset of images", str(base), PRESETS)
    known = {field.name for field in fields(ImageProfile)}
    for name, value in settings.items():
        if name not in known:
            raise unknown_name("setting of images", name, known)
        if isinstance(value, list):
            settings[name] = tuple(value)
    from ..settings.schema import ProfileFile, checked

    checked(settings, ProfileFile, "the profile of images", UsageError)
    return _checked(replace(PRESETS[base], **settings))


def _read_json(text: str) -> dict[str, Any]:
    from ..settings.schema import decoded, read_json

    if not text.lstrip().startswith("{"):
        if not text.endswith(".json"):
            raise unknown_name("profile of images", text, PRESETS)
        found = read_json(text, "profile", UsageError)
    else:
        found = decoded(text, "the profile of images", UsageError)
    if not isinstance(found, dict):
        raise UsageError("the profile of images: found a list, expected an object of settings")
    return found


def _checked(profile: ImageProfile) -> ImageProfile:
    for name, valid in (("layout", ("auto", "NCHW", "NHWC")), ("channels", ("RGB", "BGR"))):
        if getattr(profile, name) not in valid:
            raise unknown_name(name, str(getattr(profile, name)), valid)
    try:
        sums = sum((profile.scale, profile.crop, *profile.mean, *profile.std, *(profile.size or (1, 1))))
    except TypeError:
        sums = np.nan
    if (
        not np.isfinite(sums)
        or 0 in profile.std
        or not 0 < profile.crop <= 1
        or len(profile.size or (1, 1)) != 2
    ):
        raise UsageError(f"the profile of images makes no sense: {profile}")
    return profile


def image_reader(value: onnx.ValueInfoProto, source: Any) -> Callable[[Path], np.ndarray]:
    """Function from the path of an image to an input with a batch of one.

    Raises
    ------
    UsageError
        If the profile makes no sense, or the input takes no images.
    InstallationError
        If Pillow is missing.
    """
    profile = read_profile(source)
    needed("PIL.Image", "images", "Pillow")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    channels, wanted, last = _layout(value, profile)

    def read(path: Path) -> np.ndarray:
        pixels = _pixels(path, profile, wanted, grey=channels == 1)
        array = (pixels * profile.scale - profile.mean) / profile.std
        if dtype.kind in "iu":
            array = np.rint(array)
        array = array.astype(dtype)[None]
        return array if last else np.ascontiguousarray(array.transpose(0, 3, 1, 2))

    return read


def _layout(value: onnx.ValueInfoProto, profile: ImageProfile) -> tuple[int, tuple[int, int], bool]:
    """Channels of an input of images, their height and width, and whether the channels come last.

    Raises
    ------
    UsageError
        If the input takes no images, or no size is known.
    """
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
    last = profile.layout == "NHWC" or (
        profile.layout == "auto" and dims[1:2] not in ([1], [3]) and dims[-1:] in ([1], [3])
    )
    if len(dims) != 4:
        raise UsageError(
            f"input '{value.name}': found {plural(len(dims), 'axis', 'axes')}, expected the 4 of images"
        )
    channels, height, width = (dims[3], *dims[1:3]) if last else dims[1:]
    if channels not in (0, 1, 3):
        raise UsageError(f"input '{value.name}': found {plural(channels, 'channel')}, expected 1 or 3")
    if (height <= 0 or width <= 0) and profile.size is None:
        raise UsageError(
            f"input '{value.name}' has no fixed size",
            """Give one: --profile '{"preset": "imagenet", "size": [224, 224]}' (height, width).""",
        )
    return channels, profile.size or (height, width), last


def _pixels(path: Path, profile: ImageProfile, size: tuple[int, int], *, grey: bool) -> np.ndarray:
    """Values of an image as float64, (height, width, channels)."""
    from PIL import Image

    from ..settings.schema import regular

    try:
        regular(path)
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if opened.width * opened.height > MOST_PIXELS:
                raise OSError(
                    f"found {opened.width} x {opened.height} pixels, expected {MOST_PIXELS:,} at most"
                )
            image = _fitted(opened.convert("L" if grey else "RGB"), profile, size)
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise UsageError(f"cannot read image '{path}': {str(error).lower()}") from None
    array = np.asarray(image, np.float64).reshape(*size, -1)
    return array[..., ::-1] if profile.channels == "BGR" else array


def _fitted(image: Image, profile: ImageProfile, size: tuple[int, int]) -> Image:
    """Resize by the side that fits last, then cut out the middle."""
    height, width = size
    if profile.resize is not None:
        factor = profile.resize / min(image.size)
    else:
        factor = max(width / image.width, height / image.height) / profile.crop
    resized = (round(image.width * factor), round(image.height * factor))
    image = image.resize((max(resized[0], 1), max(resized[1], 1)), resample=2)  # bilinear
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
