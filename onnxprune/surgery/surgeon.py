"""From kept channels to the slim model, and the check of its shapes."""

from __future__ import annotations

import numpy.typing as npt

from ..coupling.trace import Trace
from ..labels.sizes import Sizes
from ..model.file import Model, collector_paused
from .editor import Editor
from .rewriter import Rewriter
from .selfcheck import self_check


@collector_paused()
def rewrite_trace(traced: Trace, removed: npt.ArrayLike) -> Model:
    """Remove units from a traced model, and check the shapes of the result.

    Raises
    ------
    SurgeryError
        If the slim model's shapes contradict the analysis.
    """
    sizes = traced.sizes(removed)
    slim = unchecked(traced, sizes)
    self_check(slim, traced, sizes)
    return slim


def unchecked(traced: Trace, sizes: Sizes) -> Model:
    """The slim model, whose shapes are still to be checked."""
    return Rewriter(traced, sizes).run(Editor)


@collector_paused()
def written_bytes(traced: Trace, removed: npt.ArrayLike) -> int:
    """Bytes of the file without some units; nothing is checked, because it is not kept."""
    return unchecked(traced, traced.sizes(removed)).nbytes()
