"""What files of settings must look like: plans, configurations, profiles of images, labels.

The types say it, and msgspec checks them: no text where a number belongs, no true for 1, no number that
is not finite, no name that nobody knows. What is wrong is told with its place.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from ..errors import OnnxPruneError
from ..printable import plural
from .option import Option
from .table import TABLE

Index = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]

LARGEST_FILE = 2**28
"""Bytes of a file of settings; the plan of a network of a million channels takes a tenth."""


class MemberEntry(Struct):
    """A stored axis of a group."""

    tensor: str
    axis: Index


class GroupEntry(Struct):
    """See :class:`onnxprune.selection.plan.PlanGroup`."""

    name: str
    channels: Count
    keep: list[Index]
    scores: list[float]
    members: list[MemberEntry]
    status: Literal["pruned", "kept", "blocked"]
    reason: str

    def __post_init__(self) -> None:
        _ascending(self.keep, self.channels)
        if not self.keep:
            raise ValueError("found no kept channel")
        if not all(map(math.isfinite, self.scores)):
            raise ValueError("found a score that is no finite number")
        if len(self.scores) not in (0, self.channels):
            raise ValueError(
                f"found {plural(len(self.scores), 'score')}, expected {self.channels}, one per channel"
            )


class BlockIndices(Struct, forbid_unknown_fields=True):
    """Kept indices where every block of the first axis keeps its own."""

    blocks: list[list[Index]]

    def __post_init__(self) -> None:
        for indices in self.blocks:
            _ascending(indices, None)


class ConstantEntry(Struct):
    """What is kept of a stored tensor."""

    shape: list[Index]
    keep: dict[Annotated[str, Meta(pattern="^[0-9]{1,2}$")], list[Index] | BlockIndices]

    def __post_init__(self) -> None:
        for axis, indices in self.keep.items():
            if int(axis) >= len(self.shape):
                raise ValueError(f"found axis {axis} of {plural(len(self.shape), 'axis', 'axes')}")
            if isinstance(indices, list):
                _ascending(indices, self.shape[int(axis)])


class PlanOptions(Struct):
    """Options of a plan that are used when it is replayed; the others are a record."""

    norm: str | None = None
    reshape_channel_axis: int | str | None = None
    group_policy: str | None = None
    parts: str | None = None
    lossless: bool = False
    duplicates: bool = True
    assume_range: dict[str, tuple[float, float]] = {}


class PlanFile(Struct):
    """See :class:`onnxprune.selection.plan.Plan`."""

    model: dict[str, Any]
    options: PlanOptions
    groups: list[GroupEntry]
    constants: dict[str, ConstantEntry]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for group in self.groups:
            if group.name in seen:
                raise ValueError(f"found group '{group.name}' twice")
            seen.add(group.name)


def _ascending(indices: Sequence[int], size: int | None) -> None:
    """Refuse indices that are not in order, come twice, or are beyond a size."""
    if any(b <= a for a, b in pairwise(indices)):
        raise ValueError("found indices that do not ascend")
    if size is not None and indices and indices[-1] >= size:
        raise ValueError(f"found index {indices[-1]} of {size}")


class BaselineRun(Struct):
    """See :class:`onnxprune.reports.baseline.Run`."""

    dense: str
    slim: str
    data: str
    samples: Index
    measures: dict[str, float]


class BaselineFile(Struct):
    """See :class:`onnxprune.reports.baseline.Baseline`."""

    format: str
    version: int
    runs: list[BaselineRun]


class VerbFile(Struct):
    """Flags of verbs in a configuration file that are no settings."""

    plan: str | None = None
    recovery: str | None = None
    baseline: str | None = None
    metric: str | None = None
    plugin: list[str] | str | None = None
    layers: bool | None = None
    fail_if_unchanged: bool | None = None
    verify: bool | None = None
    clean: bool | None = None
    json: bool | None = None
    quiet: bool | None = None
    time_limit: float | None = None
    memory_limit: float | None = None
    isolate: bool | None = None


FORMS: dict[str, Any] = {
    "ratio": float | dict[str, float] | str,
    "remove": dict[str, list[Index]] | str,
    "exclude": list[str] | str,
    "include": list[str] | str,
    "reshape_channel_axis": int | str,
    "memory": int | str,
    "granularity": int | str,
    "profile": str | dict[str, Any],
}
"""Settings whose values in a file have more forms than one, or another than in Python."""

PLAIN: dict[str, Any] = {"int": int, "float": float, "bool": bool}


def form(option: Option) -> Any:
    """Type of a setting in a file; text where it is no number."""
    return FORMS.get(option.name, PLAIN.get(option.type.removesuffix(" | None"), str))


ConfigFile = msgspec.defstruct(
    "ConfigFile", [(option.name, form(option) | None, None) for option in TABLE], bases=(VerbFile,)
)
"""Settings of a configuration file. Their values are judged where those of the command line are."""


class ProfileFile(Struct):
    """See :class:`onnxprune.data.images.ImageProfile`."""

    size: tuple[Count, Count] | None = None
    resize: Count | None = None
    crop: Annotated[float, Meta(gt=0, le=1)] = 1.0
    layout: str = "auto"
    channels: str = "RGB"
    scale: float = 1.0
    mean: list[float] = []
    std: list[float] = []


Labels = list[Any] | dict[str, Any]


def checked(found: Any, form: Any, what: str, kind: type[OnnxPruneError]) -> Any:
    """A value of JSON or TOML types as what it has to be.

    Parameters
    ----------
    form : type
    what : str
        What a message calls it.
    kind : type
        Of the error.

    Raises
    ------
    OnnxPruneError
        With the place that is wrong.
    """
    try:
        result = msgspec.convert(found, form)
    except msgspec.ValidationError as error:
        raise kind(f"{what}: {_sentence(error)}") from None
    place = _not_finite(found, "")
    if place is not None:
        raise kind(f"{what}: {place.lstrip('.') or 'it'}: found a number that is not finite")
    return result


def _sentence(error: msgspec.ValidationError) -> str:
    """The place first, then what was expected there."""
    text, _, place = str(error).partition(" - at `$")
    text = (text[:1].lower() + text[1:]).replace(" | null", "").replace("`", "'")
    place = place.removesuffix("`").lstrip(".")
    return f"{place}: {text}" if place else text


def _not_finite(value: Any, place: str) -> str | None:
    """Where a number is not finite: TOML can write them, and so does Python in its JSON."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        items = ((f"{place}.{key}", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        items = ((f"{place}[{k}]", item) for k, item in enumerate(value))
    return next((found for where, item in items if (found := _not_finite(item, where)) is not None), None)


def read_json(path: str | os.PathLike[str], what: str, kind: type[OnnxPruneError]) -> Any:
    """Content of a JSON file.

    Raises
    ------
    OnnxPruneError
        If it cannot be read, or is no JSON as the standard has it.
    """
    return decoded(read_settings(path, what, kind), f"{what} '{os.fspath(path)}'", kind)


def decoded(text: bytes | str, what: str, kind: type[OnnxPruneError]) -> Any:
    """Value of a JSON text.

    Raises
    ------
    OnnxPruneError
        If it is none.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        detail = re.sub("^JSON is malformed: ", "", str(error))
    except (RecursionError, UnicodeDecodeError):
        detail = "it is nested too deep, or no UTF-8"
    raise kind(f"{what} is not JSON: {detail}")


def read_settings(path: str | os.PathLike[str], what: str, kind: type[OnnxPruneError]) -> bytes:
    """Content of a small file.

    Raises
    ------
    OnnxPruneError
        If it cannot be read, is no regular file, or is far too large.
    """
    try:
        regular(path)
        if Path(path).stat().st_size > LARGEST_FILE:
            raise OSError(
                f"found {plural(Path(path).stat().st_size, 'byte')}, expected at most {LARGEST_FILE:,}"
            )
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        detail = (getattr(error, "strerror", None) or str(error)).lower()
    raise kind(f"cannot read {what} '{os.fspath(path)}': {detail}")


def regular(path: str | os.PathLike[str]) -> None:
    """Refuse what would be waited for, or has no end.

    Raises
    ------
    OSError
        If a path leads to a pipe, a device or a socket.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("it is no regular file")
