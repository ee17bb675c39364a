"""Constants that the network computes: what is stored for them is what shrinks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.cli import main
from onnxprune.coupling.trace import trace
from onnxprune.selection.cost import parameters
from onnxprune.surgery.computed import find_computed

from . import battery
from .building import Case, net
from .cases import CASES
from .conftest import exact

NAMES = {"Expand-of-lower-rank", "Sqrt-weight-standardisation", "ConstantOfShape-as-a-weight",
         "Mul-weights-with-a-mask-of-booleans", "Sub-a-weight-centred-for-its-own-layer",
         "STFT-spectrogram", "Loop-carries_its_weights", "Resize-of-a-constant-to-given-sizes"}  # fmt: skip

COMPUTED = [case for case in CASES if str(case) in NAMES]


@pytest.mark.parametrize("case", COMPUTED, ids=str)
@pytest.mark.parametrize("seed", [None, 7])
def test_parameters_are_those_of_the_file(case: Case, seed: int | None) -> None:
    """Before it shrinks its roots are stored, afterwards it is, or they still are."""
    pruned = battery.prune(case.build(), seed)
    assert find_computed(pruned.trace)
    again = trace(pruned.slim)
    assert parameters(pruned.trace, pruned.sizes) == parameters(again, again.sizes())


def test_every_row_is_there() -> None:
    assert len(COMPUTED) == len(NAMES)


def quantized() -> onnx.ModelProto:
    """Two layers of which the weights are stored as integers and scales."""
    rng = np.random.default_rng(0)
    return net(
        """
        a = Cast <to=1> (q)
        w = Mul (a, s)
        [up] h = MatMul (x, w)
        r = Relu (h)
        c = Cast <to=1> (p)
        d = Mul (c, t)
        [down] y = MatMul (r, d)""",
        inputs="float[N,32] x",
        q=rng.integers(-127, 128, (32, 64)).astype(np.int8),
        p=rng.integers(-127, 128, (64, 32)).astype(np.int8),
        s=rng.uniform(0.01, 0.02, (1, 64)).astype(np.float32),
        t=rng.uniform(0.01, 0.02, (1, 32)).astype(np.float32),
    )()


def test_integer_weights_stay_integers() -> None:
    dense = quantized()
    result = onnxprune.prune(dense, ratio=0.5, verify=True, provider="cpu")
    assert exact(result)
    stored = {t.name: (t.data_type, tuple(t.dims)) for t in result.model.proto.graph.initializer}
    assert stored["q"] == (onnx.TensorProto.INT8, (32, 32))
    assert result.plan.constants.keys() == {"q", "s", "p"}
    assert result.after.bytes < 0.6 * result.before.bytes
    # Two matrices, 64 and 32 scales; half of the first three of them stays.
    assert result.before.parameters == 2 * 32 * 64 + 64 + 32
    assert result.after.parameters == 32 * 64 + 32 + 32


@pytest.mark.parametrize("budget", ["keep_params", "keep_size", "keep_macs"])
def test_budgets_agree_with_what_is_written(budget: str) -> None:
    result = onnxprune.prune(quantized(), granularity=1, **{budget: 0.7})  # type: ignore[arg-type]
    left = {
        "keep_params": result.after.parameters / result.before.parameters,
        "keep_size": result.after.bytes / result.before.bytes,
        "keep_macs": result.after.macs / result.before.macs,
    }
    assert 0.6 < left[budget] <= 0.7


def test_what_would_take_more_as_a_constant_is_still_computed() -> None:
    """A row that is repeated: what goes is left out behind it."""
    (case,) = [case for case in CASES if str(case) == "Expand-of-lower-rank"]
    pruned = battery.prune(case.build())
    (computed,) = find_computed(pruned.trace).values()
    assert not computed.replaces
    assert computed.name not in pruned.plan.constants
    assert [n.op_type for n in pruned.slim.proto.graph.node].count("Gather") == 1


def test_a_plan_says_what_a_new_constant_is_computed_from() -> None:
    (case,) = [case for case in CASES if str(case) == "Sqrt-weight-standardisation"]
    pruned = battery.prune(case.build())
    stored = {tensor.name for tensor in pruned.trace.model.proto.graph.initializer}
    entry = pruned.plan.constants["w"]
    assert "w" not in stored
    assert entry["computed_from"]
    assert stored.issuperset(entry["computed_from"])


def test_no_file_becomes_larger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a tiny model the nodes that mend computed shapes can take more than what goes."""
    (case,) = [case for case in CASES if str(case) == "ConstantOfShape-initial_state"]
    source, target, plan = (tmp_path / name for name in ("in.onnx", "out.onnx", "plan.json"))
    onnx.save(case.build(), source)
    arguments = ["prune", source, "-o", target, "--ratio", "0.5", "--granularity", "1", "--provider", "cpu"]
    assert main([*map(str, arguments), "--plan-out", str(plan)]) == 0
    assert target.read_bytes() == source.read_bytes()
    (group,) = (g for g in json.loads(plan.read_text())["groups"] if g["status"] != "blocked")
    assert (group["status"], group["keep"]) == ("kept", list(range(group["channels"])))
    assert re.match(r"the file would become \d+ bytes larger", group["reason"])
    told = " ".join(capsys.readouterr().out.split())
    assert "is a copy of" in told
    assert "bytes larger" in told


def test_a_computed_constant_of_a_shared_vector_that_stays_whole() -> None:
    """One reader loses channels of the vector, and what is computed for another one does not."""
    model = net(
        """
        h = MatMul (x, W)
        g = Mul (h, gain)
        y = MatMul (g, V)
        z = Relu (gain)""",
        inputs="float[N,8] x",
        outputs="float[N,4] y, float[16] z",
        W=(8, 16),
        gain=(16,),
        V=(16, 4),
    )()
    result = onnxprune.prune(model, ratio=0.5, granularity=1, verify=True, provider="cpu")
    assert result.report
    assert result.plan.constants["gain"]["keep"] == {
        "0": result.plan.groups[0].keep and list(result.plan.groups[0].keep)
    }
    assert "z" not in result.plan.constants
