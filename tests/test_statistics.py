"""Statistics are those of the kept entries, and their scale and bias stay with their channels.

The masked original gathers the inputs of such a node by the same labels as the rewriter, so it
would not see a scale that follows the wrong channels. Here numpy says what is right.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from . import battery
from .building import positive, tokens, weight

Array = npt.NDArray[np.floating]

VECTORS = {"s": positive(8), "b": (8,)}


def normalized(x: Array, axes: tuple[int, ...]) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def layer_norm(h: Array, s: Array, b: Array) -> Array:
    return normalized(h, (2,)) * s + b


def whole_norm(h: Array, s: Array, b: Array) -> Array:
    return normalized(h, (1, 2)) * s + b


GROUPS = """
    t = Transpose <perm=[0,2,1]> (h)
    n = GroupNormalization <num_groups={}> (t, s, b)
    r = Transpose <perm=[0,2,1]> (n)"""

NORMS = {
    "layer": (tokens("r = LayerNormalization (h, s, b)", **VECTORS), layer_norm),
    "one group": (
        tokens(GROUPS.format(1), opset=21, ir_version=10, outputs="float[N,6,4] y", **VECTORS),
        whole_norm,
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_norm_of_the_kept_entries(name: str) -> None:
    build, norm = NORMS[name]
    pruned = battery.prune(build(), seed=4)
    keep = pruned.plan.constants["W1"]["keep"]["1"]
    assert 0 < len(keep) < 8
    x = np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)
    h = x @ weight("W1", (5, 8))[:, keep] + weight("B1", (8,))[keep]
    r = norm(h, positive(8)[keep], weight("b", (8,))[keep])
    found = np.asarray(battery.outputs(pruned.slim, {"x": x})["y"], np.float32)
    np.testing.assert_allclose(found, r @ weight("W2", (8, 4))[keep], rtol=1e-4, atol=1e-5)
