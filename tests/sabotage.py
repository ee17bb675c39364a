"""Damage to a slim model, at seeded places, and whether it changes what the model computes.

The judge knows nothing of the checks: it runs the model before and after the damage with the same
kernels, where all that can differ is what was damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from onnxprune.checks.widened import widened, widened_feeds
from onnxprune.model.protos import node_protos, tensors

from . import battery
from .battery import Arrays
from .building import net

Array = npt.NDArray[Any]
Rng = np.random.Generator

CHANGE = 1e-4
"""Relative change, of an output or of a slice of one, from which on it is one that must be seen."""

CONDITION = 30
"""How many times what a last bit does to a slice a change has to be, so that it is none of rounding."""


@dataclass(frozen=True)
class Damage:
    """A damaged model: what was done to it, to numbers of which type, where."""

    kind: str
    dtype: str
    place: str
    model: onnx.ModelProto

    def __str__(self) -> str:
        return f"{self.kind} ({self.dtype}) at {self.place}"


def is_float(array: Array) -> bool:
    return array.dtype.kind in "fV" and array.dtype.itemsize > 1


def flip_sign(array: Array, rng: Rng) -> bool:
    """Of the largest of some entries."""
    flat = array.reshape(-1)
    places = rng.integers(flat.size, size=8)
    place = max(places, key=lambda k: abs(float(flat[k])))
    flat[place] = -flat[place]
    return True


def swap_channels(array: Array, rng: Rng) -> bool:
    axes = [k for k, size in enumerate(array.shape) if size > 1]
    if not axes:
        return False
    along = np.moveaxis(array, int(rng.choice(axes)), 0)
    one, two = rng.choice(len(along), 2, replace=False)
    along[[one, two]] = along[[two, one]]
    return True


def drop_bias(array: Array, rng: Rng) -> bool:
    array[:] = 0
    return True


def shift_integer(array: Array, rng: Rng) -> bool:
    flat = array.reshape(-1)
    place = rng.integers(flat.size)
    # Never to 0, by which onnxruntime would divide.
    flat[place] = flat[place] + 1 if flat[place] < 100 and flat[place] != -1 else flat[place] - 1
    return True


def scale(array: Array, rng: Rng) -> bool:
    array *= array.dtype.type(1.01)
    return True


Wanted = Callable[[Array], bool]
Edit = Callable[[Array, Rng], bool]

STORED: dict[str, tuple[Wanted, Edit]] = {
    "sign": (is_float, flip_sign),
    "swap": (lambda a: a.dtype.kind in "fiuV" and a.size > 1, swap_channels),
    "bias": (lambda a: a.ndim == 1 and a.size > 1 and (is_float(a) or a.dtype == np.int32), drop_bias),
    "integer": (lambda a: a.dtype.kind in "iu", shift_integer),
    "scalar": (lambda a: is_float(a) and a.size == 1, scale),
}
"""Kind of damage to a stored tensor -> which tensors it can be done to, and how."""

KINDS = (*STORED, "attribute")


def damages(model: onnx.ModelProto, kind: str, places: int, rng: Rng) -> Iterator[Damage]:
    """Up to so many copies of a model, each damaged at another place."""
    if kind == "attribute":
        yield from _attributes(model, places, rng)
        return
    wanted, edit = STORED[kind]
    found = [
        k for k, t in enumerate(tensors(model.graph)) if wanted(numpy_helper.to_array(t)) and 0 not in t.dims
    ]
    for number in rng.permutation(found)[:places]:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        tensor = list(tensors(copy.graph))[number]
        before = numpy_helper.to_array(tensor)
        array = before.copy()
        if edit(array, rng) and array.tobytes() != before.tobytes():
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            yield Damage(kind, array.dtype.name, f"'{tensor.name}' {list(array.shape)}", copy)


EVEN = {"rotary_embedding_dim"}
"""Attributes of which an odd value leaves entries of the output unwritten by onnxruntime."""

NUMBERS = {AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.INTS}


def _attributes(model: onnx.ModelProto, places: int, rng: Rng) -> Iterator[Damage]:
    found = [
        (k, a.name)
        for k, node in enumerate(node_protos(model.graph))
        for a in node.attribute
        if a.type in NUMBERS and (a.type != AttributeProto.INTS or a.ints)
    ]
    for k, name in [found[i] for i in rng.permutation(len(found))[:places]]:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        node = list(node_protos(copy.graph))[k]
        attribute = next(a for a in node.attribute if a.name == name)
        if attribute.type == AttributeProto.FLOAT:
            attribute.f = attribute.f * 1.1 + 0.01
        elif attribute.type == AttributeProto.INT:
            step = 2 if name in EVEN else 1
            attribute.i = attribute.i + step if attribute.i != -1 else 0  # no group and no stride of 0
        else:
            attribute.ints[int(rng.integers(len(attribute.ints)))] += 1
        yield Damage("attribute", "", f"{node.op_type} '{node.name}' {name}", copy)


def nudged(model: onnx.ModelProto, rng: Rng) -> onnx.ModelProto:
    """Copy with the last bit of every stored float changed, up or down."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in tensors(copy.graph):
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE):
            array = nudged_array(numpy_helper.to_array(tensor), rng)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return copy


def nudged_array(array: Array, rng: Rng) -> Array:
    if array.dtype.kind != "f" or array.size == 1:
        return array  # bounds, sizes and steps are no sums
    toward = np.where(rng.random(array.shape) < 0.5, np.inf, -np.inf).astype(array.dtype)
    return np.where(array == 0, array, np.nextafter(array, toward))


class Judge:
    """Says whether damage changes the outputs of a model on some inputs, by more than rounding does.

    Runs 16-bit floats in 32 bits, where rounding is smallest.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Arrays) -> None:
        self.feeds = widened_feeds(feeds)
        self.outputs = battery.outputs(widened(model), self.feeds)
        self.noise = {name: [np.zeros(n) for n in v.shape] for name, v in self.outputs.items()}
        rng = np.random.default_rng(0)
        for _ in range(2):
            feeds = {name: nudged_array(v, rng) for name, v in self.feeds.items()}
            try:
                moved = battery.outputs(nudged(widened(model), rng), feeds)
            except Exception:  # a factor of sizes that was nudged; onnxruntime raises whatever it likes
                continue
            for name, value in self.outputs.items():
                if value.shape == moved[name].shape and value.dtype.kind == "f":
                    gaps = slices(moved[name].astype(np.float64) - value)
                    self.noise[name] = [np.fmax(*pair) for pair in zip(self.noise[name], gaps, strict=True)]

    def changed(self, damaged: onnx.ModelProto) -> bool:
        """Whether any output, or any slice of one, changes; a model that does not run has changed."""
        try:
            found = battery.outputs(widened(damaged), self.feeds)
        except Exception:  # onnxruntime raises whatever it likes
            return True
        return any(self._differs(name, value, found.get(name)) for name, value in self.outputs.items())

    def _differs(self, name: str, value: Array, found: Array | None) -> bool:
        if found is None or value.shape != found.shape:
            return True
        if value.dtype.kind != "f" or value.ndim == 0:
            close = value.dtype.kind == "f" and np.allclose(value, found, rtol=CHANGE, atol=0, equal_nan=True)
            return not close and not np.array_equal(value, found, equal_nan=value.dtype.kind == "f")
        same = (value == found) | (np.isnan(value) & np.isnan(found))
        gap = np.where(same, 0, found.astype(np.float64) - value)
        if not np.isfinite(gap).all():
            return True
        sizes = slices(np.where(np.isfinite(value), value, 0).astype(np.float64))
        return any(
            bool((moved > CHANGE * size + CONDITION * noise).any())
            for moved, size, noise in zip(slices(gap), sizes, self.noise[name], strict=True)
        )


def slices(array: Array) -> list[Array]:
    """L2 norm of every slice along every axis."""
    squares = np.square(array)
    return [
        np.sqrt(squares.sum(axis=tuple(k for k in range(array.ndim) if k != axis)))
        for axis in range(array.ndim)
    ]


def everything() -> onnx.ModelProto:
    """A network with something for every kind of damage."""
    text = """
        h = Conv <pads=[1,1,1,1]> (x, W, B)
        r = LeakyRelu <alpha=0.3> (h)
        s = Mul (r, two)
        t = Conv (s, V, C)
        g = Reshape (t, shape)
        y = Gather <axis=1> (g, order)"""
    order = np.array([2, 0, 1, 3], np.int64)
    stored: dict[str, Any] = {"W": (8, 3, 3, 3), "B": (8,), "V": (6, 8, 1, 1), "C": (6,), "two": 2.0}
    return net(text, **stored, shape=[0, 6, -1], order=order)()
