"""One axis that is cut in two ways: the default leaves as many units as possible."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxprune import prune
from onnxprune.coupling.trace import trace

from . import battery
from .building import net, positive


def normalized(groups: int, convolutions: int, channels: int = 32) -> onnx.ModelProto:
    """GroupNormalization as PyTorch exports it, in front of a grouped convolution."""
    return net(
        f"""
        [first] h = Conv (x, W1)
        a = Reshape (h, i)
        n = InstanceNormalization (a, s, b)
        d = Shape (h)
        e = Reshape (n, d)
        r = Relu (e)
        [grouped] g = Conv <group={convolutions}> (r, W2)
        q = Relu (g)
        [last] y = Conv (q, W3)""",
        i=[0, groups, -1],
        s=positive(groups),
        b=np.zeros(groups, np.float32),
        W1=(channels, 3, 1, 1),
        W2=(channels, channels // convolutions, 1, 1),
        W3=(4, channels, 1, 1),
    )()


@pytest.mark.parametrize(
    ("groups", "convolutions", "units"),
    [
        (16, 8, (8,)),  # 8 units of whole blocks; both cuts by themselves leave 2 in the first layer
        (4, 8, (4,)),  # 4 groups of the normalization hold two blocks each; by themselves 1 unit
        (8, 8, (8,)),  # cut alike: whole groups
        (32, 8, (4, 4)),  # no groups to speak of: the inside of every block
    ],
)
def test_units_where_two_cuts_meet(groups: int, convolutions: int, units: tuple[int, ...]) -> None:
    pruned = battery.prune(normalized(groups, convolutions), seed=1)
    assert tuple(map(len, pruned.trace)) == units
    battery.check_exact(pruned)
    battery.check_inside(pruned)


@pytest.mark.parametrize(("groups", "convolutions"), [(16, 8), (4, 8)])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_the_share_that_is_asked_for_goes(groups: int, convolutions: int, ratio: float) -> None:
    result = prune(normalized(groups, convolutions, 128), ratio=ratio, granularity=1)
    stored = {name: entry["keep"] for name, entry in result.plan.constants.items()}
    assert {name: len(keep["0"]) for name, keep in stored.items() if name in ("W1", "W2")} == {
        "W1": 128 * (1 - ratio),
        "W2": 128 * (1 - ratio),
    }


def test_who_names_the_factor_gets_it() -> None:
    inner = trace(normalized(16, 8), reshape_channel_axis=1)
    assert [len(group) for group in inner] == [2, 4]
