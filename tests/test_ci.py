"""The workflow of the manual: its shell commands run, and drift fails the build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune

from .conftest import DIGITS, ROOT
from .documents import fenced, manual

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the workflow is for a POSIX shell")

WORKFLOW, ACTION = [code for language, code in fenced(manual("automation")) if language == "yaml"]


def steps() -> list[str]:
    """Scripts of the steps that run one, as YAML reads them."""
    found = re.findall(r"^      - run: (?:\|\n((?:          .*\n)+)|(.*)\n)", WORKFLOW, re.MULTILINE)
    return [textwrap.dedent(block) or line for block, line in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with a committed plan, and ``onnxprune`` on the path."""
    (tmp_path / "models").mkdir()
    for name in ("digits.onnx", "digits_test.npz"):
        shutil.copy(DIGITS.parent / name, tmp_path / "models")
    onnxprune.prune(DIGITS, ratio=0.25, exclude=["stage1"]).plan.save(tmp_path / "plan.json")
    command = tmp_path / "onnxprune"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onnxprune "$@"\n')
    command.chmod(0o755)
    return tmp_path


def build(folder: Path) -> tuple[int, str]:
    """Exit code and log of the first step that fails, or of the last."""
    environment = {
        **os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT), "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }  # fmt: skip
    for script in steps()[1:]:
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            break
    return done.returncode, done.stdout + done.stderr


def test_the_steps_are_those_of_the_workflow() -> None:
    scripts = steps()
    assert [script.split()[:2] for script in scripts] == [
        ["pip", "install"],
        ["onnxprune", "prune"],
        ["onnxprune", "verify"],
    ]
    assert WORKFLOW.count("run:") == len(scripts)
    assert "\t" not in WORKFLOW


def test_the_build_passes(folder: Path) -> None:
    code, log = build(folder)
    assert code == 0, log
    assert ElementTree.parse(folder / "verify.xml").getroot().attrib["failures"] == "0"
    assert (folder / "summary.md").read_text().startswith("### onnxprune verify: passed on")


def edit(folder: Path, changes: dict[str, Callable[[np.ndarray], np.ndarray]]) -> None:
    """Change stored tensors of the exported network."""
    path = folder / "models" / "digits.onnx"
    model = onnx.load(path)
    for stored in model.graph.initializer:
        if stored.name in changes:
            array = changes[stored.name](numpy_helper.to_array(stored))
            stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), stored.name))
    onnx.save(model, path)


def test_a_retrained_network_may_drift_a_little(folder: Path) -> None:
    edit(folder, {"head.weight": lambda array: array * 1.01})
    code, log = build(folder)
    assert code == 0, log


def test_drift_fails_the_build(folder: Path) -> None:
    """The same network with its channels in another order: the plan removes important ones."""
    makers, readers = (
        ("stage2.second", "stage2.skip", "inverted.project"),
        ("inverted.expand.conv", "branches.point", "branches.window"),
    )
    parts = ("conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    reversed_ = {f"{layer}.{part}": np.flipud for layer in makers for part in parts}
    edit(folder, reversed_ | {f"{layer}.weight": np.fliplr for layer in readers})
    code, log = build(folder)
    assert code == 1, log
    assert "2 gates failed: min-agreement of 'logits': found 0.88" in log
    assert ElementTree.parse(folder / "verify.xml").getroot().attrib["failures"] == "2"
    assert "FAILED" in (folder / "summary.md").read_text()


def test_a_plan_for_another_network_fails_the_build(folder: Path) -> None:
    path = folder / "models" / "digits.onnx"
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = f"renamed{node.name}"
    onnx.save(model, path)
    code, log = build(folder)
    assert code == 2, log
    assert "The plan was made for another model." in log
