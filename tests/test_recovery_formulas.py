"""What a fit computes, what it sees of the samples, and what harm is: against numpy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.data.dataset import open_data
from onnxprune.moments.joint import Weights, joint_moments
from onnxprune.recovery.fit import fit
from onnxprune.recovery.harm import Harm, OriginalOutputs, divergence
from onnxprune.recovery.job import JUDGES, open_samples
from onnxprune.recovery.judges import apart, representative
from onnxprune.recovery.samples import Samples
from onnxprune.scoring.registry import lookup
from onnxprune.selection.recovered import Recovery

from .conftest import DIGITS

CALIBRATION = DIGITS.parent / "digits_train.npz"


def problem(seed: int = 0) -> tuple[Samples, Weights]:
    """Rows of two blocks with targets that are nearly linear in them, and weights that are wrong."""
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((400, 2, 5)) @ rng.standard_normal((5, 5)) + 1).astype(np.float32)
    truth = rng.standard_normal((2, 3, 5))
    target = np.einsum("ngi,goi->ngo", rows, truth) + 2 + 0.1 * rng.standard_normal((400, 2, 3))
    wrong = Weights(truth + 0.5 * rng.standard_normal(truth.shape), rng.standard_normal((2, 3)))
    return Samples(rows, target.astype(np.float32)), wrong


def test_bias_makes_the_means_agree() -> None:
    samples, slim = problem()
    found = lookup("recovery", "bias")(slim, slim, samples.moments, samples.moments)
    np.testing.assert_array_equal(found.matrix, slim.matrix)
    gap = samples.predict(found) - samples.target
    np.testing.assert_allclose(gap.mean(axis=0), 0, atol=1e-4)


def test_moments_make_means_and_variances_agree() -> None:
    samples, slim = problem()
    found = lookup("recovery", "moments")(slim, slim, samples.moments, samples.moments)
    given = samples.predict(found).astype(np.float64)
    np.testing.assert_allclose(given.mean(axis=0), samples.target.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(given.var(axis=0), samples.target.var(axis=0), rtol=1e-3)
    ratio = found.matrix / slim.matrix
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :, :1], ratio.shape))


def test_least_squares_is_ridge_regression_towards_the_weights_that_are_there() -> None:
    samples, slim = problem()
    first, held = samples.split
    found = lookup("recovery", "lstsq")(slim, slim, first.moments, held.moments)
    assert found.penalty is not None
    for g in range(2):
        x = first.rows[:, g].astype(np.float64)
        t = first.target[:, g].astype(np.float64)
        x0, t0 = x - x.mean(axis=0), t - t.mean(axis=0)
        root = np.sqrt(found.penalty * np.square(x0).mean() * len(x))
        left = np.concatenate([x0, root * np.eye(5)])
        right = np.concatenate([t0, root * slim.matrix[g].T])
        expected = np.linalg.lstsq(left, right, rcond=None)[0].T
        np.testing.assert_allclose(found.matrix[g], expected, atol=2e-4)
    losses = [
        held.loss(
            lookup("recovery", "lstsq")(
                slim, Weights(slim.matrix, slim.offset, p), first.moments, held.moments
            )
        )
        for p in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ]
    assert held.loss(found) == pytest.approx(min(losses), rel=1e-4)


def test_what_was_best_on_held_out_samples_is_fitted_on_all() -> None:
    samples, slim = problem()
    lstsq = lookup("recovery", "lstsq")
    new, error, kept, how = fit(lstsq, slim, slim, samples, free=True, aware=False)
    assert new is not None
    assert how == "fit"
    again = Weights(slim.matrix, slim.offset, new.penalty)
    whole = lstsq(slim, again, samples.moments, samples.moments)
    np.testing.assert_allclose(new.matrix, whole.matrix, atol=1e-4)
    np.testing.assert_allclose(new.offset, whole.offset, atol=1e-4)
    first, held = samples.split
    apart = lstsq(slim, again, first.moments, held.moments)
    assert error == pytest.approx(held.loss(apart))
    assert kept == held.loss(slim)
    assert np.abs(apart.matrix - whole.matrix).max() > 1e-3


@pytest.mark.parametrize(("count", "parts"), [(1, (1, 1)), (3, (2, 1)), (24, (22, 2)), (48, (44, 4))])
def test_what_judges_the_whole_is_seen_by_no_fit(count: int, parts: tuple[int, int]) -> None:
    slim = onnxprune.prune(DIGITS, ratio=0.5)
    data = open_samples(slim.trace, {"data": CALIBRATION, "samples": count, "memory": 2**28})
    fitted, judging = apart(data, JUDGES, slim.trace.model, slim.model, "cpu")
    assert (fitted.samples, judging.samples) == parts
    if count > 1:
        images = {image.tobytes() for part in (fitted, judging) for b in part for image in b.feeds["image"]}
        with np.load(CALIBRATION) as archive:
            stored = archive["image"]
        assert images == {stored[k * len(stored) // count].tobytes() for k in range(count)}


def test_the_last_samples_to_which_pruning_does_harm_judge() -> None:
    assert representative(np.array([0.0, 9.0, 0.5, 3.1, 0.2, 0.0]), 1) == [3]  # the mean is 2.13
    assert representative(np.array([0.0, 9.0, 0.5, 3.1, 0.2, 0.0]), 3) == [1, 2, 3]
    assert representative(np.array([0.0, 9.0, 0.0]), 2) == [1]
    assert representative(np.zeros(4), 1) == [3]


def test_samples_in_which_nothing_changes_do_not_judge() -> None:
    """The slim model differs in one column, and what is read of it is 0 in the last samples."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, 1}> { y = MatMul(x, w) }
        """
    traced = onnxprune.trace(onnx.parser.parse_model(text))
    other = onnx.parser.parse_model(text.replace("{1, 1}", "{2, 1}"))
    rows = np.ones((40, 2), np.float32)
    rows[28:, 0] = 0
    data = open_samples(traced, {"data": {"x": rows}, "memory": 2**28})
    fitted, judging = apart(data, JUDGES, traced.model, onnxprune.load(other), "cpu")
    assert (fitted.samples, judging.samples) == (36, 4)
    assert all(batch.feeds["x"].all() for batch in judging)


def test_the_error_follows_from_the_moments() -> None:
    samples, slim = problem()
    direct = np.square(samples.predict(slim).astype(np.float64) - samples.target).mean(axis=0)
    np.testing.assert_allclose(samples.moments.error(slim), direct, rtol=1e-3)


def test_targets_ask_no_more_than_the_activation_shows() -> None:
    rows = np.array([[[1.0]], [[1.0]], [[1.0]], [[1.0]]], np.float32)
    target = np.array([-3.0, -1.0, 9.0, 2.0], np.float32).reshape(4, 1, 1)
    other = np.array([0.0, 0.5, 0.0, 0.0], np.float32).reshape(4, 1, 1)
    samples = Samples(rows, target, other, 0.0, 6.0)

    def asked(value: float) -> list[float]:
        weights = Weights(np.zeros((1, 1, 1)), np.full((1, 1), value))
        return samples.aware(weights, samples.moments).target.reshape(-1).tolist()

    assert asked(-2.0) == [-2.0, -2.0, 6.0, 2.0]  # cut off as the original is: nothing to mend
    assert asked(1.0) == [0.0, -0.5, 6.0, 2.0]  # no further than to where it is cut off
    assert asked(8.0) == [0.0, -0.5, 8.0, 2.0]


def test_divergence_is_that_of_the_softmax() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 6, 4))
    p, q = (np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in (a, b))
    expected = (p * np.log(p / q)).sum(axis=1)
    np.testing.assert_allclose(divergence(a + 7, b), expected)
    np.testing.assert_allclose(divergence(p, q), expected)


def test_harm_counts_what_is_no_float() -> None:
    """A mask or classes by the share that differs, counts by how far off they are."""
    before, after = np.array([True, False, True, True]), np.array([True, True, True, True])
    found = Harm()
    found.add({"mask": before}, {"mask": after}, 4)
    assert found.value == pytest.approx(0.25)
    harm = []
    for wrong in (11, 12, 19):
        found = Harm()
        found.add({"count": np.array(10)}, {"count": np.array(wrong)}, 1)
        harm.append(found.value)
    assert harm == pytest.approx([0.01, 0.04, 0.81])
    found = Harm()
    found.add({"classes": np.array([[1], [2], [3], [4]])}, {"classes": np.array([[1], [2], [3], [1]])}, 4)
    assert found.value == pytest.approx(0.25)


def test_harm_of_probabilities_is_their_divergence() -> None:
    """Where nothing is found, the variance is next to nothing, and any false alarm would be a disaster."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n,9] x) => (float[n,3,3] y)
          <float[9] one = {2, 1, 1, 1, 1, 1, 1, 1, 1}, int64[3] shape = {0, 3, 3}> {
          s = Mul (x, one)
          p = Sigmoid (s)
          y = Reshape (p, shape)
        }"""
    model = onnxprune.load(onnx.parser.parse_model(text))
    rng = np.random.default_rng(0)
    x = rng.normal(-3, 1, (8, 9)).astype(np.float32)
    changed = Recovery({"one": np.array([1] * 9, np.float32)}).apply(model)
    data = open_data(onnxprune.trace(model), {"x": x}, labels=False)
    harm = OriginalOutputs(model, data).of(changed)
    s = x.astype(np.float64)
    p, q = 1 / (1 + np.exp(-2 * s[:, 0])), 1 / (1 + np.exp(-s[:, 0]))
    whole = 1 / (1 + np.exp(-np.concatenate([2 * s[:, :1], s[:, 1:]], axis=1)))
    other = np.broadcast_to(whole.mean(axis=0), whole.shape)

    def apart(a: Any, b: Any) -> float:
        return float((a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))).sum())

    assert harm == pytest.approx(apart(p, q) / apart(whole, other), rel=1e-4)


@pytest.mark.parametrize("sizes", [(8,), (1, 1, 1, 1, 1, 1, 1, 1), (3, 3, 2)])
def test_harm_does_not_depend_on_batches(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a = rng.random((8, 3, 2))
    b = np.clip(a + 0.1 * rng.standard_normal(a.shape), 0.01, 0.99)
    found = Harm({"p"})
    for start, end in pairwise(np.cumsum([0, *sizes])):
        found.add({"p": a[start:end], "y": a[start:end]}, {"p": b[start:end], "y": b[start:end]}, end - start)
    mean = a.mean(axis=0)
    squares = np.square(a - b).sum() / np.square(a - mean).sum()
    apart = [(a * np.log(a / q) + (1 - a) * np.log((1 - a) / (1 - q))).sum() for q in (b, mean)]
    assert found.value == pytest.approx((squares + apart[0] / apart[1]) / 2)


def test_moments_of_rows_and_targets_are_those_of_numpy() -> None:
    samples, _ = problem()
    found = joint_moments(samples.rows, samples.target)
    for g in range(2):
        both = np.concatenate([samples.rows[:, g], samples.target[:, g]], axis=1).astype(np.float64)
        expected = np.cov(both.T, bias=True)
        np.testing.assert_allclose(found.second[g], expected[:5, :5], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.cross[g], expected[:5, 5:], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.variance[g], np.diag(expected)[5:], rtol=1e-4)


def test_harm_is_not_negative() -> None:
    """Of outputs that are equal but for rounding the sum was, and a price of less than nothing found no plan."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        before = rng.standard_normal((4, 10))
        found = Harm()
        found.add({"y": before}, {"y": before + 1e-10 * rng.standard_normal(before.shape)}, 4)
        assert 0 <= found.value < 1e-12
    lost = Harm()
    lost.add({"y": before}, {"y": before * np.nan}, 4)
    assert lost.value == np.inf
