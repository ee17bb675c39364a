"""Files of a few kilobytes that ask for everything: each is refused in a sentence, at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper

import onnxprune
from onnxprune.model import effort

from .fuzz_seeds import ints, model, node, value

ENDLESS = helper.make_graph(
    [node("Identity", "go", "on"), node("Add", "s s", "n")],
    "body",
    [value("k", dtype=7), value("go", dtype=9), value("s", 1)],
    [value("on", dtype=9), value("n", 1)],
)


def asking(nodes: list[NodeProto], **stored: np.ndarray) -> onnx.ModelProto:
    weights = np.random.default_rng(0).standard_normal((16, 3, 1, 1)).astype(np.float32)
    return model(
        [node("Conv", "x w", "y"), *nodes], [value("x", 1, 3, 8, 8)], ["y", "z"], {"w": weights, **stored}
    )


def numbers(*given: float) -> np.ndarray:
    return np.array(given, np.float32)


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "expand": (
        lambda: asking([node("Expand", "one to", "z")], one=numbers(1), to=ints(10**12)),
        r"Expand 'Expand_z': found 1,000,000,000,000 entries to compute from constants, expected at most",
    ),
    "range": (
        lambda: asking(
            [node("Range", "a b c", "r"), node("Cast", "r", "z", to=1)],
            a=np.array(0),
            b=np.array(10**9),
            c=np.array(1),
        ),
        r"Range 'Range_r': found 1,000,000,000 entries",
    ),
    "tile": (lambda: asking([node("Tile", "one to", "z")], one=numbers(1), to=ints(2**40)), "Tile 'Tile_z'"),
    "chain": (
        lambda: asking(
            [
                node("ConstantOfShape", "to", "t0"),
                *(node("Exp", f"t{k}", f"t{k + 1}") for k in range(12)),
                node("ReduceSum", "t12", "z", keepdims=0),
            ],
            to=ints(50_000_000),
        ),
        r"Exp 'Exp_t1': found 50,000,000 entries to compute from constants and 50,000,000 before",
    ),
    "product": (
        lambda: asking(
            [
                node("Expand", "one to", "t"),
                node("MatMul", "t t", "u"),
                node("ReduceSum", "u", "z", keepdims=0),
            ],
            one=numbers(1),
            to=ints(6000, 6000),
        ),
        r"MatMul 'MatMul_u': found 36,000,000 entries",
    ),
    "thin product": (
        lambda: asking(
            [node("Expand", "one a", "t"), node("Expand", "one b", "s"), node("MatMul", "t s", "z")],
            one=numbers(1),
            a=ints(900, 25_000),
            b=ints(25_000, 900),
        ),
        r"MatMul 'MatMul_z': found 2.0e\+10 multiplications",
    ),
    "loop": (
        lambda: asking(
            [node("Loop", "trips yes one", "z", body=ENDLESS)],
            trips=np.array(10**9),
            yes=np.array(True),
            one=numbers(1),
        ),
        r"Loop 'Loop_z': found 1,000,000,000 iterations, expected at most 1,000,000",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_asking_for_everything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, message = CASES[name]
    found, start = make(), time.process_time()
    if name == "thin product":  # a tenth of what is refused, so that it need not be computed
        monkeypatch.setattr(effort, "MOST_PRODUCTS", 10**10)
    with pytest.raises(onnxprune.ModelError, match=message):
        onnxprune.prune(found, verify=True)
    assert time.process_time() - start < 20
