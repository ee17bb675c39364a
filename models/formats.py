"""Networks that show particulars of the format."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.convolutional import inverted_residual, residual
from models.net import Net, register


@register
def dynamic_reshape(seed: int = 0) -> onnx.ModelProto:
    """Flatten computed at run time: Shape, Gather, Unsqueeze, Concat and Reshape."""
    net = Net("dynamic_reshape", seed)
    x = net.relu(net.conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 16))
    x = net.relu(net.conv("conv2", x, 16, 24, strides=[2, 2]))
    size = net.node("Gather", net.node("Shape", x), net.initializer("first", 0, "i8"), axis=0)
    size = net.node("Unsqueeze", size, net.integers(0))
    shape = net.node("Concat", size, net.integers(24 * 4 * 4), axis=0)
    x = net.relu(net.gemm("hidden", net.node("Reshape", x, shape), 24 * 4 * 4, 32))
    return net.build(net.gemm("head", x, 32, 10))


@register
def computed_features(seed: int = 0) -> onnx.ModelProto:
    """Reshape whose channel count itself is read from the tensor by Shape and Slice."""
    net = Net("computed_features", seed)
    x = net.relu(net.conv("conv1", net.input("image", "batch", 3, "height", "width"), 3, 16))
    x = net.relu(net.conv("conv2", x, 16, 24))
    start, end = net.integers(0), net.integers(2)
    leading = net.node("Slice", net.node("Shape", x), start, end, net.integers(0))
    shape = net.node("Concat", leading, net.integers(-1), axis=0)
    x = net.node("ReduceMean", net.node("Reshape", x, shape), axes=[2], keepdims=0)
    return net.build(net.gemm("head", x, 24, 10))


@register
def detector(seed: int = 0) -> onnx.ModelProto:
    """Two-anchor detection head: Reshape, Sigmoid, Split, Concat (YOLO)."""
    net = Net("detector", seed)
    x = net.input("image", "batch", 3, 16, 16)
    x = net.relu(net.conv_norm("stem", x, 3, 16, strides=[2, 2]))
    left, right = net.conv("left", x, 16, 16, 1), net.conv("right", x, 16, 16)
    x = net.relu(net.node("Concat", left, right, axis=1))
    # Two anchors with two coordinates, two sizes, one score and three classes each.
    y = net.reshape(net.conv("head", x, 32, 2 * 8, 1), 0, 2, 8, 8, 8)
    y = net.node("Transpose", y, perm=[0, 1, 3, 4, 2])
    parts = net.split("parts", net.node("Sigmoid", y), [2, 2, 4], axis=4)
    centre = net.node("Add", net.node("Mul", parts[0], net.scalar(2.0)), net.bias("grid", 8, 8, 2))
    size = net.node("Pow", net.node("Mul", parts[1], net.scalar(2.0)), net.scalar(2.0))
    size = net.node("Mul", size, net.gain("anchors", 1, 2, 1, 1, 2))
    y = net.node("Concat", centre, size, parts[2], axis=4)
    return net.build(net.reshape(y, 0, -1, 8))


@register
def shared_weights(seed: int = 0) -> onnx.ModelProto:
    """Two inputs through convolutions that read the same weights (Siamese network)."""
    net = Net("shared_weights", seed)
    features = []
    for side in ("left", "right"):
        x = net.input(side, "batch", 3, 8, 8)
        for layer, inputs, outputs in (("conv1", 3, 16), ("conv2", 16, 24)):
            weight = net.weight(f"{layer}.weight", outputs, inputs, 3, 3)
            bias = net.bias(f"{layer}.bias", outputs)
            x = net.node("Conv", x, weight, bias, name=f"{side}.{layer}", pads=[1] * 4)
            x = net.relu(x)
        features.append(net.node("Flatten", net.node("GlobalAveragePool", x)))
    distance = net.node("Abs", net.node("Sub", *features))
    return net.build(net.gemm("head", distance, 24, 1))


@register
def repeated_block(seed: int = 0) -> onnx.ModelProto:
    """One convolution applied twice in a row, which ties its inputs to its outputs."""
    net = Net("repeated_block", seed)
    x = net.relu(net.conv("stem", net.input("image", "batch", 3, 8, 8), 3, 16))
    weight, bias = net.weight("shared.weight", 16, 16, 3, 3), net.bias("shared.bias", 16)
    for name in ("first", "second"):
        x = net.relu(net.node("Conv", x, weight, bias, name=name, pads=[1] * 4))
    return net.build(net.classifier(x, 16))


@register
def constant_nodes(seed: int = 0) -> onnx.ModelProto:
    """Residual network with every weight in a Constant node, none an initializer."""
    model = residual(seed)
    graph = model.graph
    graph.name = "constant_nodes"
    constants = [
        helper.make_node("Constant", [], [tensor.name], f"{tensor.name}.constant", value=tensor)
        for tensor in graph.initializer
    ]
    nodes = [*constants, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)
    return model


@register
def listed_initializers(seed: int = 0) -> onnx.ModelProto:
    """Old format (IR version 3, opset 7), which lists the initializers as inputs too."""
    net = Net("listed_initializers", seed, opset=7, ir_version=3)
    x = net.relu(net.conv_norm("conv1", net.input("image", 1, 3, 8, 8), 3, 16))
    x = net.relu(net.conv_norm("conv2", x, 16, 24))
    x = net.node("Dropout", x, ratio=0.5)
    x = net.node("AveragePool", x, kernel_shape=[8, 8])
    weight, bias = net.weight("head.weight", 10, 24), net.bias("head.bias", 10)
    x = net.node("Gemm", net.node("Flatten", x), weight, bias, transB=1)
    for tensor in net.initializers:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        net.inputs.append(value)
    return net.build(x)


@register
def shared_by_identity(seed: int = 0) -> onnx.ModelProto:
    """Equal weights stored once and handed on by Identity, as PyTorch exports them."""
    net = Net("shared_by_identity", seed)
    x = net.conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 16)
    x = net.relu(net.batch_norm("norm1", x, 16))
    x = net.conv("conv2", x, 16, 16)
    parameters = [f"norm1.{part}" for part in ("weight", "bias", "mean", "variance")]
    copies = [net.node("Identity", name) for name in parameters]
    x = net.relu(net.node("BatchNormalization", x, *copies, name="norm2"))
    return net.build(net.classifier(x, 16))


@register
def half_precision(seed: int = 0) -> onnx.ModelProto:
    """Float16 weights that Cast nodes turn into float32."""
    net = Net("half_precision", seed)

    def conv(name: str, x: str, inputs: int, outputs: int) -> str:
        scale = np.sqrt(2 / (9 * inputs))
        values = net.random.normal(0, scale, (outputs, inputs, 3, 3))
        weight = net.node("Cast", net.initializer(name, values, "f2"), to=TensorProto.FLOAT)
        return net.relu(net.node("Conv", x, weight, pads=[1] * 4))

    x = conv("conv1.weight", net.input("image", "batch", 3, 8, 8), 3, 16)
    x = conv("conv2.weight", x, 16, 24)
    return net.build(net.classifier(x, 24))


@register
def quantized_weights(seed: int = 0) -> onnx.ModelProto:
    """Eight-bit weights with one scale for each output channel (DequantizeLinear)."""
    net = Net("quantized_weights", seed)

    def conv(name: str, x: str, inputs: int, outputs: int) -> str:
        steps = net.random.integers(-127, 128, (outputs, inputs, 3, 3))
        scale = net.random.uniform(0.5, 1.5, outputs) * np.sqrt(2 / (9 * inputs)) / 73
        tensors = [
            net.initializer(f"{name}.weight", steps, "i1"),
            net.initializer(f"{name}.scale", scale),
            net.initializer(f"{name}.zero", np.zeros(outputs), "i1"),
        ]
        weight = net.node("DequantizeLinear", *tensors, axis=0)
        bias = net.bias(f"{name}.bias", outputs)
        return net.relu(net.node("Conv", x, weight, bias, name=name, pads=[1] * 4))

    x = conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 16)
    return net.build(net.classifier(conv("conv2", x, 16, 24), 24))


@register
def recorded_shapes(seed: int = 0) -> onnx.ModelProto:
    """Inverted residual network with the shape of every tensor recorded."""
    model = onnx.shape_inference.infer_shapes(inverted_residual(seed), strict_mode=True)
    model.graph.name = "recorded_shapes"
    return model


@register
def several_outputs(seed: int = 0) -> onnx.ModelProto:
    """Intermediate feature maps are outputs themselves, so their width must stay."""
    net = Net("several_outputs", seed)
    x = net.relu(net.conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 16))
    y = net.relu(net.conv("conv2", x, 16, 24))
    z = net.relu(net.conv("conv3", y, 24, 16))
    return net.build(y, net.classifier(z, 16))


@register
def branch_at_run_time(seed: int = 0) -> onnx.ModelProto:
    """Conditional node whose two subgraphs read tensors and weights of the outer graph."""
    net = Net("branch_at_run_time", seed)
    x = net.relu(net.conv("conv1", net.input("image", "batch", 3, 8, 8), 3, 16))
    weight = net.weight("inner.weight", 16, 16, 3, 3)
    kinds = {
        "then_branch": helper.make_node("Conv", [x, weight], ["yes"], "inner", pads=[1] * 4),
        "else_branch": helper.make_node("Abs", [x], ["no"], "other"),
    }
    graphs: dict[str, Any] = {}
    for key, node in kinds.items():
        value = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        graphs[key] = helper.make_graph([node], key, [], [value])
    total = net.node("ReduceSum", x, keepdims=0)
    x = net.node("If", net.node("Greater", total, net.scalar(300.0)), **graphs)
    return net.build(net.classifier(net.relu(net.conv("conv2", x, 16, 24)), 24))
