"""Four well-known networks with random weights: the reference for counts, cost and speed.

Batch normalisation is folded where exporters fold it, so layers, channels and parameters are those
of torchvision's networks exported to ONNX. They are built on demand and not in ``BUILDERS``: the
largest holds 25 million weights.
"""

import onnx

from models.net import Net


def resnet50(seed: int = 0, size: int = 224) -> onnx.ModelProto:
    """ResNet-50 (He et al., arXiv 1512.03385)."""
    net = Net("resnet50", seed)
    x = net.relu(_stem(net, size, 64))
    x, width = _halve(net, x), 64
    for stage, (inner, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = net.relu(net.conv(f"{name}.conv1", x, width, inner, 1))
            y = net.relu(net.conv(f"{name}.conv2", y, inner, inner, strides=[stride] * 2))
            y = net.conv(f"{name}.conv3", y, inner, 4 * inner, 1)
            if block == 0:
                skip = f"{name}.downsample"
                x = net.conv(skip, x, width, 4 * inner, 1, strides=[stride] * 2)
            x, width = net.relu(net.node("Add", y, x, name=f"{name}.add")), 4 * inner
    return net.build(net.classifier(x, width, 1000))


def densenet121(seed: int = 0, size: int = 224) -> onnx.ModelProto:
    """DenseNet-121 (Huang et al., arXiv 1608.06993)."""
    net = Net("densenet121", seed)
    features, width = [_halve(net, net.relu(_stem(net, size, 64)))], 64
    for stage, layers in enumerate([6, 12, 24, 16], 1):
        for layer in range(1, layers + 1):
            name = f"block{stage}.layer{layer}"
            x = net.node("Concat", *features, axis=1, name=f"{name}.concat")
            x = net.relu(net.batch_norm(f"{name}.norm", x, width))
            x = net.relu(net.conv(f"{name}.conv1", x, width, 128, 1))
            features.append(net.conv(f"{name}.conv2", x, 128, 32, bias=False))
            width += 32
        x = net.node("Concat", *features, axis=1, name=f"block{stage}.concat")
        x = net.relu(net.batch_norm(f"norm{stage}", x, width))
        if stage < 4:
            x = net.conv(f"transition{stage}", x, width, width // 2, 1, bias=False)
            width //= 2
            features = [net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])]
    return net.build(net.classifier(x, width, 1000))


def mobilenet_v2(seed: int = 0, size: int = 224) -> onnx.ModelProto:
    """MobileNetV2 (Sandler et al., arXiv 1801.04381)."""
    net = Net("mobilenet_v2", seed)
    image = net.input("image", 1, 3, size, size)
    x, width, number = net.clip(net.conv("stem", image, 3, 32, strides=[2, 2])), 32, 0
    for expansion, outputs, blocks, first_stride in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for block in range(blocks):
            number += 1
            name, inner, y = f"block{number}", expansion * width, x
            stride = first_stride if block == 0 else 1
            if expansion > 1:
                y = net.clip(net.conv(f"{name}.expand", y, width, inner, 1))
            y = net.conv(f"{name}.depthwise", y, inner, inner, group=inner, strides=[stride] * 2)
            y = net.conv(f"{name}.project", net.clip(y), inner, outputs, 1)
            x = net.node("Add", x, y, name=f"{name}.add") if block else y
            width = outputs
    x = net.clip(net.conv("last", x, width, 1280, 1))
    return net.build(net.classifier(x, 1280, 1000))


def shufflenet_v2(seed: int = 0, size: int = 224) -> onnx.ModelProto:
    """ShuffleNetV2-x1.0 (Ma et al., arXiv 1807.11164)."""
    net = Net("shufflenet_v2", seed)
    x = net.relu(_stem(net, size, 24, kernel=3))
    x, width, side = _halve(net, x), 24, size // 4

    def branch(name: str, x: str, inputs: int, half: int, stride: int) -> str:
        x = net.relu(net.conv(f"{name}.point1", x, inputs, half, 1))
        x = net.conv(f"{name}.depthwise", x, half, half, group=half, strides=[stride] * 2)
        return net.relu(net.conv(f"{name}.point2", x, half, half, 1))

    for stage, (outputs, blocks) in enumerate([(116, 4), (232, 8), (464, 4)], 2):
        half, side = outputs // 2, side // 2
        for block in range(blocks):
            name = f"stage{stage}.{block}"
            if block == 0:
                left = net.conv(f"{name}.left.depthwise", x, width, width, group=width, strides=[2, 2])
                left = net.relu(net.conv(f"{name}.left.point", left, width, half, 1))
                right = branch(f"{name}.right", x, width, half, 2)
            else:
                left, right = net.split(f"{name}.split", x, [half, half], axis=1)
                right = branch(f"{name}.right", right, half, half, 1)
            x = net.node("Concat", left, right, axis=1, name=f"{name}.concat")
            x = net.node("Transpose", net.reshape(x, 1, 2, half, side, side), perm=[0, 2, 1, 3, 4])
            x, width = net.reshape(x, 1, outputs, side, side), outputs
    x = net.relu(net.conv("last", x, width, 1024, 1))
    return net.build(net.classifier(x, 1024, 1000))


def _stem(net: Net, size: int, outputs: int, kernel: int = 7) -> str:
    """First convolution, which halves the image."""
    image = net.input("image", 1, 3, size, size)
    return net.conv("stem", image, 3, outputs, kernel, strides=[2, 2])


def _halve(net: Net, x: str) -> str:
    """Maximum over overlapping windows."""
    return net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
