"""The same structural edit by onnx-graphsurgeon and by our own rewriter, as a ratio.

    python -m tests.benchmarks.structural

Behind every tenth convolution a Gather is inserted, every target shape that is computed while the model
runs becomes a constant, and the nodes that computed it are removed; nodes stay in topological order. For
onnx-graphsurgeon that takes import, insertion, ``cleanup``, ``toposort`` and export; for us a ``Rewriter``,
which edits the ModelProto. Analysis is made before and counts for neither.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from rich.console import Console
from rich.table import Table

from models import architectures
from models.net import Net
from onnxprune.coupling.trace import Trace, trace
from onnxprune.surgery.editor import Editor
from onnxprune.surgery.rewriter import Rewriter

from .. import battery
from ..building import made_up

EVERY = 10
ROUNDS = 7


def shaped(blocks: int, channels: int) -> onnx.ModelProto:
    """Convolutions, with a Reshape between them whose target is read from the tensor's own shape."""
    net = Net(f"shaped {blocks}", seed=0)
    x = net.conv("stem", net.input("image", 1, 3, 8, 8), 3, channels, 1)
    for block in range(blocks):
        x = net.relu(net.conv(f"block{block}", x, channels, channels, 1))
        x = net.node("Reshape", x, net.node("Shape", x))
    return net.build(net.classifier(x, channels))


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "shaped, 500 blocks x 16": lambda: shaped(500, 16),
    "shaped, 50 blocks x 256": lambda: shaped(50, 256),
    "resnet50": architectures.resnet50,
    "densenet121": architectures.densenet121,
}


def targets(traced: Trace) -> tuple[list[str], list[str]]:
    """Convolutions that get a Gather, and Reshapes whose target becomes a constant, by name."""
    convolutions = [node.name for node in traced.graph.nodes if node.op == "Conv"]
    reshapes = [
        n.name for n in traced.graph.nodes if n.op == "Reshape" and n.inputs[1] in traced.graph.producers
    ]
    return convolutions[::EVERY], reshapes


def by_rewriter(traced: Trace) -> onnx.ModelProto:
    """The edit on the ModelProto."""
    gathers, reshapes = targets(traced)
    rewriter = Rewriter(traced, traced.sizes())
    nodes = {node.name: node for node in traced.graph.nodes}
    for name in gathers:
        size = traced.shapes.first.shapes[nodes[name].output][1]
        rewriter.insertions.gather_behind(nodes[name], 1, np.arange(size))
    for name in reshapes:
        shape = traced.shapes.first.shapes[nodes[name].output]
        rewriter.replace_input(nodes[name], 1, np.array(shape, np.int64))
    return rewriter.run(Editor).proto


def by_graphsurgeon(traced: Trace) -> onnx.ModelProto:
    """The same edit on a ``gs.Graph``."""
    gathers, reshapes = targets(traced)
    graph = gs.import_onnx(traced.model.proto)
    nodes = {node.name: node for node in graph.nodes}
    for name in gathers:
        node = nodes[name]
        output = node.outputs[0]
        node.outputs[0] = whole = gs.Variable(f"{output.name}_whole", output.dtype)
        size = traced.shapes.first.shapes[output.name][1]
        index = gs.Constant(f"{output.name}_index", np.arange(size))
        graph.nodes.append(gs.Node("Gather", f"{name}_gather", {"axis": 1}, [whole, index], [output]))
    for name in reshapes:
        shape = np.array(traced.shapes.first.shapes[nodes[name].outputs[0].name], np.int64)
        nodes[name].inputs[1] = gs.Constant(f"{name}_target", shape)
    graph.cleanup().toposort()
    result: onnx.ModelProto = gs.export_onnx(graph)
    return result


def check_alike(traced: Trace) -> None:
    """Both edits give the same nodes and the same numbers."""
    ours, theirs = by_rewriter(traced), by_graphsurgeon(traced)
    assert Counter(n.op_type for n in ours.graph.node) == Counter(n.op_type for n in theirs.graph.node)
    feeds = made_up(traced.graph)
    battery.check_equal(battery.outputs(ours, feeds), battery.outputs(theirs, feeds), 0.0, "edited alike")


def seconds(job: Callable[[], object]) -> float:
    """Time of one run."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def main() -> None:
    """Measure in turns, and print the least times and their ratio."""
    table = Table("model", "nodes", "MB", "rewriter ms", "graphsurgeon ms", "ratio")
    for name, build in MODELS.items():
        traced = trace(build())
        check_alike(traced)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(seconds(partial(by_rewriter, traced)))
            theirs.append(seconds(partial(by_graphsurgeon, traced)))
        nodes, size = len(traced.graph.nodes), traced.model.nbytes() / 1e6
        fast, slow = min(ours) * 1e3, min(theirs) * 1e3
        table.add_row(name, str(nodes), f"{size:.1f}", f"{fast:.1f}", f"{slow:.1f}", f"{slow / fast:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
