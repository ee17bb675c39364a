"""How much does each group hurt? Each is pruned alone, at several ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Unpack

from ..checks.accuracy import Accuracy
from ..checks.compare import Comparison, holds_numbers
from ..checks.subject import Subject
from ..coupling.groups import Group
from ..coupling.trace import Trace, trace
from ..data.dataset import DataSettings, runnable
from ..errors import UsageError
from ..model.file import Model, ModelLike
from ..model.loading import load
from ..reports.comparison import Sensitivity
from ..runtime.providers import choose_provider
from ..runtime.session import open_session, run
from ..scoring.score import score
from ..scoring.table import ScoreTable
from ..selection.decide import select
from ..settings.described import described
from ..settings.table import ALONE, DEFAULTS
from ..surgery.surgeon import rewrite_trace
from ..timing.model import PER_MS, LatencyModel


@described("data", "job", "sensitivity")
def sensitivity(
    source: ModelLike,
    *,
    ratios: Sequence[float] = DEFAULTS["ratios"],
    data: Any = None,
    criterion: Any = DEFAULTS["criterion"],
    granularity: int = ALONE["granularity"],
    provider: str = DEFAULTS["provider"],
    traced: Trace | None = None,
    latency: LatencyModel | None = None,
    **settings: Unpack[DataSettings],
) -> Iterator[Sensitivity]:
    """Prune each group alone and compare the outputs with the original's.

    Parameters
    ----------
    source : path, bytes, ModelProto, gs.Graph or Model
    criterion : str or callable
        What chooses the channels.
    granularity : int
        Kept channel counts are multiples of it.
    traced : Trace, optional
        Analysis of ``source``, where it was made already.
    latency : LatencyModel, optional
        How long it takes: then each says how many milliseconds it saves.
    **settings
        Those of the stages ``data`` and ``sensitivity`` in ``onnxprune.settings.table``. The
        original's outputs on the data are held in memory.

    Yields
    ------
    Sensitivity
        Of one group at one ratio, as soon as it is known.

    Raises
    ------
    UsageError
        If a ratio is out of range, or the data do not fit.
    """
    for ratio in ratios:
        if not 0 < ratio < 1:
            raise UsageError(f"ratios: found {ratio:g}, expected 0 < ratio < 1")
    model = load(source)
    traced = trace(model) if traced is None else traced
    scores = score(traced, criterion=criterion, seed=settings.get("seed", DEFAULTS["seed"]))
    return _measure(
        traced,
        scores,
        ratios,
        granularity,
        latency,
        _Reference(model, traced, data, choose_provider(provider), settings),
    )


class _Reference:
    """The original's outputs, to compare slim models with."""

    def __init__(self, model: Model, traced: Trace, data: Any, provider: str, settings: DataSettings) -> None:
        self.provider = provider
        with open_session(model, provider, "the original") as session:
            original = Subject(session, "the original")
            self.batches = runnable(original.run, traced, data, **settings)
            self.outputs = [original.run(b.feeds) for b in self.batches]
        if not any(holds_numbers(array) for found in self.outputs for array in found.values()):
            which = "inputs" if data is None else "other inputs"
            raise UsageError(
                "sensitivity compares outputs: found no number in them on these inputs",
                f"Give {which} with --data.",
            )

    def compare(self, slim: Model, group: Group, ratio: float, kept: int) -> Sensitivity:
        """Run a slim model on the same samples."""
        sums: dict[str, Comparison] = {}
        accuracy = Accuracy()
        with open_session(slim, self.provider, "the slim model") as session:
            for batch, before in zip(self.batches, self.outputs, strict=True):
                after = run(session, batch.feeds, "the slim model")
                for name, array in before.items():
                    sums.setdefault(name, Comparison(name)).add(array, after[name], batch.size)
                accuracy.add(batch, before, after)
        found = [s.difference() for s in sums.values()]
        (hits,) = accuracy.scores() or (None,)
        return Sensitivity(
            group.name,
            ratio,
            len(group),
            kept,
            min(d.cosine for d in found),
            max(d.relative for d in found),
            min((d.top1 for d in found if d.top1 is not None), default=None),
            hits.after if hits else None,
            hits.drop if hits else None,
        )


def _measure(
    traced: Trace,
    scores: ScoreTable,
    ratios: Sequence[float],
    granularity: int,
    latency: LatencyModel | None,
    reference: _Reference,
) -> Iterator[Sensitivity]:
    terms = latency.terms(traced) if latency is not None else []
    whole = traced.sizes()
    for group in traced:
        for ratio in ratios:
            plan = select(traced, scores, ratio={group.name: ratio}, granularity=granularity)
            removed = plan.removed(traced)
            slim = rewrite_trace(traced, removed)
            found = reference.compare(slim, group, ratio, len(group) - len(removed))
            if latency is not None:
                sizes = traced.sizes(removed)
                found = replace(found, ms=sum(term(whole) - term(sizes) for term in terms) / PER_MS)
            yield found
