"""Steps of pipelines: the folders of a component, Kubeflow, Olive, GitHub, pre-commit."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxprune
from onnxprune import UsageError
from onnxprune.doors.component import prune_folder
from onnxprune.errors import InstallationError

from .conftest import DIGITS, ROOT
from .test_ci import ACTION

NAMES = (
    "model_app_name", "unpruned_model_dir", "unprunned_model_subfolder", "unprunned_model_name",
    "prunned_model_subfolder", "prunned_model_name", "key", "equalization_criterion", "pth", "normalizer",
    "excluded_layers", "pruning_granularity", "min_num_filters",
)  # fmt: skip
"""Inputs of the component, as they are called in pipelines of TAO."""


def source(folder: Path) -> Path:
    (folder / "in" / "sub").mkdir(parents=True)
    (folder / "in" / "sub" / "digits.onnx").write_bytes(DIGITS.read_bytes())
    return folder / "in"


def test_folders_of_the_component(tmp_path: Path) -> None:
    done = prune_folder(
        str(source(tmp_path)),
        str(tmp_path / "out"),
        model_app_name="classification",
        key="nvidia_tlt",
        unprunned_model_subfolder="sub",
        unprunned_model_name="digits.onnx",
        prunned_model_subfolder="a/b",
        prunned_model_name="slim",
        equalization_criterion="union",
        pth=0.85,
        normalizer="max",
        excluded_layers="head, stage1",
        pruning_granularity=8,
        min_num_filters=16,
    )
    assert done["model"] == str(tmp_path / "out" / "a" / "b" / "slim.onnx")
    same = onnxprune.prune(DIGITS, preset="tao", threshold=0.85, exclude=["head", "stage1"])
    assert onnxprune.load(done["model"]).proto == same.model.proto
    assert done["pruning_ratio"] == same.after.parameters / same.before.parameters


def test_mistakes_of_the_component(tmp_path: Path) -> None:
    folder = str(source(tmp_path))
    with pytest.raises(UsageError, match="there is no model"):
        prune_folder(folder, str(tmp_path / "out"), unprunned_model_name="digits.onnx")
    with pytest.raises(UsageError, match="holds no ONNX graph"):
        prune_folder(folder, str(tmp_path / "out"), unprunned_model_name="digits.tlt")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("module", "package"), [("kubeflow", "kfp"), ("olive", "olive")])
def test_what_is_missing_is_said(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"onnxprune.{module}", raising=False)
    with pytest.raises(InstallationError, match=f"{package} is not installed"):
        import_module(f"onnxprune.{module}")


def test_kubeflow(tmp_path: Path) -> None:
    """Compiled, and run by kfp's own runner in a pipeline."""
    pytest.importorskip("kfp", reason="kfp is not installed")
    yaml: Any = pytest.importorskip("yaml")
    kubeflow: Any = import_module("onnxprune.kubeflow")
    kubeflow.write(tmp_path / "component.yaml")
    made = yaml.safe_load((tmp_path / "component.yaml").read_text())["components"]["comp-tao-prune"]
    inputs = made["inputDefinitions"]
    assert sorted([*inputs["artifacts"], *inputs["parameters"]]) == sorted(NAMES)
    assert list(made["outputDefinitions"]["artifacts"]) == ["pruned_model_dir"]
    pipeline = tmp_path / "pipeline.py"
    pipeline.write_text(f"""
from kfp import dsl, local
from onnxprune.kubeflow import component

local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root={str(tmp_path / "root")!r})

@dsl.component(install_kfp_package=False)
def source(out: dsl.Output[dsl.Artifact]):
    import os, shutil
    os.makedirs(out.path + "/sub")
    shutil.copy({str(DIGITS)!r}, out.path + "/sub/digits.onnx")

prune = component()

@dsl.pipeline
def steps():
    prune(
        unpruned_model_dir=source().outputs["out"], unprunned_model_subfolder="sub",
        unprunned_model_name="digits.onnx", prunned_model_subfolder="a", prunned_model_name="slim", pth=0.85,
    )

if __name__ == "__main__":
    steps()
""")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, pipeline], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (slim,) = (tmp_path / "root").rglob("slim.onnx")
    same = onnxprune.prune(DIGITS, preset="tao", threshold=0.85)
    assert onnxprune.load(slim).proto == same.model.proto


def test_olive(tmp_path: Path) -> None:
    """Olive finds the pass by its name, runs it, and stores the slim model."""
    pytest.importorskip("olive", reason="Olive is not installed")
    script = tmp_path / "run.py"
    script.write_text(f"""
from olive.workflows import run
from onnxprune.olive import package_config

run(
    {{
        "input_model": {{"type": "ONNXModel", "model_path": {str(DIGITS)!r}}},
        "passes": {{"prune": {{"type": "OnnxPrune", "settings": {{"ratio": 0.5}}}}}},
        "output_dir": {str(tmp_path / "out")!r}, "cache_dir": {str(tmp_path / "cache")!r},
    }},
    package_config=package_config(),
)
""")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert onnxprune.load(tmp_path / "out" / "model.onnx").proto == onnxprune.prune(DIGITS).model.proto


# Build servers -------------------------------------------------------------------------------


def flipped(path: Path) -> None:
    """Change the sign of one weight."""
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name == "stem.conv.weight")
    array = numpy_helper.to_array(weight).copy()
    place = np.unravel_index(np.abs(array).argmax(), array.shape)
    array[place] = -array[place]
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, path)


def command(folder: Path) -> dict[str, str]:
    """An environment in which ``onnxprune`` is that of this checkout."""
    script = folder / "bin" / "onnxprune"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onnxprune "$@"\n')
    script.chmod(0o755)
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(os.name == "nt", reason="the action runs bash")
def test_the_action_prunes_and_fails_for_a_flipped_weight(tmp_path: Path) -> None:
    text = (ROOT / ".github" / "actions" / "onnxprune" / "action.yml").read_text(encoding="utf-8")
    body = text.rpartition("      run: |\n")[2]
    script = "\n".join(line.removeprefix(" " * 8) for line in body.splitlines())
    assert "${{" not in script, "inputs are data, not code"
    given = dict.fromkeys(("ARGUMENTS", "SLIM", "GATES"), "")
    summary, outputs = tmp_path / "summary.md", tmp_path / "outputs"
    environment = {
        **command(tmp_path), **given, "MODEL": str(DIGITS), "OUTPUT": "made/slim.onnx",
        "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(outputs),
        "ARGUMENTS": "--ratio 0.5 --plan-out plan.json --provider cpu", "GATES": "--plan plan.json\n--provider cpu --min-cosine -1\n",
    }  # fmt: skip
    run = ["bash", "-c", script]
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert outputs.read_text() == "slim=made/slim.onnx\n"
    assert "passed" in summary.read_text()
    assert "min-cosine" in summary.read_text(), "the second line of the gates counts, too"
    flipped(tmp_path / "made" / "slim.onnx")
    environment |= {"SLIM": "made/slim.onnx"}
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the slim model is wrong at layer '/stem/conv/Conv'" in done.stderr
    assert "FAILED" in summary.read_text(), "a summary tells most where something failed"
    given_in_manual = re.search(r"actions/onnxprune\n        with:\n((?:          .*\n)+)", ACTION)
    assert given_in_manual is not None
    for name in re.findall(r"^          (\w+):", given_in_manual[1], re.MULTILINE):
        assert f"\n  {name}:\n" in text, "the manual gives inputs that the action has"


def test_the_hook_of_pre_commit(tmp_path: Path) -> None:
    """Its command, with the arguments of a configuration."""
    lines = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8").splitlines()
    fields = dict(line.strip().lstrip("- ").split(": ", 1) for line in lines)
    assert fields["entry"].startswith("onnxprune ")
    slim, plan = tmp_path / "slim.onnx", tmp_path / "plan.json"
    result = onnxprune.prune(DIGITS)
    result.model.save(slim)
    result.plan.save(plan)
    files = [str(DIGITS), str(slim), "--plan", str(plan), "--provider", "cpu"]
    call = [sys.executable, "-m", *shlex.split(fields["entry"]), *files]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(call, env=environment, capture_output=True).returncode == 0
    flipped(slim)
    assert subprocess.run(call, env=environment, capture_output=True).returncode == 1
