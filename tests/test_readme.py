"""Every block of the README and of the manual runs, and prints what stands below it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

import onnxprune
from onnxprune.cli import main, verbs

from .conftest import DIGITS, ROOT
from .documents import (
    CONTRIBUTING,
    LINKS,
    PAGES,
    Block,
    anchors,
    blocks,
    definitions,
    fenced,
    inline,
    manual,
    package_page,
    read,
    used,
)

README = ROOT / "README.md"

SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

NEWCOMER = ("pip install . && onnxprune prune", "pip install -e '.[test]' && pytest")
"""The two commands that only a fresh environment can run: ``.ci/run`` does."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a newcomer has, with ``onnxprune`` on the path."""
    folder = tmp_path
    for name in ("onnxprune", "passes", "models"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = folder / "bin" / "onnxprune"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onnxprune "$@"\n')
    command.chmod(0o755)
    return folder


def runnable(code: str) -> str:
    """Shell code without the steps that install or test."""
    code = re.sub(r"^pip install [^&]*&& ", "", code, flags=re.MULTILINE)
    return re.sub(r"^pytest$", "", code, flags=re.MULTILINE)


def run(block: Block, folder: Path) -> str:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "80"}
    if block.language == "sh":
        command = ["sh", "-eu", "-c", runnable(block.code)]
    else:
        command = [sys.executable, "-W", "error", "-c", block.code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def comparable(text: str) -> str:
    """Text without measured numbers, which another processor may round otherwise."""
    text = re.sub(r"-?\d+\.\d+(e[+-]\d+)?", "#", text)
    text = re.sub(r"^(cuda|cpu):", "PROVIDER:", text, flags=re.MULTILINE)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


@pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if [*blocks(read(page))]], ids=lambda page: page.stem
)
def test_blocks_run_in_order_and_print_what_is_shown(page: Path, checkout: Path) -> None:
    for block in blocks(read(page)):
        printed = run(block, checkout)
        if block.output is not None:
            assert comparable(printed) == comparable(block.output), block.code


def test_every_page_of_blocks_is_run() -> None:
    """The test above would pass without a page."""
    assert {page.stem for page in PAGES if [*blocks(read(page))]} >= {"README", "verbs", "recovery", "adding"}


def test_the_commands_for_newcomers_are_those_of_the_ci_script() -> None:
    shown = [block.code for block in blocks(read(README)) if "pip install" in block.code]
    for code, start in zip(shown, NEWCOMER, strict=True):
        assert code.startswith(start)
        for step in code.strip().split(" && "):
            quiet = re.sub("^pip install", "pip install --quiet", step)
            assert quiet.replace("slim.onnx", '"$work/slim.onnx"') in SCRIPT


def test_the_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= 210


def keys(value: Any) -> Any:
    """Structure of a JSON document: keys, and the structure of first entries."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_the_plan_has_the_shape_that_is_documented() -> None:
    (shown,) = [code for language, code in fenced(manual("plan")) if language == "json"]
    documented = json.loads(shown)
    actual = json.loads(json.dumps(onnxprune.prune(DIGITS).plan.to_dict()))
    actual["groups"] = [g for g in actual["groups"] if g["name"] == documented["groups"][0]["name"]]
    name = next(iter(documented["constants"]))
    actual["constants"] = {name: actual["constants"][name]}
    assert documented["options"].keys() <= actual["options"].keys()
    actual["options"] = {k: actual["options"][k] for k in documented["options"]}
    entry = actual["constants"][name]
    entry["keep"] = {"0": entry["keep"]["0"]}
    assert keys(documented) == keys(actual)
    sliced = documented["constants"][name]
    assert sliced["keep"]["0"] == documented["groups"][0]["keep"]


def documented_keys() -> dict[str, set[str]]:
    """Keys of the JSON document of every command, as the table lists them."""
    table = manual("automation").partition("| command | further keys |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    return {verb: set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", keys))) for verb, keys in rows}


@pytest.mark.parametrize("verb", ["prune", "clean", "inspect", "verify", "ops", "doctor"])
def test_the_json_documents_have_the_documented_keys(
    verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments: dict[str, list[object]] = {
        "prune": [DIGITS, "-o", tmp_path / "slim.onnx", "--provider", "cpu"],
        "clean": [DIGITS, "-o", tmp_path / "clean.onnx", "--provider", "cpu"],
        "inspect": [DIGITS],
        "verify": [DIGITS, DIGITS, "--provider", "cpu"],
    }
    assert main([verb, *map(str, arguments.get(verb, [])), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert list(document)[:2] == ["command", "version"]
    found = set(document) - {"command", "version"}
    assert found <= documented_keys()[verb]
    assert documented_keys()[verb] - found <= {"latency", "ms", "baseline"}, "only where they are asked for"


def test_every_command_has_its_place() -> None:
    assert set(documented_keys()) == set(verbs())
    table = read(README).partition("## Verbs\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| \[`(\w+)`\]", table, re.MULTILINE)) == set(verbs())
    headings = {verb for anchor in anchors(manual("verbs")) for verb in anchor.split("-")}
    assert set(verbs()) <= headings


def test_every_page_can_be_reached_from_the_readme() -> None:
    targets = {(ROOT / target.partition("#")[0]).resolve() for target in definitions(read(README)).values()}
    assert targets == {page.resolve() for page in PAGES if page != README}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = read(page)
    assert used(text) == set(definitions(text))
    for target in [*inline(text), *definitions(text).values()]:
        if target.startswith("https:"):
            continue
        name, _, anchor = target.partition("#")
        other = page.parent / name if name else page
        assert other.is_file(), target
        assert not anchor or anchor in anchors(read(other)), target


def test_links_lead_to_the_same_place_on_the_page_of_the_package() -> None:
    """There all pages are one, and the first definition of a link holds: that of ``links.md``."""
    whole, redirected = package_page(), definitions(read(LINKS))
    names = anchors(whole)
    assert len(names) == len(set(names))
    assert whole.startswith(read(LINKS))
    for page in PAGES:
        text = read(page)
        assert text in whole
        assert all(target.startswith(("#", "https:")) for target in inline(text))
        for label, target in definitions(text).items():
            name, _, anchor = target.partition("#")
            assert redirected[label] == "#" + (anchor or anchors(read(page.parent / name))[0])


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: page.stem)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:onnxprune|passes|tests|models|\.github|\.ci)/[\w./-]*)`", read(page))
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("verb", verbs())
def test_every_option_is_named_in_the_manual(verb: str) -> None:
    """By one of its names at least; that of an option that is on by default is the one that says no."""
    command = import_module(f"onnxprune.cli.{verb}").command
    named = {flag for page in PAGES for flag in re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", read(page))}
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert not [o.opts for o in options if not named & {*o.opts, *o.secondary_opts}]


def test_documented_flags_exist() -> None:
    from onnxprune.cli.prune import command

    known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    table = (
        manual("settings")
        .partition("## Flags of prune")[2]
        .partition("| flag | meaning |")[2]
        .partition("\n\n")[0]
    )
    shown = set(re.findall(r"`(--[\w-]+)", table))
    assert shown <= known
    assert known - shown <= {"model", "-o", "--output", "--verify", "--clean", "--json", "-q", "--quiet"}
