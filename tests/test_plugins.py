"""Plugins: by file, by module, by the entry point of an installed package, and functions by their place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune import plugins
from onnxprune.errors import UsageError
from onnxprune.rules.registry import RULES
from onnxprune.scoring.registry import PASSES, names

from .conftest import DIGITS, IMAGES, ROOT, Run
from .documents import manual

PLUGIN = '''
"""One of everything that can be registered."""
import numpy as np
import onnxprune
from onnxprune.moments.joint import Weights
from onnxprune.registry import metric, recovery
from onnxprune.rules import rule


@onnxprune.criterion("peak_of_KEY")
def peak(layer):
    return np.abs(layer.weight).max(axis=1)


@onnxprune.normalizer("rank_of_KEY")
def rank(scores):
    return scores.argsort().argsort() / len(scores)


@onnxprune.policy("best_of_KEY")
def best(scores):
    return np.nanmax(scores, axis=0)


@metric("mean_of_KEY")
def mean(outputs, labels):
    return float(np.mean([array.mean() for batch in outputs for array in batch.values()]))


@recovery("mean_again_of_KEY")
def mean_again(dense, slim, moments, held):
    return Weights(slim.matrix, moments.offset(slim.matrix))


@rule("Scale", domain="KEY.ops", reference=lambda x, scale: x * scale[:, None, None])
def scale(c, n):
    """One factor per channel."""
    X, scale = n.inputs
    c.meet(scale, 0, c.axis(X, 1))
    c.same(n)
'''


@pytest.fixture
def plugin(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    """A file with a plugin of its own, and the word that all its names have; what it registers goes again."""
    key = f"test{abs(hash(request.node.name)) % 10**6}"
    names("criterion")
    before = {kind: dict(passes) for kind, passes in PASSES.items()}
    rules = dict(RULES)
    path = tmp_path / f"{key}.py"
    path.write_text(PLUGIN.replace("KEY", key))
    yield path, key
    for kind, passes in PASSES.items():
        passes.clear()
        passes.update(before[kind])
    RULES.clear()
    RULES.update(rules)


def scaled(key: str) -> onnx.ModelProto:
    """Two layers with an operator of the plugin between them."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17, "{key}.ops" : 1]>
        net (float[1,3,8,8] x) => (float[1,4,8,8] y) {{
            h = Conv (x, w1)
            s = {key}.ops.Scale (h, scale)
            y = Conv (s, w2)
        }}""")
    for name, shape in {"w1": (32, 3, 1, 1), "scale": (32,), "w2": (4, 32, 1, 1)}.items():
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def test_a_recovery_of_a_file(run: Run, plugin: tuple[Path, str], tmp_path: Path) -> None:
    """It does what the built-in one does that it is a copy of."""
    path, key = plugin
    slim = {name: tmp_path / f"{name}.onnx" for name in ("own", "bias")}
    flags = ("--ratio", 0.25, "--data", IMAGES, "--samples", 64, "--provider", "cpu", "--quiet")
    for name, more in {"own": (f"mean_again_of_{key}", "--plugin", path), "bias": ("bias",)}.items():
        outcome = run("prune", DIGITS, "-o", slim[name], *flags, "--recover", *more)
        assert (outcome.code, outcome.err) == (0, "")
    assert slim["own"].read_bytes() == slim["bias"].read_bytes()
    unfitted = run("prune", DIGITS, "-o", tmp_path / "none.onnx", *flags, "--recover", "none")
    assert unfitted.code == 0
    assert slim["own"].read_bytes() != (tmp_path / "none.onnx").read_bytes()
    assert run("prune", DIGITS, "-o", slim["own"], *flags, "--recover", f"mean_again_of_{key}_").code == 2


def test_everything_of_a_file(run: Run, plugin: tuple[Path, str], tmp_path: Path) -> None:
    """A criterion, a normalizer, a policy, a rule and its reference from one file, on the command line."""
    path, key = plugin
    onnx.save(scaled(key), tmp_path / "net.onnx")
    flags = ["--criterion", f"peak_of_{key}", "--normalizer", f"rank_of_{key}", "--policy", f"best_of_{key}"]
    command = ["prune", tmp_path / "net.onnx", "-o", tmp_path / "slim.onnx", "--provider", "cpu", "--json"]
    outcome = run(*command, "--plugin", path, *flags)
    assert outcome.code == 0, outcome.err
    (group, *_) = outcome.document["groups"]
    assert (group["channels"], group["kept"], group["status"]) == (32, 16, "pruned")
    assert outcome.document["verification"]["verdict"] == "exact"
    weights = onnx.numpy_helper.to_array(scaled(key).graph.initializer[0]).reshape(32, 3)
    best = np.sort(np.argsort(np.abs(weights).max(axis=1))[16:])
    kept = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "slim.onnx").graph.initializer
    }
    np.testing.assert_array_equal(kept["w1"].reshape(16, 3), weights[best])


def test_a_rule_is_missing_without_its_plugin(run: Run, plugin: tuple[Path, str], tmp_path: Path) -> None:
    path, key = plugin
    onnx.save(scaled(key), tmp_path / "net.onnx")
    assert "operators without a rule" in run("inspect", tmp_path / "net.onnx").out
    assert "32 channels in 1 group can go" in run("inspect", tmp_path / "net.onnx", "--plugin", path).out
    assert f"{key}.ops::Scale" in run("ops", "--plugin", path).out


def test_a_metric_of_a_file(run: Run, plugin: tuple[Path, str]) -> None:
    path, key = plugin
    given = (
        "verify",
        DIGITS,
        DIGITS,
        "--provider",
        "cpu",
        "--no-isolate",
        "--data",
        IMAGES,
        "--samples",
        4,
        "--json",
    )
    for flags in (("--plugin", path, "--metric", f"mean_of_{key}"), ("--metric", f"{path}:mean")):
        outcome = run(*given, *flags)
        assert outcome.code == 0, outcome.err
        (found,) = [s for s in outcome.document["scores"] if s["name"] != "accuracy"]
        assert found["before"] == found["after"]
    wrong = run(*given, "--plugin", path, "--metric", f"mean-off-{key}")
    assert wrong.err == f"error: unknown metric 'mean-off-{key}'\nhint: Did you mean 'mean_of_{key}'?\n"


@pytest.mark.parametrize("flag", ["--criterion", "--normalizer", "--policy"])
def test_functions_by_their_place(run: Run, plugin: tuple[Path, str], tmp_path: Path, flag: str) -> None:
    """Also from a module of the working directory; the plan records it, and can be explained and replayed."""
    path, _ = plugin
    name = {"--criterion": "peak", "--normalizer": "rank", "--policy": "best"}[flag]
    plan = tmp_path / "plan.json"
    given = (
        "prune",
        DIGITS,
        "-o",
        tmp_path / "slim.onnx",
        "--provider",
        "cpu",
        "--plan-out",
        plan,
        "--quiet",
    )
    assert run(*given, flag, f"{path}:{name}").code == 0
    assert onnxprune.Plan.load(plan).options[flag.lstrip("-")] == f"{path}:{name}"
    explained = run("explain", DIGITS, "/stem/conv/Conv", "--plan", plan)
    assert explained.code == 0, explained.err
    assert run("prune", DIGITS, "-o", tmp_path / "again.onnx", "--plan", plan, "--provider", "cpu").code == 0
    missing = run(*given, flag, f"{path}:none")
    kind = flag.lstrip("-")
    assert missing.err.startswith(f"error: {kind} '{path}:none': AttributeError: ")
    refused = run("prune", DIGITS, "-o", path, flag, f"{path}:{name}", "--provider", "cpu")
    assert refused.err.startswith(f"error: refusing to overwrite the input '{path}'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('no\\nway')", "RuntimeError: no way"),
        ("exit(3)", "it exits with 3"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("import onnxprune\n@onnxprune.criterion('l1')\ndef f(layer): ...", "criterion 'l1' is registered already"),
        ("def f(:", "SyntaxError: "),
        (None, "there is no such file"),
    ],
)  # fmt: skip
def test_plugins_that_fail(run: Run, tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "broken.py"
    if text is not None:
        path.write_text(text)
    outcome = run("inspect", DIGITS, "--plugin", path)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: plugin '{path}'")
    assert message in outcome.err
    assert "internal" not in outcome.err


def test_a_module_of_the_working_directory(plugin: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, key = plugin
    monkeypatch.chdir(path.parent)
    plugins.load_plugin(path.stem)
    result = onnxprune.prune(DIGITS, criterion=f"peak_of_{key}")
    assert result.plan.options["criterion"] == f"peak_of_{key}"
    assert str(path.parent) not in sys.path
    with pytest.raises(UsageError, match=r"plugin 'no\.such\.module': ModuleNotFoundError"):
        plugins.load_plugin("no.such.module")


def test_plugins_of_installed_packages(tmp_path: Path) -> None:
    """Found by their entry point, without a flag; a package that is broken is named."""
    (tmp_path / "added.py").write_text(PLUGIN.replace("KEY", "added"))
    info = tmp_path / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[onnxprune.plugins]\nadded = added\n")

    def prune() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "onnxprune", "prune", str(DIGITS), "-o", str(tmp_path / "slim.onnx")]
        environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "OMP_NUM_THREADS": "1"}
        flags = ["--criterion", "peak_of_added", "--provider", "cpu", "--quiet"]
        return subprocess.run(
            [*command, *flags], env=environment, capture_output=True, text=True, cwd=tmp_path
        )

    assert prune().stderr == ""
    (tmp_path / "added.py").write_text("1 / 0")
    done = prune()
    assert done.returncode == 2
    assert done.stderr.startswith("error: plugin 'added' of added: ZeroDivisionError: division by zero")


def test_an_entry_point_may_be_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    class Point:
        name = "counted"
        dist = None

        def load(self) -> object:
            return lambda: called.append("yes")

    monkeypatch.setattr(plugins, "_loaded", set())
    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point()] if group == plugins.GROUP else [])
    plugins.load_installed()
    plugins.load_installed()
    assert called == ["yes"]


def test_what_a_pass_sees_is_documented() -> None:
    """Every public attribute of ``Layer``, and every type of the registry."""
    from onnxprune import registry
    from onnxprune.layer import Layer

    text = manual("adding")
    public = [name for name in dir(Layer) if not name.startswith("_")] + list(Layer.__dataclass_fields__)
    missing = [name for name in public if f"`{name}`" not in text and f"`layer.{name}`" not in text]
    assert not missing
    types = [name for name in registry.__all__ if name[0].isupper()]
    assert not [name for name in types if f"`{name}`" not in text]
