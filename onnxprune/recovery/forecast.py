"""What a budget is expected to do to the outputs."""

from __future__ import annotations

from dataclasses import dataclass

from .allocation import Probe
from .harm import doubts


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a budget is expected to do.

    Attributes
    ----------
    budget : dict
        Target -> share.
    probes : list of Probe
        What the loss of half of every group does, after its readers were refitted.
    kept : dict
        Group -> channels that the budget leaves.
    harm : dict
        Group -> harm that is expected of that; they add up. See ``onnxprune.recovery.harm``.
    macs : (int, int)
        Before and after.
    samples : int
        How many there were.
    enough : float or None
        Smallest share, among a few, of which less than ``HIGH`` is expected; None where none is, the
        budget itself is fine, or there are several.
    latency : float or None
        Share of the latency that the budget is predicted to leave, where that is a part of it.
    """

    budget: dict[str, float]
    probes: list[Probe]
    kept: dict[str, int]
    harm: dict[str, float]
    macs: tuple[int, int]
    samples: int
    enough: float | None
    latency: float | None = None

    @property
    def total(self) -> float:
        """Expected harm of the whole."""
        return sum(self.harm.values())

    def left(self, probe: Probe) -> int:
        """Channels of a group that the budget leaves."""
        return self.kept.get(probe.group, probe.channels)

    @property
    def ratios(self) -> dict[str, float]:
        """Share of its channels that every group loses: what ``prune --ratio`` takes."""
        size = {probe.group: probe.channels for probe in self.probes}
        return {name: 1 - kept / size[name] for name, kept in self.kept.items() if kept < size[name]}

    @property
    def doubts(self) -> str:
        """What to say where the budget is too small to ship; empty where it is not."""
        (name, *_) = self.budget
        larger = f"{name.replace('_', '-')} {self.enough:g}" if self.enough else "a larger budget"
        return doubts(self.total, self.samples, larger)
