"""Both factors of a split channel axis at once (``reshape_channel_axis="both"``).

Facts only ever say that labels live and die together, or that ``L[i, j]`` lives if and only if
``rows[i]`` and ``columns[j]`` do. So if two choices of living labels are legal, what lives in both
is legal, too. Hence the facts are resolved twice, once with the inner and once with the outer
factors held, units of either resolution are removed for themselves, and a label lives where both
resolutions leave it. All is decided on one model, and verified against it as a whole.

The groups are those of the first resolution (whole heads), and those of the second of which no
unit is a unit of the first as well. Where a split decides what a unit is, the units differ: ``L``
is tied to the rows in one and to the columns in the other. Everything else (the channels of a
plain layer, and a split of which the same factor is held either way) has the same units twice and
stays one group, so that it loses its share once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..labels.vector import Ints
from ..labels.walk import Walk
from .groups import Group, GroupNames, find_groups
from .resolve import Components, resolve

Groups = tuple[Group, ...]


def both(walk: Walk, outer: Components, groups: Groups, blocked: Groups) -> tuple[Components, Groups, Groups]:
    """Units of the inner factors, and all groups.

    Parameters
    ----------
    outer, groups, blocked
        Components and groups with the inner factors held.

    Returns
    -------
    Components
        Those with the outer factors held; their units are numbered behind those of ``outer``.
    tuple of Group
        Groups of both that can go.
    tuple of Group
        Those of ``blocked`` that cannot go in either.
    """
    offset = int(outer.unit.max()) + 1
    found = resolve(walk.facts, walk.count, 1)
    reason = {unit + offset: why for unit, why in found.reason.items()}
    inner = replace(found, unit=found.unit + offset, reason=reason)
    known = _in_common(outer.unit, inner.unit)
    new = [g for g in find_groups(walk, inner)[0] if not known[g.units].any()]
    free = np.isin(inner.unit, np.concatenate([np.zeros(0, np.int64), *(g.units for g in new)]))
    still = tuple(g for g in blocked if not free[np.isin(outer.unit, g.units)].all())
    names = GroupNames(walk.graph.taken, (group.name for group in (*groups, *still)))
    # A channel counts as one entry wide: how many heads it runs through is not known before some of
    # them go, and only so are channel counts multiples of the granularity whatever number is left.
    renamed = (replace(group, name=names.after(group.nodes[0]), width=1) for group in new)
    return inner, (*groups, *renamed), still


def _in_common(a: Ints, b: Ints) -> npt.NDArray[np.bool_]:
    """For every unit of ``b``, whether it consists of the same labels as some unit of ``a``."""
    pairs, counts = np.unique(np.stack([a, b]), axis=1, return_counts=True)
    same = (counts == np.bincount(a)[pairs[0]]) & (counts == np.bincount(b)[pairs[1]])
    common = np.zeros(int(b.max()) + 1, np.bool_)
    common[pairs[1][same]] = True
    return common
