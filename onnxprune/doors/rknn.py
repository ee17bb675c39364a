"""RKNN-Toolkit's ``model_pruning``: what contributes nothing goes, and nothing else."""

from __future__ import annotations

from ..selection.cost import Cost
from .tao import placed


def arguments(model: str, output: str) -> list[str]:
    """Arguments of ``onnxprune prune`` for ``rknn.config(model_pruning=True)``."""
    return [model, "-o", placed(model, output), "--preset", "rknn"]


def results(before: Cost, after: Cost) -> str:
    """What went, in the units of the toolkit's log: MiB of weights, and 10^12 operations, two per MAC."""
    weights = (after.bytes - before.bytes) / 2**20
    operations = 2 * (after.macs - before.macs) / 1e12
    return (
        f"model_pruning results: {weights:+.5f} MB ({_share(after.bytes, before.bytes)}) / "
        f"{operations:+.5f} T ({_share(after.macs, before.macs)})"
    )


def _share(left: int, whole: int) -> str:
    return f"{left / whole - 1:+.1%}" if whole else "+0.0%"
