"""Samples to run models on, batch by batch.

They come from an ``.npz`` archive (arrays by input name), from a folder of ``.npy`` files or images
(one sample each, in the order of their names), or are made up. A folder is read while it is used,
so that it never lies in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import onnx

from ..coupling.trace import Trace
from ..errors import ModelError, UsageError, blamed
from ..runtime.session import Arrays
from ..settings.table import DEFAULTS, OPTIONS
from ..shapes.dimensions import SAMPLES, FreeDimensions, affordable, graph_inputs, sample_sizes
from ..shapes.inference import infer
from ..shapes.limits import runs_on_made_up
from ..shapes.made_up import only_tensors, synthetic_inputs
from ..shapes.told import told_sizes
from .archives import read_archive
from .batches import Batch, Data, DataSet, Wanted, batch_size, entries, shared_length
from .classes import read_labels
from .declared import as_declared, check_inputs, shown_dims
from .folders import from_folder


class DataSettings(TypedDict, total=False):
    """How data are read; see :func:`open_data`."""

    labels: Any
    samples: int | None
    profile: Any
    seed: int


def open_data(
    traced: Trace,
    source: Data | None = None,
    *,
    labels: Any = None,
    samples: int | None = None,
    most: int | None = None,
    profile: Any = None,
    seed: int = DEFAULTS["seed"],
    smooth: bool = False,
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
        Use so many only, evenly spread over those there are; of made-up inputs, so many runs.
    most : int, optional
        The same where ``samples`` names no number and the data can be divided.
    profile : str or mapping, optional
        How images become inputs: see ``onnxprune.data.images``.
    seed : int
        Of made-up inputs.
    smooth : bool
        Whether those vary slowly along long axes.

    Raises
    ------
    UsageError
        If something cannot be read, does not fit the model, or has no effect on such data.
    """
    OPTIONS["samples"].refuse(samples)
    folder = isinstance(source, (str, os.PathLike)) and Path(source).is_dir()
    _refuse_useless(source, folder, labels is not None and labels is not False, samples, profile)
    if isinstance(source, DataSet):
        return source
    if source is None:
        return DataSet(lambda: _made_up(traced, traced.shapes.first.sizes, seed, samples or 1, smooth))
    proto, wanted = traced.model.proto, Wanted(samples, most)
    only_tensors(proto)
    if folder and not isinstance(source, Mapping):
        data = from_folder(proto, Path(source), labels, wanted, profile)
    else:
        data = _from_arrays(proto, load_data(source), labels, wanted)
    name = "arrays" if isinstance(source, Mapping) else os.fspath(source)
    return DataSet(lambda: _checked(proto, data.make()), name, data.labelled)


def _refuse_useless(
    source: Data | None, folder: bool, labelled: bool, samples: int | None, profile: Any
) -> None:
    """Refuse settings that have no effect on such data."""
    if isinstance(source, DataSet):
        for setting, used in (("labels", labelled), ("samples", samples), ("profile", profile)):
            if used:
                raise UsageError(f"{setting}: found a DataSet, which has its own, expected other data")
    elif profile is not None and not folder:
        found = "made-up inputs" if source is None else "arrays"
        raise UsageError(f"profile: found {found}, expected images", "It says how images become inputs.")
    elif source is None and labelled:
        raise UsageError("labels take data: found made-up inputs", "Give samples with --data.")


def runnable(
    attempt: Callable[[Arrays], object], traced: Trace, source: Any = None, **settings: Unpack[DataSettings]
) -> DataSet:
    """Samples on which the model runs; made-up ones take the first sample sizes that it runs at.

    Analysis cannot know those: a Pad by reflection needs more steps than it adds.

    Parameters
    ----------
    attempt : callable
        Runs the model on inputs.

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
            attempt(candidate.first.feeds)
        except ModelError as error:
            refused.append(error)
        else:
            return candidate
    raise refused[0]


def _other_sizes(traced: Trace, settings: DataSettings) -> Iterator[DataSet]:
    seed, runs = settings.get("seed", DEFAULTS["seed"]), settings.get("samples") or 1
    told = told_sizes(traced.graph)
    for sample in range(len(SAMPLES)):
        sizes = sample_sizes(traced.model.proto, told, 0, sample)
        if sizes == traced.shapes.first.sizes:
            continue
        shapes = infer(traced.graph, sizes).shapes.values()
        if affordable(shapes):
            yield DataSet(partial(_made_up, traced, sizes, seed, runs))


def _made_up(
    traced: Trace, sizes: FreeDimensions, seed: int, runs: int, smooth: bool = False
) -> Iterator[Batch]:
    for number in range(runs):
        feeds = synthetic_inputs(traced.graph, sizes, seed + number, smooth=smooth)
        yield Batch(feeds, shared_length(feeds))


def _checked(proto: onnx.ModelProto, batches: Iterable[Batch]) -> Iterator[Batch]:
    inputs = graph_inputs(proto)
    for batch in batches:
        feeds = as_declared(inputs, batch.feeds)
        check_inputs(inputs, feeds)
        yield replace(batch, feeds=feeds)


# Arrays --------------------------------------------------------------------------------------


def load_data(source: str | os.PathLike[str] | Arrays) -> Mapping[str, np.ndarray]:
    """Arrays by name from an .npz file, or of a mapping; lists and tensors become arrays.

    Raises
    ------
    UsageError
        If the file cannot be read, or something is no array.
    """
    if isinstance(source, Mapping):
        return {name: _array(name, value) for name, value in source.items()}
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(f"data: found {type(source).__name__}, expected arrays by input name, or a path")
    return read_archive(
        source,
        "data",
        UsageError,
        "Expected an .npz file with one array per input, or a folder of .npy files or images.",
    )


def _array(name: str, value: Any) -> np.ndarray:
    with blamed(f"data '{name}'"):
        return np.asarray(value)


def _from_arrays(proto: onnx.ModelProto, arrays: Arrays, labels: Any, wanted: Wanted) -> DataSet:
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
        return _one_sample(arrays, given, labels, wanted.samples)
    count = counts.pop()
    classes = read_labels(labels, [str(k) for k in range(count)])
    taken = wanted.of(count, dims, size)

    def make() -> Iterator[Batch]:
        for start in range(0, len(taken), size):
            part = taken[start : start + size]
            feeds = {n: a[part[0]] if extra else entries(a, part) for n, a in split.items()}
            labelled = None if classes is None else classes[part]
            yield Batch({**feeds, **single}, len(part), labelled)

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
    axes = ", ".join(f"'{name}' {shown_dims(array.shape)}" for name, array in given.items())
    why = f"The inputs share no axis of samples, so that they are one: {axes}."
    if samples is not None:
        raise UsageError(f"samples: found {samples}, expected data that can be divided", why)
    try:
        classes = read_labels(labels, ["0"])
    except UsageError as error:
        raise UsageError(error.message, why) from None
    return DataSet(lambda: [Batch(arrays, labels=classes)], labelled=classes is not None)
