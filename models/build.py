"""Builders of small networks for tests, one for each structure a pruner has to understand.

Every builder is a function without required arguments that returns a complete
``onnx.ModelProto``. The weights are drawn from a seed, so the same seed gives the
same bytes::

    from models.build import BUILDERS

    for name, builder in BUILDERS.items():
        model = builder()

All inputs are float32 tensors. Run as a script, the module writes each model to a
file of a folder::

    python models/build.py folder [name ...]
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Builder = TypeVar("Builder", bound=Callable[[], onnx.ModelProto])

BUILDERS: dict[str, Callable[[], onnx.ModelProto]] = {}


def register(builder: Builder) -> Builder:
    """Enter `builder` into `BUILDERS` under the name of the function."""
    BUILDERS[builder.__name__] = builder
    return builder


class Net:
    """Collects the nodes and initializers of a graph, so that a builder reads like a network.

    Tensors are passed around as their names. The first argument of each layer is its
    own name, from which the names of its weights and of its output follow.
    """

    def __init__(self, name: str, seed: int, opset: int = 17, ir_version: int = 8) -> None:
        self.name, self.opset, self.ir_version = name, opset, ir_version
        self.random = np.random.default_rng(seed)
        self.inputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def input(self, name: str, *shape: int | str) -> str:
        """Declare a float32 input; a text as dimension is the name of a free size."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def initializer(self, name: str, values: npt.ArrayLike, dtype: npt.DTypeLike = "f4") -> str:
        """Store `values`, unless a tensor of that name is there already (a shared weight)."""
        if all(name != tensor.name for tensor in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Store a vector of int64 such as a shape or a list of axes."""
        return self.initializer("integers_" + "_".join(map(str, values)), values, "i8")

    def scalar(self, value: float) -> str:
        """Store one float."""
        return self.initializer(f"scalar_{value}", value)

    def weight(self, name: str, *shape: int, fan_in: int = 0) -> str:
        """Draw a weight, He-initialised; `fan_in` defaults to all but the first dimension."""
        scale = np.sqrt(2 / (fan_in or np.prod(shape[1:])))
        return self.initializer(name, self.random.normal(0, scale, shape))

    def bias(self, name: str, *shape: int) -> str:
        """Draw small values around zero."""
        return self.initializer(name, self.random.normal(0, 0.1, shape))

    def gain(self, name: str, *shape: int) -> str:
        """Draw positive values around one."""
        return self.initializer(name, self.random.uniform(0.5, 1.5, shape))

    def node(
        self, op: str, *inputs: str, name: str = "", outputs: Sequence[str] = (), **attributes: Any
    ) -> str:
        """Add a node and return the name of its first output."""
        name = name or f"{op.lower()}{len(self.nodes)}"
        outputs = outputs or [f"{name}.out"]
        self.nodes.append(helper.make_node(op, inputs, outputs, name, **attributes))
        return outputs[0]

    def split(self, name: str, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Split into parts of the given sizes and return their names."""
        outputs = [f"{name}.{index}" for index in range(len(sizes))]
        self.node("Split", x, self.integers(*sizes), name=name, outputs=outputs, axis=axis)
        return outputs

    def build(self, *outputs: str) -> onnx.ModelProto:
        """Return the finished model, with inferred shapes at its outputs."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            self.inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.initializers,
        )
        model = helper.make_model(
            graph,
            producer_name="onnxprune-models",
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=self.ir_version,
        )
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        for output, known in zip(model.graph.output, inferred.graph.output, strict=True):
            output.CopyFrom(known)
            for size in output.type.tensor_type.shape.dim:
                # Inference makes up a name for a size it cannot derive. In these networks
                # that is always the batch, behind a Reshape or a Resize.
                if size.dim_param.startswith("unk__"):
                    size.dim_param = "batch"
        return model

    # Layers.

    def conv(
        self,
        name: str,
        x: str,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        rank: int = 2,
        group: int = 1,
        bias: bool = True,
        **attributes: Any,
    ) -> str:
        """Convolution of `rank` dimensions; pads to the size of its input unless told pads."""
        shape = (outputs, inputs // group, *[kernel] * rank)
        tensors = [x, self.weight(f"{name}.weight", *shape)]
        if bias:
            tensors.append(self.bias(f"{name}.bias", outputs))
        settings = {"kernel_shape": [kernel] * rank, "pads": [kernel // 2] * 2 * rank}
        return self.node("Conv", *tensors, name=name, group=group, **settings | attributes)

    def conv_transpose(self, name: str, x: str, inputs: int, outputs: int, group: int = 1) -> str:
        """Transposed convolution that doubles height and width."""
        weight = self.weight(
            f"{name}.weight", inputs, outputs // group, 2, 2, fan_in=inputs // group
        )
        bias = self.bias(f"{name}.bias", outputs)
        return self.node("ConvTranspose", x, weight, bias, name=name, group=group, strides=[2, 2])

    def batch_norm(self, name: str, x: str, channels: int) -> str:
        """Batch normalisation with statistics as a trained network has them."""
        tensors = [
            self.gain(f"{name}.weight", channels),
            self.bias(f"{name}.bias", channels),
            self.bias(f"{name}.mean", channels),
            self.gain(f"{name}.variance", channels),
        ]
        return self.node("BatchNormalization", x, *tensors, name=name)

    def conv_norm(
        self, name: str, x: str, inputs: int, outputs: int, kernel: int = 3, **attributes: Any
    ) -> str:
        """Convolution without bias, then batch normalisation."""
        y = self.conv(f"{name}.conv", x, inputs, outputs, kernel, bias=False, **attributes)
        return self.batch_norm(f"{name}.norm", y, outputs)

    def gemm(self, name: str, x: str, inputs: int, outputs: int) -> str:
        """Fully connected layer as PyTorch exports it: a Gemm with transposed weight."""
        weight = self.weight(f"{name}.weight", outputs, inputs)
        return self.node("Gemm", x, weight, self.bias(f"{name}.bias", outputs), name=name, transB=1)

    def linear(self, name: str, x: str, inputs: int, outputs: int) -> str:
        """Fully connected layer on the last axis: MatMul, then Add."""
        weight = self.weight(f"{name}.weight", inputs, outputs, fan_in=inputs)
        y = self.node("MatMul", x, weight, name=f"{name}.matmul")
        return self.node("Add", y, self.bias(f"{name}.bias", outputs), name=name)

    def layer_norm(self, name: str, x: str, channels: int) -> str:
        """Layer normalisation of the last axis as one node."""
        weight, bias = self.gain(f"{name}.weight", channels), self.bias(f"{name}.bias", channels)
        return self.node("LayerNormalization", x, weight, bias, name=name, axis=-1)

    def relu(self, x: str) -> str:
        """Rectifier."""
        return self.node("Relu", x)

    def clip(self, x: str) -> str:
        """Rectifier that ends at six."""
        return self.node("Clip", x, self.scalar(0.0), self.scalar(6.0))

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape to constant sizes."""
        return self.node("Reshape", x, self.integers(*shape))

    def classifier(self, x: str, channels: int, classes: int = 10) -> str:
        """Global average pooling and one fully connected layer named ``head``."""
        y = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.gemm("head", y, channels, classes)


# Convolutional networks.


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


# Dense prediction and generation.


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


# Transformers and other networks with the channels last.


def attention(net: Net, name: str, x: str, tokens: int, width: int, heads: int) -> str:
    """Multi-head attention as exported from a fused projection of query, key and value."""
    size = width // heads
    y = net.linear(f"{name}.qkv", x, width, 3 * width)
    y = net.reshape(y, -1, tokens, 3, heads, size)
    y = net.node("Transpose", y, perm=[2, 0, 3, 1, 4])
    query, key, value = (
        net.node("Gather", y, net.initializer(f"index{part}", part, "i8"), axis=0)
        for part in range(3)
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


# Particulars of the format.


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
    graphs = {}
    for key, node in kinds.items():
        value = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        graphs[key] = helper.make_graph([node], key, [], [value])
    total = net.node("ReduceSum", x, keepdims=0)
    x = net.node("If", net.node("Greater", total, net.scalar(300.0)), **graphs)
    return net.build(net.classifier(net.relu(net.conv("conv2", x, 16, 24)), 24))


def main(folder: Path, names: Sequence[str]) -> None:
    """Write the models called `names`, or all of them, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or BUILDERS:
        onnx.save(BUILDERS[name](), folder / f"{name}.onnx")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the small test networks to files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="name", help="all of them by default")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BUILDERS):
        parser.error(f"no such network: {', '.join(sorted(unknown))}")
    main(arguments.folder, arguments.names)
