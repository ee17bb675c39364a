"""What is installed, and what importing it costs."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune.labels.vector import distinct
from onnxprune.model.engine import BUILDS

from .conftest import DIGITS, ROOT
from .documents import package_page

SOURCES = {"onnxprune": ROOT / "onnxprune", "onnxprune.passes": ROOT / "passes"}

HEAVY = ("numpy", "onnx", "onnxruntime", "rich", "jinja2", "networkx", "onnx_graphsurgeon", "google.protobuf")


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


def built(kind: str, folder: Path) -> Path:
    """A distribution, built from a copy: setuptools leaves a build folder behind."""
    pytest.importorskip("setuptools", minversion="77", reason="building takes setuptools >= 77")
    for name in ("onnxprune", "passes", "tests", "models", ".ci", ".github"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    place = kind.replace("build", "directory").split("_")
    call = (
        f"{kind}({place[1]}_{place[0]}='dist', config_settings={{'engine': 'gpu'}})"  # by name, as tox does
    )
    code = f"import sys; sys.path.insert(0, '.ci'); from backend import {kind}; {call}"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    (archive,) = (folder / "dist").iterdir()
    return archive


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("build_wheel", tmp_path_factory.mktemp("source"))


def test_the_source_distribution_holds_all_that_its_tests_read(tmp_path: Path) -> None:
    with tarfile.open(built("build_sdist", tmp_path / "source")) as archive:
        safe: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
        archive.extractall(tmp_path, **safe)
    unpacked = tmp_path / f"onnxprune-{onnxprune.__version__}"
    for folder in ("onnxprune", "passes", "tests", "models", ".ci", ".github"):
        ours = {p.relative_to(ROOT) for p in (ROOT / folder).rglob("*") if p.is_file()}
        ours = {p for p in ours if "__pycache__" not in p.parts}
        found = {p.relative_to(unpacked) for p in (unpacked / folder).rglob("*") if p.is_file()}
        assert found == ours
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    some = ["tests/test_contributing.py", "tests/test_rooms.py", "tests/test_selection.py"]
    done = subprocess.run(
        [*command, *some], cwd=unpacked, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_contents_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    expected = {
        "/".join([*package.split("."), file.name])
        for package, folder in packages().items()
        for file in folder.glob("*.py")
    }
    page = {f"onnxprune/html/{name}" for name in ("page.html", "style.css", "script.js")}
    assert names == {*expected, *page, "onnxprune/py.typed"}


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
    assert str(metadata.get_payload()).split() == package_page().split()
    assert scripts == ["[console_scripts]", "onnxprune", "=", "onnxprune.__main__:main"]

    needed = metadata.get_all("Requires-Dist") or []
    assert [line.partition(";")[0] for line in needed if "extra" not in line and "onnxruntime" in line] == [
        "onnxruntime-gpu>=1.28", "onnxruntime>=1.28",
    ]  # fmt: skip
    for line in (ROOT / ".ci" / "requirements.txt").read_text().splitlines():
        assert line in needed


@pytest.mark.parametrize(
    ("asked", "present", "wanted"),
    [
        (None, [], ["onnxruntime-gpu", "onnxruntime"]),
        (None, ["onnxruntime"], ["onnxruntime"]),
        (None, ["onnxruntime-openvino"], ["onnxruntime-openvino"]),
        (None, ["onnxruntime-gpu"], ["onnxruntime-gpu"]),
        (None, ["onnxruntime", "onnxruntime-gpu"], ["onnxruntime-gpu", "onnxruntime"]),
        ("cpu", ["onnxruntime-gpu"], ["onnxruntime"]),
        ("none", [], []),
        ("tpu", [], "engine: found 'tpu', expected one of auto, gpu, cpu, openvino, directml, none"),
    ],
)
def test_an_installed_onnxruntime_is_the_one_that_is_required(
    asked: str | None, present: list[str], wanted: list[str] | str
) -> None:
    """Another would overwrite it: they share a folder. Without any, the default of the platform comes."""
    settings = {"engine": asked} if asked else {}
    code = f"import sys; sys.path.insert(0, '.ci'); import backend; print(backend.engine({settings}, {present}), backend.BUILDS, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if isinstance(wanted, str):
        assert (done.returncode, done.stderr.strip()) == (1, wanted)
        return
    assert done.returncode == 0, done.stderr
    found, builds = map(ast.literal_eval, done.stdout.splitlines())
    assert [line.partition(">=")[0] for line in found] == wanted
    assert builds == BUILDS


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
        [sys.executable, "-c", f"{code}\n{show}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


DOORS = (
    "onnxprune.checkpoints.attention",
    "onnxprune.checkpoints.modules",
    "onnxprune.kubeflow",
    "onnxprune.olive",
)
"""Modules that subclass what an extra installs, and that nothing else imports before it is asked for."""


def test_what_is_optional_is_not_needed() -> None:
    """Every module is imported as where the extras are not installed."""
    modules = [
        ".".join([package, file.stem]).removesuffix(".__init__")
        for package, folder in packages().items()
        for file in folder.glob("*.py")
        if file.stem != "__main__"
    ]
    modules = [name for name in modules if name not in DOORS]
    assert "onnxprune.data.images" in modules
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys(["PIL", "PIL.Image", "matplotlib"]))
for module in {modules}:
    importlib.import_module(module)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_runs_without_data_import_nothing_that_takes_some() -> None:
    """Nor masked arrays, nor the reader of configurations: imports take longer than many a run."""
    others = ["moments.second", "recovery.walk", "timing.model", "selection.config"]
    script = (
        f"import sys, onnxprune; model = {str(DIGITS)!r}; onnxprune.clean(model);"
        "plan = onnxprune.prune(model, scope='global', keep_macs=0.5).plan; onnxprune.rewrite(model, plan);"
        f"print([m for m in {[f'onnxprune.{name}' for name in others]} if m in sys.modules]);"
        "onnxprune.explain(model, '*'); print('numpy.ma' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\nFalse\n"


@pytest.mark.parametrize("numbers", [[], [3], [2, 1, 2, 1], [float("inf"), 0.0, -0.0, float("inf")]])
def test_distinct_numbers(numbers: list[float]) -> None:
    assert distinct(np.array(numbers)).tolist() == np.unique(numbers).tolist()


def test_help_imports_no_verb() -> None:
    code = "import sys; from onnxprune.cli import main, verbs; main(['--help']); print([v for v in verbs() if f'onnxprune.cli.{v}' in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
