"""Drawing of a report's layers: where pruning loses, and where a cut is wrong."""

from __future__ import annotations

import os

from ..checks.report import Report
from .plots import label, new_figure, save_figure

FLOOR = 1e-9
"""Least difference that is drawn, on a logarithmic axis."""


def plot_layers(report: Report, path: str | os.PathLike[str]) -> None:
    """Cosine end to end above, difference of every node alone below; PNG or SVG by the ending.

    Raises
    ------
    InstallationError
        If matplotlib is missing.
    UsageError
        If the file cannot be written.
    """
    figure = new_figure(max(8.0, 0.16 * len(report.entire)), 6)
    above, below = figure.subplots(2, 1, sharex=True)
    places = {d.output: k for k, d in enumerate(report.entire)}
    above.plot([d.cosine for d in report.entire], label="mean")
    above.plot([d.worst for d in report.entire], linewidth=0.8, label="worst sample")
    if report.diverged is not None:
        above.axvline(
            places[report.diverged.output],
            color="grey",
            linestyle="--",
            label=f"diverges: {label(report.diverged.layer)}",
        )
    above.set_ylabel("cosine to the original")
    for title, colour, drawn in (
        ("to rounding", "tab:blue", [d for d in report.single if d]),
        ("wrong", "tab:red", [d for d in report.single if not d]),
    ):
        points = [
            (places[d.output], min(max(d.relative, FLOOR), 1 / FLOOR)) for d in drawn if d.output in places
        ]
        if points:
            below.scatter(*zip(*points, strict=True), s=8, c=colour, label=title)
    below.set_yscale("log")
    below.set_ylabel("rel. L2 alone, to the masked original")
    below.set_xticks(
        range(len(report.entire)), [label(d.layer) for d in report.entire], rotation=90, fontsize=5
    )
    above.legend(loc="lower left", fontsize=8)
    below.legend(loc="upper left", fontsize=8)
    save_figure(figure, path)
