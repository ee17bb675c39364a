"""What the checks found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..printable import first_of, page
from .accuracy import Score
from .compare import Difference
from .gates import Gate
from .sessions import Repeated

BIT_FOR_BIT = "bit for bit"

DIVERGED = 0.99
"""Cosine below which a layer counts as diverged, where no gate says otherwise."""


@dataclass(frozen=True, slots=True)
class Report:
    """Result of verification; true if all that was asked for was done, and nothing failed.

    Attributes
    ----------
    surgery : tuple of Difference
        Slim against masked original, of every output or of every inner tensor; empty where no plan
        was given.
    takes_data : bool
        Whether other inputs may mend that.
    method : str
        How the surgery was checked: ``end to end`` or ``layer by layer``.
    change : tuple of Difference
        Slim against original, of every output.
    provider, slim_provider : str
        Where both ran: an execution provider, by its name in the settings.
    format : str
        That of the slim model, where it is not ONNX.
    problem : str
        Why a check could not be made; empty where all were.
    scores : tuple of Score
        Accuracy and metric, where there are labels or a metric.
    gates : tuple of Gate
    entire, single : tuple of Difference
        Layer by layer, where asked for: end to end against the original, and every node alone
        against the masked original.
    latency : Repeated or None
        Where a gate asks for it.
    data : str
        Source of the samples; empty where they were made up.
    left_out : tuple of str
        Nodes that could not be compared where the outputs differ and no other node is wrong: then the
        surgery is neither proven right nor wrong.
    odd : tuple of str
        Stored tensors of the original that hold NaN or infinity, where results do, too.
    unrun : tuple of str
        Operators of the user's own without a reference function: random numbers stood in for them, so
        that the surgery is checked of all but them, and no change is measured.
    precision : str
        What the slim model computed in.
    elsewhere : tuple of Report
        The same on other providers, where they were asked for; ``problem`` says why one does not run.
    structure : str
        How a retrained model was found to be what the plan makes, in place of its surgery.
    work : tuple of float, or None
        Processor seconds of a run of the original and of the slim model, as the checks ran them.
    """

    surgery: tuple[Difference, ...]
    change: tuple[Difference, ...]
    provider: str
    problem: str = ""
    method: str = ""
    slim_provider: str = ""
    format: str = ""
    scores: tuple[Score, ...] = ()
    gates: tuple[Gate, ...] = ()
    entire: tuple[Difference, ...] = ()
    single: tuple[Difference, ...] = ()
    latency: Repeated | None = None
    data: str = ""
    left_out: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    unrun: tuple[str, ...] = ()
    structure: str = ""
    precision: str = ""
    elsewhere: tuple[Report, ...] = ()
    takes_data: bool = True
    work: tuple[float, float] | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        return not self.failed and not self.problem and not self.unrun and all(self.elsewhere)

    @property
    def failed(self) -> bool:
        """Whether a check that was made, or a gate, was not passed."""
        here = all((*self.surgery, *self.single, *self.change, *self.gates))
        return not here or any(report.failed for report in self.elsewhere)

    @property
    def exact(self) -> bool | None:
        """Whether the surgery was proven right; None where that was not checked."""
        right = all((*self.surgery, *self.single))
        return None if not self.surgery or (right and self.unrun) else right

    @property
    def place(self) -> str:
        """Where the models ran, for people."""
        ran = dict.fromkeys((self.provider, self.slim_provider or self.provider))
        return " and ".join(ran) + (f", {self.format} format" if self.format else "")

    @property
    def verdict(self) -> str:
        """Whether the surgery is right, in a word or two; empty where that was not checked."""
        open_ = self.left_out or (self.unrun and self.surgery and not self.failed)
        return "not proven" if open_ else {None: "", True: "exact", False: "WRONG"}[self.exact]

    @property
    def judgement(self) -> str:
        """What to call a model that failed."""
        return "not proven right" if self.left_out else "wrong"

    @property
    def cause(self) -> str:
        """What is to blame where a result of ours failed, as a hint."""
        if self.odd:
            return "Of a model with such weights nothing can be proven."
        if self.left_out:
            return "All other nodes are right, and of these nobody can tell: prune without verification to have it all the same."
        return "This is a bug in onnxprune; please report it with the model."

    @property
    def headline(self) -> str:
        """Surgery and change in one line."""
        if self.problem:
            return f"not verified: {self.problem}" + (f"; {self._origin}" if self.odd else "")
        parts = []
        if self.surgery:
            worst = self._worst
            how = "" if self.method == "end to end" else f" {self.method}"
            found = (
                BIT_FOR_BIT if _bitwise(worst) else f"{worst.relative:.1e}, accepted {worst.tolerance:.0e}"
            )
            parts.append(f"surgery {self.verdict}{how} ({found}{self._unknown})")
        if self.structure:
            parts.append(f"retrained: {self.structure}")
        if self.change:
            change = summary(self.change)
            parts.append(f"change: cosine {change.cosine:.4f}, rel. L2 {change.relative:.3g}")
        else:
            parts.append("change not measured" + ("" if self.unrun else ": the outputs hold no numbers"))
        if self.odd:
            parts.append(self._origin)
        return f"{self.place}: {'; '.join(parts)}"

    @property
    def _unknown(self) -> str:
        """Which nodes were left out, for the end of a sentence."""
        if self.unrun:
            return f"; {', '.join(self.unrun)} has no reference function, all else was compared"
        if not self.left_out:
            return ""
        return f"; {first_of(self.left_out)} cannot be compared alone"

    @property
    def _origin(self) -> str:
        """Where numbers that are not finite come from."""
        names = [f"'{name}'" for name in self.odd]
        return f"the original stores NaN or infinity in {first_of(names)}"

    @property
    def _worst(self) -> Difference:
        """What is furthest from what is accepted, or closest to it; of integers only if they differ."""
        return max((d for d in (*self.surgery, *self.single) if d.tolerance is not None), key=_distance)

    @property
    def samples(self) -> int:
        """How many samples were compared."""
        return max((d.samples for d in self.change), default=0)

    @property
    def wrong(self) -> Difference | None:
        """The first layer, or else output, that was cut wrongly."""
        if self.left_out:
            return None
        return next((d for d in (*self.single, *self.surgery) if not d), None)

    @property
    def diverged(self) -> Difference | None:
        """The first layer that pruning takes below the cosine that is asked for."""
        limit = next((g.limit for g in self.gates if g.name == "min_cosine"), DIVERGED)
        return next((d for d in self.entire if d.worst < limit), None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        wrong, diverged = self.wrong, self.diverged
        found: dict[str, Any] = {
            "surgery": [asdict(d) for d in self.surgery],
            "change": [asdict(d) for d in self.change],
            "exact": self.exact,
            "verdict": self.verdict,
            "left_out": list(self.left_out),
            "not_finite": list(self.odd),
            "unrun": list(self.unrun),
            "method": self.method,
            "structure": self.structure,
            "passed": bool(self),
            "provider": self.provider,
            "slim_provider": self.slim_provider,
            "format": self.format,
            "precision": self.precision,
            "elsewhere": [report.to_dict() for report in self.elsewhere],
            "problem": self.problem,
            "data": self.data,
            "samples": self.samples,
            "scores": [{**asdict(s), "drop": s.drop} for s in self.scores],
            "gates": [{**asdict(g), "passed": bool(g), "excess": g.excess} for g in self.gates],
            "entire": [asdict(d) for d in self.entire],
            "single": [asdict(d) for d in self.single],
            "wrong": None if wrong is None else wrong.layer or wrong.output,
            "diverged": None if diverged is None else diverged.layer,
        }
        if self.latency is not None:
            found["latency"] = self.latency.to_dict()
        return found

    def __str__(self) -> str:
        lines = []
        if self.surgery:
            worst = self._worst
            found, accepted = f"differs by {worst.relative:.1e} from", f"accepted {worst.tolerance:.1e}"
            if _bitwise(worst):
                found, accepted = "equals", BIT_FOR_BIT
            lines.append(
                f"surgery {self.verdict}, {self.method}: '{worst.output}' {found} "
                f"the masked original ({accepted}{self._unknown})"
            )
        if self.structure:
            lines.append(f"retrained: {self.structure}")
        if self.wrong is not None and self.wrong.layer:
            lines.append(f"first layer that was cut wrongly: '{self.wrong.layer}'")
        lines += [
            f"change of '{d.output}': cosine {d.cosine:.6f}, relative L2 {d.relative:.4f}, max-abs {d.max_abs:.4g}"
            + (f" ({d.remark})" if d.remark else "")
            for d in self.change
        ]
        lines += [f"{s.name}: {s.before:.4f} before, {s.after:.4f} after" for s in self.scores]
        lines += [f"{'passed' if gate else 'FAILED'}: {gate}" for gate in self.gates]
        if self.odd:
            lines.append(self._origin)
        if self.problem:
            lines.append(f"not verified: {self.problem}")
        lines += [f"on {r.place}: {'passed' if r else 'FAILED'}, {r.headline}" for r in self.elsewhere]
        return page(lines)


def _distance(found: Difference) -> tuple[bool, bool, float]:
    """How far a tensor is from what is accepted; one that has to be equal, and is, comes last."""
    return not found, not _bitwise(found), found.relative - (found.tolerance or 0)


def _bitwise(found: Difference) -> bool:
    """Whether a tensor is of those that are compared bit for bit, and is equal."""
    return not found.tolerance and not found.relative


def summary(differences: Sequence[Difference]) -> Difference:
    """The output that differs most."""
    return max(differences, key=lambda d: d.relative)
