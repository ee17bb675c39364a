"""External data as they are written: laid out as in the files that they come from.

Every data file becomes one, with its tensors in their order, and every tensor says of its place what it
said before: then neither a data file nor the graph that names it can become longer. Tensors that read
the same bytes share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BufferedRandom
from math import gcd
from pathlib import Path
from typing import NamedTuple

from onnx import TensorProto

from ..files.data_names import NAME_MAX
from ..files.writing import Parts, pour
from .cut import BLOCK, Cut, kept_dims, tensor_nbytes
from .protos import data_file

PAGE = 4096
"""Alignment that lets a page of a data file be that of memory; more than it was costs bytes for nothing."""

CutOf = Callable[[TensorProto], Cut | None]
PlaceOf = Callable[[TensorProto], tuple[Path, int] | None]


class Place(NamedTuple):
    """Where a tensor lies, as far as it says so."""

    location: str
    offset: int | None
    length: int | None

    @classmethod
    def of(cls, tensor: TensorProto) -> Place:
        """Place of a tensor, also of one that has other values by now."""
        found = {entry.key: entry.value for entry in tensor.external_data}
        offset, length = (int(found[key]) if found.get(key) else None for key in ("offset", "length"))
        return cls(found.get("location", ""), offset, length)


class DataFile:
    """Tensors that go to one data file.

    Parameters
    ----------
    limit : int
        Bytes of the longest name that it may have.
    alignment : int
        Tensors begin at multiples of so many bytes.
    """

    def __init__(self, limit: int, alignment: int) -> None:
        self.limit, self.alignment, self.size = limit, alignment, 0
        self.stored: list[list[TensorProto]] = []
        """Each with others that read the same bytes."""

    def start(self) -> int:
        """Where the next tensor begins."""
        return self.size + -self.size % self.alignment

    def add(self, shared: list[TensorProto], size: int) -> None:
        """Let tensors that read the same bytes be the next."""
        self.stored.append(shared)
        self.size = self.start() + size

    def write(
        self, out: BufferedRandom, parts: Callable[[TensorProto], Parts], place: PlaceOf, cut: CutOf
    ) -> None:
        """Write the data of all tensors; their places are there then, without the name of the file."""
        for shared in self.stored:
            out.write(b"\0" * (-out.tell() % self.alignment))
            offset, first = out.tell(), shared[0]
            if not self._poured(out, place(first), tensor_nbytes(first, cut(first))):
                out.writelines(parts(first))
            for tensor in shared:
                _move(tensor, kept_dims(tensor, cut(tensor)), offset, out.tell() - offset)

    @staticmethod
    def _poured(out: BufferedRandom, place: tuple[Path, int] | None, size: int) -> bool:
        """Copy a large tensor that lies in a file just as it is stored; say whether that was done."""
        return place is not None and size >= BLOCK and pour(*place, size, out)

    def name(self, name: str) -> None:
        """Tell all tensors the name of the file."""
        for shared in self.stored:
            for tensor in shared:
                tensor.external_data[0].value = name


def data_files(outside: Iterable[TensorProto], inside: Iterable[TensorProto], cut: CutOf) -> list[DataFile]:
    """The data files of a model.

    Parameters
    ----------
    outside : iterable of TensorProto
        Those that come from data files.
    inside : iterable of TensorProto
        Those that were in the model, and get a data file more.
    cut : callable
        How a tensor is sliced when it is read.
    """
    placed = sorted([(Place.of(t), t) for t in outside], key=lambda found: _order(found[0]))
    alignment = gcd(PAGE, *(place.offset or 0 for place, _ in placed))
    files: list[DataFile] = []
    latest: dict[str, DataFile] = {}
    shared: dict[tuple[object, ...], list[TensorProto]] = {}
    for place, tensor in placed:
        same = shared.setdefault(region(tensor, cut(tensor)), [])
        if not same:
            file = latest.get(place.location)
            if file is None or file.start() > (place.offset or 0):  # none begins later than it did
                file = latest[place.location] = DataFile(len(place.location.encode()), alignment)
                files.append(file)
            file.add(same, tensor_nbytes(tensor, cut(tensor)))
        same.append(tensor)
    added = DataFile(NAME_MAX, alignment)
    for tensor in inside:
        added.add([tensor], tensor_nbytes(tensor, cut(tensor)))
    return [*files, added] if added.stored else files


def _order(place: Place) -> tuple[str, int, bool]:
    return place.location, place.offset or 0, place.offset is not None


def region(tensor: TensorProto, cut: Cut | None) -> tuple[object, ...]:
    """What a tensor reads: equal for tensors that are the same bytes."""
    if tensor.data_location != TensorProto.EXTERNAL or not tensor.external_data:
        return (tensor.name,)
    place = Place.of(tensor)
    start = place.location, place.offset or 0
    if cut is None:
        return *start, tensor_nbytes(tensor, None)
    kept = [None if index is None else index.tobytes() for index in cut]
    return *start, tensor.data_type, *tensor.dims, *kept


def _move(tensor: TensorProto, dims: list[int], offset: int, length: int) -> None:
    """Let a tensor lie in a data file; it says what it said before, and all if it said nothing."""
    before = Place.of(tensor)
    new = not data_file(tensor)
    tensor.dims[:] = dims
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="location")
    if new or before.offset is not None:
        tensor.external_data.add(key="offset", value=str(offset))
    if new or before.length is not None:
        tensor.external_data.add(key="length", value=str(length))
