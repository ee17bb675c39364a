"""Samples in a folder: .npy files or images, one sample each, read while they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..errors import UsageError, reason
from ..shapes.dimensions import graph_inputs
from .batches import Batch, DataSet, Wanted, batch_size, declared_dims, shapes_of
from .classes import read_labels
from .images import SUFFIXES, image_reader


def from_folder(proto: onnx.ModelProto, folder: Path, labels: Any, wanted: Wanted, profile: Any) -> DataSet:
    """Batches from a folder, or from one a model input in it; see ``open_data`` for the settings.

    Raises
    ------
    UsageError
        If the files cannot be samples of the model.
    """
    inputs = graph_inputs(proto)
    files: dict[str, list[Path]] = {}
    for value in inputs:
        own = folder / value.name
        files[value.name] = _files(own if len(inputs) > 1 or own.is_dir() else folder)
    counts = {name: len(found) for name, found in files.items()}
    if len(set(counts.values())) != 1:
        raise UsageError(f"data '{folder}': found {counts} files, expected as many for every input")
    names = [path.name for path in next(iter(files.values()))]
    classes = read_labels(labels, names)
    readers = {v.name: _reader(v, files[v.name], profile) for v in inputs}
    dims = declared_dims(proto)
    size = batch_size(dims) or 1
    taken = wanted.of(len(names), dims, size)
    labelled = None if classes is None else classes[taken]

    def read() -> Iterator[dict[str, np.ndarray]]:
        for place in taken:
            yield {name: readers[name](found[place]) for name, found in files.items()}

    return DataSet(lambda: _stacked(read(), size, labelled), labelled=labelled is not None)


def _files(folder: Path) -> list[Path]:
    """Samples of a folder, by name."""
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".npy", *SUFFIXES})
    except OSError as error:
        raise UsageError(
            f"cannot read data '{folder}': {reason(error)}",
            "Models with several inputs take a folder of samples for each.",
        ) from None
    kinds = {path.suffix.lower() == ".npy" for path in found}
    if len(kinds) != 1:
        both = "both .npy files and" if kinds else "neither .npy files nor"
        raise UsageError(f"data '{folder}': found {both} images, expected one of them")
    return found


def _reader(value: onnx.ValueInfoProto, files: Sequence[Path], profile: Any) -> Callable[[Path], np.ndarray]:
    """Function that makes one sample, with an axis of batches of size 1, from a file."""
    if files[0].suffix.lower() != ".npy":
        return image_reader(value, profile)
    if profile is not None:
        raise UsageError("profile: found .npy files, expected images", "It says how images become inputs.")
    rank = len(value.type.tensor_type.shape.dim)
    return lambda path: _read_npy(path, rank)


def _read_npy(path: Path, rank: int) -> np.ndarray:
    from ..settings.schema import regular

    try:
        regular(path)
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise UsageError(f"cannot read data '{path}': it is no plain .npy file") from None
    if not isinstance(array, np.ndarray):
        raise UsageError(f"cannot read data '{path}': it is no plain .npy file")
    return array[None] if array.ndim == rank - 1 else array


def _stacked(
    samples: Iterable[dict[str, np.ndarray]], size: int, classes: np.ndarray | None
) -> Iterator[Batch]:
    """Batches of neighbours of the same shapes."""
    held: list[dict[str, np.ndarray]] = []
    start = 0
    for number, sample in enumerate(samples):
        if held and (len(held) == size or shapes_of(sample) != shapes_of(held[0])):
            yield _joined(held, start, classes)
            held, start = [], number
        held.append(sample)
    if held:
        yield _joined(held, start, classes)


def _joined(held: Sequence[dict[str, np.ndarray]], start: int, classes: np.ndarray | None) -> Batch:
    feeds = (
        {name: np.concatenate([sample[name] for sample in held]) for name in held[0]}
        if len(held) > 1
        else held[0]
    )
    labels = None if classes is None else classes[start : start + len(held)]
    return Batch(feeds, len(held), labels)
