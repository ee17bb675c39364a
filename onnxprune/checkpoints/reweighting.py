"""Weights back into an ONNX file, once a checkpoint has been trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import PlanError
from ..model.file import Model
from ..printable import plural
from ..selection.recovered import Recovery
from .mapping import Link, by_name, map_constants
from .recipes import floats_beside
from .uses import Use, uses_of


@dataclass(frozen=True, eq=False)
class Reweighted:
    """A model with the weights of a checkpoint.

    Attributes
    ----------
    model : Model
    taken : int
        Constants that have new values; further uses of a shared one count.
    kept : tuple of Link
        Constants that come from no entry, and stay.
    unread : tuple of str
        Entries of floats that go nowhere.
    """

    model: Model
    taken: int
    kept: tuple[Link, ...]
    unread: tuple[str, ...]


def reweight(
    model: Model, state: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray] | None = None
) -> Reweighted:
    """Give a model the weights of a checkpoint.

    Parameters
    ----------
    model : Model
        Slim or not; with the weights of ``before``.
    state : mapping of str to array
        The checkpoint, trained.
    before : mapping of str to array, optional
        The same checkpoint before it was trained: where each constant comes from is then known by
        value. By name alone otherwise.

    Raises
    ------
    PlanError
        If entries are missing or of another shape, or it takes ``before`` to know where they go.
    """
    found = [use for use in uses_of(model) if not use.sources]
    if before is None:
        links = _by_name(found, state)
    else:
        _same_entries(before, state)
        links = list(map_constants(found, before).links)
    made = filled(model, links, state)
    read = {entry for link in links if link.recipe is not None for entry in link.recipe.entries}
    kept = tuple(link for link in links if link.recipe is None)
    return Reweighted(made, len(links) - len(kept), kept, floats_beside(state, read))


def filled(model: Model, links: Iterable[Link], state: Mapping[str, np.ndarray]) -> Model:
    """A copy of a model in which every constant with a recipe has the value that entries give."""
    values = {
        link.use.view: np.ascontiguousarray(
            link.recipe.value(state, link.use.value.shape).astype(link.use.value.dtype)
        )
        for link in links
        if link.recipe is not None and not link.use.sources
    }
    return Recovery(values).apply(model)


def _same_entries(before: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> None:
    missing = sorted(before.keys() - state.keys())
    if missing:
        raise PlanError(f"the checkpoint has no entry '{missing[0]}'", "It is one of another network.")
    for name, array in before.items():
        _same_shape(name, state[name], array)


def _same_shape(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Refuse an entry that is no such constant."""
    if found.shape != expected.shape:
        raise PlanError(
            f"entry '{name}': found shape {list(found.shape)}, expected {list(expected.shape)}",
            "It is a checkpoint of another network, or of one that was cut by another plan.",
        )


def _by_name(found: Sequence[Use], state: Mapping[str, np.ndarray]) -> list[Link]:
    """Constants that bear the names of entries, where those are all that the checkpoint has."""
    links = []
    for use in found:
        array = state.get(use.name)
        if array is None:
            links.append(Link(use, None, "no entry of the checkpoint has its name"))
            continue
        _same_shape(use.name, array, use.value)
        links.append(Link(use, by_name(use.name, array)))
    named = {use.name for use in found}
    if rest := floats_beside(state, named):
        raise PlanError(
            f"the model has no constant '{rest[0]}': found {plural(len(rest), 'entry', 'entries')} held under other names, or folded into others",
            "Give the checkpoint as it was before training with --before: then values tell where they go.",
        )
    return links
