"""Inputs of runs, batch by batch, and how many samples a model takes at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from ..errors import UsageError
from ..printable import plural
from ..runtime.session import Arrays
from ..shapes.dimensions import declared_size, graph_inputs

BATCH = 16
"""Samples per run of a model whose batch is free."""


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
        shapes = shapes_of(self.first.feeds)
        return replace(self, make=lambda: (b for b in self if shapes_of(b.feeds) == shapes))

    def divided(self, size: int) -> DataSet:
        """The same samples in smaller batches; what is one sample as it is stays one."""

        def make() -> Iterator[Batch]:
            """Every batch in parts."""
            for batch in self:
                if batch.size <= size:
                    yield batch
                    continue
                for start in range(0, batch.size, size):
                    part = slice(start, start + size)
                    labels = None if batch.labels is None else batch.labels[part]
                    feeds = {name: array[part] for name, array in batch.feeds.items()}
                    yield Batch(feeds, min(size, batch.size - start), labels)

        return replace(self, make=make)


Data: TypeAlias = str | os.PathLike[str] | Arrays | DataSet
"""Where samples come from: an .npz file, a folder, arrays by input, or batches."""


def shapes_of(feeds: Arrays) -> dict[str, tuple[int, ...]]:
    """Shape of every array."""
    return {name: np.shape(array) for name, array in feeds.items()}


Dims = Sequence[Sequence[onnx.TensorShapeProto.Dimension]]
"""Declared sizes of inputs."""


def shared_length(feeds: Arrays) -> int:
    """Samples of a run: the first axis of all inputs, where they agree; one otherwise."""
    lengths = {array.shape[:1] for array in feeds.values()}
    (length,) = lengths.pop() if len(lengths) == 1 and () not in lengths else (1,)
    return max(int(length), 1)


def declared_dims(proto: onnx.ModelProto) -> Dims:
    """Declared sizes of all inputs."""
    return [v.type.tensor_type.shape.dim for v in graph_inputs(proto)]


def batch_size(dims: Dims) -> int:
    """How many samples to feed at once; 0 where the first axes are no common batch."""
    sizes = {declared_size(d[0]) if len(d) else 0 for d in dims}
    (size,) = sizes if len(sizes) == 1 else (0,)
    return BATCH if size is None else size


def free_batch(dims: Dims) -> bool:
    """Whether the first axes of all inputs are a batch of any size."""
    return batch_size(dims) > 0 and all(declared_size(d[0]) is None for d in dims)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many samples are used of data that hold more.

    Attributes
    ----------
    samples : int or None
        As many as somebody asked for.
    most : int or None
        Otherwise so many, but no less than a batch of the model.
    """

    samples: int | None = None
    most: int | None = None

    def of(self, total: int, dims: Dims, size: int) -> npt.NDArray[np.int64]:
        """Places of the samples that are used, ascending and evenly spread: data may be sorted by class.

        Parameters
        ----------
        size : int
            Samples of a batch. A model whose batch is fixed takes no part of one.

        Raises
        ------
        UsageError
            If there are not enough.
        """
        count = min(total, self.samples or max(self.most or total, size))
        fixed = all(len(d) and declared_size(d[0]) is not None for d in dims)
        if count < 1:
            raise UsageError("data: found no samples, expected at least one")
        if fixed and count < size:
            raise UsageError(
                f"data: found {plural(count, 'sample')}, expected at least {size}, a batch of the model"
            )
        count -= count % size if fixed else 0
        return np.arange(count) * total // count


def entries(array: np.ndarray, places: npt.NDArray[np.int64]) -> np.ndarray:
    """Entries of an array at ascending places; neighbours are no copy."""
    first, last = int(places[0]), int(places[-1])
    return array[first : last + 1] if last - first < len(places) else array[places]
