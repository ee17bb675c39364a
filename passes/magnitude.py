"""Criteria that ask how large the weights of a channel are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from onnxprune.cores import spread
from onnxprune.scoring.layer import Layer
from onnxprune.scoring.registry import Scores, criterion


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
        return np.sqrt(np.concatenate(spread(partial(_squares_of_rows, filters), *filters.shape)))
    _, channels, behind = stored.shape
    return np.sqrt(np.sum(spread(partial(_sums_over_rows, stored), len(stored), channels * behind), axis=0))


def _squares_of_rows(array: np.ndarray, blocks: Sequence[slice]) -> Scores:
    """Sum of squares of each of some rows."""
    return np.concatenate([np.vecdot(rows, rows) for rows in _in_float64(array, blocks)])


def _sums_over_rows(array: np.ndarray, blocks: Sequence[slice]) -> Scores:
    """Sums of squares of the channels in the middle, over some rows."""
    sums = np.zeros(array.shape[1])
    for rows in _in_float64(array, blocks):
        sums += np.einsum("rcx,rcx->c", rows, rows)
    return sums


def _in_float64(array: np.ndarray, blocks: Sequence[slice]) -> Iterator[npt.NDArray[np.float64]]:
    """Some rows of an array, block after block in the same memory."""
    held = np.empty((blocks[0].stop - blocks[0].start, *array.shape[1:]))
    for block in blocks:
        rows = array[block]
        held[: len(rows)] = rows
        yield held[: len(rows)]
