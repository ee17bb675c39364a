"""Where a model is timed: provider, threads, batch; and what the machine is called."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from ..cores import cores
from ..model.engine import ort
from ..printable import plural
from ..runtime.providers import choose_provider
from ..runtime.session import Timed
from ..settings.table import DEFAULTS, OPTIONS

HOSTED = ("cpu", "openvino")
"""Providers that compute on the processor, in the calling thread where there is one."""


class MachineSettings(TypedDict, total=False):
    """How models run that are timed; see :func:`onnxprune.bench`."""

    threads: int | None
    batch: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, and how models run on it.

    Attributes
    ----------
    provider : str
    threads : int
        Of one operator; 0 leaves their number to onnxruntime.
    batch : int
        Samples of a run, where the model leaves that open.
    """

    provider: str
    threads: int = 0
    batch: int = 1

    @classmethod
    def of(
        cls, provider: str = DEFAULTS["provider"], threads: int | None = None, batch: int | None = None
    ) -> Machine:
        """From settings.

        Raises
        ------
        UsageError
            If a value is impossible, or the provider cannot run.
        """
        OPTIONS["threads"].refuse(threads)
        OPTIONS["batch"].refuse(batch)
        return cls(choose_provider(provider), threads or 0, batch or 1)

    def timed(self, folder: str = "") -> Timed:
        """How its sessions run; with a folder, they are profiled."""
        return Timed(self.threads, folder)

    def clock(self) -> float:
        """Seconds; of the one thread that does all the work, where there is one."""
        alone = self.threads == 1 and self.provider in HOSTED
        return time.thread_time() if alone else time.perf_counter()

    @property
    def running(self) -> str:
        """Provider and threads in words."""
        chosen = f"threads of onnxruntime ({plural(cores(), 'core')})"
        return f"{self.provider}, {plural(self.threads, 'thread') if self.threads else chosen}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, with what the machine is."""
        return {**asdict(self), "device": device(), "onnxruntime": ort.__version__}


@cache
def device() -> str:
    """Name of the processor, with its widest vector instructions where that is known."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # there is none outside of Linux
        return platform.processor() or platform.machine()
    known: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        known.setdefault(key.strip(), value.strip())
    flags = known.get("flags", known.get("Features", "")).split()
    wide = next((name for name in ("avx512f", "avx2", "avx", "asimd") if name in flags), "")
    return f"{known.get('model name') or platform.machine()} {wide}".strip()
