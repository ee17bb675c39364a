"""Criteria that ask how large the weights of a channel are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from onnxprune.cores import spread
from onnxprune.scoring.layer import Layer
from onnxprune.scoring.registry import Scores, criterion

BLOCK = 2**18
"""Elements that are held in float64 at a time: fewer keep threads waiting for each other."""

LEAST = 2**20
"""Elements that are worth a thread."""


@criterion("l1")
def l1(layer: Layer) -> Scores:
    """Sum of absolute weights of each filter (Li et al., arXiv 1608.08710)."""
    return np.asarray(np.abs(layer.weight).sum(axis=1, dtype=np.float64))


@criterion("l2")
def l2(layer: Layer) -> Scores:
    """Euclidean norm of each filter; bias and normalization are left out, as NVIDIA TAO does."""
    stored = layer.stored
    if len(stored) == 1:
        filters = stored[0]
        parts = spread(partial(_squares_of_rows, filters), len(filters), _rows(filters, LEAST))
        return np.sqrt(np.concatenate(parts))
    sums = spread(partial(_sums_over_rows, stored), len(stored), _rows(stored, LEAST))
    return np.sqrt(np.sum(sums, axis=0))


def _squares_of_rows(array: np.ndarray, some: range) -> Scores:
    """Sum of squares of each of some rows."""
    return np.concatenate([np.vecdot(rows, rows) for rows in _blocks(array, some)] or [np.zeros(0)])


def _sums_over_rows(array: np.ndarray, some: range) -> Scores:
    """Sums of squares of the channels in the middle, over some rows."""
    sums = np.zeros(array.shape[1])
    for rows in _blocks(array, some):
        sums += np.einsum("rcx,rcx->c", rows, rows)
    return sums


def _blocks(array: np.ndarray, some: range) -> Iterator[npt.NDArray[np.float64]]:
    """Some rows of an array in float64, a few at a time, one after the other in the same memory."""
    step = _rows(array, BLOCK)
    block = np.empty((min(step, len(some)), *array.shape[1:]))
    for start in some[::step]:
        rows = array[start : min(start + step, some.stop)]
        block[: len(rows)] = rows
        yield block[: len(rows)]


def _rows(array: np.ndarray, elements: int) -> int:
    """Rows of so many elements."""
    return max(1, elements // max(1, math.prod(array.shape[1:])))
