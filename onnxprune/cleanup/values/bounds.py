"""Interval arithmetic: least and greatest values, as arrays of shape ``(2, n)``.

An infinite bound stands for values of any size, all of them finite, so zero times anything is zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bounds = npt.NDArray[np.float64]

ANYTHING: Bounds = np.array([[-np.inf], [np.inf]])
ANYTHING.flags.writeable = False


def exactly(values: npt.ArrayLike) -> Bounds:
    """Bounds of known values."""
    array = np.asarray(values, np.float64).reshape(-1)
    return np.array([array, array])


def between(low: float, high: float) -> Bounds:
    """Bounds of a whole tensor."""
    return np.array([[low], [high]], np.float64)


def finite(array: np.ndarray) -> bool:
    """Whether a tensor holds no infinity and no NaN."""
    if array.dtype.kind in "iub":
        return True
    with np.errstate(all="ignore"):  # a finite sum says so in one pass; one that overflows does not
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def tidy(b: Bounds) -> Bounds:
    """Bounds in which what could not be computed (NaN) is open."""
    open_ends = np.isnan(b)
    if not open_ends.any():
        return b
    return np.where(open_ends, ANYTHING.reshape(2, *[1] * (b.ndim - 1)), b)


def wide(b: Bounds, size: int) -> Bounds:
    """One bound per entry."""
    return np.broadcast_to(b, (2, size)) if b.shape[1] != size else b


def hull(*parts: Bounds) -> Bounds:
    """Bounds of what is any of the parts."""
    low = np.min(np.broadcast_arrays(*[p[0] for p in parts]), axis=0)
    return np.array([low, np.max(np.broadcast_arrays(*[p[1] for p in parts]), axis=0)])


def meet(a: Bounds, b: Bounds) -> Bounds:
    """Bounds of what is within both."""
    if b is ANYTHING:
        return a
    return np.array([np.maximum(a[0], b[0]), np.minimum(a[1], b[1])])


def over(b: Bounds) -> Bounds:
    """Bounds of all entries together."""
    return np.array([[b[0].min(initial=np.inf)], [b[1].max(initial=-np.inf)]])


def plus(a: Bounds, b: Bounds) -> Bounds:
    """Bounds of a sum."""
    return a + b


def minus(a: Bounds, b: Bounds) -> Bounds:
    """Bounds of a difference."""
    return a - b[::-1]


def times(a: Bounds, b: Bounds) -> Bounds:
    """Bounds of a product."""
    with np.errstate(invalid="ignore"):
        corners = np.array([a[i] * b[j] for i in (0, 1) for j in (0, 1)])
    corners = np.where(np.isnan(corners), 0.0, corners)  # zero times an open bound
    return np.array([corners.min(axis=0), corners.max(axis=0)])


def divided(a: Bounds, b: Bounds) -> Bounds:
    """Bounds of a quotient; anything where the divisor could be zero."""
    away = (b[0] > 0) | (b[1] < 0)
    with np.errstate(divide="ignore"):
        inverse = np.where(away, 1 / b[::-1], ANYTHING)
    return np.where(away, times(a, inverse), ANYTHING)


def zeros(b: Bounds) -> npt.NDArray[np.bool_]:
    """Which entries are exactly zero."""
    return (b[0] == 0) & (b[1] == 0)


def fixed(b: Bounds) -> npt.NDArray[np.bool_]:
    """Which entries are one finite number."""
    return (b[0] == b[1]) & np.isfinite(b[0])


def constants(b: Bounds) -> npt.NDArray[np.float64]:
    """Values of the entries that are constant, NaN for the others."""
    return np.where(fixed(b), b[0], np.nan)


def zero_or_anything(b: Bounds) -> Bounds:
    """Zero where it is zero, anything elsewhere: all that survives a sum of products."""
    return np.where(zeros(b), 0.0, ANYTHING)
