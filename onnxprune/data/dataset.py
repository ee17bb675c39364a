"""Samples to run models on, batch by batch.

They come from an ``.npz`` archive (arrays by input name), from a folder of ``.npy`` files or images
(one sample each, in the order of their names), or are made up. A folder is read while it is used,
so that it never lies in memory as a whole.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import onnx

from ..coupling.trace import Trace
from ..errors import ModelError, UsageError
from ..model.engine import InferenceSession
from ..model.schema import regular
from ..runtime.session import Arrays, run
from ..settings.table import DEFAULTS, OPTIONS
from ..shapes.dimensions import SAMPLES, FreeDimensions, affordable, graph_inputs, sample_sizes
from ..shapes.inference import infer
from ..shapes.limits import runs_on_made_up
from ..shapes.made_up import synthetic_inputs
from .classes import read_labels
from .images import SUFFIXES, image_reader

BATCH = 16
"""Samples per run of a model whose batch is free."""


class DataSettings(TypedDict, total=False):
    """How data are read; see :func:`open_data`."""

    labels: Any
    samples: int | None
    profile: Any
    seed: int


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Inputs of one run.

    Attributes
    ----------
    size : int
        How many samples the first axes hold; 1 where they are one sample as they are.
    labels : array or None
        One per sample.
    """

    feeds: Arrays
    size: int = 1
    labels: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class DataSet(Iterable[Batch]):
    """Batches that can be read again and again, always in the same order.

    Attributes
    ----------
    source : str
        Where they come from; empty where they are made up.
    labelled : bool
    """

    make: Callable[[], Iterable[Batch]]
    source: str = ""
    labelled: bool = False

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.make())

    @property
    def first(self) -> Batch:
        """The first batch."""
        return next(iter(self))

    def alike(self) -> DataSet:
        """The batches of the same shapes as the first one."""
        shapes = _shapes(self.first.feeds)
        return replace(self, make=lambda: (b for b in self if _shapes(b.feeds) == shapes))

    def at_most(self, samples: int) -> DataSet:
        """The first batches, until they hold so many samples; no batch is divided."""

        def make() -> Iterator[Batch]:
            read = 0
            for batch in self:
                if read >= samples:
                    return
                yield batch
                read += batch.size

        return replace(self, make=make)


def _shapes(feeds: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(array) for name, array in feeds.items()}


def open_data(
    traced: Trace,
    source: str | os.PathLike[str] | Arrays | DataSet | None = None,
    *,
    labels: Any = None,
    samples: int | None = None,
    profile: Any = None,
    seed: int = DEFAULTS["seed"],
) -> DataSet:
    """Samples for a model, in batches that it takes.

    Parameters
    ----------
    traced : Trace
    source : path of an .npz file or of a folder, mapping, or DataSet, optional
        An array holds one sample per entry of its first axis. That is the axis of the batch, or,
        where the array has one axis more than the input, an axis of its own. Beside such arrays,
        one without an axis or with a fixed first axis of size 1 is the same for all samples; arrays
        of which none is true are one sample. Without a source, inputs are made up.
    labels : path, "names", sequence or array, or False, optional
        Class of every sample: see ``onnxprune.data.classes``. The array ``labels`` of an .npz file,
        if the model has no input of that name, needs no mention; False leaves it alone.
    samples : int, optional
        Use the first so many only; of made-up inputs, so many runs.
    profile : str or mapping, optional
        How images become inputs: see ``onnxprune.data.images``.
    seed : int
        Of made-up inputs.

    Raises
    ------
    UsageError
        If something cannot be read, does not fit the model, or has no effect on such data.
    """
    OPTIONS["samples"].refuse(samples)
    labelled = labels is not None and labels is not False
    if isinstance(source, DataSet):
        for setting, used in (("labels", labelled), ("samples", samples), ("profile", profile)):
            if used:
                raise UsageError(f"{setting}: found a DataSet, which has its own, expected other data")
        return source
    folder = isinstance(source, (str, os.PathLike)) and Path(source).is_dir()
    if profile is not None and not folder:
        found = "made-up inputs" if source is None else "arrays"
        raise UsageError(f"profile: found {found}, expected images", "It says how images become inputs.")
    if source is None:
        if labelled:
            raise UsageError("labels take data: found made-up inputs", "Give samples with --data.")
        return DataSet(lambda: _made_up(traced, traced.shapes.first.sizes, seed, samples or 1))
    proto = traced.model.proto
    if folder and not isinstance(source, Mapping):
        data = _from_folder(proto, Path(source), labels, samples, profile)
    else:
        data = _from_arrays(proto, load_data(source), labels, samples)
    name = "arrays" if isinstance(source, Mapping) else os.fspath(source)
    return DataSet(lambda: _checked(proto, data.make()), name, data.labelled)


def runnable(
    session: InferenceSession, traced: Trace, source: Any = None, **settings: Unpack[DataSettings]
) -> DataSet:
    """Samples on which the model runs; made-up ones take the first sample sizes that it runs at.

    Analysis cannot know those: a Pad by reflection needs more steps than it adds.

    Raises
    ------
    ModelError
        Why it does not run: the sentence about the first sizes.
    """
    if source is None:
        runs_on_made_up(traced.graph, traced.shapes.first)
    samples = open_data(traced, source, **settings)
    refused: list[ModelError] = []
    others = _other_sizes(traced, settings) if source is None else ()
    for candidate in chain([samples], others):  # one by one: each is inferred anew
        try:
            run(session, candidate.first.feeds, "the original")
        except ModelError as error:
            refused.append(error)
        else:
            return candidate
    raise refused[0]


def _other_sizes(traced: Trace, settings: DataSettings) -> Iterator[DataSet]:
    seed, runs = settings.get("seed", 0), settings.get("samples") or 1
    for sample in range(len(SAMPLES)):
        sizes = sample_sizes(traced.model.proto, 0, sample)
        if sizes == traced.shapes.first.sizes:
            continue
        shapes = infer(traced.graph, sizes).shapes.values()
        if affordable(shapes):
            yield DataSet(partial(_made_up, traced, sizes, seed, runs))


def _made_up(traced: Trace, sizes: FreeDimensions, seed: int, runs: int) -> Iterator[Batch]:
    for number in range(runs):
        feeds = synthetic_inputs(traced.graph, sizes, seed + number)
        counts = {array.shape[:1] for array in feeds.values()}
        (count,) = counts.pop() if len(counts) == 1 and () not in counts else (1,)
        yield Batch(feeds, max(count, 1))


def _checked(proto: onnx.ModelProto, batches: Iterable[Batch]) -> Iterator[Batch]:
    for batch in batches:
        check_inputs(proto, batch.feeds)
        yield batch


# Arrays --------------------------------------------------------------------------------------


def load_data(source: str | os.PathLike[str] | Arrays) -> Mapping[str, np.ndarray]:
    """Arrays by name from an .npz file; a mapping is returned as it is.

    Raises
    ------
    UsageError
        If the file cannot be read.
    """
    if isinstance(source, Mapping):
        return source
    try:
        regular(source)
        with Path(source).open("rb") as file:
            data = np.load(file, allow_pickle=False)
            if isinstance(data, np.ndarray):
                raise ValueError("it holds a single array")
            arrays = {name: data[name] for name in data.files}
        foreign = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
        if foreign is not None:
            raise ValueError(f"its member '{foreign}' is no array")
        return arrays
    except OSError as error:
        detail = (error.strerror or str(error)).lower()
    except (EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        detail = "it is damaged or cut short"
    except RuntimeError as error:
        if "password" not in str(error):
            raise
        detail = "it is encrypted"
    except ValueError as error:
        pickled = "pickle" in str(error).lower()
        detail = "it is no archive of plain arrays" if pickled else str(error).lower()
    raise UsageError(
        f"cannot read data '{source}': {detail}", "Expected an .npz file with one array per input."
    )


def _from_arrays(proto: onnx.ModelProto, arrays: Arrays, labels: Any, samples: int | None) -> DataSet:
    inputs = {v.name: v.type.tensor_type for v in graph_inputs(proto)}
    if labels is None and "labels" not in inputs:
        labels = arrays.get("labels")
    given = {name: arrays[name] for name in inputs if name in arrays}
    single = _the_same_for_all(inputs, given)
    split = {name: array for name, array in given.items() if name not in single}
    extra = all(
        inputs[n].HasField("shape") and a.ndim == len(inputs[n].shape.dim) + 1 for n, a in split.items()
    )
    counts = {a.shape[0] if a.ndim else -1 for a in split.values()}
    dims = [inputs[name].shape.dim for name in split]
    size = 1 if extra else batch_size(dims)
    if not split or len(given) < len(inputs) or len(counts) != 1 or not size or -1 in counts:
        return _one_sample(arrays, given, labels, samples)
    count = counts.pop()
    classes = read_labels(labels, [str(k) for k in range(count)])
    count = min(count, samples or count)
    if count < 1:
        raise UsageError("data: found no samples, expected at least one")

    def make() -> Iterator[Batch]:
        for start in range(0, _whole(dims, count, size), size):
            part = slice(start, min(start + size, count))
            feeds = {n: a[start] if extra else a[part] for n, a in split.items()}
            labelled = None if classes is None else classes[part]
            yield Batch({**feeds, **single}, part.stop - start, labelled)

    return DataSet(make, labelled=classes is not None)


def _the_same_for_all(inputs: Mapping[str, Any], given: Arrays) -> dict[str, np.ndarray]:
    """Arrays that are no samples beside others that are: scalars, and what can only be one entry."""
    fixed = {
        name
        for name, array in given.items()
        if array.ndim == 0
        or (array.shape[0] == 1 and tuple(d.dim_value for d in inputs[name].shape.dim) == array.shape)
    }
    many = any(given[name].shape[0] > 1 for name in given.keys() - fixed)
    return {name: given[name] for name in fixed} if many else {}


def _one_sample(arrays: Arrays, given: Arrays, labels: Any, samples: int | None) -> DataSet:
    """Arrays that cannot be divided into samples."""
    axes = ", ".join(f"'{name}' {_dims(array.shape)}" for name, array in given.items())
    why = f"The inputs share no axis of samples, so that they are one: {axes}."
    if samples is not None:
        raise UsageError(f"samples: found {samples}, expected data that can be divided", why)
    try:
        classes = read_labels(labels, ["0"])
    except UsageError as error:
        raise UsageError(error.message, why) from None
    return DataSet(lambda: [Batch(arrays, labels=classes)], labelled=classes is not None)


Dims = Sequence[Sequence[onnx.TensorShapeProto.Dimension]]
"""Declared sizes of inputs."""


def _declared_dims(proto: onnx.ModelProto) -> Dims:
    return [v.type.tensor_type.shape.dim for v in graph_inputs(proto)]


def batch_size(dims: Dims) -> int:
    """How many samples to feed at once; 0 where the first axes are no common batch."""
    sizes = {d[0].dim_value if len(d) else -1 for d in dims}
    if len(sizes) != 1 or -1 in sizes:
        return 0
    return sizes.pop() or BATCH


def _whole(dims: Dims, count: int, size: int) -> int:
    """How many samples make whole batches, where the model takes no part of one."""
    fixed = all(len(d) and d[0].dim_value > 0 for d in dims)
    if fixed and count < size:
        raise UsageError(f"data: found {count} samples, expected at least {size}, a batch of the model")
    return count - count % size if fixed else count


# Folders -------------------------------------------------------------------------------------


def _from_folder(
    proto: onnx.ModelProto, folder: Path, labels: Any, samples: int | None, profile: Any
) -> DataSet:
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
    count = min(len(names), samples or len(names))
    readers = {v.name: _reader(v, files[v.name], profile) for v in inputs}
    dims = _declared_dims(proto)
    size = batch_size(dims) or 1

    def read() -> Iterator[dict[str, np.ndarray]]:
        for paths in islice(zip(*files.values(), strict=True), _whole(dims, count, size)):
            yield {n: readers[n](path) for n, path in zip(files, paths, strict=True)}

    return DataSet(lambda: _stacked(read(), size, classes), labelled=classes is not None)


def _files(folder: Path) -> list[Path]:
    """Samples of a folder, by name."""
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".npy", *SUFFIXES})
    except OSError as error:
        raise UsageError(
            f"cannot read data '{folder}': {(error.strerror or str(error)).lower()}",
            "Models with several inputs take a folder of samples for each.",
        ) from None
    kinds = {path.suffix.lower() == ".npy" for path in found}
    if len(kinds) != 1:
        raise UsageError(
            f"data '{folder}': found {'both' if kinds else 'neither'} .npy files and images, expected one of them"
        )
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
        if held and (len(held) == size or _shapes(sample) != _shapes(held[0])):
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


def check_inputs(proto: onnx.ModelProto, feeds: Arrays) -> None:
    """Compare given arrays with what the model declares; arrays that it does not name are ignored.

    Raises
    ------
    UsageError
        At the first input that is missing, or of another type or shape.
    """
    for value in graph_inputs(proto):
        if not value.type.HasField("tensor_type"):
            continue
        expected = _declared(value.type.tensor_type)
        if value.name not in feeds:
            found = ", ".join(f"'{name}'" for name in feeds) or "none"
            raise UsageError(f"the data has no input '{value.name}': found {found}, expected {expected}")
        array = feeds[value.name]
        if not _fits(value.type.tensor_type, array):
            found = f"{array.dtype} {_dims(array.shape)}"
            raise UsageError(f"input '{value.name}': found {found}, expected {expected}")


def _fits(declared: onnx.TypeProto.Tensor, array: np.ndarray) -> bool:
    if declared.elem_type != onnx.TensorProto.STRING:
        if array.dtype != onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type):
            return False
    elif array.dtype.kind not in "OSU":
        return False
    if not declared.HasField("shape"):
        return True
    dims = declared.shape.dim
    return len(dims) == array.ndim and all(
        dim.dim_value <= 0 or dim.dim_value == size for dim, size in zip(dims, array.shape, strict=True)
    )


def _declared(tensor: onnx.TypeProto.Tensor) -> str:
    if tensor.elem_type == onnx.TensorProto.STRING:
        kind = "string"
    else:
        kind = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not tensor.HasField("shape"):
        return kind
    return f"{kind} {_dims([d.dim_value or d.dim_param or '?' for d in tensor.shape.dim])}"


def _dims(sizes: Iterable[object]) -> str:
    return "[" + ", ".join(map(str, sizes)) + "]"
