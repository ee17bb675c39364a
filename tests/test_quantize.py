"""The slim model in 8 bits, by onnxruntime's own quantizer."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import ModelError

from .building import net
from .conftest import DIGITS, IMAGES, Run

FLAGS = ("--ratio", 0.5, "--data", IMAGES, "--samples", 32, "--provider", "cpu")


def scales(path: Path) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in onnx.load(path).graph.node)


def test_the_float_model_and_its_plan_stay_as_they_are(run: Run, tmp_path: Path) -> None:
    slim, plan, small = (tmp_path / name for name in ("slim.onnx", "plan.json", "small.onnx"))
    assert run("prune", DIGITS, "-o", slim, "--plan-out", plan, *FLAGS).code == 0
    before = slim.read_bytes(), plan.read_bytes()
    root = list(logging.getLogger().handlers), logging.root.manager.disable
    outcome = run("prune", DIGITS, "-o", slim, "--plan-out", plan, *FLAGS, "--quantize", small, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert (slim.read_bytes(), plan.read_bytes()) == before
    assert (list(logging.getLogger().handlers), logging.root.manager.disable) == root
    found = outcome.document["quantized"]
    assert scales(small) > 0
    assert (found["output"], found["bytes"]) == (str(small), small.stat().st_size)
    assert found["bytes"] < 0.6 * slim.stat().st_size
    float_, eight = outcome.document["verification"], found["verification"]
    assert (float_["verdict"], eight["verdict"]) == ("exact", "")
    ((change,), (score,)) = eight["change"], eight["scores"]
    again = onnxprune.verify(DIGITS, small, data=IMAGES, samples=32, provider="cpu")
    assert (change["cosine"], score["after"]) == (again.change[0].cosine, again.scores[0].after)
    relative = float_["change"][0]["relative"]
    assert 0 != change["relative"] != relative, "8 bits round, for better or worse"
    assert change["relative"] == pytest.approx(relative, rel=0.1)


def test_a_plan_is_replayed_and_quantised_for_people(run: Run, tmp_path: Path) -> None:
    onnxprune.prune(DIGITS, ratio=0.25).plan.save(tmp_path / "plan.json")
    flags = ("--plan", tmp_path / "plan.json", *FLAGS[2:])
    outcome = run("prune", DIGITS, "-o", f"{tmp_path}/slims/", *flags, "--quantize", f"{tmp_path}/small/")
    assert outcome.code == 0
    lines = outcome.out.splitlines()[-4:]
    size = (tmp_path / "small" / "digits.onnx").stat().st_size
    assert lines[1].startswith(f"in 8 bits: {size:,} bytes; cpu: change: cosine ")
    assert lines[2].startswith("accuracy in 8 bits: 1.0000 before, ")


ROWS = "float[N,4] x"
OLD = net("y = MatMul(x, W)", inputs=ROWS, opset=11, W=(4, 600))
SMALL = net("y = MatMul(x, W)", inputs=ROWS, W=(4, 6))
PRUNED = net("h = MatMul(x, W) y = MatMul(h, V)", inputs=ROWS, W=(4, 600), V=(600, 4))
NOTHING = net("y = Erf(x)", inputs=ROWS)


def test_models_that_are_none_for_the_quantizer(run: Run, tmp_path: Path) -> None:
    rows = {"x": np.random.default_rng(0).standard_normal((8, 4)).astype("f4")}
    older = onnxprune.quantize(OLD(), rows)
    with pytest.raises(ModelError, match=r"^QuantizeLinear '.*': found a quantised model, expected floats"):
        onnxprune.quantize(older, rows)
    with pytest.raises(ModelError, match="found nothing to quantise: it takes layers in float32"):
        onnxprune.quantize(NOTHING(), rows)
    with pytest.raises(ModelError, match=r"^in 8 bits the file would become [\d,]+ bytes larger"):
        onnxprune.quantize(SMALL(), rows)
    outcome = run("prune", DIGITS, "-o", tmp_path / "slim.onnx", "--quantize", tmp_path / "small.onnx")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: --quantize takes samples: found no data\nhint: Give them with --data.\n"
    assert not list(tmp_path.iterdir())


def test_one_that_becomes_larger_is_written_and_said(run: Run, tmp_path: Path) -> None:
    """8 bits are asked for by name, and may be for speed: larger than the slim model, not than the input."""
    given, slim, small, rows = (tmp_path / n for n in ("given.onnx", "slim.onnx", "small.onnx", "rows.npz"))
    onnx.save(PRUNED(), given)
    np.savez(rows, x=np.random.default_rng(0).standard_normal((8, 4)).astype("f4"))
    outcome = run(
        "prune", given, "-o", slim, "--ratio", 0.9, "--granularity", 1, "--data", rows, "--quantize", small
    )
    sizes = [path.stat().st_size for path in (given, slim, small)]
    assert outcome.code == 0, outcome.err
    assert sizes[1] < sizes[2] < sizes[0]
    assert f"in 8 bits the model is {sizes[2] - sizes[1]:,} bytes larger than the slim one" in outcome.err
