"""What cutting a checkpoint, and putting trained weights into a model, have to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..printable import plural
from ..reports.page import Part, Table, words
from .cutting import SlimState
from .mapping import listed
from .reweighting import Reweighted


@dataclass(frozen=True, slots=True)
class CutCheckpoint:
    """A checkpoint that was cut, see :class:`onnxprune.reports.page.Reported`.

    Attributes
    ----------
    state, model, out : str
        The files.
    before : mapping
        Entries of the checkpoint as it was.
    """

    state: str
    model: str
    out: str
    before: Mapping[str, np.ndarray]
    found: SlimState

    @property
    def notes(self) -> list[str]:
        """What a user should know and did not ask for."""
        unread = self.found.unread
        left = [f"not in the model, hence left whole: {listed(unread)}"] if unread else []
        return [*self.found.notes, *left]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        return {
            "state": self.state,
            "model": self.model,
            "output": self.out,
            "entries": {
                name: {str(k): i.tolist() for k, i in enumerate(cut) if i is not None}
                for name, cut in self.found.cuts.items()
            },
            "constants": [
                {"name": x.use.name, "node": x.use.node, "origin": str(x.recipe or ""), "reason": x.reason}
                for x in self.found.origins.links
            ],
            "unread": list(self.found.unread),
            "difference": self.found.difference,
            "notes": list(self.found.notes),
        }

    def page(self) -> Iterator[Part]:
        """What was cut, and how well it is known."""
        found, before = self.found, self.before
        rows = tuple(
            (name, f"{list(before[name].shape)} -> {list(found.state[name].shape)}") for name in found.cuts
        )
        stored = [link for link in found.origins.links if not link.use.sources]
        mapped, links = sum(link.recipe is not None for link in stored), len(stored)
        yield Table(words("entry", "shape"), rows, "--json lists all")
        yield (
            f"{mapped} of {plural(links, 'constant')} come from the checkpoint; "
            f"{len(found.cuts)} of {plural(len(before), 'entry', 'entries')} cut"
        )
        yield (
            f"the entries give the constants of the slim model (largest difference {found.difference:.2g})"
        )
        yield f"wrote '{self.out}'"


@dataclass(frozen=True, slots=True)
class TakenWeights:
    """A model that took trained weights, see :class:`onnxprune.reports.page.Reported`.

    Attributes
    ----------
    model, state, out : str
        The files.
    """

    model: str
    state: str
    out: str
    found: Reweighted

    @property
    def kept(self) -> list[str]:
        """Constants that come from no entry."""
        return list(dict.fromkeys(link.use.name for link in self.found.kept))

    @property
    def notes(self) -> list[str]:
        """What a user should know and did not ask for."""
        kept = [f"come from no entry, hence stay: {listed(self.kept)}"] if self.kept else []
        unread = [f"not in the model: {listed(self.found.unread)}"] if self.found.unread else []
        return kept + unread

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        return {
            "model": self.model,
            "state": self.state,
            "output": self.out,
            "taken": self.found.taken,
            "kept": self.kept,
            "unread": list(self.found.unread),
        }

    def page(self) -> Iterator[Part]:
        """What was taken."""
        yield f"{plural(self.found.taken, 'constant')} of '{self.model}' took the weights of '{self.state}'"
        yield f"wrote '{self.out}'"
