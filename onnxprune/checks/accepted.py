"""The rule by which two tensors agree to rounding: it decides whether surgery is exact.

Integers, booleans and strings have to be equal, and so have NaN and infinity, but where one order of a
long sum may overflow on the way, and another does not. Floats are judged as a whole and slice by slice along
every axis (channels, rows, samples), so that a large neighbour hides no mistake. The L2 norm of the
difference of a slice may be

    max(ROUNDING * |slice|, min(max(max(NOISE, sqrt(terms)) * noise, |steps|), cap * max(|slice|, mean)))

- ``|slice|`` is the norm of the reference.
- ``noise`` is what a change of the last bit of every number that goes into the computation does to the
  slice: the root mean square of a few random changes, because one of them can cancel by chance. It is
  measured, so it knows no operator. In a sum it is the last bit times the root of the sum
  of squares of the terms: a value near zero, in which large terms cancel, is judged by the terms.
- ``terms`` is how many products are added up in one number: two orders of one sum of n terms differ by up
  to the root of n times the effect of one change of the last bit of each.
- ``steps`` are STEPS last bits of 1 for every entry, where a node has gates inside: those are computed
  in steps of that size, which a change of the last bit of what goes in crosses or, more often, does not.
  They count as much as what goes through the gates, which is about as large as what goes into the node.
- ``mean`` is the root mean square of ``|slice|`` along the axis. With ``cap`` it bounds what noise can
  excuse: for a node alone at a half, for whole networks, which amplify rounding as they amplify
  mistakes, at what is accepted of a slice of average size.

Where that bound alone forbids a difference of a node alone, nothing can be told: a recurrent layer may be
chaotic, so that no digit of its last states is independent of last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

ROUNDING = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-5}
"""Relative L2 difference that counts as rounding, by the type of the tensor."""

HALF_ROUNDING = 5e-3
"""The same for 16-bit floats, where a model does not run in 32 bits."""

NOISE = 16
"""How many times the measured effect of a last bit is accepted at least.

Kernels add in blocks, which takes off most of the difference of two orders of a sum. Of one row times a matrix
onnxruntime adds all terms one after the other: that was seen to differ by .35 of the root of their number.
"""

ALONE = 0.5
"""Share of a slice, or of an average one, that noise may excuse in a node on its own.

A saturated sigmoid behind a convolution, 4e-8, has no digit that does not depend on the last bit.
"""

STEPS = 4
"""Last bits of 1 by which a gate may differ: 1 was seen of an LSTM of onnxruntime, and products of gates
add up."""


def rounding(array: np.ndarray) -> float:
    """Relative difference that counts as rounding; integers must be equal."""
    if array.dtype.kind not in "fc" and not array.dtype.name.startswith(("bfloat", "float")):
        return 0.0
    return ROUNDING.get(array.dtype, HALF_ROUNDING)


DRAWS, MANY = 4, 32
"""How many random changes of last bits are measured, and how many where those do not excuse a difference.

A small number is left as it is by one change of three, because larger terms swallow what changes in it: of
thousands of numbers some are left so by four of four.
"""


def nudge(array: np.ndarray, seed: int = 0) -> np.ndarray:
    """Copy of a float tensor with the last bit of every entry changed, up or down at random."""
    if array.dtype.kind != "f":
        return array
    up = np.random.default_rng(seed).random(array.shape) < 0.5
    toward = np.where(up, np.inf, -np.inf).astype(array.dtype)
    return np.where(array == 0, array, np.nextafter(array, toward))


def largest(array: np.ndarray) -> float:
    """Largest absolute value that is finite."""
    return float(np.abs(array).max(initial=0, where=np.isfinite(array)))


class Error(NamedTuple):
    """How far a tensor is from its reference, where it is furthest from what is accepted.

    Attributes
    ----------
    relative : float
        Norm of the difference, over the norm of which ``rounding`` is accepted.
    part : str
        The slice; empty for the whole tensor.
    lost : bool
        Whether last bits alone decide what some other slice holds.
    """

    relative: float
    part: str = ""
    lost: bool = False


def furthest(
    reference: np.ndarray,
    found: np.ndarray,
    moved: Sequence[np.ndarray] = (),
    cap: float = ALONE,
    through: float = 0,
    of: int = 0,
    terms: float = 1,
) -> Error:
    """Compare two tensors by the rule of this module.

    Parameters
    ----------
    reference, found : array
        Of any shapes; different ones are infinitely far from each other.
    moved : sequence of array, optional
        What is computed in place of ``found`` when last bits change, each time others.
    cap : float
    through : float
        Largest number that goes through gates on the way; 0 where there are none.
    of : int, optional
        How many ``moved`` are to be, where these are the first of them: the others count as no change.
    terms : float
        How many products are added up in one number.
    """
    if reference.shape != found.shape:
        return Error(np.inf)
    if not rounding(reference):
        unequal = reference != found
        return Error(float(np.mean(unequal)) if np.any(unequal) else 0.0)
    gap, size = _finite(reference, found, terms)
    if not np.isfinite(gap).all():
        return Error(np.inf)
    noise = max(NOISE**2, terms) * _noise(found, [draw for draw in moved if draw.shape == found.shape], of)
    if through and found.dtype.kind == "f":
        steps = np.square(min(1, through) * STEPS * float(np.finfo(found.dtype).epsneg))
        noise = np.maximum(np.broadcast_to(noise, found.shape), steps)
    judged = partial(_along, size=size, noise=noise, accepted=rounding(reference), cap=cap)
    worst = _worst(gap, judged, rounding(reference))
    if worst.relative <= rounding(reference) or cap < ALONE:
        return worst
    told = _told(gap, judged, rounding(reference))
    return _worst(told, judged, rounding(reference))._replace(lost=told is not gap)


Judged = Callable[[np.ndarray, int | None], tuple[np.ndarray, np.ndarray]]
"""Squares of a difference and an axis -> how far every slice is, and whether noise without ``cap`` excuses it."""


def _along(
    gap: np.ndarray, axis: int | None, size: np.ndarray, noise: np.ndarray, accepted: float, cap: float
) -> tuple[np.ndarray, np.ndarray]:
    others = tuple(k for k in range(gap.ndim) if k != axis)
    gaps, sizes, noises = (np.atleast_1d(v.sum(axis=others)) for v in (gap, size, noise))
    return _relative(gaps, sizes, noises, accepted, cap), gaps <= noises


def _worst(gap: np.ndarray, judged: Judged, accepted: float) -> Error:
    """What is furthest; the whole tensor unless a slice is further, and too far."""
    worst = Error(float(judged(gap, None)[0].max()))
    for axis in range(gap.ndim) if gap.size else ():
        relative, _ = judged(gap, axis)
        place = int(relative.argmax())
        if relative[place] > max(worst.relative, accepted):
            worst = Error(float(relative[place]), f"entry {place} of axis {axis}")
    return worst


def _told(gap: np.ndarray, judged: Judged, accepted: float) -> np.ndarray:
    """The difference without slices that ``cap`` alone forbids, if there are any: by those nothing is told."""
    for axis in (*(range(gap.ndim) if gap.size else ()), None):
        relative, excused = judged(gap, axis)
        lost = (relative > accepted) & excused
        if lost.any():
            across = [-1 if k == axis else 1 for k in range(gap.ndim)]
            gap = np.where(lost.reshape(across), 0, gap)
    return gap


def _noise(found: np.ndarray, moved: Sequence[np.ndarray], of: int) -> np.ndarray:
    """Mean of the squares of changes, of a shape that broadcasts to that of the tensor."""
    total = np.zeros((1,) * found.ndim)
    for draw in moved:
        with np.errstate(all="ignore"):
            change = draw.astype(np.float64) - found.astype(np.float64)
        total = total + np.square(np.where(np.isfinite(change), change, 0))
    return total / (of or max(len(moved), 1))


def _finite(reference: np.ndarray, found: np.ndarray, terms: float) -> tuple[np.ndarray, np.ndarray]:
    """Squares of the difference and of the reference; where both hold the same NaN or infinity, zero.

    So it is where one order of a long sum may overflow on the way, and the other does not.
    """
    with np.errstate(all="ignore"):
        a, b = (v.astype(np.float64) for v in (reference, found))
        gap, size = np.square(b - a), np.square(a)
        if np.isfinite(gap).all():
            return gap, size
        same = ~np.isfinite(a) & ((a == b) | (np.isnan(a) & np.isnan(b)))
        if terms > 1 and reference.dtype.kind == "f":
            reach = np.finfo(reference.dtype).max / terms  # what a sum of so many can reach on the way
            same |= ~np.isfinite(gap) & ~(np.fmin(np.abs(a), np.abs(b)) < reach)
        return np.where(same, 0, gap), np.where(np.isfinite(a), size, 0)


def _relative(
    gap: np.ndarray, size: np.ndarray, noise: np.ndarray, accepted: float, cap: float
) -> np.ndarray:
    """Norms of differences, in units in which ``accepted`` is; arguments but the last two are squares."""
    gap, size, noise = (np.sqrt(v) for v in (gap, size, noise))
    mean = np.sqrt(np.square(size).mean()) if size.size else 0.0
    excused = np.minimum(noise, cap * np.maximum(size, mean)) / accepted
    unit = np.maximum(size, excused)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap == 0, 0.0, gap / unit)
