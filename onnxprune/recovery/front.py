"""What is known of a model at a place, batch by batch, so that nothing in front of it runs again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..data.batches import Batch
from ..moments.held import Held
from ..moments.segment import Parts
from ..runtime.session import Arrays, owned


class Front:
    """One model and what is known of it between two steps.

    Parameters
    ----------
    parts : Parts
    data : sequence of Batch, or Held
    memory : int
        Bytes that held tensors may take.
    """

    def __init__(self, parts: Parts, data: Held | Sequence[Batch], memory: int) -> None:
        self.parts, self.data, self.memory = parts, data, memory
        self._held: list[dict[str, np.ndarray]] = []
        self._next: list[dict[str, np.ndarray]] = []
        self._fits: bool | None = None

    def known(self) -> Iterator[Arrays]:
        """What is known of every batch; it is let go where what comes next of that batch is held."""
        for number, batch in enumerate(self.data):
            yield {**batch.feeds, **(self._held[number] if self._held else {})}
            if self._held and len(self._next) > number:
                self._held[number] = {}

    def hold(self, found: Arrays, names: Sequence[str]) -> bool:
        """Keep tensors of one batch for the next step, if those of all batches will fit, by the first."""
        if self._fits is None:
            self._fits = sum(found[name].nbytes for name in names) * len(self.data) <= self.memory
        if self._fits:
            self._next.append(owned(found, names))
        return self._fits

    def step(self) -> None:
        """Go on from what was kept, if anything was."""
        self._held, self._next, self._fits = self._next or self._held, [], None

    def forget(self) -> None:
        """Start from the inputs again, where a step was broken off."""
        self._held, self._next, self._fits = [], [], None
