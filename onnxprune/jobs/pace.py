"""Is the slim model slower than its original? Asked of every result before it is written."""

from __future__ import annotations

from functools import partial

from ..coupling.trace import Trace
from ..data.one_run import made_up_run
from ..errors import ModelError
from ..model.file import Model
from ..runtime.session import open_session, run
from ..timing.machine import Machine

RUNS, SECONDS = 7, 2.0
"""Runs of each model of which the fastest counts; and how long they may take in all."""

CLEARLY = 0.8
"""Share of the original's processor time in the checks below which a result is not timed once more."""

HEAVIEST = 2**27
"""Bytes of weights up to which models are timed: two sessions as a user opens them, each of which keeps the
weights as they are stored and as its kernels read them, take up to eleven times as much meanwhile."""

SLOWER, LEAST = 1.1, 1e-4
"""From how many times as long on, and from how many seconds more, a result counts as slower: two runs of
one file differ by less."""


def slower(
    original: Model, slim: Model, traced: Trace, provider: str, work: tuple[float, float] | None
) -> str:
    """A sentence where the slim model is slower, on made-up inputs and with one thread; else empty.

    Nothing is said where the original is too slow to be run several times in passing, or too large to be
    opened once more in passing, or does not run on made-up inputs.

    Parameters
    ----------
    traced : Trace
        Of the original, or of what a clean-up left of it.
    work : tuple of float, or None
        Processor seconds of both in the checks, see :class:`onnxprune.checks.report.Report`.
    """
    machine = Machine.of(provider, 1)
    if original.weight_bytes > HEAVIEST:
        return ""
    if work is not None and machine.provider == "cpu" and work[1] < CLEARLY * work[0]:
        return ""
    try:
        with (
            open_session(original, machine.provider, tf32=True, timed=machine.timed()) as before,
            open_session(slim, machine.provider, tf32=True, timed=machine.timed()) as after,
        ):
            feeds = made_up_run(partial(run, before), traced).feeds
            best = {before: float("inf"), after: float("inf")}
            end = machine.clock() + SECONDS
            for number in range(RUNS):
                for session in best:
                    start = machine.clock()
                    run(session, feeds)
                    took = machine.clock() - start
                    if number:  # the first run is slower, in both
                        best[session] = min(best[session], took)
                if machine.clock() > end:
                    break
    except ModelError:
        return ""  # the checks say so, and why
    old, new = best[before], best[after]
    if not new > max(SLOWER * old, old + LEAST):
        return ""
    return (
        f"the slim model is slower than its original: {new * 1e3:.3f} against {old * 1e3:.3f} ms "
        f"({machine.running}); 'onnxprune bench' shows where, and --granularity auto or --keep-latency "
        "keep channel counts that are fast"
    )
