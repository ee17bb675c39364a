"""Is the slim model slower than its original? Asked of every result before it is written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..coupling.trace import Trace
from ..data.one_run import made_up_run
from ..errors import ModelError
from ..model.engine import InferenceSession
from ..model.file import Model
from ..model.operators import Trait, traits_of
from ..runtime.session import Arrays, open_session, run
from ..timing.machine import Machine

FEWEST, RUNS, SECONDS = 3, 40, 2.0
"""Runs of each model, after a first one, that tell at least and at most; and how long they may take in all."""

CLEARLY, CLEARLY_CONVOLVING = 0.8, 0.5
"""Shares of the original's processor time in the checks below which a result is not timed once more; the
second one where there are convolutions, which the checks run in another layout than a user does: for him a slim
model took up to 1.9 times the share that it took in the checks."""

HEAVIEST = 2**27
"""Bytes of weights up to which models are timed: two sessions as a user opens them, each of which keeps the
weights as they are stored and as its kernels read them, take up to eleven times as much meanwhile."""

SLOWER, LEAST = 1.1, 1e-4
"""From how many times as long on, and from how many seconds more, a result counts as slower: two runs of
one file differ by less."""

CHECKED = 1.3
"""The same for the one run of each in the checks, which is all that is known of heavier ones."""


def slower(
    original: Model, slim: Model, traced: Trace, provider: str, work: tuple[float, float] | None
) -> str:
    """A sentence where the slim model is slower, on made-up inputs and with one thread; else empty.

    Nothing is said where the original is too slow to be run several times in passing, or does not run on
    made-up inputs. Of a model too large to be opened once more, the checks tell.

    Parameters
    ----------
    traced : Trace
        Of the original, or of what a clean-up left of it.
    work : tuple of float, or None
        Processor seconds of both in the checks, see :class:`onnxprune.checks.report.Report`.
    """
    machine = Machine.of(provider, 1)
    told = work if machine.provider == "cpu" else None
    if original.weight_bytes > HEAVIEST:
        return _said(told, "processor time in the checks") if told and _longer(*told, CHECKED) else ""
    if told and told[1] < (CLEARLY_CONVOLVING if _convolves(traced) else CLEARLY) * told[0]:
        return ""
    try:
        with (
            open_session(original, machine.provider, tf32=True, timed=machine.timed()) as before,
            open_session(slim, machine.provider, tf32=True, timed=machine.timed()) as after,
        ):
            found = _timed(before, after, made_up_run(partial(run, before), traced).feeds, machine)
    except ModelError:
        return ""  # the checks say so, and why
    return _said(found, machine.running) if found and _longer(*found, SLOWER) else ""


def _convolves(traced: Trace) -> bool:
    """Whether there are convolutions."""
    return any(Trait.CONVOLUTION in traits_of(node) for node in traced.graph.nodes)


def _timed(
    before: InferenceSession, after: InferenceSession, feeds: Arrays, machine: Machine
) -> tuple[float, float] | None:
    """Seconds of both, run in turns until it is clear which takes longer; None where that does not become so.

    It is clear where three quarters of the pairs of runs agree, or the fastest runs do where all are done.
    """
    times: dict[InferenceSession, list[float]] = {before: [], after: []}
    end = machine.clock() + SECONDS
    for number in range(RUNS + 1):
        for session in (before, after) if number % 2 else (after, before):
            start = machine.clock()
            run(session, feeds)
            if number:  # the first run is slower, in both
                times[session].append(machine.clock() - start)
        if number >= FEWEST and _clear(*times.values()):
            break
        if machine.clock() > end:
            break
    old, new = times.values()
    return (min(old), min(new)) if len(old) >= FEWEST else None


def _clear(old: Sequence[float], new: Sequence[float]) -> bool:
    """Whether three quarters of the pairs lie on one side of what counts as slower."""
    above = sorted(after - SLOWER * before for before, after in zip(old, new, strict=True))
    others = len(above) // 4
    return above[others] > 0 or above[-1 - others] < 0


def _longer(old: float, new: float, times: float) -> bool:
    return new > max(times * old, old + LEAST)


def _said(times: tuple[float, float], where: str) -> str:
    old, new = times
    return (
        f"the slim model is slower than its original: {new * 1e3:.3f} against {old * 1e3:.3f} ms "
        f"({where}); 'onnxprune bench' shows where, and --granularity auto or --keep-latency "
        "keep channel counts that are fast"
    )
