"""Steps in which channels go: what fills the blocks of kernels, and where smaller steps are taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune import BudgetError, trace
from onnxprune.coupling.trace import Trace

from .building import net


def layer(channels: int) -> Trace:
    """A convolution of so many channels and one behind it."""
    text = "a = Conv (x, V)\ny = Conv (a, W)"
    return trace(net(text, inputs="float[1,16,8,8] x", V=(channels, 16, 1, 1), W=(16, channels, 1, 1))())


@pytest.mark.parametrize(
    ("channels", "ratio", "kept", "granule"),
    [
        (64, 0.5, 32, 16),
        (64, 0.3, 48, 16),  # 44.8 should stay
        (64, 0.1, 60, 4),  # 57.6 should: in larger steps nothing would go
        (64, 0.02, 64, 4),  # not for less than what leaves the fast layout
        (32, 0.25, 24, 8),
        (24, 0.5, 16, 16),
        (16, 0.5, 8, 8),
        (12, 0.5, 8, 8),
        (10, 0.5, 6, 2),
        (3, 0.5, 2, 2),
        (3, 0.7, 1, 1),
        (64, 0.0, 64, 16),
    ],
)
def test_a_group_takes_the_largest_step_by_which_half_of_what_is_asked_goes(
    channels: int, ratio: float, kept: int, granule: int
) -> None:
    traced = layer(channels)
    plan = onnxprune.select(traced, onnxprune.score(traced), ratio=ratio)
    assert [len(plan.groups[0].keep)] == [kept]
    assert plan.options["granules"] == {traced[0].name: granule}
    assert (plan.options["granularity"], plan.options["target"]) == ("auto", "ort-cpu")
    assert channels - kept <= channels * ratio


@pytest.mark.parametrize("channels", range(3, 25))
def test_narrow_groups_shrink(channels: int) -> None:
    traced = layer(channels)
    for ratio in (0.5, 0.75):
        plan = onnxprune.select(traced, onnxprune.score(traced), ratio=ratio)
        gone = channels - len(plan.groups[0].keep)
        assert 0 < gone <= channels * ratio
        assert gone >= channels * ratio / 2


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"ratio": 0.4}, 48), ({"ratio": 0.4, "target": "cuda"}, 40),
        ({"ratio": 0.4, "granularity": 1}, 39), ({"ratio": 0.4, "target": "cuda", "granularity": 32}, 64),
        ({"preset": "tao", "threshold": 0.0}, 64), ({"preset": "netspresso"}, 32),
    ],
)  # fmt: skip
def test_a_target_is_a_rule_without_a_measurement(settings: dict[str, Any], kept: int) -> None:
    traced = layer(64)
    result = onnxprune.prune(traced.model, clean=False, **settings)
    assert len(result.plan.groups[0].keep) == kept
    assert ("granules" in result.plan.options) == (result.plan.options["granularity"] == "auto")


@pytest.mark.parametrize(
    ("depthwise", "ratio", "kept"), [(False, 0.4, 48), (False, 0.1, 60), (True, 0.1, 64)]
)
def test_convolutions_of_whole_numbers_fill_blocks(depthwise: bool, ratio: float, kept: int) -> None:
    """A depthwise one between two others never leaves them, not for channels that are zero either."""
    text = """
        a = DequantizeLinear (x, s, z)
        U = DequantizeLinear (V, s, z)
        b = Conv (a, U)
        c = QuantizeLinear (b, s, z)
        d = DequantizeLinear (c, s, z)
        T = DequantizeLinear (W, s, z)
    """
    middle = """
        M = DequantizeLinear (D, s, z)
        e = Conv <group = 64> (d, M)
        f = QuantizeLinear (e, s, z)
        g = DequantizeLinear (f, s, z)
    """
    text += middle + "y = Conv (g, T)" if depthwise else "y = Conv (d, T)"
    weight = np.ones((64, 16, 1, 1), np.int8)
    weight[60:] = 0
    stored: dict[str, Any] = {"V": weight}
    stored |= {"W": np.ones((16, 64, 1, 1), np.int8)}
    stored |= {"D": np.ones((64, 1, 1, 1), np.int8)} if depthwise else {}
    scale: dict[str, Any] = {"s": np.float32(0.1), "z": np.int8(0)}
    source = net(text, inputs="int8[1,16,8,8] x", **stored, **scale)()
    traced = trace(source)
    plan = onnxprune.select(traced, onnxprune.score(traced), ratio=ratio)
    assert len(plan.groups[0].keep) == kept
    cleaned = onnxprune.clean(source, duplicates=False)
    assert len(cleaned.plan.groups[0].keep) == (64 if depthwise else 60)


def test_where_multiples_gain_nothing_single_channels_go() -> None:
    products = trace(
        net("a = MatMul (x, V)\ny = MatMul (a, W)", inputs="float[1,16] x", V=(16, 64), W=(64, 16))()
    )
    plan = onnxprune.select(products, onnxprune.score(products), ratio=0.3)
    assert len(plan.groups[0].keep) == 45
    plan = onnxprune.select(products, onnxprune.score(products), ratio=0.3, target="tensorrt")
    assert len(plan.groups[0].keep) == 48


def test_of_groups_that_lose_alike_those_of_whole_blocks_go_first() -> None:
    """Half of a group of 16 saves no time: of two such, one goes beside half of the group of 32."""
    text = "a = Conv (x, T)\nb = Conv (a, U)\nc = Conv (b, V)\ny = Conv (c, W)"
    shapes: dict[str, Any] = {
        "T": (16, 16, 1, 1),
        "U": (16, 16, 1, 1),
        "V": (32, 16, 1, 1),
        "W": (16, 32, 1, 1),
    }
    traced = trace(net(text, inputs="float[1,16,8,8] x", **shapes)())
    plan = onnxprune.select(traced, onnxprune.score(traced), keep_macs=0.65)
    assert [len(group.keep) for group in plan.groups[:3]] == [8, 16, 16]


def test_a_budget_takes_smaller_steps_only_where_it_must() -> None:
    traced = layer(48)
    scores = onnxprune.score(traced)
    granules = {}
    for share in (0.7, 0.3, 0.1):
        plan = onnxprune.select(traced, scores, keep_macs=share, min_share=0.0)
        granules[share] = plan.options["granules"][traced[0].name]
        assert len(plan.groups[0].keep) <= 48 * share
    assert granules == {0.7: 16, 0.3: 8, 0.1: 4}
    with pytest.raises(BudgetError, match=r"found 0\.0834"):
        onnxprune.select(traced, scores, keep_macs=0.02, min_share=0.0)
