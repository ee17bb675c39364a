"""Show versions, execution providers, and whether CUDA really runs."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from .. import __version__
from . import options, output

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
        rows.append((TITLES[name], f"does not run: {text}" if text else "runs"))
    output.print_table(("", ""), rows)
    if "libraries" in problems["cuda"]:
        click.echo("pip install 'onnxprune[cuda]' installs the CUDA libraries.")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _providers() -> tuple[list[str], dict[str, str]]:
    """Execution providers that onnxruntime has, and why those of a GPU do not run."""
    try:
        import onnxruntime

        from ..runtime import cuda_problem, tensorrt_problem
    except ImportError as error:
        return [], dict.fromkeys(TITLES, f"onnxruntime cannot be imported: {error}")
    problems = {"cuda": cuda_problem(), "tensorrt": tensorrt_problem()}
    return onnxruntime.get_available_providers(), problems
