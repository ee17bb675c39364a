"""Sizes of models, from which other tools tell what their compression made of one."""

from __future__ import annotations

from ..coupling.trace import trace
from ..model.loading import load
from ..selection.cost import Cost, cost


def counted(path: str) -> Cost:
    """Parameters, bytes and MACs of a model."""
    traced = trace(load(path))
    return cost(traced, traced.sizes(), traced.model)
