"""Every block of the README runs, and prints what stands below it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import onnxprune
from onnxprune.cli import main, verbs

from .conftest import DIGITS, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

NEWCOMER = ("pip install . && onnxprune prune", "pip install -e '.[test]' && pytest")
"""The two commands that only a fresh environment can run: ``.ci/run`` does."""


@dataclass(frozen=True)
class Block:
    """A fenced block, and the text that is said to be its output."""

    language: str
    code: str
    output: str | None


def blocks() -> Iterator[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    for number, (language, code) in enumerate(found):
        following = found[number + 1] if number + 1 < len(found) else ("", "")
        yield Block(language, code, following[1] if following[0] == "text" else None)


BLOCKS = [block for block in blocks() if block.language in ("sh", "python")]


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
def test_blocks_run_in_order_and_print_what_is_shown(checkout: Path) -> None:
    for block in BLOCKS:
        printed = run(block, checkout)
        if block.output is not None:
            assert comparable(printed) == comparable(block.output), block.code


def test_the_first_two_commands_are_those_of_the_ci_script() -> None:
    first = [block.code for block in BLOCKS if block.language == "sh"][:2]
    for shown, expected in zip(first, NEWCOMER, strict=True):
        assert shown.startswith(expected)
        for step in expected.split(" && "):
            assert re.sub("^pip install", "pip install --quiet", step) in SCRIPT


def keys(value: Any) -> Any:
    """Structure of a JSON document: keys, and the structure of first entries."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_the_plan_has_the_shape_that_is_documented() -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
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
    table = README.partition("| command | further keys |")[2].partition("\n\n")[0]
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
    assert documented_keys()[verb] - found <= {"latency"}, "only where a gate asks for it"


def test_every_command_has_its_place_in_the_readme() -> None:
    assert set(documented_keys()) == set(verbs())


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    headings = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
        for h in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_documented_flags_exist() -> None:
    from onnxprune.cli.prune import command

    known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    table = README.partition("| flag | meaning |")[2].partition("\n\n")[0]
    shown = set(re.findall(r"`(--[\w-]+)", table))
    assert shown <= known
    assert known - shown <= {
        "model",
        "-o",
        "--output",
        "--verify",
        "--clean",
        "--json",
        "-q",
        "--quiet",
    }
