"""Transformers and other networks with the channels last."""

import onnx

from models.net import Net, register


def attention(net: Net, name: str, x: str, tokens: int, width: int, heads: int) -> str:
    """Multi-head attention as exported from a fused projection of query, key and value."""
    size = width // heads
    y = net.linear(f"{name}.qkv", x, width, 3 * width)
    y = net.reshape(y, -1, tokens, 3, heads, size)
    y = net.node("Transpose", y, perm=[2, 0, 3, 1, 4])
    query, key, value = (
        net.node("Gather", y, net.initializer(f"index{part}", part, "i8"), axis=0) for part in range(3)
    )
    scores = net.node("MatMul", query, net.node("Transpose", key, perm=[0, 1, 3, 2]))
    scores = net.node("Mul", scores, net.scalar(size**-0.5))
    y = net.node("MatMul", net.node("Softmax", scores, axis=-1), value)
    y = net.reshape(net.node("Transpose", y, perm=[0, 2, 1, 3]), -1, tokens, width)
    return net.linear(f"{name}.project", y, width, width)


@register
def transformer(seed: int = 0) -> onnx.ModelProto:
    """One encoder block: fused attention, LayerNormalization and a GELU made of Erf."""
    net = Net("transformer", seed)
    x = net.linear("embed", net.input("tokens", "batch", 6, 12), 12, 32)
    x = net.node("Add", x, net.bias("position", 1, 6, 32))
    y = attention(net, "attention", net.layer_norm("norm1", x, 32), 6, 32, 4)
    x = net.node("Add", x, y)
    y = net.linear("hidden", net.layer_norm("norm2", x, 32), 32, 64)
    error = net.node("Erf", net.node("Div", y, net.scalar(2**0.5)))
    y = net.node("Mul", y, net.node("Add", error, net.scalar(1.0)))
    y = net.linear("output", net.node("Mul", y, net.scalar(0.5)), 64, 32)
    x = net.layer_norm("norm3", net.node("Add", x, y), 32)
    x = net.node("ReduceMean", x, axes=[1], keepdims=0)
    return net.build(net.gemm("head", x, 32, 10))


@register
def separate_attention(seed: int = 0) -> onnx.ModelProto:
    """Attention with separate query, key and value, the latter two shared by head pairs."""
    net = Net("separate_attention", seed)
    x = net.linear("embed", net.input("tokens", "batch", 6, 12), 12, 32)

    def heads(name: str, count: int) -> str:
        y = net.reshape(net.linear(name, x, 32, count * 8), 0, 6, count, 8)
        return net.node("Transpose", y, perm=[0, 2, 1, 3])

    def repeated(name: str) -> str:
        y = net.node("Unsqueeze", heads(name, 2), net.integers(2))
        return net.reshape(net.node("Expand", y, net.integers(1, 1, 2, 1, 1)), 0, 4, 6, 8)

    query, key, value = heads("query", 4), repeated("key"), repeated("value")
    scores = net.node("MatMul", query, net.node("Transpose", key, perm=[0, 1, 3, 2]))
    scores = net.node("Softmax", net.node("Div", scores, net.scalar(8**0.5)), axis=-1)
    y = net.node("Transpose", net.node("MatMul", scores, value), perm=[0, 2, 1, 3])
    x = net.node("Add", x, net.linear("project", net.reshape(y, 0, 6, 32), 32, 32))
    return net.build(net.linear("head", x, 32, 10))


@register
def decomposed_layer_norm(seed: int = 0) -> onnx.ModelProto:
    """Residual MLP whose layer normalisation is spelt out in elementary nodes."""
    net = Net("decomposed_layer_norm", seed)
    x = net.linear("embed", net.input("tokens", "batch", 6, 12), 12, 32)
    for block in ("block1", "block2"):
        centred = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
        square = net.node("Pow", centred, net.scalar(2.0))
        variance = net.node("ReduceMean", square, axes=[-1])
        deviation = net.node("Sqrt", net.node("Add", variance, net.scalar(1e-5)))
        y = net.node("Mul", net.node("Div", centred, deviation), net.gain(f"{block}.gain", 32))
        y = net.node("Add", y, net.bias(f"{block}.shift", 32))
        y = net.relu(net.linear(f"{block}.hidden", y, 32, 48))
        x = net.node("Add", x, net.linear(f"{block}.output", y, 48, 32))
    return net.build(net.linear("head", x, 32, 10))


@register
def gated_mlp(seed: int = 0) -> onnx.ModelProto:
    """Root-mean-square normalisation and a gated MLP without biases (SwiGLU)."""
    net = Net("gated_mlp", seed)
    x = net.linear("embed", net.input("tokens", "batch", 6, 12), 12, 32)
    mean = net.node("ReduceMean", net.node("Mul", x, x), axes=[-1])
    root = net.node("Sqrt", net.node("Add", mean, net.scalar(1e-6)))
    y = net.node("Mul", net.node("Div", x, root), net.gain("norm.weight", 32))
    gate = net.node("MatMul", y, net.weight("gate.weight", 32, 64, fan_in=32))
    value = net.node("MatMul", y, net.weight("value.weight", 32, 64, fan_in=32))
    y = net.node("Mul", net.node("Mul", gate, net.node("Sigmoid", gate)), value)
    y = net.node("MatMul", y, net.weight("output.weight", 64, 32, fan_in=64))
    return net.build(net.linear("head", net.node("Add", x, y), 32, 10))


@register
def mixer(seed: int = 0) -> onnx.ModelProto:
    """Image patches mixed over tokens, then over channels, by Transposes (MLP-Mixer)."""
    net = Net("mixer", seed)
    x = net.input("image", "batch", 3, 16, 16)
    x = net.conv("patches", x, 3, 32, 4, strides=[4, 4], pads=[0] * 4)
    x = net.node("Transpose", net.reshape(x, 0, 32, 16), perm=[0, 2, 1])
    y = net.node("Transpose", net.layer_norm("norm1", x, 32), perm=[0, 2, 1])
    y = net.linear("tokens.output", net.relu(net.linear("tokens.hidden", y, 16, 24)), 24, 16)
    x = net.node("Add", x, net.node("Transpose", y, perm=[0, 2, 1]))
    y = net.relu(net.linear("channels.hidden", net.layer_norm("norm2", x, 32), 32, 64))
    x = net.node("Add", x, net.linear("channels.output", y, 64, 32))
    x = net.node("ReduceMean", net.layer_norm("norm3", x, 32), axes=[1], keepdims=0)
    return net.build(net.gemm("head", x, 32, 10))


@register
def convnext(seed: int = 0) -> onnx.ModelProto:
    """Depthwise convolution, then a layer norm and MLP with channels last (ConvNeXt)."""
    net = Net("convnext", seed)
    x = net.input("image", "batch", 3, 16, 16)
    x = net.conv("stem", x, 3, 32, 4, strides=[4, 4], pads=[0] * 4)
    for block in ("block1", "block2"):
        y = net.conv(f"{block}.depthwise", x, 32, 32, 3, group=32)
        y = net.node("Transpose", y, perm=[0, 2, 3, 1])
        y = net.linear(f"{block}.hidden", net.layer_norm(f"{block}.norm", y, 32), 32, 64)
        y = net.linear(f"{block}.output", net.relu(y), 64, 32)
        y = net.node("Mul", y, net.gain(f"{block}.scale", 32))
        x = net.node("Add", x, net.node("Transpose", y, perm=[0, 3, 1, 2]))
    return net.build(net.classifier(x, 32))


@register
def channels_last(seed: int = 0) -> onnx.ModelProto:
    """Channels-last network in the manner of tf2onnx: a Transpose pair around each Conv."""
    net = Net("channels_last", seed)

    def conv(name: str, x: str, inputs: int, outputs: int) -> str:
        y = net.node("Transpose", x, perm=[0, 3, 1, 2])
        y = net.node("Transpose", net.conv(name, y, inputs, outputs, bias=False), perm=[0, 2, 3, 1])
        return net.node("Add", y, net.bias(f"{name}.bias", outputs))

    x = net.relu(conv("conv1", net.input("image", "batch", 8, 8, 3), 3, 16))
    y = net.node("Mul", conv("conv2", x, 16, 16), net.gain("scale", 1, 1, 1, 16))
    x = net.relu(net.node("Add", y, x))
    x = net.node("Concat", x, net.relu(conv("conv3", x, 16, 24)), axis=3)
    x = net.node("ReduceMean", x, axes=[1, 2], keepdims=0)
    return net.build(net.linear("head", x, 40, 10))
