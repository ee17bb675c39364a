"""What is installed here, and what of it runs."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from ..errors import InstallationError
from ..settings.table import TITLES
from .page import Part, Table, words

PACKAGES = (
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "numpy",
    "onnx-graphsurgeon",
    "rich",
    "click",
    "pillow",
    "matplotlib",
)

NO_ENGINE = "onnxruntime cannot be imported"


@dataclass(frozen=True, slots=True)
class Installation:
    """Versions and execution providers, see :class:`onnxprune.reports.page.Reported`.

    Attributes
    ----------
    problems : mapping
        onnxruntime and the providers of ``TITLES`` -> why they do not run; empty where they do.
    """

    versions: Mapping[str, str]
    providers: tuple[str, ...]
    problems: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON types."""
        runs = {name: {"runs": not text, "problem": text} for name, text in self.problems.items()}
        return {"versions": dict(self.versions), "providers": list(self.providers), **runs}

    def page(self) -> Iterator[Part]:
        """One table, and what to install."""
        rows = [*self.versions.items(), ("platform", platform.platform())]
        rows.append(("providers", ", ".join(self.providers)))
        for name, title in TITLES.items():
            text = self.problems[name]
            rows.append((title, f"does not run: {text}" if text else "runs"))
        yield Table(words("", ""), tuple(rows))
        if "libraries" in self.problems["cuda"]:
            yield "pip install 'onnxprune[cuda]' installs the CUDA libraries."


def installation(version: str) -> Installation:
    """Look at this environment; ``version`` is that of onnxprune."""
    versions = {"onnxprune": version, "python": platform.python_version()}
    versions |= {name: found for name in PACKAGES if (found := _version(name))}
    providers, problems = _providers()
    return Installation(versions, tuple(providers), problems)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _providers() -> tuple[list[str], dict[str, str]]:
    """Execution providers that onnxruntime has, and why others than the CPU do not run."""
    try:
        from ..model.engine import doubled, ort
        from ..runtime.providers import problem_of
    except InstallationError as error:
        return [], {"onnxruntime": f"{error.message} ({error.hint})", **dict.fromkeys(TITLES, NO_ENGINE)}
    problems = {"onnxruntime": doubled(), **{name: problem_of(name) for name in TITLES}}
    return ort.get_available_providers(), problems
