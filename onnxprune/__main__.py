"""The entry point: ``onnxprune``, and ``python -m onnxprune``."""

import gc
import os
import signal
import sys

THREADS = "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"
"""Where a user says how many threads NumPy's matrix products take; the first comes first."""


COLLECTED = 100_000
"""New objects after which Python looks for cycles: by default it does so many times while packages are
imported, which makes none, and in each command that takes less than that."""


def main() -> int:
    """Run the command line and return the exit code.

    It is imported here, so that Ctrl-C is answered alike while packages are imported, which takes
    longer than many a command. NumPy takes one thread unless told otherwise: several wait for each
    other in a loop, and where other processes want the same cores a product takes ten times as long.
    """
    if not any(name in os.environ for name in THREADS):
        os.environ[THREADS[0]] = "1"
    gc.set_threshold(COLLECTED)
    try:
        from .cli import main as run

        code = run(own=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is decided: Python only tidies up
        gc.freeze()  # and looks for no cycles in what is left: that takes longer than many a command
    except KeyboardInterrupt:
        sys.stderr.write("\nerror: interrupted\n")
        code = 130
    return code


if __name__ == "__main__":
    raise SystemExit(main())
