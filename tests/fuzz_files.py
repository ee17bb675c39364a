"""Broken files by number: the seed, what is changed in it, and the verb that reads it."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .fuzz_changes import CHANGES, Change, Rng, pick, result
from .fuzz_seeds import SEEDS, node

VERBS = ("prune",) * 6 + ("clean", "inspect", "explain", "verify")


def known(m: onnx.ModelProto, rng: Rng) -> None:
    """What was seen to crash onnx or onnxruntime, or to hold a job for ever."""
    x = m.graph.input[0].name if m.graph.input else "x"
    rank = len(m.graph.input[0].type.tensor_type.shape.dim) if m.graph.input else 4
    constants: list[tuple[str, Any]] = []
    what = int(rng.integers(12))
    huge = int(pick(rng, [10**9, 10**12, 2**62]))
    if what == 0:
        nodes = [node("DepthToSpace", x, "k0", blocksize=int(pick(rng, [2**32, 0, -1])))]
    elif what == 1:
        nodes = [node("Split", x, "k0 - k1", axis=0)]
    elif what == 2:
        nodes = [node("Einsum", f"{x} -", "k0", equation="a,b->ab")]
    elif what == 3:
        constants = [("pads", np.array([-(2**31)] * 2 * rank))]
        nodes = [node("Pad", f"{x} pads", "k0")]
    elif what == 4:
        constants = [("one", np.ones(1, np.float32)), ("to", np.array([huge]))]
        nodes = [node("Expand", "one to", "k0")]
    elif what == 5:
        constants = [("to", np.array([int(pick(rng, [5 * 10**7, huge]))]))]
        nodes = [
            node("ConstantOfShape", "to", "t0"),
            *(node("Exp", f"t{k}", f"t{k + 1}") for k in range(12)),
            node("ReduceSum", "t12", "k0"),
        ]
    elif what == 6:
        constants = [("to", np.array([6000, 6000]))]
        nodes = [node("ConstantOfShape", "to", "t"), node("MatMul", "t t", "u"), node("ReduceSum", "u", "k0")]
    elif what == 7:
        constants = [("zero", np.array(0)), ("one", np.array(1)), ("n", np.array(huge))]
        nodes = [node("Range", "zero n one", "k0")]
    elif what == 8:
        body = helper.make_graph(
            [node("Identity", "go", "on"), node("Add", "s s", "n")], "body",
            [helper.make_tensor_value_info("k", 7, []), helper.make_tensor_value_info("go", 9, []),
             helper.make_tensor_value_info("s", 1, [1])],
            [helper.make_tensor_value_info("on", 9, []), helper.make_tensor_value_info("n", 1, [1])],
        )  # fmt: skip
        constants = [("trips", np.array(huge)), ("yes", np.array(True)), ("one", np.ones(1, np.float32))]
        nodes = [node("Loop", "trips yes one", "k0", body=body)]
    elif what == 9:
        constants = [("reps", np.array([huge])), ("one", np.ones(1, np.float32))]
        nodes = [node("Tile", "one reps", "k0")]
    elif what == 10:
        constants = [
            ("i", np.zeros(4, np.int64)),
            ("d", np.array(huge)),
            ("v", np.array([0.0, 1.0], np.float32)),
        ]
        nodes = [node("OneHot", "i d v", "k0")]
    else:
        constants = [("scales", np.array([1] * (rank - 2) + [1e6] * 2, np.float32))]
        nodes = [node("Resize", f"{x} - scales", "k0")]
    own = {name for made in nodes for name in made.output} | {name for name, _ in constants}
    for made in nodes:  # names that the model has not
        made.input[:] = [f"k_{name}" if name in own else name for name in made.input]
        made.output[:] = [f"k_{name}" if name in own else name for name in made.output]
    m.graph.initializer.extend(numpy_helper.from_array(array, f"k_{name}") for name, array in constants)
    m.graph.node.extend(nodes)
    m.graph.output.append(result("k_k0"))


EVERY: list[Change] = [*CHANGES, known]


def of_bytes(data: bytes, rng: Rng) -> bytes:
    """Damage that knows nothing of models."""
    found = bytearray(data)
    what = int(rng.integers(6))
    if what == 0:
        return bytes(found[: int(rng.integers(len(found)))])
    if what == 1:
        return bytes(found) + bytes(found)
    if what == 2:  # names that are no UTF-8
        name = pick(rng, [b"Conv", b"MatMul", b"w0", b"seed", b"x"])
        return bytes(found).replace(name, b"\xff\xfe" * (len(name) // 2) + b"\xc0" * (len(name) % 2))
    for _ in range(int(rng.integers(1, 20))):
        place = int(rng.integers(len(found)))
        if what == 3:
            found[place] = int(rng.integers(256))
        elif what == 4:
            found[place] ^= 1 << int(rng.integers(8))
        else:
            end = min(place + int(rng.integers(1, 9)), len(found))
            del found[place:end]
            found = found or bytearray(b"\0")
    return bytes(found)


@cache
def seed_bytes(name: str) -> bytes:
    return SEEDS[name]().SerializeToString()


class Broken(NamedTuple):
    """A broken file, and how it is read."""

    data: bytes
    verb: str
    story: str


def broken(number: int) -> Broken:
    """The file of a number; the same one everywhere."""
    rng = np.random.default_rng(number)
    name = pick(rng, sorted(SEEDS))
    model = onnx.ModelProto.FromString(seed_bytes(name))
    verb = str(pick(rng, VERBS))
    if rng.random() < 0.08:
        return Broken(of_bytes(seed_bytes(name), rng), verb, f"{name}: bytes")
    changes = [pick(rng, EVERY) for _ in range(int(pick(rng, [1, 1, 1, 2, 3])))]
    for change in changes:
        change(model, rng)
    return Broken(model.SerializeToString(), verb, f"{name}: {', '.join(c.__name__ for c in changes)}")
