"""How two tensors differ, over many samples.

Cosine hides two cases, so they are defined and shown in ``Difference.remark``: of two zero samples
it is 1, of a zero one and another it is 0; where both hold NaN or the same infinity they agree,
where only one does, cosine is 0 and all distances are infinite.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..printable import plural
from .accepted import ALONE, DRAWS, MANY, Error, furthest, rounding

CLASSES, TOP = 3, 5
"""Fewest scores that are taken for those of classes, and how many of the best are compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one tensor of two models differs.

    Attributes
    ----------
    cosine, worst : float
        Mean and lowest over the samples.
    relative : float
        L2 norm of the difference over the L2 norm of the reference, all samples as one vector. Where it
        is a check, that of the slice which is furthest from what is accepted, see ``accepted.py``.
    max_abs : float
        Largest absolute difference.
    tolerance : float or None
        Relative difference that is accepted, where it is a check. It is none where last bits decide.
    snr : float
        Signal to noise in dB.
    top1, top5 : float or None
        Share of samples with the same best class, and mean share of the five best that are among
        the slim model's five; None where there are no scores of (more than five) classes.
    samples : int
        How many were compared; 0 where there were no numbers to compare.
    remark : str
        Samples that are zero, and values that are not finite.
    layer : str
        Node that makes the tensor, where layers are compared.
    part : str
        Slice that ``relative`` is of; empty for the whole tensor.
    """

    output: str
    cosine: float
    relative: float
    max_abs: float
    tolerance: float | None = None
    worst: float = 1.0
    snr: float = np.inf
    top1: float | None = None
    top5: float | None = None
    samples: int = 1
    remark: str = ""
    layer: str = ""
    part: str = ""

    def __bool__(self) -> bool:
        return self.tolerance is None or self.relative <= self.tolerance


def difference(
    name: str, reference: np.ndarray, found: np.ndarray, tolerance: float | None = None
) -> Difference:
    """Measure how a tensor differs from its reference, as one sample."""
    sums = Comparison(name)
    sums.add(reference, found)
    sums.tolerance = tolerance
    return sums.difference()


def class_scores(array: np.ndarray, samples: int) -> np.ndarray | None:
    """Scores of shape (samples, classes), axes of size 1 behind them dropped; None for others."""
    if array.ndim < 2 or len(array) != samples or array.shape[1] < CLASSES:
        return None
    if any(size != 1 for size in array.shape[2:]) or rounding(array) == 0:
        return None
    return array.reshape(array.shape[:2]).astype(np.float64)


def holds_numbers(array: np.ndarray) -> bool:
    """Whether anything in an array can be compared: it is neither empty nor all NaN or infinite."""
    return bool(np.isfinite(array).any()) if array.dtype.kind in "fc" else array.size > 0


class Comparison:
    """Sums over samples, from which a ``Difference`` follows; it holds no tensors.

    Parameters
    ----------
    exact : bool
        Accept rounding only, in every batch.
    cap : float
        How much noise may excuse, then; see ``accepted.py``.
    terms : float
        How many products are added up in one number.
    """

    def __init__(
        self, name: str, *, layer: str = "", exact: bool = False, cap: float = ALONE, terms: float = 1
    ) -> None:
        self.name, self.layer, self.exact = name, layer, exact
        self._accepted = partial(furthest, cap=cap, terms=terms)
        self.tolerance: float | None = None
        self.furthest, self.lost = Error(0.0), False
        self.runs = self.samples = self.ranked = 0
        self.cosines, self.worst, self.max_abs = 0.0, 1.0, 0.0
        self.energy = self.noise = self.top1 = self.top5 = 0.0
        self.classes = 0
        self.odd = np.zeros((2, 2), np.int64)
        """Zero samples, and values that are not finite: in the reference, in what was found."""

    def add(
        self,
        reference: np.ndarray,
        found: np.ndarray,
        samples: int = 1,
        moved: Iterable[np.ndarray] = (),
        through: float = 0,
    ) -> None:
        """Add tensors whose first axis holds so many samples; where it does not, they are one.

        Parameters
        ----------
        moved : iterable, optional
            What is computed in place of ``found`` when last bits change, each time others; read as far
            as needed.
        through : float
            Largest number that goes through gates on the way; 0 where there are none.
        """
        if self.exact:
            self._judge(reference, found, moved, through)
        self.runs += 1
        if not (holds_numbers(reference) or holds_numbers(found)):
            return
        if reference.shape != found.shape:
            self._count(np.zeros(1), 0.0, np.inf, np.inf)
        elif reference.dtype.kind in "OSU":
            same = float((reference == found).mean())
            self._count(np.array([same]), 1.0, (1 - same) ** 2, 1 - same)
        else:
            rows = samples if reference.ndim and len(reference) == samples else 1
            with np.errstate(all="ignore"):
                self._add_rows(*(v.astype(np.float64).reshape(rows, -1) for v in (reference, found)))
            self._add_classes(class_scores(reference, samples), class_scores(found, samples))

    def _judge(
        self, reference: np.ndarray, found: np.ndarray, moved: Iterable[np.ndarray], through: float
    ) -> None:
        """Ask for changed last bits only until those so far excuse the difference, whatever others do."""
        self.tolerance = rounding(reference)
        accepted = partial(self._accepted, through=through)
        error = furthest(reference, found)
        if error.relative > self.tolerance > 0:
            read: list[np.ndarray] = []
            for draw in moved:
                read.append(draw)
                error = accepted(reference, found, read, of=DRAWS if len(read) <= DRAWS else MANY)
                if error.relative <= self.tolerance:
                    break
            else:
                error = accepted(reference, found, read)
        self.lost |= error.lost
        self.furthest = max(self.furthest, error)

    def _add_rows(self, a: np.ndarray, b: np.ndarray) -> None:
        """Add samples as rows."""
        gap = b - a
        if not np.isfinite(gap).all():
            agree = (a == b) | (np.isnan(a) & np.isnan(b))
            self.odd[1] += [np.count_nonzero(~np.isfinite(v)) for v in (a, b)]
            a, b = np.where(agree & ~np.isfinite(a), 0, a), np.where(agree & ~np.isfinite(b), 0, b)
            gap = b - a
        bad = ~np.isfinite(gap).all(axis=1)
        lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        self.odd[0] += [np.count_nonzero(v == 0) for v in lengths]
        product = lengths[0] * lengths[1]
        cosine = np.einsum("ij,ij->i", a, b) / np.where(product, product, 1)
        cosine = np.where(product == 0, (lengths[0] == lengths[1]).astype(float), cosine)
        noise = float(np.square(gap[~bad]).sum())
        if bad.any():
            self._count(np.where(bad, 0.0, cosine), 0.0, np.inf, np.inf)
        else:
            largest = float(np.abs(gap).max(initial=0))
            self._count(cosine, float(np.square(lengths[0]).sum()), noise, largest)

    def _count(self, cosines: np.ndarray, energy: float, noise: float, max_abs: float) -> None:
        self.samples += len(cosines)
        self.cosines += float(cosines.sum())
        self.worst = min(self.worst, float(cosines.min()))
        self.energy += energy
        self.noise += noise
        self.max_abs = max(self.max_abs, max_abs)

    def _add_classes(self, a: np.ndarray | None, b: np.ndarray | None) -> None:
        if a is None or b is None:
            return
        self.ranked += len(a)
        self.classes = a.shape[1]
        same = np.isnan(a).any(axis=1) == np.isnan(b).any(axis=1)
        self.top1 += float((same & (a.argmax(axis=1) == b.argmax(axis=1))).sum())
        if self.classes > TOP:
            best = [np.argsort(-v, axis=1, kind="stable")[:, :TOP] for v in (a, b)]
            both = (best[0][:, :, None] == best[1][:, None, :]).any(axis=2)
            self.top5 += float((same * both.mean(axis=1)).sum())

    def difference(self) -> Difference:
        """What the sums so far say."""
        if self.energy:
            relative = float(np.sqrt(self.noise / self.energy))
        else:
            relative = np.inf if self.noise else 0.0
        snr = (
            -20 * float(np.log10(relative)) if 0 < relative < np.inf else np.inf if not relative else -np.inf
        )
        untold = self.lost and self.furthest.relative <= (self.tolerance or 0)
        return Difference(
            self.name,
            self.cosines / self.samples if self.samples else 1.0,
            self.furthest.relative if self.exact else relative,
            self.max_abs,
            None if untold else self.tolerance,
            self.worst,
            snr,
            self.top1 / self.ranked if self.ranked else None,
            self.top5 / self.ranked if self.classes > TOP else None,
            self.samples,
            self._remark(),
            self.layer,
            self.furthest.part,
        )

    def _remark(self) -> str:
        (zeros, slim_zeros), (odd, slim_odd) = self.odd.tolist()
        parts = ["last bits decide what it holds"] if self.lost else []
        if odd or slim_odd:
            parts.append(f"not finite: {plural(odd, 'value')} before, {slim_odd} after")
        if zeros or slim_zeros:
            parts.append(f"zero: {zeros} of {plural(self.samples, 'sample')} before, {slim_zeros} after")
        return "; ".join(parts)
