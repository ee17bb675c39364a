"""The models that are measured, written to a folder by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from models import architectures
from models.net import Net

from ..conftest import DIGITS, ROOT

SHARED = ROOT.parent / "shared" / "models"
TRAINED = ("derived_mobilenet_v2_fp32", "yolox_nano")
"""Networks that are measured where they are at hand."""


def chain(nodes: int, channels: int) -> onnx.ModelProto:
    """Residual blocks of two 1x1 convolutions with Relu behind them: five nodes each."""
    net = Net(f"chain {nodes} x {channels}", seed=0)
    x = net.conv("stem", net.input("image", 1, 3, 8, 8), 3, channels, 1)
    for block in range(nodes // 5):
        y = net.relu(net.conv(f"block{block}.conv1", x, channels, channels, 1))
        y = net.relu(net.conv(f"block{block}.conv2", y, channels, channels, 1))
        x = net.node("Add", x, y)
    return net.build(net.classifier(x, channels))


def _saved(build: Callable[[], onnx.ModelProto], path: Path) -> None:
    onnx.save(build(), path)


def _copied(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes())


def holes(path: Path, *, width: int, layers: int) -> None:
    """Square MatMuls whose weights are a hole in a data file: zeros that take no room on the disk."""
    names = [f"w{k}" for k in range(layers)]
    size = 4 * width * width
    nodes = [helper.make_node("MatMul", [f"x{k}", name], [f"x{k + 1}"], name) for k, name in enumerate(names)]
    x, y = (helper.make_tensor_value_info(name, 1, [8, width]) for name in ("x0", f"x{layers}"))
    graph = helper.make_graph(nodes, "holes", [x], [y])
    for k, name in enumerate(names):
        tensor = TensorProto(name=name, dims=[width, width], data_type=1, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", f"{path.name}.data"), ("offset", k * size), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        graph.initializer.append(tensor)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with open(path.with_name(f"{path.name}.data"), "wb") as data:
        data.truncate(layers * size)


def filled(path: Path, *, width: int, layers: int) -> None:
    """The same with random numbers in the data file: copying it takes as long as its size says.

    Products keep the variance of what they are given.
    """
    holes(path, width=width, layers=layers)
    random = np.random.default_rng(0)
    with open(path.with_name(f"{path.name}.data"), "r+b") as data:
        for _ in range(layers):
            data.write(
                (
                    np.sqrt(12 / width, dtype=np.float32) * (random.random((width, width), np.float32) - 0.5)
                ).data
            )
        os.fsync(data.fileno())


def one_matrix(path: Path) -> None:
    """A network most of which is one matrix of 268 MB."""
    net = Net("one matrix", 0)
    x = net.node("Relu", net.linear("wide", net.input("x", 1, 8192), 8192, 8192))
    onnx.save(net.build(net.linear("last", x, 8192, 16)), path)


Subjects = dict[str, Callable[[Path], None]]

SUBJECTS: Subjects = {
    "digits": partial(_copied, DIGITS),
    "resnet50": partial(_saved, architectures.resnet50),
    "densenet121": partial(_saved, architectures.densenet121),
    "chain of 3000 nodes": partial(_saved, partial(chain, 3000, 32)),
    "one matrix": one_matrix,
    **{
        path.stem: partial(_copied, path)
        for path in (SHARED / f"{name}.onnx" for name in TRAINED)
        if path.is_file()
    },
}

LARGE: Subjects = {
    "3 GB in 48 matrices": partial(holes, width=4096, layers=48),
    "3 GB of random numbers": partial(filled, width=4096, layers=48),
    "8 GB in 128 matrices": partial(holes, width=4096, layers=128),
    "2 GB in one matrix": partial(holes, width=23170, layers=1),
}


def bytes_of(path: Path) -> int:
    """Size of a model with its data."""
    data = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def largest_tensor(path: Path) -> int:
    """Bytes of the largest stored tensor."""
    stored = onnx.load(path, load_external_data=False).graph.initializer
    return max(int(np.prod(t.dims)) * helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in stored)
