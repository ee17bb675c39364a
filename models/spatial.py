"""Dense prediction, generation, and networks of one and three dimensions."""

from typing import Any

import numpy as np
import onnx

from models.net import Net, register


@register
def unet(seed: int = 0) -> onnx.ModelProto:
    """U-Net: encoder and decoder with ConvTranspose and a Concat for each skip."""
    net = Net("unet", seed)
    image = net.input("image", "batch", 3, 16, 16)
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    down1 = net.relu(net.conv_norm("down1", image, 3, 16))
    down2 = net.relu(net.conv_norm("down2", net.node("MaxPool", down1, **pool), 16, 24))
    x = net.relu(net.conv_norm("bottom", net.node("MaxPool", down2, **pool), 24, 32))
    x = net.node("Concat", down2, net.conv_transpose("rise2", x, 32, 24), axis=1)
    x = net.relu(net.conv_norm("up2", x, 48, 24))
    x = net.node("Concat", down1, net.conv_transpose("rise1", x, 24, 16), axis=1)
    x = net.relu(net.conv_norm("up1", x, 32, 16))
    return net.build(net.conv("mask", x, 16, 2, 1))


@register
def grouped_transpose(seed: int = 0) -> onnx.ModelProto:
    """Transposed convolutions, one with four groups and one depthwise."""
    net = Net("grouped_transpose", seed)
    x = net.relu(net.conv("stem", net.input("image", "batch", 3, 4, 4), 3, 32))
    x = net.relu(net.conv_transpose("grouped", x, 32, 16, group=4))
    x = net.relu(net.conv("middle", x, 16, 24))
    x = net.batch_norm("norm", net.conv_transpose("depthwise", x, 24, 24, group=24), 24)
    return net.build(net.conv("last", net.relu(x), 24, 3))


@register
def feature_pyramid(seed: int = 0) -> onnx.ModelProto:
    """Feature pyramid with Resize and Add, and one shared head on two levels (FPN)."""
    net = Net("feature_pyramid", seed)
    image = net.input("image", "batch", 3, 16, 16)
    level1 = net.relu(net.conv_norm("level1", image, 3, 16))
    level2 = net.relu(net.conv_norm("level2", level1, 16, 32, strides=[2, 2]))
    scales = net.initializer("scales", [1, 1, 2, 2])
    top = net.conv("lateral2", level2, 32, 24, 1)
    resized = net.node("Resize", top, "", scales, mode="nearest")
    low = net.node("Add", net.conv("lateral1", level1, 16, 24, 1), resized)
    outputs = [net.conv("smooth1", low, 24, 24), net.conv("smooth2", top, 24, 24)]
    weight, bias = net.weight("head.weight", 6, 24, 1, 1), net.bias("head.bias", 6)
    return net.build(*[net.node("Conv", net.relu(x), weight, bias) for x in outputs])


@register
def super_resolution(seed: int = 0) -> onnx.ModelProto:
    """Residual body, then DepthToSpace to twice the size (ESPCN, EDSR)."""
    net = Net("super_resolution", seed)
    image = net.input("image", "batch", 3, 8, 8)
    x = net.conv("stem", image, 3, 16)
    y = net.conv("body2", net.relu(net.conv("body1", x, 16, 32)), 32, 16)
    x = net.node("Add", x, net.node("Mul", y, net.scalar(0.5)))
    x = net.node("DepthToSpace", net.conv("rise1", x, 16, 64), blocksize=2, mode="CRD")
    x = net.node("DepthToSpace", net.conv("rise2", net.relu(x), 16, 12), blocksize=2, mode="DCR")
    return net.build(x)


@register
def space_to_depth(seed: int = 0) -> onnx.ModelProto:
    """SpaceToDepth between two convolutions: each channel becomes four."""
    net = Net("space_to_depth", seed)
    x = net.relu(net.conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 16))
    x = net.node("SpaceToDepth", x, blocksize=2)
    return net.build(net.classifier(net.relu(net.conv("conv2", x, 64, 24)), 24))


@register
def style_transfer(seed: int = 0) -> onnx.ModelProto:
    """Reflected borders, InstanceNormalization, residual block, resized output."""
    net = Net("style_transfer", seed)
    x = net.input("image", "batch", 3, 12, 12)
    x = net.node("Pad", x, net.integers(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")

    def instance_norm(name: str, x: str) -> str:
        weight, bias = net.gain(f"{name}.weight", 16), net.bias(f"{name}.bias", 16)
        return net.node("InstanceNormalization", x, weight, bias, name=name)

    x = net.relu(instance_norm("norm1", net.conv("conv1", x, 3, 16, pads=[0] * 4)))
    y = net.relu(instance_norm("norm2", net.conv("conv2", x, 16, 16)))
    x = net.node("Add", x, instance_norm("norm3", net.conv("conv3", y, 16, 16)))
    x = net.node("Resize", x, "", net.initializer("scales", [1, 1, 2, 2]), mode="linear")
    return net.build(net.node("Tanh", net.conv("paint", x, 16, 3)))


@register
def group_norm(seed: int = 0) -> onnx.ModelProto:
    """Group normalisation as exported before opset 18: Reshape around InstanceNormalization."""
    net = Net("group_norm", seed)
    x = net.conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 32)
    for name, outputs in (("norm1", 32), ("norm2", 24)):
        shape = net.node("Shape", x)
        y = net.reshape(x, 0, 4, -1)
        ones = net.initializer("ones", np.ones(4))
        y = net.node("InstanceNormalization", y, ones, net.initializer("zeros", np.zeros(4)))
        y = net.node("Reshape", y, shape)
        y = net.node("Mul", y, net.gain(f"{name}.weight", 32, 1, 1))
        y = net.relu(net.node("Add", y, net.bias(f"{name}.bias", 32, 1, 1)))
        x = net.conv(f"{name}.conv", y, 32, outputs)
    return net.build(net.classifier(net.relu(x), 24))


# One and three dimensions.


@register
def temporal(seed: int = 0) -> onnx.ModelProto:
    """Causal one-dimensional convolutions with Pad, dilation and Slice (TCN)."""
    net = Net("temporal", seed)
    x = net.conv("stem", net.input("signal", "batch", 4, 32), 4, 16, 1, rank=1)
    for block, dilation in (("block1", 1), ("block2", 2)):
        y = net.node("Pad", x, net.integers(0, 0, 2 * dilation, 0, 0, 0))
        settings: dict[str, Any] = {"rank": 1, "dilations": [dilation]}
        y = net.relu(net.conv(f"{block}.conv1", y, 16, 24, pads=[0, 0], **settings))
        y = net.conv(f"{block}.conv2", y, 24, 16, pads=[2 * dilation] * 2, **settings)
        # Padded on both sides and cut at the end, the older way to a causal convolution.
        start, end = net.integers(0), net.integers(-2 * dilation)
        y = net.node("Slice", y, start, end, net.integers(2))
        x = net.relu(net.node("Add", x, y))
    last = net.node("Gather", x, net.initializer("last", -1, "i8"), axis=2)
    return net.build(net.gemm("head", last, 16, 5))


@register
def recurrent(seed: int = 0) -> onnx.ModelProto:
    """Convolution whose channels are the features that an LSTM reads."""
    net = Net("recurrent", seed)
    x = net.relu(net.conv("conv1", net.input("signal", "batch", 4, 16), 4, 16, rank=1))
    x = net.relu(net.conv("conv2", x, 16, 24, rank=1))
    x = net.node("Transpose", x, perm=[2, 0, 1])
    weights = [
        net.weight("lstm.weight", 1, 4 * 16, 24, fan_in=24),
        net.weight("lstm.recurrence", 1, 4 * 16, 16, fan_in=16),
        net.bias("lstm.bias", 1, 8 * 16),
    ]
    net.node("LSTM", x, *weights, name="lstm", outputs=["", "last"], hidden_size=16)
    return net.build(net.gemm("head", net.node("Squeeze", "last", net.integers(0)), 16, 5))


@register
def volume(seed: int = 0) -> onnx.ModelProto:
    """Three-dimensional convolutions with a residual connection."""
    net = Net("volume", seed)
    x = net.relu(net.conv_norm("stem", net.input("volume", "batch", 1, 8, 8, 8), 1, 16, rank=3))
    y = net.relu(net.conv_norm("first", x, 16, 24, rank=3))
    x = net.relu(net.node("Add", x, net.conv_norm("second", y, 24, 16, rank=3)))
    x = net.node("MaxPool", x, kernel_shape=[2] * 3, strides=[2] * 3)
    return net.build(net.classifier(net.relu(net.conv("last", x, 16, 32, rank=3)), 32))
