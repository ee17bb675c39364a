"""What is installed, and what importing it costs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

import onnxprune

from .conftest import ROOT

SOURCES = {"onnxprune": ROOT / "onnxprune", "onnxprune.passes": ROOT / "passes"}

HEAVY = ("numpy", "onnx", "onnxruntime", "scipy", "rich", "onnx_graphsurgeon", "google.protobuf")


@pytest.fixture(scope="session")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages() -> dict[str, Path]:
    """Name of every package -> its folder, as found in the source tree."""
    found = {}
    for name, folder in SOURCES.items():
        for init in folder.rglob("__init__.py"):
            inner = init.parent.relative_to(folder).parts
            found[".".join([name, *inner])] = init.parent
    return found


def test_the_list_of_packages_matches_the_folders(project: Any) -> None:
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(packages())


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy: setuptools leaves a build folder behind."""
    pytest.importorskip("setuptools", minversion="77", reason="building takes setuptools >= 77")
    copy = tmp_path_factory.mktemp("source")
    for name in ("onnxprune", "passes"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True)
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_contents_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    expected = {
        "/".join([*package.split("."), file.name])
        for package, folder in packages().items()
        for file in folder.glob("*.py")
    }
    assert names == {*expected, "onnxprune/py.typed"}


def test_metadata_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"onnxprune-{onnxprune.__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode().split()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["Name"] == "onnxprune"
    assert metadata["Version"] == onnxprune.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert scripts == ["[console_scripts]", "onnxprune", "=", "onnxprune.__main__:main"]


def test_passes_are_found_once() -> None:
    """``passes`` must not be importable under two names, or everything registers twice."""
    import onnxprune.passes

    assert Path(onnxprune.passes.__file__ or "").parent in (ROOT / "passes", ROOT / "onnxprune" / "passes")
    assert "passes" not in sys.modules


@pytest.mark.parametrize(
    "code",
    [
        "import onnxprune",
        "from onnxprune.cli import main; assert main(['--help']) == 0",
        "from onnxprune.cli import main; assert main(['--version']) == 0",
        "from onnxprune.cli import main; assert main(['prun']) == 2",
        "from onnxprune.cli import main; assert main(['prune', 'a', '-o', 'b', '--norm', 'x']) == 2",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    """Asserted as imports, not as time: help answers at once however loaded the machine is."""
    show = f"import sys; print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_imports_no_verb() -> None:
    code = "import sys; from onnxprune.cli import main, verbs; main(['--help']); print([v for v in verbs() if f'onnxprune.cli.{v}' in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
