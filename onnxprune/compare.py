"""How two tensors differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDING = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-5}
"""Relative L2 difference that counts as rounding, by the type of the tensor."""

HALF_ROUNDING = 5e-3
"""The same for 16-bit floats."""


def rounding(array: np.ndarray) -> float:
    """Relative difference that counts as rounding; integers must be equal."""
    if not np.issubdtype(array.dtype, np.inexact) and array.dtype.kind != "V":
        return 0.0
    return ROUNDING.get(array.dtype, HALF_ROUNDING)


@dataclass(frozen=True, slots=True)
class Difference:
    """How one output of two models differs.

    Attributes
    ----------
    cosine : float
        Of all values as one vector; 1 for two zero vectors, 0 for one.
    relative : float
        L2 norm of the difference over the L2 norm of the reference.
    max_abs : float
        Largest absolute difference.
    tolerance : float or None
        Relative difference that is accepted, where it is a check.
    """

    output: str
    cosine: float
    relative: float
    max_abs: float
    tolerance: float | None = None

    def __bool__(self) -> bool:
        return self.tolerance is None or self.relative <= self.tolerance


def difference(name: str, reference: np.ndarray, found: np.ndarray, tolerance: float | None = None) -> Difference:  # fmt: skip
    """Measure how an output differs from its reference.

    Where both are NaN or the same infinity they agree; where one is, the difference is infinite.
    """
    if reference.shape != found.shape:
        return Difference(name, 0.0, np.inf, np.inf, tolerance)
    if reference.dtype.kind in "OSU":
        same = float((reference == found).mean()) if reference.size else 1.0
        return Difference(name, same, 1 - same, 1 - same, tolerance)
    a, b = (np.asarray(v).astype(np.float64).reshape(-1) for v in (reference, found))
    agree = (a == b) | (np.isnan(a) & np.isnan(b))
    a, b = np.where(agree & ~np.isfinite(a), 0, a), np.where(agree & ~np.isfinite(b), 0, b)
    gap = b - a
    if not a.size or not np.isfinite(gap).all():
        bad = 0.0 if not a.size else np.inf
        return Difference(name, 0.0 if bad else 1.0, bad, bad, tolerance)
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if 0.0 in norms:
        cosine = 1.0 if norms == (0.0, 0.0) else 0.0
    else:
        cosine = float(a @ b / (norms[0] * norms[1]))
    distance = float(np.linalg.norm(gap))
    relative = distance / norms[0] if norms[0] else (0.0 if distance == 0 else np.inf)
    return Difference(name, cosine, relative, float(np.abs(gap).max()), tolerance)
