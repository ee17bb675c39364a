"""The kept part of a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import zip_longest
from math import prod

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

Cut = tuple[npt.NDArray[np.int64] | None, ...]
"""Kept indices per axis, None where all are kept."""

PACKED = {
    getattr(TensorProto, name): bits
    for bits, names in ((4, ("INT4", "UINT4", "FLOAT4E2M1")), (2, ("INT2", "UINT2")))
    for name in names
    if hasattr(TensorProto, name)
}
"""Types of which several elements lie in one byte -> bits of one."""

BLOCK = 2**22
"""Bytes of a large array that are read at a time."""


def take(array: np.ndarray, cut: Iterable[npt.NDArray[np.int64] | None]) -> np.ndarray:
    """Take the kept indices along every axis.

    Parameters
    ----------
    array : numpy.ndarray
    cut : iterable of index arrays
        Kept indices per axis, None where all are kept; of shape (blocks, kept) where each of the
        equal blocks of the first axis keeps its own.
    """
    given = [(axis, index) for axis, index in enumerate(cut) if index is not None]
    # Blocks first, as they count whole blocks of the first axis.
    for axis, index in sorted(given, key=lambda part: -part[1].ndim):
        if index.ndim == 2:
            parts = zip(np.split(array, len(index)), index, strict=True)
            array = np.concatenate([part.take(i, axis) for part, i in parts])
        else:
            array = array.take(index, axis)
    return array


def in_blocks(array: np.ndarray, cut: Cut) -> Iterator[np.ndarray]:
    """What ``take`` gives, some rows at a time, each block in memory of its own or contiguous where it is.

    Parameters
    ----------
    cut : tuple of index arrays
        Kept indices per axis, none of which are of blocks.
    """
    if not array.ndim or not array.size:
        yield np.require(take(array, cut), requirements="C")
        return
    rows, *others = cut or (None,)
    step = max(1, BLOCK * len(array) // array.nbytes)
    for start in range(0, len(array) if rows is None else len(rows), step):
        which = slice(start, start + step)
        # Taking from numbers at odd addresses copies all of them first.
        part = np.require(array[which if rows is None else rows[which]], requirements="A")
        yield np.require(take(part, (None, *others)), requirements="C")


def compose(first: Cut, second: Cut) -> Cut | None:
    """One cut that takes what two take one after the other; None where blocks keep their own."""
    given = [index for index in (*first, *second) if index is not None]
    if any(index.ndim > 1 for index in given):
        return None
    return tuple(
        then if base is None else base if then is None else base[then]
        for base, then in zip_longest(first, second)
    )


def kept_dims(tensor: TensorProto, cut: Cut | None) -> list[int]:
    """Sizes of a stored tensor once it is cut."""
    dims = list(tensor.dims)
    if cut is not None:
        for axis, index in enumerate(cut):
            dims[axis] = dims[axis] if index is None else index.shape[-1]
    return dims


def tensor_nbytes(tensor: TensorProto, cut: Cut | None) -> int:
    """Size in bytes of a stored tensor once it is cut."""
    return payload(tensor.data_type, prod(kept_dims(tensor, cut)))


def payload(data_type: int, count: int) -> int:
    """Bytes of so many elements."""
    return (count * (PACKED.get(data_type) or 8 * _itemsize(data_type)) + 7) // 8


@cache
def _itemsize(data_type: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
