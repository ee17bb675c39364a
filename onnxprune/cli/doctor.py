"""Show versions, execution providers, and whether CUDA really runs."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from .. import __version__
from ..errors import InstallationError
from ..reports.page import Table
from . import options, output
from .progress import note, say

PACKAGES = (
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
    "scipy",
    "onnx-graphsurgeon",
    "rich",
    "click",
    "pillow",
    "matplotlib",
)

NO_ENGINE = "onnxruntime cannot be imported"

TITLES = {"cuda": "CUDA", "tensorrt": "TensorRT"}


@click.command(cls=options.Verb)
@options.json_option
def command(as_json: bool) -> None:
    """Show versions, execution providers, and whether CUDA really runs here."""
    versions = {"onnxprune": __version__, "python": platform.python_version()}
    versions |= {name: version for name in PACKAGES if (version := _version(name))}
    providers, problems = _providers()
    if as_json:
        runs = {name: {"runs": not text, "problem": text} for name, text in problems.items()}
        output.print_json("doctor", {"versions": versions, "providers": providers, **runs})
        return
    rows = [*versions.items(), ("platform", platform.platform()), ("providers", ", ".join(providers))]
    for name, text in problems.items():
        if name in TITLES:
            rows.append((TITLES[name], f"does not run: {text}" if text else "runs"))
    output.print_table(Table(("", ""), tuple(rows)))
    if problems["onnxruntime"]:
        note(problems["onnxruntime"])
    if "libraries" in problems["cuda"]:
        say("pip install 'onnxprune[cuda]' installs the CUDA libraries.")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _providers() -> tuple[list[str], dict[str, str]]:
    """Execution providers that onnxruntime has, and why those of a GPU do not run."""
    try:
        from ..model.engine import doubled, ort
        from ..runtime.providers import cuda_problem, tensorrt_problem
    except InstallationError as error:
        return [], {"onnxruntime": f"{error.message} ({error.hint})", **dict.fromkeys(TITLES, NO_ENGINE)}
    problems = {"onnxruntime": doubled(), "cuda": cuda_problem(), "tensorrt": tensorrt_problem()}
    return ort.get_available_providers(), problems
