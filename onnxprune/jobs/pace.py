"""Is the slim model slower than its original? Asked of every result before it is written."""

from __future__ import annotations

from ..coupling.trace import trace
from ..data.one_run import one_run
from ..errors import ModelError
from ..model.file import Model
from ..runtime.session import open_session, run
from ..timing.machine import Machine

RUNS, SECONDS = 7, 2.0
"""Runs of each model of which the fastest counts; and how long they may take in all."""

SLOWER, LEAST = 1.1, 1e-4
"""From how many times as long on, and from how many seconds more, a result counts as slower: two runs of
one file differ by less."""


def slower(original: Model, slim: Model, provider: str) -> str:
    """A sentence where the slim model is slower, on made-up inputs and with one thread; else empty.

    Nothing is said where the original is too slow to be run several times in passing, or does not run
    on made-up inputs.
    """
    machine = Machine.of(provider, 1)
    try:
        feeds = one_run(trace(original), machine.provider).feeds
        with (
            open_session(original, machine.provider, tf32=True, timed=machine.timed()) as before,
            open_session(slim, machine.provider, tf32=True, timed=machine.timed()) as after,
        ):
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
