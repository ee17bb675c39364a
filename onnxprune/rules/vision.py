"""Operators on images: sampling, regions, patches, cropping."""

from __future__ import annotations

import numpy as np

from ..labels.pen import Pen
from ..labels.vector import NONE
from ..labels.walk import Walk
from ..model.node import Node
from ..model.operators import Trait
from .conv import kernels, spatial
from .registry import rule


@rule("GridSample", traits=Trait.NONE)
@rule("GridSample", domain="com.microsoft", traits=Trait.NONE)
def grid_sample(c: Walk, n: Node) -> None:
    """Carries batch and channels; every pixel may be sampled from."""
    X, grid = n.inputs
    c.fixed(grid, range(1, c.rank(grid)), f"{n} reads places from it")
    batch = c.join([(X, 0), (grid, 0)])
    c.out(n.output, [batch, c.axis(X, 1), *spatial(c, n, X)])


@rule("MaxRoiPool", "RoiAlign", traits=Trait.NONE)
@rule("CropAndResize", domain="com.microsoft", traits=Trait.NONE)
def roi_align(c: Walk, n: Node) -> None:
    """Carries the channels of an image to all regions of it."""
    X = n.inputs[0]
    c.freeze(n.inputs[1:], f"{n} reads regions from it")
    C = c.fixed(X, [0, *range(2, c.rank(X))], f"{n} reads regions of it")[1]
    c.out(n.output, [NONE, C, NONE, NONE])


@rule("AffineGrid", traits=Trait.SIZED_BY_VALUES)
def affine_grid(c: Walk, n: Node) -> None:
    """Pins its matrices; a grid of places carries no channels."""
    c.freeze(n.inputs, f"{n} makes a grid of places from it")


@rule("Col2Im", traits=Trait.SIZED_BY_VALUES)
def col2im(c: Walk, n: Node) -> None:
    """A channel is a block of input channels, one per place in the patch: it lives as a whole."""
    X, _, block_shape = n.inputs
    batch, C, _ = c.fixed(X, [2], f"{n} puts patches together along it")
    patch = int(c.known(block_shape).prod())
    rows = NONE
    if C is not NONE:
        rows, inside = c.split(C, (len(C) // patch, patch))
        c.pin(inside, f"{n} puts patches together along it")
    c.out(n.output, [batch, rows, *[NONE] * (c.rank(n.output) - 2)])


@rule("CenterCropPad", traits=Trait.SIZED_BY_VALUES)
def center_crop_pad(c: Walk, n: Node) -> None:
    """Pins the axes that it crops or pads, carries the others."""
    X = n.inputs[0]
    before, after = c.shape(X), c.shape(n.output)
    chosen = [k % len(before) for k in n.attr("axes", range(len(before)))]
    changed = [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    c.out(n.output, c.fixed(X, changed, f"{n} cuts or pads it"))

    def mend(e: Pen) -> None:
        sizes = [e.original(X)[k] for k in chosen], [e.shape(X)[k] for k in chosen]
        e.scale_input(1, *sizes)

    c.fix(mend)


@rule("DeformConv", traits=Trait.NONE)
def deform_conv(c: Walk, n: Node) -> None:
    """Like Conv; all offset groups keep the same inner channels."""
    X, W, offset, B, mask = n.take(5)
    C, offsets = c.axis(X, 1), n.attr("offset_group", 1)
    c.freeze([offset, mask], f"{n} reads places from it")
    if offsets > 1 and C is not NONE:
        blocks, _ = c.split(C, (offsets, len(C) // offsets))
        c.pin(blocks, f"{n} reads every block of channels at places of its own")
    O = kernels(c, n, C, W, B)
    c.out(n.output, [NONE, O, *spatial(c, n, X)])
    c.pin_axes(X, [0], f"{n} has offsets for every entry of it")


@rule("ImageScaler", traits=Trait.UNLISTED)
def image_scaler(c: Walk, n: Node) -> None:
    """One bias per channel, which is an attribute."""
    C, bias = c.axis(n.inputs[0], 1), n.attr("bias")
    c.same(n)
    if bias and C is not NONE:
        c.fix(lambda e: e.set("bias", np.array(bias)[e.mask(C)].tolist()))


@rule("Crop", traits=Trait.UNLISTED)
def crop(c: Walk, n: Node) -> None:
    """Carries batch and channels, crops the image."""
    X = n.inputs[0]
    c.out(n.output, [c.axis(X, 0), c.axis(X, 1), *spatial(c, n, X)])
