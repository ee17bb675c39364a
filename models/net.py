"""What the builders of the test networks share: the helper `Net` and the table `BUILDERS`."""

from collections.abc import Callable, Sequence
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
        self._stored: set[str] = set()

    def input(self, name: str, *shape: int | str) -> str:
        """Declare a float32 input; a text as dimension is the name of a free size."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def initializer(self, name: str, values: npt.ArrayLike, dtype: npt.DTypeLike = "f4") -> str:
        """Store `values`, unless a tensor of that name is there already (a shared weight)."""
        if name not in self._stored:
            self._stored.add(name)
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
        weight = self.weight(f"{name}.weight", inputs, outputs // group, 2, 2, fan_in=inputs // group)
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
