"""The plan of the house: every module stands in a room, and imports only go down.

Imports are read from the syntax trees, those inside functions and under ``TYPE_CHECKING`` included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from .conftest import ROOT

FLOORS = (
    ("printable",),
    ("errors", "cores"),
    ("plugins",),
    ("settings",),
    ("files",),
    ("model",),
    ("runtime",),
    ("shapes",),
    ("labels",),
    ("rules",),
    ("coupling",),
    ("surgery", "data"),
    ("moments", "timing"),
    ("scoring",),
    ("registry", "layer"),
    ("selection",),
    ("passes",),
    ("checks", "cleanup"),
    ("recovery",),
    ("reports",),
    ("html",),
    ("jobs",),
    ("checkpoints", "doors"),
    ("", "testing"),
    ("torch", "kubeflow", "olive"),
    ("cli",),
    ("__main__",),
)
"""Rooms from the ground up; those of one floor do not know each other. ``""`` is the package itself."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def files() -> Iterator[Path]:
    for folder in ("onnxprune", "passes"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """Dotted name below the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "passes" else parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in files()}


def imported(module: str) -> Iterator[str]:
    """Modules of ours that a module imports, anywhere in it."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "onnxprune"]
            yield from (name.removeprefix("onnxprune").strip(".") for name in names)
        if not isinstance(node, ast.ImportFrom):
            continue
        if not node.level and not (node.module or "").startswith("onnxprune"):
            continue
        start = ["", *package][: len(package) + 2 - node.level] if node.level else [""]
        named = (node.module or "").removeprefix("" if node.level else "onnxprune").strip(".")
        base = ".".join(filter(None, [*start, *named.split(".")]))
        for alias in node.names:
            inside = ".".join(filter(None, [base, alias.name]))
            yield inside if inside in MODULES else base


def room_of(module: str) -> str:
    return module.partition(".")[0]


ARROWS = sorted({(module, other) for module in MODULES for other in imported(module) if other != module})


def test_arrows_are_seen() -> None:
    """The tests below would not notice if relative imports were spelled out wrongly."""
    assert {("rules.conv", "rules.registry"), ("rules.conv", "model.node"), ("cli", "errors")} <= set(ARROWS)
    assert ("passes.lamp", "scoring.registry") in ARROWS


def test_imports_of_the_package_itself_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pass copied out of the manual, which is written for files outside."""
    (tmp_path / "peak.py").write_text("import numpy\nimport onnxprune\nimport onnxprune.cli.prune\n")
    monkeypatch.setitem(MODULES, "passes.peak", tmp_path / "peak.py")
    assert list(imported("passes.peak")) == ["", "cli.prune"]


def test_every_module_has_a_room() -> None:
    assert {room_of(module) for module in MODULES} == set(FLOOR)


def test_imports_go_down() -> None:
    up = [
        (module, other)
        for module, other in ARROWS
        if room_of(module) != room_of(other) and FLOOR[room_of(module)] <= FLOOR[room_of(other)]
    ]
    assert not up


def test_there_are_no_circles() -> None:
    below: dict[str, set[str]] = {}
    for module, other in ARROWS:
        below.setdefault(module, set()).add(other)
    TopologicalSorter(below).prepare()  # raises CycleError, which names one


def test_modules_are_loaded_by_name_in_one_place() -> None:
    """Beside packages that import what lies in them, and what the tests above see."""
    loading = [name for name, path in MODULES.items() if "import_module(" in path.read_text(encoding="utf-8")]
    assert [name for name in loading if MODULES[name].name != "__init__.py"] == ["plugins"]


@pytest.mark.parametrize("room", sorted({room_of(module) for module in MODULES if "." in module}))
def test_rooms_are_small(room: str) -> None:
    """A room that nobody can take in at one look wants another wall."""
    assert len([module for module in MODULES if room_of(module) == room]) <= 24
