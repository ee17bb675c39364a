"""What a file may be besides a plain float32 model: all of it survives pruning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

import onnxprune
from models.build import BUILDERS

from . import cases_norm
from .conftest import exact


def perceptron(width: int = 32, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Two matrix products with a Relu between them."""
    rng = np.random.default_rng(0)
    numpy_dtype = helper.tensor_dtype_to_np_dtype(dtype)

    def weight(name: str, *shape: int) -> TensorProto:
        array = rng.standard_normal(shape) / np.sqrt(shape[0])
        return numpy_helper.from_array(array.astype(numpy_dtype), name)

    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"], "first", doc_string="kept"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w1"], ["y"], "second"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [value("x", dtype, ["n", width])],
        [value("y", dtype, ["n", 4])],
        [weight("w0", width, width), weight("w1", width, 4)],
    )
    opsets = [helper.make_opsetid("", 22)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def slim_shapes(model: onnxprune.Model) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in model.proto.graph.initializer}


def store_outside(model: onnx.ModelProto, path: Path, one_file: bool) -> None:
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        size_threshold=0,
        location="weights.bin" if one_file else None,
    )


@pytest.mark.parametrize("alignment", [1, 8, 4096])
def test_data_files_have_no_more_gaps_than_they_had(tmp_path: Path, alignment: int) -> None:
    """Tensors that lay close together do so again, and what lay inside the model stays there."""
    model, data = perceptron(), b""
    model.graph.initializer.append(numpy_helper.from_array(np.ones(5000, np.float32), "inside"))
    for tensor in model.graph.initializer[:2]:
        data += b"\1" * (-(len(data) + 5) % alignment + 5)
        place = {"location": "weights.bin", "offset": len(data), "length": len(tensor.raw_data)}
        data += tensor.raw_data
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
    (tmp_path / "weights.bin").write_bytes(data)
    onnx.save(model, tmp_path / "dense.onnx")
    onnxprune.load(tmp_path / "dense.onnx").save(tmp_path / "again.onnx")
    (written,) = tmp_path.glob("*.data")
    assert written.stat().st_size <= len(data)
    kept = onnx.load(tmp_path / "again.onnx", load_external_data=False).graph.initializer
    outside = [external_data_helper.ExternalDataInfo(tensor) for tensor in kept[:2]]
    assert all(info.offset is not None and info.offset % alignment == 0 for info in outside)
    assert kept[2].raw_data == np.ones(5000, np.float32).tobytes()


@pytest.mark.parametrize("one_file", [True, False])
def test_external_data(tmp_path: Path, one_file: bool) -> None:
    inside = perceptron()
    copy = onnx.ModelProto()
    copy.CopyFrom(inside)
    store_outside(copy, tmp_path / "dense.onnx", one_file)

    result = onnxprune.prune(tmp_path / "dense.onnx", verify=True, provider="cpu")
    result.model.save(tmp_path / "slim.onnx")

    assert exact(result)
    saved = onnx.load(tmp_path / "slim.onnx", load_external_data=False)
    assert all(map(external_data_helper.uses_external_data, saved.graph.initializer))
    expected = onnxprune.prune(inside).model.proto
    loaded = onnx.load(tmp_path / "slim.onnx")
    for a, b in zip(loaded.graph.initializer, expected.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))
    assert (
        result.after.bytes == sum(path.stat().st_size for path in tmp_path.glob("slim.onnx*"))
        or result.after.bytes < result.before.bytes
    )


def test_external_data_may_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    model = perceptron()
    store_outside(model, tmp_path / "inner" / "dense.onnx", one_file=True)
    proto = onnx.load(tmp_path / "inner" / "dense.onnx", load_external_data=False)
    (tmp_path / "inner" / "weights.bin").rename(tmp_path / "weights.bin")
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = "../weights.bin"
    (tmp_path / "inner" / "dense.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(onnxprune.ModelError, match="not found beside the model"):
        onnxprune.prune(tmp_path / "inner" / "dense.onnx")


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_float_types(dtype: int) -> None:
    model = perceptron(dtype=dtype)
    result = onnxprune.prune(model)
    weight = result.model.proto.graph.initializer[0]
    assert (weight.data_type, tuple(weight.dims)) == (dtype, (32, 16))
    (keep,) = [g.keep for g in result.plan.groups if g.status == "pruned"]
    dense = numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(numpy_helper.to_array(weight), dense[:, list(keep)])


@pytest.mark.parametrize("name", ["INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2", "STRING"])
def test_untouched_tensors_survive_byte_for_byte(name: str) -> None:
    model = perceptron()
    dtype = getattr(TensorProto, name)
    if dtype == TensorProto.STRING:
        extra = numpy_helper.from_array(np.array(["a", "b"], object), "extra")
    else:
        array = np.arange(6).reshape(2, 3).astype(helper.tensor_dtype_to_np_dtype(dtype))
        extra = numpy_helper.from_array(array, "extra")
    model.graph.initializer.append(extra)
    model.graph.output.append(helper.make_tensor_value_info("extra", dtype, extra.dims))
    slim = onnxprune.prune(model).model.proto
    (found,) = [t for t in slim.graph.initializer if t.name == "extra"]
    assert found == extra
    assert slim_shapes(onnxprune.load(slim))["w0"] == (32, 16)


def test_metadata_and_annotations_are_kept() -> None:
    model = perceptron()
    model.metadata_props.add(key="author", value="somebody")
    model.producer_name = "exporter"
    model.graph.doc_string = "a graph"
    model.graph.metadata_props.add(key="scope", value="main")
    annotation = model.graph.quantization_annotation.add(tensor_name="h")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w1")
    model.graph.node[0].metadata_props.add(key="line", value="7")
    slim = onnxprune.prune(model).model.proto
    assert slim.metadata_props == model.metadata_props
    assert slim.producer_name == "exporter"
    assert slim.graph.doc_string == "a graph"
    assert slim.graph.metadata_props == model.graph.metadata_props
    assert slim.graph.quantization_annotation == model.graph.quantization_annotation
    assert slim.graph.node[0].doc_string == "kept"
    assert slim.graph.node[0].metadata_props == model.graph.node[0].metadata_props


def test_functions_are_inlined() -> None:
    model = perceptron()
    body = [helper.make_node("Relu", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 22)]
    model.functions.append(helper.make_function("own", "Act", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[1].op_type = "Act"
    model.graph.node[1].domain = "own"
    result = onnxprune.prune(model, verify=True, provider="cpu")
    assert [n.op_type for n in result.model.proto.graph.node] == ["MatMul", "Relu", "MatMul"]
    assert exact(result)
    assert slim_shapes(result.model)["w0"] == (32, 16)


def test_functions_are_called_with_their_defaults() -> None:
    """The clean-up, the plan and every check were of a network without them. One calls the other."""
    model = perceptron()
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("own", 1)]
    leaky, call = (
        helper.make_node("LeakyRelu", ["a"], ["b"]),
        helper.make_node("Leaky", ["a"], ["b"], domain="own"),
    )
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    slope = helper.make_attribute("slope", 0.5)
    for name, node, defaults in (("Leaky", leaky, [slope]), ("Act", call, [])):
        model.functions.append(
            helper.make_function("own", name, ["a"], ["b"], [node], opsets, attribute_protos=defaults)
        )
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[1].op_type = "Act"
    model.graph.node[1].domain = "own"
    (node,) = (n for n in onnxprune.load(model).proto.graph.node if n.op_type == "LeakyRelu")
    assert [(a.name, a.f) for a in node.attribute] == [("alpha", 0.5)]


def test_functions_of_one_name_differ_in_their_overload() -> None:
    model = perceptron()
    for overload, op in (("rising", "Relu"), ("bounded", "Sigmoid")):
        body = [helper.make_node(op, ["a"], ["b"])]
        opsets = [helper.make_opsetid("", 22)]
        model.functions.append(
            helper.make_function("own", "Act", ["a"], ["b"], body, opsets, overload=overload)
        )
    model.opset_import.append(helper.make_opsetid("own", 1))
    node = model.graph.node[1]
    node.op_type, node.domain, node.overload = "Act", "own", "bounded"
    loaded = onnxprune.load(model).proto
    assert [n.op_type for n in loaded.graph.node] == ["MatMul", "Sigmoid", "MatMul"]
    model.functions[0].overload = "bounded"
    with pytest.raises(onnxprune.ModelError, match="two functions of the same name"):
        onnxprune.load(model)


def test_group_normalization_that_is_deprecated() -> None:
    """The checker refuses it at opset 18, wherever it stands; onnxruntime runs it."""
    case = next(c for c in cases_norm.CASES if str(c) == "GroupNormalization-opset-18")
    model = case.build()
    node = next(n for n in model.graph.node if n.op_type == "GroupNormalization")
    opsets = [helper.make_opsetid("", 18)]
    inner = helper.make_node("GroupNormalization", ["a", "b", "c"], ["d"], num_groups=2)
    model.functions.append(helper.make_function("own", "Norm", ["a", "b", "c"], ["d"], [inner], opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    node.op_type, node.domain = "Norm", "own"
    del node.attribute[:]
    result = onnxprune.prune(model, ratio=0.5, granularity=1, verify=True, provider="cpu")
    assert exact(result)
    assert slim_shapes(result.model)["s"] == (1,)


def test_group_normalization_that_is_deprecated_in_a_branch() -> None:
    value = helper.make_tensor_value_info
    inner = helper.make_node("GroupNormalization", ["x", "s", "b"], ["t"], num_groups=2)
    branches: dict[str, Any] = {
        "then_branch": helper.make_graph([inner], "then", [], [value("t", 1, [1, 4, 2])]),
        "else_branch": helper.make_graph([helper.make_node("Relu", ["x"], ["e"])], "else", [], [value("e", 1, [1, 4, 2])]),
    }  # fmt: skip
    stored = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("s", "b")]
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], **branches)],
        "branches",
        [value("x", 1, [1, 4, 2]), value("c", TensorProto.BOOL, [])],
        [value("y", 1, [1, 4, 2])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    assert onnxprune.load(model).proto == model


def test_custom_domain_is_kept_and_blocks_what_it_touches() -> None:
    model = perceptron()
    model.opset_import.append(helper.make_opsetid("com.example", 3))
    model.graph.node[1].domain = "com.example"
    result = onnxprune.prune(model)
    assert result.model.proto == model
    (group,) = result.trace.blocked[:1]
    assert "com.example::Relu 'relu'" in group.reason


def test_sparse_initializer_is_left_alone() -> None:
    model = perceptron()
    values = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "bias")
    indices = numpy_helper.from_array(np.array([1, 3], np.int64), "bias_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    model.graph.node.append(helper.make_node("Add", ["y", "bias"], ["z"], "add"))
    model.graph.output[0].name = "z"
    slim = onnxprune.prune(model).model.proto
    assert slim.graph.sparse_initializer == model.graph.sparse_initializer
    assert slim_shapes(onnxprune.load(slim))["w0"] == (32, 16)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("name", ["w0", "w1"])
@pytest.mark.parametrize("node", [True, False])
def test_sparse_weights_are_not_cut(name: str, node: bool, flat: bool) -> None:
    """Neither those that make channels nor those that read them, as an initializer or in a node."""
    model = perceptron()
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor)
    model.graph.initializer.remove(tensor)
    places = np.argwhere(array > 0.5) if not flat else np.flatnonzero(array > 0.5)
    values = numpy_helper.from_array(array[array > 0.5], name)
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places, f"{name}_at"), array.shape)
    if node:
        model.graph.node.insert(0, helper.make_node("Constant", [], [name], sparse_value=sparse))
    else:
        model.graph.sparse_initializer.append(sparse)
    result = onnxprune.prune(model, verify=True, provider="cpu")
    assert result.report
    assert result.model.proto == model
    assert f"'{name}' is stored as a sparse tensor, which is not cut" in {
        g.reason for g in result.trace.blocked
    }


def test_graphsurgeon_in_and_out() -> None:
    graph = gs.import_onnx(BUILDERS["residual"]())
    result = onnxprune.prune(graph, granularity=1, verify=True, provider="cpu")
    assert exact(result)
    back = result.model.to_graphsurgeon()
    assert isinstance(back, gs.Graph)
    session = ort.InferenceSession(
        gs.export_onnx(back).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = {
        i.name: np.ones([d if isinstance(d, int) else 1 for d in i.shape], np.float32)
        for i in session.get_inputs()
    }
    direct = ort.InferenceSession(result.model.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for a, b in zip(session.run(None, feeds), direct.run(None, feeds), strict=True):
        np.testing.assert_array_equal(a, b)


MEMORY = """
import re, sys
import onnxprune
result = onnxprune.prune(sys.argv[1], verify=True, provider="cpu")
result.model.save(sys.argv[2])
# Not ru_maxrss: that begins with the peak of the process that this one was forked from.
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def write_large(path: Path, width: int, layers: int) -> int:
    """Perceptron with weights in one external file, written tensor by tensor; largest tensor."""
    tile = np.random.default_rng(0).standard_normal((width, width)).astype(np.float32)
    tile /= np.sqrt(width)
    nodes, stored, x = [], [], "x"
    with (path.parent / "large.bin").open("wb") as out:
        for k in range(layers):
            tensor = TensorProto(name=f"w{k}", data_type=TensorProto.FLOAT, dims=tile.shape)
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": "large.bin", "offset": out.tell(), "length": tile.nbytes}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            np.roll(tile, k).tofile(out)
            out.flush()
            out.seek(0, 2)
            stored.append(tensor)
            nodes += [
                helper.make_node("MatMul", [x, f"w{k}"], [f"h{k}"], f"matmul{k}"),
                helper.make_node("Relu", [f"h{k}"], [f"r{k}"], f"relu{k}"),
            ]
            x = f"r{k}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "large",
        [value("x", TensorProto.FLOAT, ["n", width])],
        [value(x, TensorProto.FLOAT, ["n", width])],
        stored,
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return tile.nbytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak")
@pytest.mark.parametrize(
    ("width", "layers"), [(2048, 12), pytest.param(8192, 9, marks=pytest.mark.slow, id="over-2GB")]
)
def test_memory_with_external_data(tmp_path: Path, width: int, layers: int) -> None:
    largest = write_large(tmp_path / "large.onnx", width, layers)
    command = [sys.executable, "-c", MEMORY, *map(str, (tmp_path / "large.onnx", tmp_path / "slim.onnx"))]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    peak = int(done.stdout) * 1024
    assert peak < 1.5 * largest + 300e6
    session = ort.InferenceSession(tmp_path / "slim.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.ones((1, width), np.float32)})
    assert y.shape == (1, width)
    assert np.isfinite(y).all()
    assert y.any()


def test_new_constants_are_listed_in_old_files() -> None:
    text = """
        <ir_version: 3, opset_import: ["" : 8]>
        g (float[2,3,4,4] x, float[8,3,1,1] W, int64[2] size, float[128,5] V) => (float[2,5] y) {
          c = Conv (x, W)
          e = Sigmoid (c)
          f = Reshape (e, size)
          y = MatMul (f, V)
        }"""
    dense = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    stored = {"W": rng.standard_normal((8, 3, 1, 1)), "V": rng.standard_normal((128, 5))}
    arrays = {name: array.astype(np.float32) for name, array in stored.items()}
    arrays["size"] = np.array([2, 128])
    dense.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    result = onnxprune.prune(dense, granularity=1, verify=True)
    assert exact(result)
    listed = {value.name for value in result.model.proto.graph.input}
    assert listed > {tensor.name for tensor in result.model.proto.graph.initializer}
    assert slim_shapes(result.model)["V"] == (64, 5)


def test_initializers_that_an_old_file_does_not_list() -> None:
    """Optimizers and quantisers drop them from the inputs and leave the IR version as it is."""
    dense = perceptron()
    dense.ir_version = 3
    dense.opset_import[0].version = 8
    result = onnxprune.prune(dense, granularity=1, verify=True, provider="cpu")
    assert exact(result)
    assert slim_shapes(result.model) == {"w0": (32, 16), "w1": (16, 4)}
    assert result.model.proto.ir_version == 3


def test_output_without_a_shape() -> None:
    """As graphsurgeon writes one that was made an output by hand."""
    graph = gs.import_onnx(perceptron())
    (middle,) = [node.outputs[0] for node in graph.nodes if node.op == "Relu"]
    middle.dtype, middle.shape = np.float32, None
    graph.outputs = [middle, *graph.outputs]
    for source in (graph, gs.export_onnx(graph)):
        result = onnxprune.prune(source, granularity=1, verify=True, provider="cpu")
        assert exact(result)
        assert [g.reason for g in result.plan.groups] == [f"graph output '{name}'" for name in ("r", "y")]


def test_recorded_sizes_of_minus_one_are_open() -> None:
    """As Paddle writes them, for inputs and in between."""
    dense = perceptron()
    dense.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [-1, 32]))
    for value in (*dense.graph.input, *dense.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    result = onnxprune.prune(dense, granularity=1, verify=True, provider="cpu")
    assert exact(result)
    (middle,) = result.model.proto.graph.value_info
    assert [d.dim_value for d in middle.type.tensor_type.shape.dim] == [-1, 16]
