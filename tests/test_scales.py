"""Scale and shift of normalizations whose statistics are taken over fewer channels are fitted again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.data.dataset import open_data
from onnxprune.moments.held import Held
from onnxprune.recovery.walk import Way, recover
from onnxprune.selection.recovered import Recovery
from onnxprune.surgery.surgeon import rewrite_trace

from .conftest import Run
from .test_recovery_layers import IMAGE, WIDE, Redundant, outputs


def layer(n: Redundant) -> None:
    n.add("Transpose", ["wide"], "tokens", perm=[0, 2, 3, 1])
    n.add("LayerNormalization", ["tokens", n.weight("S", WIDE), n.weight("B", WIDE)], "y", axis=-1)


def root(n: Redundant) -> None:
    n.add("Transpose", ["wide"], "tokens", perm=[0, 2, 3, 1])
    n.add("SimplifiedLayerNormalization", ["tokens", n.weight("S", WIDE)], "y", axis=-1)


def group(n: Redundant) -> None:
    n.add(
        "GroupNormalization", ["wide", n.weight("S", WIDE), n.weight("B", WIDE)], "y", num_groups=1
    )  # per channel: opset 21


def apart(n: Redundant) -> None:
    """A GroupNorm as PyTorch writes it below opset 21."""
    n.add("Reshape", ["wide", n.keep("one", [0, 1, -1], np.int64)], "flat")
    ones, zeros = n.keep("ones", [1]), n.keep("zeros", [0])
    n.add("InstanceNormalization", ["flat", ones, zeros], "z")
    n.add("Shape", ["wide"], "shape")
    n.add("Reshape", ["z", "shape"], "back")
    n.add("Mul", ["back", n.weight("S", WIDE, 1, 1)], "m")
    n.add("Add", ["m", n.weight("B", WIDE, 1, 1)], "y")


def skip(n: Redundant) -> None:
    n.add("Transpose", ["wide"], "spread", perm=[0, 2, 3, 1])
    n.add("Reshape", ["spread", n.keep("flat", [0, -1, WIDE], np.int64)], "tokens")
    n.add("Relu", ["tokens"], "other")
    vectors = [n.weight("S", WIDE), n.weight("B", WIDE)]
    n.add("SkipLayerNormalization", ["tokens", "other", *vectors], "y", domain="com.microsoft")


KINDS = {
    "LayerNormalization": (layer, -1, 17), "RMS": (root, -1, 17), "GroupNormalization": (group, 1, 21),
    "GroupNorm taken apart": (apart, 1, 17), "SkipLayerNormalization": (skip, -1, 17),
}  # fmt: skip


def network(kind: str) -> onnx.ModelProto:
    build, axis, opset = KINDS[kind]
    net = Redundant(*IMAGE)
    build(net)
    if axis == 1:
        net.add("Conv", ["y", net.weight("V", 5, WIDE, 1, 1)], "last")
    else:
        net.add("MatMul", ["y", net.weight("V", WIDE, 5)], "last")
    model = net.model()
    model.opset_import[0].version = opset
    model.ir_version = 10
    return model


def inside(model: onnxprune.Model, feeds: dict[str, Any], axis: int, count: int) -> np.ndarray:
    """Rows of what the normalization gives."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    proto.graph.output.insert(0, onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))
    return np.moveaxis(outputs(model.derived(proto), feeds), axis, -1).reshape(-1, count)


@pytest.mark.parametrize("kind", KINDS)
def test_every_channel_is_put_on_its_line(kind: str) -> None:
    """The fitted node is as close to the original as numpy's line through the outputs of both."""
    traced = onnxprune.trace(network(kind))
    (free,) = traced
    removed = free.units[4:]
    slim = rewrite_trace(traced, removed)
    feeds = {"x": np.random.default_rng(1).standard_normal(IMAGE).astype(np.float32) + 0.5}
    data = Held(open_data(traced, feeds), 2**30)
    found = recover(traced, traced.sizes(removed), slim, data, Way("lstsq"))
    outcome = found.outcomes[0]
    assert (outcome.layer, outcome.how) == ("m" if "apart" in kind else "y", "fit")
    assert outcome.error < 0.9 * outcome.kept
    axis = KINDS[kind][1]
    before, after, meant = (
        inside(model, feeds, axis, count)
        for model, count in ((slim, 4), (found.apply(slim), 4), (traced.model, WIDE))
    )
    for y, new, t in zip(before.T, after.T, meant.T[:4], strict=True):
        shift = 0 if kind == "RMS" else 1
        columns = np.stack([y, np.full_like(y, shift)], axis=1)
        line = columns @ np.linalg.lstsq(columns, t, rcond=None)[0]
        least = np.square(line - t).mean()
        assert np.square(new - t).mean() <= 1.1 * least, "but for the ridge, and samples that are held out"
        assert least < np.square(y - t).mean()


def test_statistics_that_are_whole_leave_scales_alone() -> None:
    """Behind them the next layer makes up for what is lost."""
    net = Redundant(*IMAGE)
    net.add("Conv", ["wide", net.weight("W", WIDE, WIDE, 1, 1)], "z")
    vectors = [net.weight("S", WIDE), net.weight("B", WIDE)]
    net.add("GroupNormalization", ["z", *vectors], "y", num_groups=1)
    model = net.model()
    model.opset_import[0].version = 21
    model.ir_version = 10
    traced = onnxprune.trace(model, norm="pin")
    removed = traced.find("wide")[0].units[4:]
    feeds = {"x": np.ones(IMAGE, np.float32)}
    found = recover(
        traced,
        traced.sizes(removed),
        rewrite_trace(traced, removed),
        Held(open_data(traced, feeds), 2**30),
        Way(),
    )
    assert [o.layer for o in found.outcomes] == ["z"]


def test_replay_is_byte_for_byte(run: Run, tmp_path: Path) -> None:
    net = Redundant(*IMAGE)
    layer(net)
    net.add("Relu", ["y"], "r")
    net.add("MatMul", ["r", net.weight("V", WIDE, 5)], "out")
    onnx.save(net.model(), tmp_path / "model.onnx")
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "x.npz", x=rng.standard_normal(IMAGE).astype(np.float32))
    files: dict[str, Any] = {
        name: tmp_path / name for name in ("slim.onnx", "again.onnx", "plan.json", "w.npz")
    }
    options = "--data", tmp_path / "x.npz", "--ratio", 0.5, "--granularity", 1, "--provider", "cpu"
    written = "--plan-out", files["plan.json"], "--recovery-out", files["w.npz"]
    done = run("prune", tmp_path / "model.onnx", "-o", files["slim.onnx"], *options, *written)
    assert done.code == 0, done.err
    weights = Recovery.load(files["w.npz"]).weights
    assert {"S", "B"} <= set(weights)
    replayed = "--plan", files["plan.json"], "--recovery", files["w.npz"], "--provider", "cpu"
    assert run("prune", tmp_path / "model.onnx", "-o", files["again.onnx"], *replayed).code == 0
    assert files["slim.onnx"].read_bytes() == files["again.onnx"].read_bytes()
    assert run("verify", tmp_path / "model.onnx", files["slim.onnx"], *replayed).code == 0
