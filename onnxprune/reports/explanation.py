"""Why a channel stayed, and why a layer cannot shrink.

For a group that can shrink: every score of every channel in every coupled layer, what the strategy
asked, what minimum and granularity made of it, and what became of each channel. For one that
cannot: the chain of nodes from the layer to what pins it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from ..coupling.groups import Group
from ..coupling.numbering import Numbering
from ..coupling.trace import Trace
from ..model.node import Node
from ..printable import plural, printable
from ..scoring.grid import Grid
from ..scoring.registry import DATA, PASSES, Scores, trait_of
from ..scoring.score import unseen
from ..scoring.table import LayerScore, ScoreTable
from ..selection.decide import complete
from ..selection.decision import Decision, decide
from ..selection.settings import SelectSettings
from ..selection.strategies import removal_order
from ..timing.model import LatencyModel
from .analysis import milliseconds
from .chains import Chains
from .explained import Channel, Explanation
from .plots import plot_scores


@dataclass(frozen=True, slots=True)
class Explanations(Sequence[Explanation]):
    """Explanations of every group that a pattern names.

    Attributes
    ----------
    note : str
        What was done to the model before, or why there is nothing to explain; empty where neither holds.
    """

    parts: tuple[Explanation, ...]
    note: str = ""

    def __getitem__(self, key: Any) -> Any:
        return self.parts[key]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.parts)

    def __str__(self) -> str:
        return "\n\n".join(filter(None, [printable(self.note), *map(str, self.parts)]))

    def to_dict(self) -> list[dict[str, Any]]:
        """As JSON types."""
        return [part.to_dict() for part in self.parts]

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the sorted scores with the cut, as PNG or SVG."""
        plot_scores(self.parts, path)


def named(traced: Trace, layer: str) -> set[str]:
    """Names of the groups that a pattern names."""
    return {group.name for group in traced.find(layer)}


def in_the_file(
    explained: Explanation, numbering: Numbering, kinds: Mapping[int, str]
) -> Iterator[Explanation]:
    """What happened in the input file, from what is said of a group that a clean-up left.

    Parameters
    ----------
    kinds : mapping
        Unit that the clean-up removed -> what it was, as far as that is known.
    """
    for here in numbering.overlaps[explained.group]:
        pairs = zip(here.here.tolist(), here.there.tolist(), strict=True) if explained.channels else ()
        channels = [replace(explained.channels[k], index=number) for k, number in pairs]
        if channels:
            channels += _cleaned_rows(numbering, here.name, ~here.left, len(explained.layers), kinds)
        story = explained.story
        if not here.left.all():
            story = (_headline(here.name, here.left, story[0].rpartition("; ")[2]), *story[1:])
        yield replace(
            explained,
            group=here.name,
            status="pruned" if not here.left.all() and explained.status == "kept" else explained.status,
            story=story,
            channels=tuple(sorted(channels, key=lambda c: c.index)),
        )


def only_cleaned(
    numbering: Numbering, names: Collection[str], kinds: Mapping[int, str]
) -> Iterator[Explanation]:
    """What happened to groups of the input file of which the clean-up left nothing that can go."""
    for group in numbering.source.all_groups:
        if group.name in names:
            left = numbering.stays(group)
            rows = _cleaned_rows(numbering, group.name, np.ones_like(left), 0, kinds)
            story = (_headline(group.name, left, f"{int(left.sum())} stay, none of which can go alone"),)
            yield Explanation(group.name, "kept" if left.all() else "pruned", (), story, tuple(rows))


def _headline(name: str, left: npt.NDArray[np.bool_], rest: str) -> str:
    went = f"{plural(len(left), 'channel')}, {int((~left).sum())} of which the clean-up removed"
    return f"{name}: {went}; {rest}"


def _cleaned_rows(
    numbering: Numbering, name: str, wanted: npt.NDArray[np.bool_], layers: int, kinds: Mapping[int, str]
) -> list[Channel]:
    """Rows of channels that no score decided about."""
    group = numbering.by_name.get(name)
    lost = numbering.lost(group) if group is not None else {}
    unknown = (math.nan,) * layers
    rows = []
    for k in np.flatnonzero(wanted).tolist():
        kept = group is not None and k not in lost
        why = ": ".join(filter(None, ["removed by the clean-up", kinds.get(lost.get(k, -1), "")]))
        block = None if group is None or group.blocks is None else int(group.blocks[k])
        why = "left by the clean-up" if kept else why
        rows.append(Channel(k, unknown, unknown, math.nan, None, kept, why, block))
    return rows


def explain_groups(
    traced: Trace,
    scores: ScoreTable,
    wanted: Collection[str],
    layer: str,
    *,
    latency: LatencyModel | None = None,
    **settings: Unpack[SelectSettings],
) -> list[Explanation]:
    """What happened to the groups of some names.

    Parameters
    ----------
    latency : LatencyModel, optional
        Where the latency is a target.
    """
    options = complete(settings, scores.additive)
    open_parts = [
        explain_group(traced, scores, decision)
        for decision in decide(traced, scores, options, latency)
        if decision.group.name in wanted
    ]
    if latency is not None:
        times, whole = milliseconds(traced, latency), latency.us / 1e3
        open_parts = [
            replace(one, story=(*one.story, f"{times[one.group]:.3f} of {whole:.3f} ms hang on it"))
            for one in open_parts
        ]
    chains = Chains(traced)
    blocked = [explain_blocked(g, layer, chains) for g in traced.blocked if g.name in wanted]
    return [*open_parts, *blocked]


def explain_group(traced: Trace, scores: ScoreTable, decision: Decision) -> Explanation:
    """Every number behind the decision about one group."""
    group, found = decision.group, scores[decision.group.name]
    layers = [layer for layer in found.layers if layer.measured]
    raw, normalized = _by_channel(traced, group, layers)
    order = removal_order(group, found.merged)
    rank = np.empty(len(order), np.int64)
    rank[order[::-1]] = np.arange(1, len(order) + 1)
    kept = np.isin(np.arange(len(group)), decision.keep)
    channels = tuple(
        Channel(
            k,
            tuple(float(v[k]) for v in raw),
            tuple(float(v[k]) for v in normalized),
            float(found.merged[k]),
            int(rank[k]),
            bool(kept[k]),
            _why(decision, int(rank[k]), bool(kept[k]), float(found.merged[k])),
            None if group.blocks is None else int(group.blocks[k]),
        )
        for k in range(len(group))
    )
    cut = decision.want.cut if decision.want else math.nan
    status = "kept" if kept.all() else "pruned"
    names = tuple(f"{layer.kernel.node} '{layer.kernel.tensor}'" for layer in layers)
    story = tuple(_story(traced, scores, decision))
    return Explanation(group.name, status, names, story, channels, (), None if math.isnan(cut) else cut)


def _by_channel(
    traced: Trace, group: Group, layers: Sequence[LayerScore]
) -> tuple[list[Scores], list[Scores]]:
    """Raw and normalized scores of every layer, one for each channel of the group."""
    if not layers:
        return [], []
    grid = Grid(traced, group, [layer.kernel for layer in layers])
    raw, normalized = [layer.raw for layer in layers], [layer.normalized for layer in layers]
    return [grid.units(row) for row in grid.stack(raw)], [grid.units(row) for row in grid.stack(normalized)]


def _story(traced: Trace, scores: ScoreTable, decision: Decision) -> Iterator[str]:
    group, want, options = decision.group, decision.want, scores.options
    wide = f", each {group.width} wide" if group.width > 1 else ""
    yield f"{group.name}: {plural(len(group), 'channel')}{wide}; {len(decision.keep)} stay"
    yield f"scores: {options['criterion']}, normalizer {options['normalizer']}, policy {options['policy']}"
    if problem := scores[group.name].problem:
        yield f"of this group the norms of weights: {problem}"
    if made_up := unseen(options):
        yield made_up
    if want is None:
        yield decision.reason or "the channels that go are given by index"
        return
    yield f"{want.why}: {want.kept:g} should stay"
    yield f"at least {decision.least}, in steps of {decision.step}: {len(decision.keep)} stay"
    if group.blocks is not None:
        yield f"each of {plural(int(group.blocks.max()) + 1, 'block')} keeps as many, of its own"
    if _may_be_folded(traced, scores.options["criterion"], [k.node for k in group.kernels]):
        yield FOLDED


FOLDED = (
    "the file has no BatchNormalization, and convolutions here have biases: if one was folded into them at "
    "export, these scores include its scale and differ from those of the training graph"
)


def _may_be_folded(traced: Trace, criterion: object, layers: Sequence[Node]) -> bool:
    """Whether weights that are scored may hold a BatchNormalization: the file cannot tell for sure."""
    known = PASSES["criterion"].get(str(criterion).replace("-", "_"))
    if known is None or trait_of(known) == DATA:
        return False
    biased = any(n.op in ("Conv", "ConvTranspose") and n.take(3)[2] for n in layers)
    return biased and "BatchNormalization" not in traced.graph.operators


def _why(decision: Decision, rank: int, kept: bool, merged: float) -> str:
    """What became of the channel of a rank, in a few words."""
    want = decision.want
    if want is None:
        return (decision.reason or "not given by index") if kept else "given by index"
    asked = math.ceil(want.kept - 0.5 - 1e-9)
    if kept and rank > asked:
        least = len(decision.keep) == decision.least
        return f"to keep at least {decision.least}" if least else f"by rounding to steps of {decision.step}"
    if not kept and rank <= asked:
        return f"by rounding to steps of {decision.step}"
    if math.isnan(want.cut):
        return f"{'' if kept else 'not '}among the {asked} that should stay"
    if decision.group.blocks is not None and kept == (merged <= want.cut):
        return "because every block keeps as many"
    if kept and merged <= want.cut:
        return "at the cut" if merged == want.cut else "the best of its group stays"
    return "above the cut" if kept else "not above the cut"


def explain_blocked(group: Group, layer: str, chains: Chains) -> Explanation:
    """Why a group cannot shrink, and the way from its layer to the reason."""
    asked = [node for node in group.nodes if layer in node.name] if group.matches(layer) else []
    first = (asked or group.nodes)[0]
    story = (f"{group.name}: {plural(len(group), 'channel')}; none can go: {group.reason}",)
    layers = tuple(f"{kernel.node} '{kernel.tensor}'" for kernel in group.kernels)
    return Explanation(group.name, "blocked", layers, story, (), tuple(chains.of(group, first)))
