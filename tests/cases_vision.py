"""Images: regions, samples, patches."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx

from .building import Case
from .building_nodes import Graph, enter, image, microsoft

CASES: list[Case] = []

case = partial(enter, CASES)
reference = partial(enter, CASES, reference=True)

RANDOM = np.random.default_rng(3)

BOXES = np.array([[0, 0, 3, 4], [1, 1, 5, 5], [2, 0, 5, 3]], "f4")

case(
    "GridSample",
    "constant grid",
    image,
    "GridSample",
    RANDOM.uniform(-1, 1, (2, 4, 5, 2)).astype("f4"),
    groups=(8,),
)
case(
    "RoiAlign",
    "regions",
    image,
    "RoiAlign",
    BOXES,
    np.array([0, 1, 1]),
    output_height=2,
    output_width=2,
    opset=16,
    groups=(8,),
)
case(
    "MaxRoiPool",
    "regions",
    image,
    "MaxRoiPool",
    np.concatenate([[[0], [1], [1]], BOXES], 1).astype("f4"),
    pooled_shape=[2, 2],
    opset=16,
    groups=(8,),
)
case("CenterCropPad", "axes", image, "CenterCropPad", np.array([4, 9]), axes=[2, 3], groups=(8,))
case("CenterCropPad", "all axes", image, "CenterCropPad", np.array([2, 8, 4, 9]), groups=(8,))
case(
    "ImageScaler",
    "bias per channel",
    image,
    "ImageScaler",
    scale=0.5,
    bias=[0.1 * k for k in range(8)],
    opset=9,
    groups=(8,),
)
case("Crop", "borders", image, "Crop", border=[1, 0, 2, 1], opset=9, groups=(8,))


def patches(channels: int = 8) -> onnx.ModelProto:
    """Col2Im of a computed column tensor."""
    net = Graph()
    x = net.conv("a", net.input("x", 2, 3, 9), 3, channels * 4, rank=1, kernel=1)
    y = net.node("Col2Im", x, net.integers(4, 4), net.integers(2, 2))
    return net.done(net.conv("b", y, channels, 4, kernel=1))


def deformed(group: int = 1, offsets: int = 1) -> onnx.ModelProto:
    """Deformable convolution with offsets computed from the input."""
    net = Graph()
    image = net.input("x", 1, 3, 3, 2)
    x = net.conv("a", image, 3, 8)
    offset = net.conv("offset", image, 3, offsets * 18)
    mask = net.node("Sigmoid", net.conv("mask", image, 3, offsets * 9))
    W, B = net.weight("W", 12, 8 // group, 3, 3), net.bias("B", 12)
    y = net.node(
        "DeformConv", x, W, offset, B, mask, name="deform", pads=[1] * 4, group=group, offset_group=offsets
    )
    return net.done(net.conv("b", y, 12, 4, kernel=1))


PLACES = dict.fromkeys(("offset", "mask"), "reads places from it")

case("Col2Im", "patches", patches, groups=(8,))
reference("DeformConv", "dense", deformed, groups=(8, 12), blocked=PLACES)
reference("DeformConv", "groups", deformed, group=2, offsets=2, groups=(4, 6), blocked=PLACES)


def transformed() -> onnx.ModelProto:
    """A grid of places from computed matrices samples a computed image."""
    net = Graph()
    image = net.input("x", 2, 3, 6, 6)
    theta = net.linear("theta", net.input("t", 2, 3), 3, 6)
    theta = net.node("Tanh", net.reshape(theta, 2, 2, 3))
    grid = net.node("AffineGrid", theta, net.integers(2, 8, 5, 5))
    y = net.node("GridSample", net.conv("a", image, 3, 8), grid)
    return net.done(net.conv("b", y, 8, 4, kernel=1))


case("AffineGrid", "computed matrices", transformed, blocked={"theta.matmul": "makes a grid"}, groups=(8,))

for _op in ("CropAndResize", "GridSample"):
    case(f"com.microsoft::{_op}", "images", microsoft, _op, groups=(8,))
