"""The entry point: ``onnxprune``, and ``python -m onnxprune``."""

import signal
import sys


def main() -> int:
    """Run the command line and return the exit code.

    It is imported here, so that Ctrl-C is answered alike while packages are imported, which takes
    longer than many a command.
    """
    try:
        from .cli import main as run

        code = run(own=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is decided: Python only tidies up
    except KeyboardInterrupt:
        sys.stderr.write("\nerror: interrupted\n")
        code = 130
    return code


if __name__ == "__main__":
    raise SystemExit(main())
