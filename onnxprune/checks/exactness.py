"""Is the surgery right? The slim model against the masked original, as a whole or node by node.

Models of 16-bit floats are compared in 32 bits, where less is rounding; see ``widened.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from ..coupling.trace import Trace, retrace, trace
from ..data.batches import Batch
from ..errors import ModelError
from ..labels.sizes import Sizes
from ..model.file import Model
from ..model.ort_format import OrtModel
from ..runtime.session import Arrays, open_session, run
from ..selection.plan import Plan
from ..selection.recovered import Recovery
from ..surgery.surgeon import unchecked
from .accepted import DRAWS, ROUNDING, nudge
from .compare import Comparison, Difference
from .nodes import compare_single, draws_of, left_out
from .noise import Noise
from .oracle import masked_model
from .subject import Subject
from .widened import has_halves, widened, widened_feeds

FIRST = "graph"
"""How far onnxruntime may rewrite both models, where they run then."""

CLOSED = "those of a file in ORT format"
"""What to call nodes that nobody can look at."""

CAP = max(ROUNDING.values())
"""Share of an average slice of an output that noise may excuse: what is accepted of that one."""


@dataclass(frozen=True)
class Surgery:
    """What the check found: differences of all outputs or nodes, how, and which nodes it left out.

    Or the problem: why nothing is proven.
    """

    found: tuple[Difference, ...] = ()
    method: str = ""
    left_out: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, eq=False)
class ModelPair:
    """The masked original and the slim model, ready to be compared.

    Attributes
    ----------
    traced : Trace
        Of the original, at the sizes of the inputs.
    sizes : Sizes
        View of the kept entries.
    wide : bool
        Whether both have float32 in place of 16-bit floats.
    opened : Subject or None
        The slim model, where it is open already as it would be opened here.
    """

    traced: Trace
    sizes: Sizes
    oracle: Model
    slim: Model
    provider: str
    wide: bool = False
    opened: Subject | None = None

    @property
    def in_turns(self) -> bool:
        """Whether they may run in pieces: what is quantised is fused across all cuts, or differs."""
        return not self.traced.walk.facts.zeros

    def feeds(self, feeds: Arrays) -> Arrays:
        """Inputs of both."""
        return widened_feeds(feeds) if self.wide else feeds

    def compare_outputs(self, feeds: Arrays) -> tuple[Difference, ...]:
        """Run both, rewritten by onnxruntime to the same extent.

        The layout pass of onnxruntime 1.31 can crash the process on nodes that it fused before, so it
        comes last. There are models that do not run without it.
        """
        try:
            return self._compare_outputs(self.feeds(feeds), FIRST)
        except ModelError:
            return self._compare_outputs(self.feeds(feeds), "all")

    def _compare_outputs(self, feeds: Arrays, level: str) -> tuple[Difference, ...]:
        noise = Noise(self.traced, self.slim.proto)
        told = self._told(noise.told(self.oracle), feeds, level)
        feeds, reference = {**feeds, **noise.feeds(self.sizes, told)}, noise.compared(self.sizes, told)
        with self._slim(noise.taken(self.slim, told), level) as subject:
            found, drawn = subject.run(feeds), list[Arrays]()

            def moved() -> Iterator[Arrays]:
                for seed in range(DRAWS):
                    if seed == len(drawn):
                        drawn.append(subject.run({n: nudge(v, seed) for n, v in feeds.items()}))
                    yield drawn[seed]

            checks = []
            for name, array in reference.items():
                sums = Comparison(name, exact=True, cap=CAP)
                sums.add(array, found[name], moved=draws_of(name, moved))
                checks.append(sums.difference())
        return tuple(checks)

    def _told(self, oracle: Model, feeds: Arrays, level: str) -> Arrays:
        """What the masked original computes; its session is gone before the slim model is opened."""
        with open_session(
            oracle, self.provider, "the masked original", level, in_turns=self.in_turns
        ) as session:
            return run(session, feeds, "the masked original")

    @contextmanager
    def _slim(self, model: Model, level: str) -> Iterator[Subject]:
        """The slim model, or what becomes of it, opened if it is not."""
        if self.opened is not None and model is self.slim and level == FIRST:
            yield self.opened
            return
        with open_session(model, self.provider, "the slim model", level, in_turns=self.in_turns) as session:
            yield Subject(session, "the slim model")

    def cut_around(self, name: str) -> bool:
        """Whether the node that makes a tensor reads or makes anything of which not all is kept."""
        node = self.traced.graph.producers.get(name)
        around = [name] if node is None else [*self.traced.graph.reads(node), *node.outputs]
        return any(kept is not None for n in around for kept in self.sizes.indices(n))

    def told(self, alone: Iterable[Difference], *, blank: bool) -> set[str]:
        """Tensors of nodes that were compared, all outputs of which could be judged.

        Parameters
        ----------
        blank : bool
            Whether no number in what a node makes, of which not all is kept, proves nothing.
        """
        counted = [d for d in alone if d.samples or not (blank and self.cut_around(d.output))]
        makers = self.traced.graph.producers
        open_ = {makers.get(d.output, d.output) for d in counted if d.tolerance is None}
        return {d.output for d in counted if makers.get(d.output, d.output) not in open_}

    def compare_nodes(self, batches: Iterable[Batch]) -> Iterator[Difference]:
        """Compare every node alone, see :func:`onnxprune.checks.nodes.compare_single`."""
        fed = [replace(b, feeds=self.feeds(b.feeds)) for b in batches]
        return compare_single(self.traced, self.sizes, self.oracle, self.slim, fed, self.provider)


def check_surgery(
    traced: Trace,
    plan: Plan,
    slim: Model,
    feeds: Arrays,
    provider: str,
    recovery: Recovery | None,
    opened: Subject | None,
) -> tuple[ModelPair, Surgery]:
    """Compare the slim model with the masked original, and say how.

    First the outputs. Where they differ by more than rounding, the network may only have amplified
    it (a recurrent network, a saturated sigmoid): then every node is compared alone, on the masked
    original's own tensors, where nothing adds up. So it is where an output holds no number, as that of a
    detector which detects nothing. A node that cannot be compared leaves it open, and of a model in ORT format no
    node can.

    Recovered weights are put into the original, too, in the places that the plan keeps.

    Parameters
    ----------
    opened : Subject or None
        The slim model in a session of ``provider`` with exact results and as far rewritten as ``FIRST``.
    """
    if recovery is not None:
        changed = recovery.spread(traced.model, traced.sizes(plan.removed(traced)))
        traced = trace(changed, **plan.trace_options)
    pair = make_pair(traced, plan, slim, feeds, provider)
    if pair.provider == provider:
        pair = replace(pair, opened=opened)
    pair, found = _end_to_end(pair, feeds)
    blank = [d.output for d in found if not d.samples]
    if all(found) and not blank:
        return pair, Surgery(found, "end to end")
    alone: tuple[Difference, ...] = ()
    missing: tuple[str, ...] = (CLOSED,)
    if not isinstance(slim, OrtModel):
        alone = tuple(pair.compare_nodes([Batch(feeds)]))
        told = pair.told(alone, blank=bool(blank))
        missing = left_out(pair.slim.proto, pair.traced, told)
    if not all(alone) or not missing:
        return pair, Surgery(alone, "layer by layer")
    if all(found):
        return pair, Surgery(problem=f"output '{blank[0]}' holds no number on these inputs")
    return pair, Surgery(found, "end to end", missing)


def _end_to_end(pair: ModelPair, feeds: Arrays) -> tuple[ModelPair, tuple[Difference, ...]]:
    """Differences of the outputs, in 32 bits where both models run in them; and what was compared."""
    if has_halves(pair.oracle.proto) and not isinstance(pair.slim, OrtModel):
        oracle, slim = (Model(widened(model.embedded())) for model in (pair.oracle, pair.slim))
        wide = replace(pair, oracle=oracle, slim=slim, wide=True, opened=None)
        with suppress(ModelError):  # an operator that knows 16 bits only
            return wide, wide.compare_outputs(feeds)
    return pair, pair.compare_outputs(feeds)


def make_pair(traced: Trace, plan: Plan, slim: Model, feeds: Arrays, provider: str) -> ModelPair:
    """Analysis at the sizes of the inputs, kept entries, and what the slim model must agree with.

    What a lossless plan removes changes nothing: then that is the original itself. Quantised models
    agree on the CPU alone: elsewhere floats round where it computes with integers.
    """
    removed = plan.removed(traced)
    rewritten = slim.proto
    if traced.walk.facts.stats:
        # Statistics of fewer groups: as many as the rewriter leaves, not as the given model has.
        rewritten = unchecked(traced, traced.sizes(removed)).proto
    traced = retrace(traced, {name: array.shape for name, array in feeds.items()})
    sizes = traced.sizes(plan.removed(traced))
    lossless = plan.options.get("lossless", False)
    oracle = traced.model if lossless else masked_model(traced, sizes, rewritten)
    provider = "cpu" if traced.walk.facts.zeros else provider
    return ModelPair(traced, sizes, oracle, slim, provider)
