"""Which filters another tool kept, by which score and member, and where that differs from ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from ..coupling.trace import NO_LAYER, Trace, trace
from ..errors import UsageError
from ..model.file import Model, ModelLike
from ..model.graph import Graph
from ..model.loading import load
from ..printable import plural
from ..reports.explained import Explanation
from ..reports.kept_elsewhere import KeptElsewhere, Match
from ..settings.table import DEFAULTS
from .explain import explain

CRITERIA = ("l2", "l1", "l2_folded", "bn_scale", "fpgm")
"""Criteria of weights alone, which another tool may have used."""

POLICIES = ("union", "average", "intersection", "geometric_mean")


def compare_kept(
    source: ModelLike, layer: str, kept: Collection[int] | ModelLike, **settings: Any
) -> KeptElsewhere:
    """Find the score by which another tool kept the channels that it did.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    layer : str
        Name or pattern that names one group.
    kept : collection of int, or a model
        Channels that were kept; or what the other tool made of the model, whose weights tell them.
    **settings
        Those of :func:`onnxprune.explain`: what would be kept here.

    Raises
    ------
    UsageError
        If the layer is none that can shrink, or the channels are none of it.
    """
    settings.pop("clean", None)
    dense = load(source)
    ours = _one(explain(dense, layer, clean=False, **settings).parts, layer)
    traced = trace(dense)
    if not isinstance(kept, (list, tuple, set, frozenset)):
        kept = kept_in(traced, ours.group, load(kept))
    wanted = tuple(sorted(set(map(int, kept))))
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(ours.channels):
        raise UsageError(f"kept channels: found {list(wanted)}, expected some of 0..{len(ours.channels) - 1}")
    normalizer = settings.get("normalizer", DEFAULTS["normalizer"])
    matches = list(_matches(traced, ours.group, wanted, normalizer))
    matches.sort(key=lambda match: -match.same)
    own = tuple(channel.index for channel in ours.channels if channel.kept)
    return KeptElsewhere(ours.group, len(ours.channels), wanted, own, ours.layers, tuple(matches))


def _one(found: Sequence[Explanation], layer: str) -> Explanation:
    if not found:
        raise UsageError(f"'{layer}' names no group: {NO_LAYER}")
    if len(found) > 1:
        raise UsageError(
            f"'{layer}' names {plural(len(found), 'group')}, expected one", "Give the name of one of them."
        )
    if not found[0].channels:
        raise UsageError(f"'{layer}' cannot shrink: {found[0].story[0]}")
    return found[0]


def _matches(traced: Trace, group: str, kept: Sequence[int], normalizer: Any) -> Iterator[Match]:
    """How well every score tells what was kept: of every member, and of all of them merged."""
    for criterion in CRITERIA:
        members = False
        for policy in POLICIES:
            found = explain(traced, group, criterion=criterion, policy=policy, normalizer=normalizer)
            one = next((part for part in found.parts if part.group == group), None)
            if one is None or not one.layers or not one.channels:
                continue
            channels = sorted(one.channels, key=lambda channel: channel.index)
            if not members:
                members = True
                for number in range(len(one.layers)):
                    scores = np.array([channel.raw[number] for channel in channels])
                    yield _match(criterion, f"({number + 1})", scores, kept)
            if len(one.layers) > 1:
                merged = np.array([channel.merged for channel in channels])
                yield _match(criterion, f"all, {normalizer}, {policy}", merged, kept)


def _match(score: str, member: str, scores: np.ndarray, kept: Sequence[int]) -> Match:
    best = set(np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[: len(kept)].tolist())
    there = set(kept)
    return Match(score, member, len(best & there), tuple(sorted(there - best)), tuple(sorted(best - there)))


def kept_in(traced: Trace, group: str, other: Model) -> list[int]:
    """Channels of a group that another tool's model holds, told by its weights.

    A filter is found again by its values, of which it may have lost those of removed inputs.

    Raises
    ------
    UsageError
        If the layer is not in that model, or its weights are others.
    """
    kernel = next(g for g in traced if g.name == group).kernels[0]
    graph, theirs = traced.graph, Graph(other)
    dense = np.moveaxis(graph.value(kernel.tensor), kernel.axis, 0)
    name = graph.constants[kernel.tensor].name if kernel.tensor in graph.constants else kernel.tensor
    slim = theirs.constants.get(name)
    read = next((n.inputs[1] for n in theirs.nodes if n.name == kernel.node.name and len(n.inputs) > 1), "")
    place = name if slim is not None else read
    if place not in theirs.constants:
        raise UsageError(f"the other model has no '{name}' and no node '{kernel.node.name}'")
    value = np.moveaxis(theirs.value(place), kernel.axis, 0)
    rows = [set(row.reshape(-1).tolist()) for row in dense]
    found = []
    for row in value:
        known = row.reshape(-1)[:64].tolist()
        fits = [k for k, values in enumerate(rows) if values.issuperset(known)]
        if len(fits) != 1:
            what = "several filters" if fits else "no filter"
            raise UsageError(
                f"'{place}' of the other model: {what} of the original holds its values",
                "It was trained since; give the numbers with --compare-kept.",
            )
        found += fits
    return found
