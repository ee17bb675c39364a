"""Drawings, with matplotlib where it is installed (``pip install 'onnxprune[plot]'``)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..coupling.trace import NO_LAYER
from ..errors import UsageError
from ..files.writing import write_atomically
from ..plugins import needed
from ..printable import plural, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .explained import Explanation

KEPT, REMOVED = "#1f77b4", "#c7c7c7"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that touches no global state of matplotlib.

    Raises
    ------
    InstallationError
        If matplotlib is not installed.
    """
    figure: Figure = needed("matplotlib.figure", "plot", "matplotlib").Figure(
        figsize=(width, height), layout="constrained"
    )
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG or SVG, by the ending of the path; the same figure gives the same bytes.

    Raises
    ------
    UsageError
        If the ending is neither, or the file cannot be written.
    """
    import matplotlib

    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise UsageError(f"plot '{os.fspath(path)}': found ending '.{kind}', expected .png or .svg")
    drawn = BytesIO()
    fixed = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
    try:
        with matplotlib.rc_context({"svg.hashsalt": "onnxprune"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a box stands for a letter that the font lacks
            figure.savefig(drawn, format=kind, metadata=fixed, dpi=150)
        write_atomically(Path(path), drawn.getvalue())
    except OSError as error:
        raise UsageError(f"cannot write plot '{os.fspath(path)}': {error.strerror}") from None


def label(text: str) -> str:
    """A name as it is drawn: dollar signs are no formulas."""
    return printable(text).replace("$", r"\$")


def plot_scores(parts: Sequence[Explanation], path: str | os.PathLike[str]) -> None:
    """Sorted merged scores of every group with channels, and where they were cut.

    Raises
    ------
    UsageError
        If there is nothing to draw, or matplotlib is missing.
    """
    drawn = [part for part in parts if part.channels]
    if not drawn:
        why = "every group that was named is blocked" if parts else NO_LAYER
        raise UsageError(f"there are no scores to draw: {why}")
    figure = new_figure(8, 3 * len(drawn))
    axes = figure.subplots(len(drawn), squeeze=False)[:, 0]
    for axis, part in zip(axes, drawn, strict=True):
        ranked = {c.rank: c for c in part.channels if c.rank is not None}
        channels = [ranked[rank] for rank in sorted(ranked)]
        colours = [KEPT if c.kept else REMOVED for c in channels]
        heights = [c.merged if math.isfinite(c.merged) else 0.0 for c in channels]
        axis.bar(range(1, len(channels) + 1), heights, width=1.0, color=colours)
        if part.cut is not None and math.isfinite(part.cut):
            axis.axhline(part.cut, color="black", linewidth=0.8, linestyle="--", label=f"cut {part.cut:.4g}")
            axis.legend(loc="upper right")
        kept = sum(c.kept for c in channels)
        axis.set_title(
            f"{label(part.group)}: {kept} of {plural(len(part.channels), 'channel')} stay", fontsize=10
        )
        axis.set_xlabel("rank")
        axis.set_ylabel("merged score")
    save_figure(figure, path)
