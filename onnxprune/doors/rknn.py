"""RKNN-Toolkit's ``model_pruning``: what contributes nothing goes, and nothing else."""

from __future__ import annotations

from .tao import placed


def arguments(model: str, output: str) -> list[str]:
    """Arguments of ``onnxprune prune`` for ``rknn.config(model_pruning=True)``."""
    return [model, "-o", placed(model, output), "--preset", "rknn"]


def results(before: tuple[int, int], after: tuple[int, int]) -> str:
    """What went, in the units of the toolkit's log: MiB of weights, and 10^12 operations, two per MAC.

    Parameters
    ----------
    before, after : (bytes, MACs)
    """
    (size, macs), (left, work) = before, after
    weights = (left - size) / 2**20
    operations = 2 * (work - macs) / 1e12
    return (
        f"model_pruning results: {weights:+.5f} MB ({_share(left, size)}) / "
        f"{operations:+.5f} T ({_share(work, macs)})"
    )


def _share(left: int, whole: int) -> str:
    return f"{left / whole - 1:+.1%}" if whole else "+0.0%"
