"""Changes that break a model: each takes one, and numbers that are random."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from .fuzz_seeds import node

Rng = np.random.Generator
Change = Callable[[onnx.ModelProto, Rng], None]

SIZES = [
    -1, 0, 1, 2, 3, 5, 7, 16, 17, 64, 1000, 10**6, 10**9, 10**12, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1,
    -2, -3, -16, -(2**31), -(2**63),
]  # fmt: skip
SMALL = [-3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 24]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, -1e38, np.inf, -np.inf, np.nan]
TYPES = [*range(-1, 30), 99, 2**31 - 1]
NAMES = [
    "",
    " ",
    "x",
    "y",
    "a\nb",
    "::error::x",
    "\x1b[31m",
    "\u202ex",
    "n" * 5000,
    "#1",
    "w0#1",
    "ü",
    "/",
    ".",
    "*",
]
OPERATORS = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})


def pick(rng: Rng, options: Iterable[Any]) -> Any:
    found = list(options)
    return found[int(rng.integers(len(found)))]


def size(rng: Rng) -> int:
    return int(pick(rng, SMALL if rng.random() < 0.5 else SIZES))


def result(name: str) -> onnx.ValueInfoProto:
    """An output whose sizes are left open."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


# What is found in a model ---------------------------------------------------------------------


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for proto in graph.node:
        for attribute in proto.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def a_graph(m: onnx.ModelProto, rng: Rng) -> onnx.GraphProto:
    return pick(rng, graphs(m.graph))


def a_node(m: onnx.ModelProto, rng: Rng) -> onnx.NodeProto:
    nodes = [n for g in graphs(m.graph) for n in g.node] + [n for f in m.functions for n in f.node]
    return pick(rng, nodes) if nodes else onnx.NodeProto()


def a_tensor(m: onnx.ModelProto, rng: Rng, kind: int | None = None) -> TensorProto:
    tensors = [t for g in graphs(m.graph) for t in g.initializer if kind in (None, t.data_type)]
    return pick(rng, tensors) if tensors else TensorProto()


def a_value(m: onnx.ModelProto, rng: Rng) -> onnx.ValueInfoProto:
    values = [v for g in graphs(m.graph) for v in (*g.input, *g.output, *g.value_info)]
    return pick(rng, values) if values else onnx.ValueInfoProto()


def a_name(m: onnx.ModelProto, rng: Rng) -> str:
    names = [name for g in graphs(m.graph) for n in g.node for name in (*n.input, *n.output)]
    names += [t.name for t in m.graph.initializer] + NAMES
    return pick(rng, names)


def an_attribute(m: onnx.ModelProto, rng: Rng) -> AttributeProto:
    for _ in range(8):
        found = a_node(m, rng)
        if found.attribute:
            return pick(rng, found.attribute)
    return AttributeProto()


# Changes --------------------------------------------------------------------------------------


def dims_of_a_tensor(m: onnx.ModelProto, rng: Rng) -> None:
    tensor = a_tensor(m, rng)
    if tensor.dims and rng.random() < 0.8:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = size(rng)
    else:
        tensor.dims.append(size(rng))


def dims_of_a_value(m: onnx.ModelProto, rng: Rng) -> None:
    shape = a_value(m, rng).type.tensor_type.shape
    what = int(rng.integers(4))
    if what == 0:
        shape.dim.add(dim_value=size(rng))
    elif what == 1 and shape.dim:
        del shape.dim[-1]
    elif shape.dim:
        dim = pick(rng, shape.dim)
        if what == 2:
            dim.dim_value = size(rng)
        else:
            dim.dim_param = pick(rng, NAMES)


def rank_of_an_input(m: onnx.ModelProto, rng: Rng) -> None:
    if m.graph.input:
        shape = pick(rng, m.graph.input).type.tensor_type.shape
        for _ in range(int(pick(rng, [1, 8, 33, 64, 200]))):
            shape.dim.add(dim_value=1)


def recorded_shape(m: onnx.ModelProto, rng: Rng) -> None:
    name = a_name(m, rng)
    shape = [size(rng) for _ in range(int(rng.integers(6)))]
    m.graph.value_info.append(helper.make_tensor_value_info(name, int(pick(rng, [1, 7, 10, 99])), shape))


def type_of_a_value(m: onnx.ModelProto, rng: Rng) -> None:
    kind = a_value(m, rng).type
    what = int(rng.integers(5))
    if what < 2:
        kind.tensor_type.elem_type = int(pick(rng, TYPES))
    elif what == 2:
        kind.Clear()
    elif what == 3:
        kind.sequence_type.elem_type.tensor_type.elem_type = int(pick(rng, TYPES))
    else:
        kind.optional_type.elem_type.sparse_tensor_type.elem_type = int(pick(rng, TYPES))


def type_of_a_tensor(m: onnx.ModelProto, rng: Rng) -> None:
    a_tensor(m, rng).data_type = int(pick(rng, TYPES))


def name_of_a_node(m: onnx.ModelProto, rng: Rng) -> None:
    a_node(m, rng).name = pick(rng, NAMES)


def name_read(m: onnx.ModelProto, rng: Rng) -> None:
    """Reads of anything: of what comes later (a cycle), of what is nowhere, of nothing."""
    found = a_node(m, rng)
    if found.input:
        found.input[int(rng.integers(len(found.input)))] = a_name(m, rng)
    else:
        found.input.append(a_name(m, rng))


def name_written(m: onnx.ModelProto, rng: Rng) -> None:
    found = a_node(m, rng)
    if found.output:
        found.output[int(rng.integers(len(found.output)))] = a_name(m, rng)


def name_everywhere(m: onnx.ModelProto, rng: Rng) -> None:
    old, new = a_name(m, rng), pick(rng, NAMES)
    for graph in graphs(m.graph):
        for found in graph.node:
            found.input[:] = [new if n == old else n for n in found.input]
            found.output[:] = [new if n == old else n for n in found.output]
        named: list[Any] = [*graph.input, *graph.output, *graph.initializer, *graph.value_info]
        for value in named:
            value.name = new if value.name == old else value.name


def cycle(m: onnx.ModelProto, rng: Rng) -> None:
    graph = a_graph(m, rng)
    if len(graph.node) > 1:
        first, last = sorted(rng.choice(len(graph.node), 2, replace=False))
        if graph.node[first].input and graph.node[last].output:
            graph.node[first].input[0] = graph.node[last].output[0]


def order(m: onnx.ModelProto, rng: Rng) -> None:
    graph = a_graph(m, rng)
    nodes = list(graph.node)
    rng.shuffle(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def fewer_or_more_reads(m: onnx.ModelProto, rng: Rng) -> None:
    found = a_node(m, rng)
    if rng.random() < 0.5 and found.input:
        del found.input[int(rng.integers(len(found.input))) :]
    else:
        found.input.extend([a_name(m, rng) for _ in range(int(pick(rng, [1, 2, 20])))])


def fewer_or_more_results(m: onnx.ModelProto, rng: Rng) -> None:
    found = a_node(m, rng)
    if rng.random() < 0.5 and found.output:
        del found.output[int(rng.integers(len(found.output))) :]
    else:
        found.output.extend([pick(rng, ["", "more", a_name(m, rng)]) for _ in range(int(pick(rng, [1, 3])))])


def no_node(m: onnx.ModelProto, rng: Rng) -> None:
    graph = a_graph(m, rng)
    if graph.node:
        del graph.node[int(rng.integers(len(graph.node)))]


def twice_a_node(m: onnx.ModelProto, rng: Rng) -> None:
    graph = a_graph(m, rng)
    if graph.node:
        graph.node.append(pick(rng, graph.node))


def operator(m: onnx.ModelProto, rng: Rng) -> None:
    found = a_node(m, rng)
    found.op_type = pick(rng, OPERATORS)
    if rng.random() < 0.3:
        del found.attribute[:]


def domain(m: onnx.ModelProto, rng: Rng) -> None:
    a_node(m, rng).domain = pick(rng, ["com.microsoft", "ai.onnx", "ai.onnx.ml", "own", "nowhere", "a\nb"])


def no_attributes(m: onnx.ModelProto, rng: Rng) -> None:
    del a_node(m, rng).attribute[:]


def attribute_value(m: onnx.ModelProto, rng: Rng) -> None:
    found = an_attribute(m, rng)
    if found.type == AttributeProto.INTS and found.ints:
        found.ints[int(rng.integers(len(found.ints)))] = size(rng)
    elif found.type == AttributeProto.INT:
        found.i = size(rng)
    elif found.type == AttributeProto.STRING:
        found.s = pick(
            rng, [b"", b"\xff\xfe", b"bsi,io->", b"...", b"a" * 10000, b"NOTSET", b"linear", b"reflect"]
        )
    else:
        found.f = float(pick(rng, NUMBERS))


def attribute_length(m: onnx.ModelProto, rng: Rng) -> None:
    found = an_attribute(m, rng)
    found.ints.extend([size(rng)] * int(pick(rng, [1, 4, 1000])))


def attribute_type(m: onnx.ModelProto, rng: Rng) -> None:
    an_attribute(m, rng).type = int(rng.integers(15))  # type: ignore[assignment]


def attribute_name(m: onnx.ModelProto, rng: Rng) -> None:
    names = ["axis", "axes", "group", "to", "pads", "value", "body", "then_branch", "", "x" * 1000]
    an_attribute(m, rng).name = pick(rng, names)


def another_attribute(m: onnx.ModelProto, rng: Rng) -> None:
    found = a_node(m, rng)
    try:
        names = list(onnx.defs.get_schema(found.op_type).attributes)
    except onnx.defs.SchemaError:
        names = []
    values: list[Any] = [size(rng), [size(rng)] * int(rng.integers(1, 6)), float(pick(rng, NUMBERS)), "text"]
    found.attribute.append(helper.make_attribute(pick(rng, names or ["axis"]), pick(rng, values)))


def integers(m: onnx.ModelProto, rng: Rng) -> None:
    """Sizes, axes, bounds, pads, trips: whatever is stored as integers."""
    tensor = a_tensor(m, rng, TensorProto.INT64)
    entries = entries_of(tensor)
    if entries.size:
        entries[int(rng.integers(entries.size))] = size(rng)
        tensor.raw_data = entries.tobytes()


def floats(m: onnx.ModelProto, rng: Rng) -> None:
    tensor = a_tensor(m, rng, TensorProto.FLOAT)
    entries = entries_of(tensor)
    if entries.size:
        entries[int(rng.integers(entries.size)) :: int(rng.integers(1, 9))] = pick(rng, NUMBERS)
        tensor.raw_data = entries.tobytes()


def entries_of(tensor: TensorProto) -> np.ndarray:
    """A copy of the entries that a tensor has as bytes; none where an earlier change broke it."""
    if tensor.raw_data:
        with suppress(ValueError):
            return np.array(numpy_helper.to_array(tensor)).reshape(-1)
    return np.empty(0)


def payload(m: onnx.ModelProto, rng: Rng) -> None:
    tensor = a_tensor(m, rng)
    what = int(rng.integers(4))
    if what == 0:
        tensor.raw_data = tensor.raw_data[: int(rng.integers(len(tensor.raw_data) + 1))]
    elif what == 1:
        tensor.raw_data = tensor.raw_data + b"\1" * int(rng.integers(1, 64))
    elif what == 2:
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * int(rng.integers(20)))
    else:
        tensor.int64_data.append(1)


def another_rank(m: onnx.ModelProto, rng: Rng) -> None:
    tensor = a_tensor(m, rng)
    count = int(np.prod(list(tensor.dims), dtype=object)) if tensor.dims else 1
    shapes = [[count], [], [1, *tensor.dims], list(tensor.dims)[::-1], [1] * 40 + list(tensor.dims)]
    tensor.dims[:] = pick(rng, shapes)


def no_tensor(m: onnx.ModelProto, rng: Rng) -> None:
    graph = a_graph(m, rng)
    if graph.initializer:
        del graph.initializer[int(rng.integers(len(graph.initializer)))]


def twice_a_tensor(m: onnx.ModelProto, rng: Rng) -> None:
    if m.graph.initializer:
        m.graph.initializer.append(pick(rng, m.graph.initializer))


def sparse(m: onnx.ModelProto, rng: Rng) -> None:
    values = numpy_helper.from_array(np.ones(2, np.float32), pick(rng, ["w0", "w1", "", "sparse"]))
    indices = numpy_helper.from_array(np.array([size(rng), size(rng)]), "")
    m.graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=values, indices=indices, dims=[size(rng), size(rng)])
    )


def opset(m: onnx.ModelProto, rng: Rng) -> None:
    what = int(rng.integers(5))
    if what == 0:
        del m.opset_import[:]
    elif what == 1:
        m.opset_import.add(domain=pick(rng, ["", "ai.onnx", "own", "x\n"]), version=size(rng))
    else:
        m.opset_import[0].version = int(pick(rng, [*SIZES, *range(1, 30)]))


def ir_version(m: onnx.ModelProto, rng: Rng) -> None:
    m.ir_version = int(pick(rng, [*range(-1, 16), 99, 2**63 - 1]))


def inputs(m: onnx.ModelProto, rng: Rng) -> None:
    graph = a_graph(m, rng)
    if rng.random() < 0.5 and graph.input:
        del graph.input[-1]
    else:
        graph.input.append(helper.make_tensor_value_info(a_name(m, rng), 1, [size(rng)]))


def outputs(m: onnx.ModelProto, rng: Rng) -> None:
    graph = a_graph(m, rng)
    if rng.random() < 0.5 and graph.output:
        del graph.output[-1]
    else:
        graph.output.append(result(a_name(m, rng)))


def subgraph(m: onnx.ModelProto, rng: Rng) -> None:
    """Nothing in a body, a body where there was none, or many in each other."""
    what = int(rng.integers(3))
    if what == 0:
        a_graph(m, rng).Clear()
        return
    depth = 1 if what == 1 else int(pick(rng, [2, 10, 20, 30]))
    inner = helper.make_graph([node("Identity", a_name(m, rng) or "-", "o")], "g", [], [result("o")])
    for _ in range(depth):
        body = node(pick(rng, ["If", "If", "Loop", "Scan"]), a_name(m, rng) or "-", "o")
        names = {"If": ["then_branch", "else_branch"][: int(rng.integers(1, 3))]}.get(body.op_type, ["body"])
        for name in names if depth < 10 else names[:1]:
            body.attribute.append(helper.make_attribute(name, inner))
        inner = helper.make_graph([body], "g", [], [result("o")])
    m.graph.node.append(inner.node[0])


def function(m: onnx.ModelProto, rng: Rng) -> None:
    """Functions that call themselves or each other, twice each; that take or return too much."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    what = int(rng.integers(4))
    count = int(pick(rng, [1, 2, 5, 15, 31, 40])) if what else 1
    call = partial(onnx.NodeProto, domain="own")
    for k in range(count):
        callee = f"f{(k + 1) % count}" if what == 1 or k + 1 < count else "Relu"
        inner = [
            call(op_type=callee, input=["a"], output=["t"]),
            call(op_type=callee, input=["t"], output=["b"]),
        ]
        if callee == "Relu":
            inner = [node("Relu", "a", "b")]
        outputs = ["b"] if what != 2 else ["b", "nowhere"]
        m.functions.append(helper.make_function("own", f"f{k}", ["a"], outputs, inner, imports))
    if not any(o.domain == "own" for o in m.opset_import):
        m.opset_import.add(domain="own", version=1)
    if m.graph.input and m.graph.output:
        start = m.graph.input[0].name
        m.graph.node.append(call(op_type="f0", input=[start] * (2 if what == 3 else 1), output=["called"]))
        m.graph.output.append(result("called"))


def of_a_function(m: onnx.ModelProto, rng: Rng) -> None:
    if m.functions:
        found = pick(rng, m.functions)
        what = int(rng.integers(4))
        if what == 0:
            del found.input[:]
        elif what == 1:
            del found.opset_import[:]
        elif what == 2:
            found.name = pick(rng, NAMES)
        else:
            found.attribute.append("alpha")


def external(m: onnx.ModelProto, rng: Rng) -> None:
    tensor = a_tensor(m, rng)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    places = ["data.bin", "nowhere.bin", "", ".", "..", "../data.bin", "/etc/hostname", "a\0b", "x" * 300, "fifo",
              "folder", "x/" * 3000, "link", "broken.onnx"]  # fmt: skip
    numbers = ["0", "4096", "-1", "abc", "1e3", "", "99999999999999999999", str(2**63 - 1), "8", " 8", "0x10"]
    settings = {"location": pick(rng, places), "offset": pick(rng, numbers), "length": pick(rng, numbers)}
    for key, text in settings.items():
        if rng.random() < 0.7 or key == "location":
            tensor.external_data.add(key=key, value=text)
    if rng.random() < 0.1:
        tensor.external_data.add(key="location", value="data.bin")


CHANGES: list[Change] = [
    dims_of_a_tensor, dims_of_a_value, rank_of_an_input, recorded_shape, type_of_a_value, type_of_a_tensor,
    name_of_a_node, name_read, name_read, name_written, name_everywhere, cycle, order, fewer_or_more_reads,
    fewer_or_more_results, no_node, twice_a_node, operator, operator, domain, no_attributes, attribute_value,
    attribute_value, attribute_length, attribute_type, attribute_name, another_attribute, integers, integers,
    floats, payload, another_rank, no_tensor, twice_a_tensor, sparse, opset, ir_version, inputs, outputs,
    subgraph, function, of_a_function, external,
]  # fmt: skip
