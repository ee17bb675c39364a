"""Groups of the rows that do not say them, as they were when somebody last looked.

``python -m tests.recorded`` writes the file anew; what changed is then up for review.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from onnxprune.coupling.trace import Trace, trace

from .cases import CASES

FILE = Path(__file__).parent / "golden" / "groups.txt"


def line(traced: Trace) -> str:
    """Units of every group, then the number of units that are blocked."""
    sizes = " ".join(str(len(group)) for group in traced)
    return f"{sizes} | {sum(map(len, traced.blocked))}".strip()


@cache
def recorded() -> dict[str, str]:
    """Row -> its line in the file."""
    pairs = (text.split(" = ") for text in FILE.read_text(encoding="utf-8").splitlines())
    return dict(pairs)


def main() -> None:
    """Write the file."""
    FILE.parent.mkdir(exist_ok=True)
    rows = [f"{case} = {line(trace(case.build()))}\n" for case in CASES if case.groups is None]
    FILE.write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
