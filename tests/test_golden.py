"""Published and measured numbers of other tools, reproduced to the digit.

Sources, by the name that the tests give:

TAO
    NVIDIA/tao_tensorflow2_backend 6.0.0, ``nvidia_tao_tf2/model_optimization/pruning/pruning.py``;
    vectors computed by running its formulas.
NetsPresso
    Figures of the model compressor's documentation (docs.netspresso.ai, "structured pruning": policy,
    layer norm, group policy), recomputed.
NetsPresso results
    Kept counts of the documented MobileNetV1 and of two compressed models in PyNetsPresso.
LAMP
    Lee et al., arXiv 2010.07611, on filters.
RKNN demo
    Log of ``examples/common_function_demos/model_pruning`` of rknn-toolkit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

import onnxprune
from models.build import Net
from onnxprune.coupling.groups import Group
from onnxprune.scoring.registry import lookup
from onnxprune.selection.cost import parameters
from onnxprune.selection.rounding import Rounding
from onnxprune.selection.strategies import above, kept_positions, removal_order
from onnxprune.surgery.surgeon import rewrite_trace

from .conftest import exact

X = [11.0, 19, 38, 25, 46]
"""Norms of the convolution whose output is the skip connection (NetsPresso)."""
F = [20.0, 12, 18, 16, 39]
"""Norms of the convolution at the end of the branch."""
G = [13.0, 22, 16, 29, 17]
"""Norms of the convolution at its start."""
F_MAP = [14.0, 3, 26, 18, 12]
"""Norms of the feature map of F, for the policy backward."""


def passed(kind: str, name: str, values: object) -> np.ndarray:
    return np.asarray(lookup(kind, name)(np.asarray(values, np.float64)))


def group(size: int) -> Group:
    return Group("g", np.arange(size), (), ())


# Normalizers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scores", "expected"),
    [
        ("tao-l2", [3, 4], [1.2, 1.6]),  # TAO: the documentation's wording would give .6 and .8
        ("tao-l2", np.ones(64), np.full(64, 8.0)),  # TAO
        ("max", [4, 1, 2, 3], [1, 0.25, 0.5, 0.75]),  # TAO
        ("max", [1, 5, 2, 4], [0.2, 1, 0.4, 0.8]),  # TAO
        ("max", [0, 0], [0, 0]),  # TAO: 0/0, so nothing passes any threshold
        ("tss", X, [0.079, 0.137, 0.273, 0.180, 0.331]),  # NetsPresso
        ("tss", F, [0.190, 0.114, 0.171, 0.152, 0.371]),  # NetsPresso
        ("tss", G, [0.134, 0.227, 0.165, 0.299, 0.175]),  # NetsPresso
        ("softmax", X, [0, 0, 3e-4, 0, 0.9997]),  # NetsPresso
        ("standard-score", [1, 3], [-1, 1]),  # NetsPresso's formula, ddof 0
        ("linear-scaling", X, [0, 8 / 35, 27 / 35, 14 / 35, 1]),  # NetsPresso's formula
        ("standard-score", [2, 2, 2], [0, 0, 0]),  # degenerate
        ("linear-scaling", [2, 2, 2], [0, 0, 0]),  # degenerate
        ("tss", [0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]),  # degenerate
        ("softmax", [1e4, 1e4], [0.5, 0.5]),  # the largest is subtracted first
        ("none", X, X),
        ("lamp", [4, 1, 9, 2], [0.16495, 0.00980, 1, 0.03960]),  # LAMP
    ],
)
def test_normalizers(name: str, scores: object, expected: Sequence[float]) -> None:
    np.testing.assert_allclose(passed("normalizer", name, scores), expected, atol=5.1e-4)


# TAO: count and selection -------------------------------------------------------------------

STAT = [0.05, 0.2, 0.9, 0.1, 0.1000001, 1.0, 0.3, 0.7]


THRESHOLDS = [
    (0.1, 1, 1, [1, 2, 4, 5, 6, 7]),
    (0.1, 4, 1, range(8)),
    (0.1, 1, 8, range(8)),
    (0.5, 2, 1, [2, 5, 6, 7]),
    (0.5, 4, 2, [2, 5, 6, 7]),
    (1.0, 1, 3, [2, 5, 7]),
    (1.0, 4, 3, [2, 5, 6, 7]),
    (2.0, 8, 1, range(8)),
]
"""Threshold, granularity, fewest filters, and the filters that TAO keeps of ``STAT``."""


@pytest.mark.parametrize(("threshold", "granularity", "least", "kept"), THRESHOLDS)
def test_threshold(threshold: float, granularity: int, least: int, kept: Sequence[int]) -> None:
    """TAO: strictly above, at least so many, rounded up, capped."""
    counting = Rounding(granularity, "up", least, 0.0)
    wanted = int((np.array(STAT) > threshold).sum())
    count = counting.count(group(8), wanted)
    assert kept_positions(group(8), np.array(STAT), count).tolist() == list(kept)


def test_threshold_in_a_model() -> None:
    """The same numbers through score and select: a norm of 0.1, stored in 32 bits, is not above 0.1."""
    traced = onnxprune.trace(chain(STAT))
    scores = onnxprune.score(traced, criterion="l2", normalizer="none")
    for threshold, granularity, least, kept in THRESHOLDS:
        plan = onnxprune.select(
            traced, scores, threshold=threshold, granularity=granularity, min_channels=least
        )
        assert list(plan.groups[0].keep) == list(kept)


@pytest.mark.parametrize(
    ("threshold", "passing"), [(0.0, [0, 1, 2, 3]), (1e-60, [0, 1, 2, 3]), (0.1, [2, 3]), (1e39, [])]
)
def test_what_is_above_a_threshold(threshold: float, passing: Sequence[int]) -> None:
    scores = np.array([1e-50, np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1)), 1e38])
    assert np.flatnonzero(above(scores, threshold)).tolist() == list(passing)


def test_threshold_of_equal_scores_keeps_the_lowest_indices() -> None:
    """TAO's sort leaves the order of equal scores open; here it is fixed."""
    assert kept_positions(group(6), np.zeros(6), 2).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("policy", "merged", "kept"),
    [
        ("union", [1, 1, 0.5, 0.8], {0, 1, 2, 3}),
        ("intersection", [0.2, 0.25, 0.4, 0.75], {3}),
        ("arithmetic-mean", [0.6, 0.625, 0.45, 0.775], {0, 1, 3}),
        ("geometric-mean", [0.4472, 0.5, 0.4472, 0.7746], {1, 3}),
    ],
)
def test_equalization(policy: str, merged: Sequence[float], kept: set[int]) -> None:
    """TAO: normalized statistics of two layers that meet in an Add, threshold .45."""
    model = joined([4, 1, 2, 3], [1, 5, 2, 4])
    traced = onnxprune.trace(model)
    scores = onnxprune.score(traced, criterion="l2", normalizer="max", policy=policy)
    found = scores[traced[0].name].merged
    np.testing.assert_allclose(found, merged, atol=5e-5)
    plan = onnxprune.select(traced, scores, threshold=0.45, granularity=1)
    assert set(plan.groups[0].keep) == kept


def test_zero_in_a_geometric_mean() -> None:
    assert passed("policy", "geometric-mean", [[0, 4], [3, 9]]).tolist() == pytest.approx([0, 6])


@pytest.mark.parametrize(("scores", "kept"), [([4, 1, 2, 3], {0, 2, 3}), ([1, 5, 2, 4], {1, 3})])
def test_before_equalization(scores: Sequence[float], kept: set[int]) -> None:
    """TAO: each of the two layers alone."""
    normalized = passed("normalizer", "max", scores)
    assert set(np.flatnonzero(normalized > 0.45).tolist()) == kept


def test_an_excluded_member_keeps_the_whole_group() -> None:
    """TAO: if any layer of an element-wise group is excluded, all of it stays."""
    result = onnxprune.prune(joined([4, 1, 2, 3], [1, 5, 2, 4]), preset="tao", exclude=["right"])
    assert result.plan.groups[0].status == "kept"


# NetsPresso: policies on the residual block of its figures ------------------------------------


def diagonal(norms: Sequence[float]) -> np.ndarray:
    """A 1x1 kernel whose filters have these norms."""
    return np.diag(norms)[:, :, None, None]


def chain(norms: Sequence[float]) -> onnx.ModelProto:
    """One layer whose filters have these norms, and a reader."""
    net = Net("chain", 0)
    n = len(norms)
    x = net.input("x", 1, n, 1, 1)
    x = net.node("Conv", x, net.initializer("w", diagonal(norms)), name="layer")
    return net.build(net.node("Conv", x, net.weight("r", 3, n, 1, 1), name="reader"))


def joined(left: Sequence[float], right: Sequence[float]) -> onnx.ModelProto:
    """Two layers whose outputs are added."""
    net = Net("joined", 0)
    n = len(left)
    x = net.input("x", 1, n, 1, 1)
    a = net.node("Conv", x, net.initializer("a", diagonal(left)), name="left")
    b = net.node("Conv", x, net.initializer("b", diagonal(right)), name="right")
    x = net.node("Add", a, b, name="add")
    return net.build(net.node("Conv", x, net.weight("r", 3, n, 1, 1), name="reader"))


def residual(f: Sequence[float] = F, biases: Mapping[str, Sequence[float]] | None = None) -> onnx.ModelProto:
    """NetsPresso's figure: x + F(G(x)), where x is the output of a convolution."""
    net = Net("residual", 0)
    image = net.input("image", 1, 5, 1, 1)

    def conv(name: str, source: str, norms: Sequence[float]) -> str:
        inputs = [source, net.initializer(f"{name}.weight", diagonal(norms))]
        if biases and name in biases:
            inputs.append(net.initializer(f"{name}.bias", biases[name]))
        return net.node("Conv", *inputs, name=name)

    x = conv("x", image, X)
    y = net.node("Add", conv("F", conv("G", x, G), f), x, name="add")
    return net.build(net.node("Conv", y, net.weight("head", 3, 5, 1, 1), name="head"))


POLICIES = {
    "sum": [0.270, 0.251, 0.445, 0.332, 0.702],
    "average": [0.135, 0.125, 0.222, 0.166, 0.351],
    "backward": [0.118, 0.104, 0.302, 0.203, 0.274],
}


def removed(result: onnxprune.Result) -> dict[str, set[int]]:
    return {
        entry.name: set(range(entry.channels)) - set(entry.keep)
        for entry in result.plan.groups
        if entry.status != "blocked"
    }


def figure(policy: str) -> onnx.ModelProto:
    """The residual block; its weights stand for feature maps where the policy merges those."""
    return residual(F_MAP if policy == "backward" else F)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies(policy: str) -> None:
    """NetsPresso: merged scores of the Add."""
    traced = onnxprune.trace(figure(policy))
    scores = onnxprune.score(traced, criterion="l2", normalizer="tss", policy=policy)
    np.testing.assert_allclose(scores["x"].merged, POLICIES[policy], atol=1.1e-3)
    np.testing.assert_allclose(scores["G"].merged, [0.134, 0.227, 0.165, 0.299, 0.175], atol=6e-4)


NETSPRESSO: dict[str, Any] = {
    "criterion": "l2", "normalizer": "tss", "granularity": 1, "min_share": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_layer_wise(policy: str) -> None:
    """NetsPresso: 40 % of the Add removes channels 0 and 1, whatever the policy."""
    result = onnxprune.prune(figure(policy), policy=policy, ratio={"x": 0.4}, **NETSPRESSO)
    assert removed(result) == {"x": {0, 1}, "G": set()}


@pytest.mark.parametrize(
    ("policy", "gone"),
    [
        ("average", {"x": {0, 1, 3}, "G": {0, 2}}),
        ("backward", {"x": {0, 1}, "G": {0, 2, 4}}),
        # The picture of this one marks 0 (.27) in the Add instead of 1 (.25): a slip.
        ("sum", {"x": {1}, "G": {0, 1, 2, 4}}),
    ],
)
def test_global(policy: str, gone: Mapping[str, set[int]]) -> None:
    """NetsPresso: 50 % of 10 units, the coupled ones of the Add counted once."""
    result = onnxprune.prune(
        figure(policy), policy=policy, ratio=0.5, scope="global", verify=True, provider="cpu", **NETSPRESSO
    )
    assert removed(result) == gone
    assert exact(result)


def test_backward_on_calibration_data() -> None:
    """NetsPresso: the score of the tensor behind the last Add, then normalized."""
    # Convolutions of zeros give their biases, so the maps have the norms of the figure.
    model = residual(biases={"x": X, "F": F_MAP, "G": [0.0] * 5})
    data = {"image": np.zeros((3, 5, 1, 1), np.float32)}
    names = ["F.weight", "G.weight"]
    for tensor in model.graph.initializer:
        if tensor.name in names:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((5, 5, 1, 1), np.float32), tensor.name))
    traced = onnxprune.trace(model)
    scores = onnxprune.score(traced, criterion="l2", normalizer="tss", policy="backward", data=data)
    (layer,) = scores["x"].layers
    assert layer.kernel.node.name == "add"
    np.testing.assert_allclose(layer.raw, [25, 22, 64, 43, 58])
    np.testing.assert_allclose(scores["x"].merged, POLICIES["backward"], atol=6e-4)


def test_backward_measures_behind_the_last_join() -> None:
    """Three layers that meet in two Adds: the first sum is not the tensor that decides."""
    net = Net("joins", 0)
    x = net.input("x", 1, 4, 1, 1)
    zeros, total = diagonal([0.0] * 4), [1.0, 2, 4, 8]

    def conv(name: str, scale: float) -> str:
        bias = net.initializer(f"{name}.bias", np.multiply(total, scale))
        return net.node("Conv", x, net.initializer(f"{name}.weight", zeros), bias, name=name)

    first = net.node("Add", conv("a", 1), conv("b", 2), name="first")
    last = net.node("Add", first, conv("c", -7), name="last")
    model = net.build(net.node("Conv", last, net.weight("r", 3, 4, 1, 1), name="reader"))
    data = {"x": np.ones((1, 4, 1, 1), np.float32)}
    scores = onnxprune.score(
        onnxprune.trace(model), criterion="l1", normalizer="none", policy="backward", data=data
    )
    assert scores["a"].merged.tolist() == [4, 8, 16, 32]


# NetsPresso: SLAMP and steps ------------------------------------------------------------------


def test_lamp_ranks_the_whole_model() -> None:
    """LAMP: floor(r * N) smallest go, and never the best of a group, whose score is 1."""
    flags = {**NETSPRESSO, "normalizer": "lamp", "policy": "sum", "scope": "global"}
    for ratio, count in [(0.1, 1), (0.5, 5), (0.59, 5), (0.9, 8), (0.99, 8)]:
        result = onnxprune.prune(residual(), ratio=ratio, **flags)
        assert sum(map(len, removed(result).values())) == count
    assert set(map(len, removed(result).values())) == {4}


def test_the_best_of_a_group_never_goes() -> None:
    """Half of 10 units: all of G score below all of x, and yet its best one stays."""
    low, high = [1.0, 2, 3, 4, 5], [11.0, 12, 13, 14, 15]
    model = residual(high)
    for tensor in model.graph.initializer:
        norms = {"x.weight": high, "G.weight": low}.get(tensor.name)
        if norms:
            array = diagonal(norms).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    flags = {**NETSPRESSO, "normalizer": "none"}
    result = onnxprune.prune(model, ratio=0.5, scope="global", **flags)
    assert removed(result) == {"G": {0, 1, 2, 3}, "x": {0}}


def test_lamp_of_equal_scores() -> None:
    """The channel that ranks first has the largest, so that one stays, and it is 1."""
    found = passed("normalizer", "lamp", [2, 2, 2])
    np.testing.assert_allclose(found, [1, 1 / 2, 1 / 3])
    assert removal_order(group(3), found).tolist() == [2, 1, 0]


def test_global_ratio_of_the_documented_network() -> None:
    """NetsPresso results: MobileNetV1 at .5 loses 2992 of 5984 channels."""
    gone = [19, 16, 32, 44, 85, 143, 290, 357, 362, 297, 266, 265, 792, 24]
    widths = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    assert sum(widths) == 5984
    assert sum(gone) == 2992
    traced = onnxprune.trace(stack([32, 64, 128, 160]))
    scores = onnxprune.score(traced, normalizer="lamp")
    plan = onnxprune.select(traced, scores, ratio=0.5, scope="global", granularity=1)
    assert sum(len(g.keep) for g in plan.groups if g.status != "blocked") == sum([32, 64, 128, 160]) / 2


def stack(widths: Sequence[int]) -> onnx.ModelProto:
    """Convolutions one behind the other."""
    net = Net("stack", 3)
    x, previous = net.input("x", 1, 3, 4, 4), 3
    for number, width in enumerate([*widths, 10]):
        x = net.node("Conv", x, net.weight(f"w{number}", width, previous, 1, 1), name=f"conv{number}")
        previous = width
    return net.build(x)


@pytest.mark.parametrize(
    ("size", "ratio", "step", "rounding", "kept"),
    [
        (64, 0.5, 2, "nearest", 32),
        (64, 0.49, 2, "nearest", 32),  # 32.64
        (64, 0.484, 2, "nearest", 34),  # 33.02: nearer to 34
        (10, 0.7, 2, "nearest", 2),  # 3: the half goes down, on kept counts
        (10, 0.7, 2, "up", 4),
        (10, 0.7, 2, "down", 2),
        (10, 0.7, 2, "none", 3),
        (10, 0.99, 2, "nearest", 2),  # never below a step
        (5, 0.5, 1, "nearest", 3),  # 2.5 go: the even number does
        (7, 0.5, 1, "nearest", 3),  # 3.5
        (85, 0.0, 2, "nearest", 85),  # of a whole group nothing is asked
        (85, 0.01, 2, "nearest", 84),  # 84.15
    ],
)
def test_steps(size: int, ratio: float, step: int, rounding: str, kept: int) -> None:
    """NetsPresso: kept counts go to the nearest multiple of the step, halves down."""
    assert Rounding(step, rounding, 1, 0.0).count(group(size), size * (1 - ratio)) == kept


def test_every_kept_count_is_even() -> None:
    """NetsPresso results: 117 of 117 prunable counts of two compressed models are even."""
    result = onnxprune.prune(stack([32, 63, 127, 160]), preset="netspresso", ratio=0.37)
    kept = [len(g.keep) for g in result.plan.groups if g.status == "pruned"]
    assert len(kept) == 4
    assert not any(k % 2 for k in kept)


def test_given_indices() -> None:
    """NetsPresso PR_ID: these channels go, others stay, no rounding."""
    result = onnxprune.prune(residual(), remove={"G": [0, 3], "F": [4]}, criterion="random")
    assert removed(result) == {"x": {4}, "G": {0, 3}}


# RKNN demo -------------------------------------------------------------------------------------


def test_kept_counts_give_the_bytes_of_the_log() -> None:
    """RKNN demo: 64 -> 48, 64 -> 47, and the third layer whole, in bytes of weights and biases."""
    net = Net("demo", 0)
    x, previous = net.input("x", 1, 3, 32, 32), 3
    for number, kernel in ((1, 3), (2, 1), (3, 2)):
        weight = net.weight(f"w{number}", 64, previous, kernel, kernel)
        bias = net.bias(f"b{number}", 64)
        x = net.node("Conv", x, weight, bias, name=f"conv{number}", pads=[1] * 4)
        x, previous = net.node("Relu", x), 64
    model = net.build(x)
    traced = onnxprune.trace(model)
    gone = {"conv1": range(16), "conv2": range(17)}
    plan = onnxprune.select(traced, onnxprune.score(traced), remove=gone)
    slim = rewrite_trace(traced, plan.removed(traced))
    found = {t.name: len(t.raw_data) for t in slim.proto.graph.initializer}
    assert found == {"w1": 5184, "b1": 192, "w2": 9024, "b2": 188, "w3": 48128, "b3": 256}
    before = {t.name: len(t.raw_data) for t in model.graph.initializer}
    assert before == {"w1": 6912, "b1": 256, "w2": 16384, "b2": 256, "w3": 65536, "b3": 256}
    assert parameters(traced, traced.sizes(plan.removed(traced))) * 4 == sum(found.values())
