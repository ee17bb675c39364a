"""How many channels stay: minimum and granularity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..coupling.groups import Group
from ..settings.table import DEFAULTS

_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Rounding:
    """Kept counts are rounded, not removed ones: ``step * f(kept / step)``.

    With ``up`` this is NVIDIA TAO's counting, and never more goes than is asked. With ``nearest``
    (halves go down) it is NetsPresso's, but for two things: a group of which nothing is asked stays
    whole, also where its size is no multiple of the step; and where single channels go,
    ``round(ratio * channels)`` of them do, halves to the even number.

    Attributes
    ----------
    granularity : int
        Kept channel counts are multiples of it, or the whole group.
    granules : mapping
        The same by the name of a group; groups that it does not name take ``granularity``.
    rounding : {"nearest", "up", "down", "none"}
    min_channels : int
        Fewest channels kept in a group.
    min_share : float
        Smallest share kept of a group whose counts are rounded.
    always : bool
        Whether it is kept of every group.
    """

    granularity: int = 1
    rounding: str = DEFAULTS["rounding"]
    min_channels: int = DEFAULTS["min_channels"]
    min_share: float = DEFAULTS["min_share"]
    always: bool = False
    granules: Mapping[str, int] = field(default_factory=dict)

    def granule(self, group: Group) -> int:
        """What the channel counts of a group are multiples of."""
        return self.granules.get(group.name, self.granularity)

    def step(self, group: Group) -> int:
        """Fewest units that change channel counts by a multiple of the granularity."""
        blocks = 1 if group.blocks is None else int(group.blocks.max()) + 1
        if self.rounding == "none":
            return blocks
        granule = self.granule(group)
        return blocks * (granule // math.gcd(granule, blocks * group.width))

    def least(self, group: Group) -> int:
        """Fewest units that stay."""
        coarse = bool(self.granules) or self.granularity > 1
        rounded = self.always or (self.rounding != "none" and coarse)
        share = math.ceil(len(group) * self.min_share - _EPSILON) if rounded else 1
        step = self.step(group)
        fewest = max(math.ceil(self.min_channels / group.width), share, 1)
        return min(len(group), step * math.ceil(fewest / step))

    def count(self, group: Group, wanted: float) -> int:
        """Units that stay when ``wanted`` should."""
        size, step = len(group), self.step(group)
        if wanted > size - _EPSILON:
            return size
        if step == 1 and self.rounding == "nearest":
            return max(size - round(size - wanted), self.least(group))
        # The half is taken before the ceiling, so that halves go down.
        shift = {"up": 0.0, "down": 1.0}.get(self.rounding, 0.5)
        steps = wanted / step - shift
        count = math.floor(steps + _EPSILON) + 1 if shift == 1 else math.ceil(steps - _EPSILON)
        return min(size, max(step * count, self.least(group)))

    def limit(self, group: Group, count: int) -> float:
        """Most units that may be wanted for ``count``, a multiple of the step, to stay."""
        return count + self.step(group) * {"up": 0.0, "down": 1.0}.get(self.rounding, 0.5)
