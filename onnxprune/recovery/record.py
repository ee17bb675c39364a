"""Probes in a file, so that a long measurement goes on where it was broken off."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files.writing import write_atomically
from .allocation import Probe


class Record:
    """What was measured so far.

    Parameters
    ----------
    path : path, optional
        A JSON file, written after every probe; without one nothing is kept.
    key : mapping
        What probes depend on: those of another model, of other samples or settings are no use.

    Raises
    ------
    UsageError
        If the file cannot be read, or holds probes of something else.
    """

    def __init__(self, path: str | os.PathLike[str] | None, key: Mapping[str, Any]) -> None:
        self.path, self.key = path, dict(key)
        self.found: dict[str, Probe] = {}
        if path is None or not Path(path).exists():
            return
        try:
            known = json.loads(Path(path).read_text(encoding="utf-8"))
            own = dict(known["of"])
            probes = [Probe(**{f.name: entry[f.name] for f in fields(Probe)}) for entry in known["probes"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(f"probes: '{os.fspath(path)}' holds no probes", "Choose another name.") from None
        other = [name for name, value in self.key.items() if own.get(name) != value]
        if other:
            raise UsageError(
                f"probes: those in '{os.fspath(path)}' differ in their {other[0]}",
                "Name another file, or remove it.",
            )
        self.found = {probe.group: probe for probe in probes}

    def add(self, probe: Probe) -> None:
        """Remember one, and write all of them."""
        self.found[probe.group] = probe
        if self.path is not None:
            document = {"of": self.key, "probes": [asdict(p) for p in self.found.values()]}
            write_atomically(Path(self.path), (json.dumps(document, indent=1) + "\n").encode())
