"""Convolutional networks."""

import onnx

from models.net import Net, register


@register
def plain(seed: int = 0) -> onnx.ModelProto:
    """Convolutions, pooling and a Flatten that turns each channel into 16 features."""
    net = Net("plain", seed)
    x = net.input("image", "batch", 3, 8, 8)
    x = net.relu(net.conv("conv1", x, 3, 16))
    x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.relu(net.conv("conv2", x, 16, 24))
    x = net.relu(net.gemm("hidden", net.node("Flatten", x, axis=1), 24 * 4 * 4, 32))
    return net.build(net.gemm("head", x, 32, 10))


@register
def residual(seed: int = 0) -> onnx.ModelProto:
    """Residual stages with an identity skip and with a 1x1 downsampling skip."""
    net = Net("residual", seed)
    x = net.input("image", "batch", 3, 16, 16)
    x = net.relu(net.conv_norm("stem", x, 3, 16))
    y = net.relu(net.conv_norm("stage1.first", x, 16, 16))
    y = net.conv_norm("stage1.second", y, 16, 16)
    x = net.relu(net.node("Add", y, x))
    y = net.relu(net.conv_norm("stage2.first", x, 16, 32, strides=[2, 2]))
    y = net.conv_norm("stage2.second", y, 32, 32)
    skip = net.conv_norm("stage2.skip", x, 16, 32, 1, strides=[2, 2])
    x = net.relu(net.node("Add", y, skip))
    return net.build(net.classifier(x, 32))


@register
def preactivation(seed: int = 0) -> onnx.ModelProto:
    """Residual network in which normalisation and rectifier come before each convolution."""
    net = Net("preactivation", seed)
    x = net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 16)
    for block in ("block1", "block2"):
        y = net.relu(net.batch_norm(f"{block}.norm1", x, 16))
        y = net.conv(f"{block}.conv1", y, 16, 24, bias=False)
        y = net.relu(net.batch_norm(f"{block}.norm2", y, 24))
        x = net.node("Add", x, net.conv(f"{block}.conv2", y, 24, 16, bias=False))
    x = net.relu(net.batch_norm("norm", x, 16))
    return net.build(net.classifier(x, 16))


@register
def depthwise_separable(seed: int = 0) -> onnx.ModelProto:
    """Depthwise and 1x1 convolutions in turn (MobileNetV1)."""
    net = Net("depthwise_separable", seed)
    x = net.relu(net.conv_norm("stem", net.input("image", "batch", 3, 16, 16), 3, 16))
    for index, (inputs, outputs) in enumerate([(16, 32), (32, 48)]):
        x = net.relu(net.conv_norm(f"depth{index}", x, inputs, inputs, group=inputs))
        x = net.relu(net.conv_norm(f"point{index}", x, inputs, outputs, 1))
    return net.build(net.classifier(x, 48))


@register
def inverted_residual(seed: int = 0) -> onnx.ModelProto:
    """Inverted residual blocks with Clip as relu6 (MobileNetV2)."""
    net = Net("inverted_residual", seed)
    x = net.clip(net.conv_norm("stem", net.input("image", "batch", 3, 16, 16), 3, 16))
    for block in ("block1", "block2"):
        y = net.clip(net.conv_norm(f"{block}.expand", x, 16, 64, 1))
        y = net.clip(net.conv_norm(f"{block}.depthwise", y, 64, 64, group=64))
        x = net.node("Add", x, net.conv_norm(f"{block}.project", y, 64, 16, 1))
    return net.build(net.classifier(x, 16))


@register
def depth_multiplier(seed: int = 0) -> onnx.ModelProto:
    """Depthwise convolution that makes two output channels of each input channel."""
    net = Net("depth_multiplier", seed)
    x = net.relu(net.conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 16))
    x = net.relu(net.conv_norm("depthwise", x, 16, 32, group=16))
    x = net.relu(net.conv("point", x, 32, 24, 1))
    return net.build(net.classifier(x, 24))


@register
def grouped(seed: int = 0) -> onnx.ModelProto:
    """Residual block around a convolution of four groups (ResNeXt)."""
    net = Net("grouped", seed)
    x = net.relu(net.conv_norm("stem", net.input("image", "batch", 3, 8, 8), 3, 32))
    y = net.relu(net.conv_norm("reduce", x, 32, 32, 1))
    y = net.relu(net.conv_norm("grouped", y, 32, 64, group=4))
    y = net.conv_norm("restore", y, 64, 32, 1)
    return net.build(net.classifier(net.relu(net.node("Add", x, y)), 32))


@register
def grouped_chain(seed: int = 0) -> onnx.ModelProto:
    """Two grouped convolutions one after the other, with different group counts."""
    net = Net("grouped_chain", seed)
    x = net.relu(net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 32))
    x = net.relu(net.conv("groups4", x, 32, 32, group=4))
    x = net.relu(net.conv("groups2", x, 32, 48, group=2))
    return net.build(net.classifier(x, 48))


@register
def dense(seed: int = 0) -> onnx.ModelProto:
    """Dense block: each layer reads the Concat of all outputs before it (DenseNet)."""
    net = Net("dense", seed)
    x, channels = net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 16), 16
    for layer in ("layer1", "layer2", "layer3"):
        y = net.relu(net.batch_norm(f"{layer}.norm1", x, channels))
        y = net.relu(net.conv_norm(f"{layer}.bottleneck", y, channels, 32, 1))
        y = net.conv(f"{layer}.conv", y, 32, 8, bias=False)
        x, channels = net.node("Concat", x, y, axis=1), channels + 8
    x = net.relu(net.batch_norm("transition.norm", x, channels))
    x = net.conv("transition.conv", x, channels, 24, 1)
    x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.build(net.classifier(x, 24))


@register
def inception(seed: int = 0) -> onnx.ModelProto:
    """Four branches of different widths, one of them pooled, joined by Concat."""
    net = Net("inception", seed)
    x = net.relu(net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 16))
    one = net.relu(net.conv("one", x, 16, 8, 1))
    three = net.relu(net.conv("three.reduce", x, 16, 16, 1))
    three = net.relu(net.conv("three", three, 16, 24, 3))
    five = net.relu(net.conv("five.reduce", x, 16, 8, 1))
    five = net.relu(net.conv("five", five, 8, 8, 5))
    pool = net.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = net.node("Concat", one, three, five, pool, axis=1)
    x = net.relu(net.conv("mix", x, 8 + 24 + 8 + 16, 32))
    return net.build(net.classifier(x, 32))


@register
def channel_shuffle(seed: int = 0) -> onnx.ModelProto:
    """Split in halves, one processed, then Concat and shuffle (ShuffleNetV2)."""
    net = Net("channel_shuffle", seed)
    x = net.relu(net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 32))
    for block in ("block1", "block2"):
        left, right = net.split(f"{block}.split", x, [16, 16], axis=1)
        right = net.relu(net.conv_norm(f"{block}.point1", right, 16, 16, 1))
        right = net.conv_norm(f"{block}.depthwise", right, 16, 16, group=16)
        right = net.relu(net.conv_norm(f"{block}.point2", right, 16, 16, 1))
        x = net.reshape(net.node("Concat", left, right, axis=1), -1, 2, 16, 8, 8)
        x = net.reshape(net.node("Transpose", x, perm=[0, 2, 1, 3, 4]), -1, 32, 8, 8)
    return net.build(net.classifier(net.relu(net.conv("last", x, 32, 24, 1)), 24))


@register
def grouped_shuffle(seed: int = 0) -> onnx.ModelProto:
    """Two grouped 1x1 convolutions with a shuffle in between (ShuffleNetV1)."""
    net = Net("grouped_shuffle", seed)
    x = net.relu(net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 32))
    y = net.relu(net.conv_norm("reduce", x, 32, 32, 1, group=4))
    y = net.reshape(y, 0, 4, 8, 8, 8)
    y = net.reshape(net.node("Transpose", y, perm=[0, 2, 1, 3, 4]), 0, 32, 8, 8)
    y = net.conv_norm("depthwise", y, 32, 32, group=32)
    y = net.conv_norm("restore", y, 32, 32, 1, group=4)
    return net.build(net.classifier(net.relu(net.node("Add", x, y)), 32))


@register
def squeeze_excite(seed: int = 0) -> onnx.ModelProto:
    """Channel gates made by GlobalAveragePool and two 1x1 convolutions."""
    net = Net("squeeze_excite", seed)
    x = net.relu(net.conv_norm("stem", net.input("image", "batch", 3, 8, 8), 3, 32))
    gate = net.node("GlobalAveragePool", x)
    gate = net.relu(net.conv("squeeze", gate, 32, 8, 1))
    gate = net.node("Sigmoid", net.conv("excite", gate, 8, 32, 1))
    x = net.node("Mul", x, gate)
    x = net.relu(net.conv_norm("last", x, 32, 24))
    return net.build(net.classifier(x, 24))


@register
def squeeze_excite_gemm(seed: int = 0) -> onnx.ModelProto:
    """Channel gates made by ReduceMean and two Gemm, with Unsqueeze and HardSigmoid."""
    net = Net("squeeze_excite_gemm", seed)
    x = net.conv_norm("stem", net.input("image", "batch", 3, 8, 8), 3, 32)
    x = net.node("HardSwish", x)
    gate = net.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    gate = net.relu(net.gemm("squeeze", gate, 32, 8))
    gate = net.node("HardSigmoid", net.gemm("excite", gate, 8, 32), alpha=1 / 6, beta=0.5)
    x = net.node("Mul", net.node("Unsqueeze", gate, net.integers(2, 3)), x)
    return net.build(net.classifier(net.relu(net.conv("last", x, 32, 24)), 24))


@register
def spatial_attention(seed: int = 0) -> onnx.ModelProto:
    """One gate for each pixel from the mean and maximum over the channels (CBAM)."""
    net = Net("spatial_attention", seed)
    x = net.relu(net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 24))
    mean = net.node("ReduceMean", x, axes=[1], keepdims=1)
    highest = net.node("ReduceMax", x, axes=[1], keepdims=1)
    gate = net.conv("gate", net.node("Concat", mean, highest, axis=1), 2, 1, 5)
    x = net.node("Mul", x, net.node("Sigmoid", gate))
    return net.build(net.classifier(net.relu(net.conv("last", x, 24, 16)), 16))


@register
def prelu(seed: int = 0) -> onnx.ModelProto:
    """Activations with one learnt slope for each channel, and a learnt layer scale."""
    net = Net("prelu", seed)
    x = net.conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 16)
    x = net.node("PRelu", x, net.bias("slope1", 16, 1, 1))
    y = net.node("PRelu", net.conv("conv2", x, 16, 16), net.bias("slope2", 16, 1, 1))
    x = net.node("Add", x, net.node("Mul", y, net.gain("scale", 1, 16, 1, 1)))
    return net.build(net.classifier(x, 16))


@register
def gated_conv(seed: int = 0) -> onnx.ModelProto:
    """Gated convolution: one convolution is split into values and Sigmoid gates."""
    net = Net("gated_conv", seed)
    x = net.relu(net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 16))
    y = net.conv("gated", x, 16, 48)
    net.node("Split", y, outputs=["value", "gate"], axis=1)
    y = net.node("Mul", "value", net.node("Sigmoid", "gate"))
    return net.build(net.classifier(net.relu(net.conv("last", y, 24, 16)), 16))


@register
def fully_connected(seed: int = 0) -> onnx.ModelProto:
    """Gemm layers with untransposed weights, batch normalisation and LeakyRelu."""
    net = Net("fully_connected", seed)
    x, inputs = net.input("features", "batch", 12), 12
    for layer, outputs in (("layer1", 32), ("layer2", 24)):
        weight = net.weight(f"{layer}.weight", inputs, outputs, fan_in=inputs)
        x = net.node("Gemm", x, weight, net.bias(f"{layer}.bias", outputs), name=layer)
        x = net.node("LeakyRelu", net.batch_norm(f"{layer}.norm", x, outputs), alpha=0.1)
        inputs = outputs
    return net.build(net.gemm("head", x, 24, 10))
