"""What was found out about a machine, kept in the user's cache for later calls."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.writing import write_atomically


def folder() -> Path:
    """Where the platform wants such files."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "onnxprune"


def _place(kind: str, key: Mapping[str, Any]) -> Path:
    text = json.dumps(key, sort_keys=True)
    return folder() / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def load(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is known; None where nothing is, or the file is not ours or damaged."""
    try:
        found = json.loads(_place(kind, key).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # a home that is not known is a RuntimeError
        return None
    good = isinstance(found, dict) and found.get("key") == dict(key) and isinstance(found.get("value"), dict)
    return found["value"] if good else None


def keep(kind: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """Keep something; where nothing can be written, it is found out anew next time."""
    try:
        path = _place(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"key": dict(key), "value": dict(value)}, indent=1).encode())
    except (OSError, RuntimeError):
        return
