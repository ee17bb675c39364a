"""The common refinement of two shapes of equal size.

The cut points of a shape are the cumulative products of its sizes. Cutting at the points of both
shapes gives *factors*; every axis of either shape is a run of consecutive factors. ``[2, 768] ->
[2, 12, 64]`` has the factors 2, 12, 64. Where the points do not divide each other the refinement
does not exist, but only for the block between the nearest points that both shapes have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class AxisBlock:
    """A run of source axes and the run of target axes that holds the same elements.

    Attributes
    ----------
    factors : tuple of int, or None
        Sizes of the common factors, outermost first; None if there is no refinement.
    source_runs, target_runs : tuple of (axis, slice)
        Which factors an axis consists of.
    points : tuple of (bool, int)
        Every cut between factors, both ends included: whether it is one of the source, and which.
    """

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    factors: tuple[int, ...] | None
    source_runs: tuple[tuple[int, slice], ...] = ()
    target_runs: tuple[tuple[int, slice], ...] = ()
    points: tuple[tuple[bool, int], ...] = ()

    def cuts_like(self, other: AxisBlock) -> bool:
        """Whether the block of another sample setting is cut in the same way."""
        mine = (self.sources, self.targets, self.source_runs, self.target_runs)
        return mine == (other.sources, other.targets, other.source_runs, other.target_runs)

    def factors_at(self, source: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the factors where the same cuts are made in shapes of other sizes."""
        mine, theirs = _cuts(source), _cuts(target)
        cuts = [mine[k] if is_source else theirs[k] for is_source, k in self.points]
        return tuple(b // max(a, 1) for a, b in pairwise(cuts))


@lru_cache(maxsize=4096)
def refine(source: tuple[int, ...], target: tuple[int, ...]) -> tuple[AxisBlock, ...]:
    """Blocks of the common refinement, outermost first.

    Examples
    --------
    >>> [(b.sources, b.targets, b.factors) for b in refine((2, 768), (2, 12, 64))]
    [((0,), (0,), (2,)), ((1,), (1, 2), (12, 64))]
    """
    if 0 in source or 0 in target:
        return (AxisBlock(tuple(range(len(source))), tuple(range(len(target))), None),)
    mine, theirs = _cuts(source), _cuts(target)
    if mine[-1] != theirs[-1]:
        return (AxisBlock(tuple(range(len(source))), tuple(range(len(target))), None),)
    shared = sorted(set(mine) & set(theirs))
    if len(shared) == 1:
        return ()
    return tuple(_block(source, target, mine, theirs, a, b) for a, b in pairwise(shared))


def _cuts(shape: Sequence[int]) -> list[int]:
    cuts = [1]
    for size in shape:
        cuts.append(cuts[-1] * size)
    return cuts


def _block(
    source: Sequence[int], target: Sequence[int], mine: list[int], theirs: list[int], start: int, stop: int
) -> AxisBlock:
    sources = _axes(source, mine, start, stop)
    targets = _axes(target, theirs, start, stop)
    points = sorted({p for p in mine + theirs if start <= p <= stop})
    if any(b % a for a, b in pairwise(points)):
        return AxisBlock(sources, targets, None)
    return AxisBlock(
        sources,
        targets,
        tuple(b // a for a, b in pairwise(points)),
        tuple((k, slice(points.index(mine[k]), points.index(mine[k + 1]))) for k in sources),
        tuple((k, slice(points.index(theirs[k]), points.index(theirs[k + 1]))) for k in targets),
        tuple((p in mine, (mine if p in mine else theirs).index(p)) for p in points),
    )


def _axes(shape: Sequence[int], cuts: list[int], start: int, stop: int) -> tuple[int, ...]:
    """Axes of size over 1 between two cut points; the others hold a single index."""
    return tuple(k for k, s in enumerate(shape) if s != 1 and start <= cuts[k] < stop)
