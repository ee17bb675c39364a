"""Show versions, execution providers, and whether CUDA really runs."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from .. import __version__
from . import options, output

PACKAGES = (
    "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "scipy", "onnx-graphsurgeon", "rich",
    "click",
)  # fmt: skip


@click.command()
@options.json_option
def command(as_json: bool) -> None:
    """Show versions, execution providers, and whether CUDA really runs here."""
    versions = {"onnxprune": __version__, "python": platform.python_version()}
    versions |= {name: version for name in PACKAGES if (version := _version(name))}
    providers, problem = _providers()
    if as_json:
        cuda = {"runs": not problem, "problem": problem}
        output.print_json("doctor", {"versions": versions, "providers": providers, "cuda": cuda})
        return
    rows = [*versions.items(), ("platform", platform.platform()), ("providers", ", ".join(providers))]  # fmt: skip
    output.print_table(("", ""), [*rows, ("CUDA", f"does not run: {problem}" if problem else "runs")])  # fmt: skip
    if "libraries" in problem:
        click.echo("pip install 'onnxprune[cuda]' installs the CUDA libraries.")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _providers() -> tuple[list[str], str]:
    """Execution providers that onnxruntime has, and why CUDA does not run."""
    try:
        import onnxruntime

        from ..runtime import cuda_problem
    except ImportError as error:
        return [], f"onnxruntime cannot be imported: {error}"
    return onnxruntime.get_available_providers(), cuda_problem()
