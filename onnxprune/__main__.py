"""The entry point: ``onnxprune``, and ``python -m onnxprune``."""

import ctypes
import gc
import mmap
import os
import signal
import sys
from contextlib import suppress

THREADS = "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"
"""Where a user says how many threads NumPy's matrix products take; the first comes first."""


COLLECTED = 100_000
"""New objects after which Python looks for cycles: by default it does so many times while packages are
imported, which makes none, and in each command that takes less than that."""

HELD = 2**27
"""Bytes of freed memory that glibc keeps for the next tensor, and of the largest block that it keeps: by
default most tensors begin in new pages, and the system takes longer to hand out a page than we to fill it."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of these options in ``malloc.h``."""

MADV_HUGEPAGE = 14
"""Advice of ``sys/mman.h`` to hand out pages of 2 MB, which takes a tenth of the time."""


def main() -> int:
    """Run the command line and return the exit code.

    It is imported here, so that Ctrl-C is answered alike while packages are imported, which takes
    longer than many a command. NumPy takes one thread unless told otherwise: several wait for each
    other in a loop, and where other processes want the same cores a product takes ten times as long.
    """
    if not any(name in os.environ for name in THREADS):
        os.environ[THREADS[0]] = "1"
    gc.set_threshold(COLLECTED)
    with suppress(AttributeError, OSError, TypeError):  # another C library, another system
        _hold_memory()
    try:
        from .cli import main as run

        code = run(own=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is decided: Python only tidies up
        gc.freeze()  # and looks for no cycles in what is left: that takes longer than many a command
    except KeyboardInterrupt:
        sys.stderr.write("\nerror: interrupted\n")
        code = 130
    return code


def _hold_memory() -> None:
    """Let the heap keep what is freed, in large pages where the system has them.

    Advice is about memory that is there, so as much as is kept is taken once and given back, untouched.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, HELD)
    libc.mallopt(M_MMAP_THRESHOLD, HELD)
    libc.malloc.restype = ctypes.c_void_p
    size = HELD - 2**20  # with what lies behind it, it must not be more than is kept
    start = libc.malloc(ctypes.c_size_t(size))
    if start:
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(start + size - first), MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(start))


if __name__ == "__main__":
    raise SystemExit(main())
