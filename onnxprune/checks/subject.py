"""A model under test: its session, what it made of the inputs that it read last, and what that took."""

from __future__ import annotations

import time
from math import inf

import numpy as np

from ..model.engine import InferenceSession
from ..runtime.session import Arrays, run


class Subject:
    """An open model, which several checks run on the same inputs, but once.

    Attributes
    ----------
    what : str
        What a message calls the model.
    inputs : list of str
    declared : dict
        Output -> its declared sizes, names among them.
    seconds : float
        Processor time of its fastest run: work, whatever else the machine does. Work of a GPU is not
        in it.
    """

    def __init__(self, session: InferenceSession, what: str) -> None:
        self.session, self.what, self.seconds = session, what, inf
        self.inputs = [value.name for value in session.get_inputs()]
        self.declared = {value.name: list(value.shape or ()) for value in session.get_outputs()}
        self._last: tuple[Arrays, Arrays] | None = None

    def run(self, feeds: Arrays) -> Arrays:
        """Outputs by name."""
        if self._last is None or not _equal(self._last[0], feeds):
            start = time.process_time()
            self._last = feeds, run(self.session, feeds, self.what)
            self.seconds = min(self.seconds, time.process_time() - start)
        return self._last[1]

    def close(self) -> None:
        """Let the session go with its weights, whoever knows the subject; what it ran last stays known."""
        del self.session


def _equal(one: Arrays, other: Arrays) -> bool:
    """Whether inputs are the same to the bit."""
    return one.keys() == other.keys() and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in ((one[n], other[n]) for n in one)
    )
