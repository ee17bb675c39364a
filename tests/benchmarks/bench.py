"""How long everything takes, as multiples that were measured in one run.

    python -m tests.benchmarks.bench                         commands, memory and stages
    python -m tests.benchmarks.bench --parts growth          verbs and budgets over nodes, see growth.py
    python -m tests.benchmarks.bench --parts large           models of gigabytes, some with holes
    python -m tests.benchmarks.bench --parts peers --python ../peers/bin/python
                                                             other tools, from environments of their own
    python -m tests.benchmarks.bench --parts all --json now.json --against before.json

A comparison names what takes more than it did in an earlier run, by more than the rounds differ. Models of
``--sizes`` grow; 100,000 nodes take long.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rich.console import Console

from . import growth
from .commands import large, measured, stages
from .peers import beside
from .record import Measurement, read, tables, worse, write
from .subjects import LARGE, SUBJECTS, Subjects

PARTS = ("commands", "stages", "growth", "large", "peers")


def run(
    parts: Sequence[str], pattern: str, rounds: int, pythons: Sequence[str], sizes: Sequence[int]
) -> Iterator[Measurement | str]:
    """Measure what was asked for; a sentence says what could not be."""
    for name, path in written(SUBJECTS, pattern):
        if "commands" in parts:
            yield from measured(name, path, rounds)
        if "stages" in parts:
            yield from stages(name, path, rounds)
        if "peers" in parts:
            yield from beside(name, path, rounds, pythons)
    if "large" in parts:
        for name, path in written(LARGE, pattern):
            yield from large(name, path, rounds)
    if "growth" in parts:
        yield from growth.grown(sizes, rounds)


def written(subjects: Subjects, pattern: str) -> Iterator[tuple[str, Path]]:
    """Models in folders of their own, which vanish after them."""
    for name, write_to in subjects.items():
        if fnmatchcase(name, pattern):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                write_to(path)
                yield name, path


def main() -> None:
    """Measure, print, write and compare."""
    parser = argparse.ArgumentParser(description="How long everything takes, in multiples of a copy.")
    parser.add_argument("--parts", nargs="+", choices=(*PARTS, "all"), default=["commands", "stages"])
    parser.add_argument("--models", default="*", help="pattern of the models that are measured")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, in which all take turns")
    parser.add_argument("--python", nargs="+", default=[], help="interpreters that have peers")
    parser.add_argument("--sizes", type=int, nargs="+", default=growth.SIZES[:-1], help="nodes that grow")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--against", type=Path, help="JSON of an earlier run to compare with")
    given = parser.parse_args()
    parts = PARTS if "all" in given.parts else given.parts
    rows = list(run(parts, given.models, given.rounds, given.python, given.sizes))
    found = [row for row in rows if isinstance(row, Measurement)]
    console = Console(width=120)
    for table in tables(found):
        console.print(table)
    for row in rows:
        if isinstance(row, str):
            console.print(row)
    if given.json:
        write(given.json, found)
    if given.against:
        slower = list(worse(read(given.against), found))
        console.print("\n".join(slower) or "nothing takes more than it did, beyond the noise")


if __name__ == "__main__":
    main()
