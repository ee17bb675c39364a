"""CONTRIBUTING: its rooms are those of the source, and its walks go downhill."""

from __future__ import annotations

import re

import pytest

from .conftest import ROOT
from .documents import CONTRIBUTING, read
from .test_rooms import ARROWS, FLOOR, FLOORS

TEXT = read(CONTRIBUTING)
WALKS = TEXT.partition("## Three walks\n")[2].partition("\n## ")[0].split("\n**")[1:]

PATH = re.compile(r"`((?:\w+/)+\w+\.py)`")
NAME = re.compile(r"`([A-Za-z_]\w*)`")


def steps(walk: str) -> list[str]:
    return re.split(r"^\d+\. ", walk, flags=re.MULTILINE)[1:]


def source(path: str) -> str:
    folder = ROOT if path.startswith("passes/") else ROOT / "onnxprune"
    return read(folder / path)


def test_the_rooms_are_those_of_the_source_from_the_top_down() -> None:
    table = TEXT.partition("## The rooms\n")[2].partition("\n## ")[0]
    shown = re.findall(r"^    (\w+)(?:/|\.py) ", table, re.MULTILINE)
    furniture = {"", "__main__", "printable", "registry", "layer"}
    assert sorted(shown) == sorted({room for rooms in FLOORS for room in rooms} - furniture)
    floors = [FLOOR[room] for room in shown]
    assert floors == sorted(floors, reverse=True)


def test_there_are_three_walks() -> None:
    assert [len(steps(walk)) > 3 for walk in WALKS] == [True, True, True]


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.partition("**")[0])
def test_walks_go_downhill(walk: str) -> None:
    """A step stays in one room, and the next one lies lower, so that no room is entered twice."""
    rooms = [{path.partition("/")[0] for path in PATH.findall(step)} for step in steps(walk)]
    assert all(len(found) == 1 for found in rooms)
    floors = [FLOOR[room] for found in rooms for room in found]
    assert floors == sorted(set(floors), reverse=True)


def modules(step: str) -> set[str]:
    return {path.removesuffix(".py").replace("/", ".") for path in PATH.findall(step)}


def below(module: str) -> set[str]:
    """What a module imports, and what those import."""
    found, pending = {module}, [module]
    while pending:
        new = {other for source, other in ARROWS if source == pending[-1]} - found
        pending.pop()
        found |= new
        pending += new
    return found - {module}


FOUND_BY_NAME = ("passes.", "rules.")
"""Rooms whose files are found by what they register: nobody imports them one by one."""


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.partition("**")[0])
def test_a_step_is_used_by_one_above_it(walk: str) -> None:
    above: set[str] = set()
    for step in steps(walk):
        wanted = {module for module in modules(step) if not module.startswith(FOUND_BY_NAME)}
        assert not above or wanted <= above, step
        above |= set().union(*(below(module) for module in modules(step)))


@pytest.mark.parametrize(
    "step", [step for walk in WALKS for step in steps(walk)], ids=lambda step: step.split()[0]
)
def test_what_a_step_names_is_there(step: str) -> None:
    code = "\n".join(source(path) for path in PATH.findall(step))
    for name in NAME.findall(step):
        assert re.search(rf"^\s*(?:def|class) {name}\b", code, re.MULTILINE), name


def test_other_files_that_are_named_exist() -> None:
    for path in PATH.findall(TEXT):
        assert any((folder / path).is_file() for folder in (ROOT, ROOT / "onnxprune")), path
