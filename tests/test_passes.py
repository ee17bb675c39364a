"""Every registered pass goes through the same battery."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import onnxprune
from models.build import BUILDERS, Net
from onnxprune.coupling.trace import Trace, trace
from onnxprune.errors import UsageError
from onnxprune.scoring.layer import Layer
from onnxprune.scoring.registry import DATA, MOMENTS, PASSES, lookup, names, trait_of
from onnxprune.scoring.table import ScoreTable

from .conftest import DIGITS, IMAGES

CRITERIA = names("criterion")
NORMALIZERS = names("normalizer")
POLICIES = names("policy")

SCORES = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1e6, width=32))


def needs_data(name: str) -> bool:
    return trait_of(PASSES["criterion"][name]) in (DATA, MOMENTS)


@pytest.fixture(scope="module")
def digits() -> Trace:
    return trace(DIGITS)


def scored(traced: Trace, name: str) -> ScoreTable:
    if needs_data(name):
        return onnxprune.score(traced, criterion=name, data=IMAGES, samples=8)
    return onnxprune.score(traced, criterion=name)


# Criteria -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_scores_a_trained_network(digits: Trace, name: str) -> None:
    table = scored(digits, name)
    measured = 0
    for group in digits:
        merged = table[group.name].merged
        assert merged.shape == (len(group),)
        assert np.isfinite(merged).all() or np.isnan(merged).all()
        for layer in table[group.name].layers:
            assert layer.raw.dtype == np.float64
            assert layer.raw.ndim == 1
            assert np.isnan(layer.raw).all() or (layer.raw >= 0).all()
        measured += bool(np.isfinite(merged).all())
    # Two layers of this network are joined by a Concat before a BatchNormalization reads them.
    assert measured == (len(digits) - 2 if name == "bn_scale" else len(digits))


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_are_deterministic(digits: Trace, name: str) -> None:
    first, second = scored(digits, name), scored(trace(DIGITS), name)
    for group in first:
        np.testing.assert_array_equal(first[group].merged, second[group].merged)


@pytest.mark.parametrize("name", [n for n in CRITERIA if not needs_data(n)])
@pytest.mark.parametrize("builder", sorted(BUILDERS))
def test_every_criterion_on_every_network(name: str, builder: str) -> None:
    """No warning, no failure, and a plan that can be carried out."""
    traced = trace(BUILDERS[builder]())
    plan = onnxprune.select(traced, onnxprune.score(traced, criterion=name), granularity=2)
    assert plan.to_dict()["options"]["criterion"] == name
    assert len(plan.removed(traced)) < max(1, traced.units)


@pytest.mark.parametrize("name", [n for n in CRITERIA if n not in ("random", "bn_scale", "fpgm")])
def test_zero_filters_go_first(name: str) -> None:
    """A filter of zeros without a bias is worth nothing to any criterion of magnitude."""
    net = Net("zeros", 1)
    x = net.input("x", "batch", 3, 6, 6)
    w = net.random.normal(0, 1, (8, 3, 3, 3))
    w[[2, 5]] = 0
    x = net.node("Relu", net.node("Conv", x, net.initializer("w", w), name="layer"))
    model = net.build(net.node("Conv", x, net.weight("r", 3, 8, 1, 1), name="reader"))
    traced = trace(model)
    data = {"x": np.random.default_rng(0).normal(size=(5, 3, 6, 6)).astype(np.float32)}
    scores = onnxprune.score(traced, criterion=name, data=data)
    plan = onnxprune.select(traced, scores, ratio=0.25, granularity=1)
    assert plan.groups[0].keep == (0, 1, 3, 4, 6, 7)


def layer_of(weight: np.ndarray) -> Layer:
    net = Net("one", 0)
    x = net.node("Conv", net.input("x", 1, weight.shape[1], 4, 4), net.initializer("w", weight), name="layer")
    traced = trace(net.build(net.node("Conv", x, net.weight("r", 2, len(weight), 1, 1))))
    return Layer(traced, traced[0].kernels[0])


def test_weights_are_measured_as_defined() -> None:
    weight = np.random.default_rng(3).normal(size=(5, 2, 3, 3)).astype(np.float32)
    layer, rows = layer_of(weight), weight.reshape(5, -1).astype(np.float64)
    np.testing.assert_allclose(lookup("criterion", "l1")(layer), np.abs(rows).sum(1), rtol=1e-6)
    np.testing.assert_allclose(lookup("criterion", "l2")(layer), np.linalg.norm(rows, axis=1), rtol=1e-6)
    distances = np.linalg.norm(rows[:, None] - rows[None, :], axis=2)
    np.testing.assert_allclose(lookup("criterion", "fpgm")(layer), distances.sum(1), rtol=1e-6)


def test_the_norm_of_columns_is_taken_in_rows_as_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight whose channels do not come first is not turned around, which takes several times as long."""
    net = Net("turned", 0)
    weight = np.random.default_rng(3).normal(size=(300, 7, 3, 1)).astype(np.float32)
    x = net.node("ConvTranspose", net.input("x", 1, 300, 4, 4), net.initializer("w", weight), name="layer")
    traced = trace(net.build(net.node("Conv", x, net.weight("r", 2, 7, 1, 1))))
    layer = Layer(traced, traced.find("layer")[0].kernels[0])
    assert layer.kernel.axis == 1
    monkeypatch.setattr("onnxprune.cores.BLOCK", 1000)
    expected = np.sqrt(np.square(weight.astype(np.float64)).sum(axis=(0, 2, 3)))
    np.testing.assert_allclose(lookup("criterion", "l2")(layer), expected, rtol=1e-12)
    assert "weight" not in vars(layer)


def test_the_geometric_median_sees_copies() -> None:
    """A filter with twins is replaceable: it goes before a small one that stands alone."""
    weight = np.zeros((4, 2, 1, 1), np.float32)
    weight[:, 0, 0, 0] = [5, 5, 5, -1]
    assert np.argmax(lookup("criterion", "fpgm")(layer_of(weight))) == 3
    assert np.argmin(lookup("criterion", "l2")(layer_of(weight))) == 3


def with_batch_norm() -> onnx.ModelProto:
    net = Net("norm", 4)
    x = net.node("Conv", net.input("x", "n", 3, 4, 4), net.weight("w", 6, 3, 1, 1), name="layer")
    norm = [net.initializer("scale", [1, -2, 3, -4, 5, 6]), net.bias("bias", 6), net.bias("mean", 6)]
    x = net.node("BatchNormalization", x, *norm, net.gain("variance", 6), epsilon=1e-3)
    x = net.node("Conv", net.node("Relu", x), net.weight("v", 7, 6, 1, 1), name="bare")
    return net.build(net.node("Conv", x, net.weight("u", 2, 7, 1, 1), name="reader"))


def test_the_batch_norm_behind_a_layer() -> None:
    model = with_batch_norm()
    traced = trace(model)
    scores = onnxprune.score(traced, criterion="bn_scale", normalizer="none")
    assert scores["layer"].merged.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isnan(scores["bare"].merged).all()
    plan = onnxprune.select(traced, scores, ratio=0.5, granularity=1)
    assert plan.groups[0].keep == (3, 4, 5)
    assert plan.groups[1].status == "kept"
    assert plan.groups[1].reason == "criterion 'bn_scale' measures none of its layers"
    onnxprune.Plan.from_dict(plan.to_dict())


def test_folding_multiplies_by_scale_over_deviation() -> None:
    model = with_batch_norm()
    stored = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    factor = np.abs(stored["scale"]) / np.sqrt(stored["variance"] + 1e-3)
    traced = trace(model)
    table = {c: onnxprune.score(traced, criterion=c, normalizer="none") for c in ("l2", "l2_folded")}
    np.testing.assert_allclose(table["l2_folded"]["layer"].merged, table["l2"]["layer"].merged * factor)
    np.testing.assert_array_equal(table["l2_folded"]["bare"].merged, table["l2"]["bare"].merged)


def test_activations_are_those_of_the_layer() -> None:
    """Mean magnitude and nuclear norm, against onnxruntime and numpy, over uneven batches."""
    import onnxruntime as ort

    model = with_batch_norm()
    x = np.random.default_rng(1).normal(size=(33, 3, 4, 4)).astype(np.float32)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(onnx.ValueInfoProto(name="layer.out"))
    session = ort.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    (maps,) = session.run(["layer.out"], {"x": x})
    traced = trace(model)
    batches = [maps[0:16], maps[16:32], maps[32:33]]
    mean = np.mean([np.abs(b).mean((0, 2, 3)) for b in batches], axis=0)
    norms = np.mean([np.linalg.norm(b, ord="nuc", axis=(2, 3)).mean(0) for b in batches], axis=0)
    for name, expected in (("activation", mean), ("nuclear", norms)):
        found = onnxprune.score(traced, criterion=name, normalizer="none", data={"x": x})
        np.testing.assert_allclose(found["layer"].merged, expected, rtol=1e-5)


def test_samples_limits_the_data() -> None:
    traced = trace(with_batch_norm())
    x = np.random.default_rng(1).normal(size=(20, 3, 4, 4)).astype(np.float32)
    few = onnxprune.score(traced, criterion="activation", data={"x": x}, samples=4)
    same = onnxprune.score(traced, criterion="activation", data={"x": x[::5]})
    np.testing.assert_array_equal(few["layer"].merged, same["layer"].merged)


def test_a_criterion_of_activations_needs_data() -> None:
    with pytest.raises(UsageError, match="found no data, expected calibration inputs"):
        onnxprune.score(trace(with_batch_norm()), criterion="nuclear")


def test_given_scores(tmp_path: Path) -> None:
    """By weight or node name, from a mapping or a file; layers that are not named stay whole."""
    traced = trace(with_batch_norm())
    wanted = [5.0, 1, 4, 2, 3, 0]
    np.savez(tmp_path / "scores.npz", w=wanted)
    for given_scores in (
        {"w": wanted},
        {"layer": wanted},
        tmp_path / "scores.npz",
        str(tmp_path / "scores.npz"),
    ):
        scores = onnxprune.score(traced, criterion=given_scores, normalizer="none")
        assert scores["layer"].merged.tolist() == wanted
        assert np.isnan(scores["bare"].merged).all()
    with pytest.raises(UsageError, match=r"unknown layer 'layr'\nDid you mean 'layer'\?"):
        onnxprune.score(traced, criterion={"layr": wanted})
    with pytest.raises(UsageError, match=r"scores of 'w': found shape \[2\], expected \[6\]"):
        onnxprune.score(traced, criterion={"w": [1, 2]})
    with pytest.raises(UsageError, match="scores of 'w': ValueError: could not convert string"):
        onnxprune.score(traced, criterion={"w": list("abcdef")})


def test_a_function_is_a_criterion() -> None:
    traced = trace(with_batch_norm())
    largest = onnxprune.score(traced, criterion=lambda layer: np.abs(layer.weight).max(axis=1))
    assert largest["layer"].merged.max() == 1


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001], ids=["quiet", "signalling"])
def test_broken_weights_are_named(bits: int) -> None:
    """NaN is neither good nor bad: it is no score, and the layer that has it is told, and nothing else."""
    weight = np.ones((4, 2, 1, 1), np.float32)
    weight[:, 0, 0, 0] = [1, 1, 3, 2]
    weight.view(np.uint32)[1, 0, 0, 0] = bits
    layer = layer_of(weight)
    with pytest.raises(
        UsageError,
        match=r"criterion 'l1' of Conv 'layer' \('w'\): found NaN for channel 1, expected a number\n.*NaN them",
    ):
        onnxprune.score(layer.trace, criterion="l1")
    with pytest.raises(
        UsageError, match=r"criterion 'given' of Conv 'layer' \('w'\): found NaN for channel 2"
    ):
        onnxprune.score(trace(with_batch_norm()), criterion={"w": [0, 1, np.nan, 3, 4, 5]})
    with pytest.raises(UsageError, match=r"of Conv 'layer' \('w'\): found shape \[\], expected \[6\]"):
        onnxprune.score(trace(with_batch_norm()), criterion=lambda layer: np.array(1.0))


def test_settings_of_data_take_data() -> None:
    for name, value in (("samples", 3), ("profile", "caffe")):
        with pytest.raises(UsageError, match=f"{name}: found no data, expected some"):
            onnxprune.score(trace(with_batch_norm()), **{name: value})  # type: ignore[arg-type]


INFINITE = np.array([-np.inf, -10.4, -10.8, np.inf, -3.9, -3.4])
"""The logarithm of a norm: a dead channel has none."""


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "geometric_mean"])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_minus_infinity_goes_first(normalizer: str, policy: str) -> None:
    """And infinity last, and the others are normalized as if neither were there."""
    traced = trace(with_batch_norm())
    scores = onnxprune.score(traced, criterion={"w": INFINITE}, normalizer=normalizer, policy=policy)
    merged = scores["layer"].merged
    assert np.flatnonzero(np.isneginf(merged)).tolist() == [0]
    assert np.flatnonzero(np.isposinf(merged)).tolist() == [3]
    finite = np.isfinite(INFINITE)
    expected = lookup("normalizer", normalizer)(INFINITE[finite])
    np.testing.assert_allclose(merged[finite], expected)
    for kept in range(1, 6):
        plan = onnxprune.select(traced, scores, ratio=1 - kept / 6, granularity=1)
        assert 3 in plan.groups[0].keep
        assert 0 not in plan.groups[0].keep
    document = json.dumps(plan.to_dict(), allow_nan=False)  # JSON knows no infinity
    assert json.loads(document)["groups"][0]["scores"][0] < -1e308


def test_infinities_of_both_signs_cancel_to_the_lowest() -> None:
    """Two layers share the channels: what one of them calls dead does not become unmeasured."""
    traced = trace(BUILDERS["residual"]())
    group = next(g for g in traced if len(g.kernels) > 1)
    table = {kernel.tensor: np.arange(float(len(group))) for kernel in group.kernels[:2]}
    one, two = table.values()
    one[5], two[5] = np.inf, -np.inf
    scores = onnxprune.score(traced, criterion=table, policy="average")
    assert np.isneginf(scores[group.name].merged).nonzero()[0].tolist() == [5]


@dataclass
class Power:
    """A criterion with a parameter: it compares by value, so that it has no hash."""

    exponent: float = 2.0

    def __call__(self, layer: Layer) -> np.ndarray:
        return np.asarray((np.abs(layer.weight) ** self.exponent).sum(axis=1))


@dataclass
class Scaled:
    """A normalizer or policy with a parameter."""

    by: float = 2.0

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return self.by * (scores if scores.ndim == 1 else scores[0])


def test_objects_that_are_called_need_no_hash() -> None:
    plan = onnxprune.prune(
        with_batch_norm(), criterion=Power(), normalizer=Scaled(), policy=Scaled(3.0), granularity=1
    ).plan
    assert [plan.options[name] for name in ("criterion", "normalizer", "policy")] == [
        "Power",
        "Scaled",
        "Scaled",
    ]
    squares = (
        onnxprune.score(trace(with_batch_norm()), criterion="l2", normalizer="none")["layer"].merged ** 2
    )
    np.testing.assert_allclose(plan.groups[0].scores, 6 * squares, rtol=1e-6)


# Normalizers and policies -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NORMALIZERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(scores=SCORES)
def test_normalizers_keep_the_order(name: str, scores: np.ndarray) -> None:
    before = scores.copy()
    found = lookup("normalizer", name)(scores)
    np.testing.assert_array_equal(scores, before)
    assert found.shape == scores.shape
    assert np.isfinite(found).all()
    order = np.argsort(scores, kind="stable")
    steps = np.diff(found[order])
    if name == "lamp":  # equal scores are told apart
        steps = steps[np.diff(scores[order]) > 0]
    assert (steps >= -1e-12 * np.abs(found).max()).all()


@pytest.mark.parametrize(
    "scores", [np.zeros(4), np.ones(4), np.array([7.0]), np.full(3, 1e-300), np.array([-3.0, -1, -2])]
)
@pytest.mark.parametrize("name", NORMALIZERS)
def test_degenerate_scores(name: str, scores: np.ndarray) -> None:
    found = lookup("normalizer", name)(scores)
    assert np.isfinite(found).all()
    assert found.shape == scores.shape


@pytest.mark.parametrize("name", POLICIES)
def test_policies(name: str) -> None:
    merge = lookup("policy", name)
    table = np.array([[1.0, 4, np.nan, 0], [9, np.nan, 3, 5]])
    found = merge(table)
    assert found.shape == (4,)
    assert np.isfinite(found).all()
    assert found[1:3].tolist() == pytest.approx([4, 3]), "one layer alone gives its own score"
    np.testing.assert_allclose(merge(table[::-1]), found, err_msg="the order of layers is no matter")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_every_combination(digits: Trace, normalizer: str, policy: str) -> None:
    if policy == "geometric_mean" and normalizer == "standard_score":
        with pytest.raises(UsageError, match="found scores below 0, expected none"):
            onnxprune.score(digits, normalizer=normalizer, policy=policy)
        return
    table = onnxprune.score(digits, normalizer=normalizer, policy=policy)
    for found in table.values():
        assert np.isfinite(found.merged).all()


def test_duplicates_are_refused() -> None:
    for kind, register in (
        ("criterion", onnxprune.criterion),
        ("normalizer", onnxprune.normalizer),
        ("policy", onnxprune.policy),
    ):
        name = names(kind)[0]
        decorate: Callable[[object], object] = register(name)  # type: ignore[assignment]
        with pytest.raises(ValueError, match="is registered already"):
            decorate(lambda scores: scores)


def test_depthwise_layers_are_members_like_others() -> None:
    """The expanding and the depthwise convolution of an inverted residual decide together."""
    traced = trace(BUILDERS["inverted_residual"]())
    scores = onnxprune.score(traced, normalizer="none", policy="sum")
    pairs = [s for s in scores.values() if len(s.layers) == 2]
    assert pairs
    for found in pairs:
        np.testing.assert_allclose(found.merged, found.layers[0].raw + found.layers[1].raw)


def test_a_shared_weight_counts_once() -> None:
    traced = trace(BUILDERS["shared_weights"]())
    for found in onnxprune.score(traced).values():
        names_of = [(layer.kernel.tensor, layer.kernel.axis) for layer in found.layers]
        assert len(names_of) == len(set(names_of))
