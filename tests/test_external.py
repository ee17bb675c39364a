"""External data: no file is larger than the one that it was made from, whatever that looked like."""

from __future__ import annotations

import hashlib
import os
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

import onnxprune
from onnxprune.files import writing
from onnxprune.model import external as files

from .conftest import DIGITS

X = np.random.default_rng(1).standard_normal((3, 24)).astype(np.float32)


def network() -> onnx.ModelProto:
    """Two layers have equal weights, of which each will keep other channels; some columns are zero."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, 24] x) => (float[n, 8] y) {
          a = MatMul (x, shared)
          b = Add (a, bias)
          c = Relu (b)
          d = MatMul (c, twin)
          e = Relu (d)
          f = MatMul (e, gap)
          h = Relu (f)
          y = MatMul (h, last)
        }""")
    rng = np.random.default_rng(0)
    shapes = {"shared": (24, 24), "bias": (24,), "twin": (24, 24), "gap": (24, 40), "last": (40, 8)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["twin"] = arrays["shared"]
    arrays["gap"][:, ::4] = 0
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


class Layout(NamedTuple):
    """How the weights of a model lie in data files."""

    length: int = 10
    """Characters of a file's name."""
    files: str = "one"
    """``one``, one ``each``, or one ``each`` but for two tensors that are ``shared``."""
    keys: tuple[str, ...] = ("offset", "length")
    alignment: int = 1
    beside: bool = True
    """Whether the output goes to the same folder."""


def write(layout: Layout, folder: Path) -> Path:
    """The network as a file, with all weights in data files."""
    model, whole = network(), b""
    letters = string.ascii_lowercase
    for number, tensor in enumerate(model.graph.initializer):
        data = tensor.raw_data
        number = 0 if tensor.name == "twin" and layout.files == "shared" else number
        name = letters[number if layout.files != "one" else -1] * layout.length
        offset = 0
        if layout.files == "one":
            offset = len(whole) + -len(whole) % layout.alignment
            data = whole = whole.ljust(offset, b"\0") + data
        (folder / name).write_bytes(data)
        place = {"location": name, "offset": offset, "length": len(tensor.raw_data)}
        for key in ("location", *layout.keys):
            tensor.external_data.add(key=key, value=str(place[key]))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def sizes(path: Path) -> tuple[int, list[int]]:
    """Bytes of a model's file, and of its data files, the largest first."""
    names = {
        entry.value
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return path.stat().st_size, sorted((path.with_name(n).stat().st_size for n in names), reverse=True)


def run(path: Path | bytes) -> np.ndarray:
    (found,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    return np.asarray(found)


VERBS: dict[str, Callable[[Path | onnx.ModelProto], onnxprune.Model]] = {
    "save": onnxprune.load,
    "clean": lambda source: onnxprune.clean(source).model,
    "prune": lambda source: onnxprune.prune(source, ratio=0.3, granularity=1).model,
    "prune a little": lambda source: onnxprune.prune(source, ratio=0.05, granularity=1, clean=False).model,
    "recover": lambda source: onnxprune.prune(source, data={"x": np.tile(X, (40, 1))}, provider="cpu").model,
}


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    files = draw(st.sampled_from(["one", "each", "shared"]))
    keys = draw(st.sets(st.sampled_from(["offset", "length"]))) | ({"offset"} if files == "one" else set())
    alignment = draw(st.sampled_from([1, 64, 4096])) if files == "one" else 1
    return Layout(draw(st.integers(1, 40)), files, tuple(sorted(keys)), alignment, draw(st.booleans()))


@pytest.mark.parametrize("verb", VERBS)
@example(Layout(1, "shared", ()))
@example(Layout(1))
@example(Layout(40, "each", ("offset", "length")))
@given(layouts())
@settings(deadline=None, max_examples=5, derandomize=True)
def test_no_file_is_larger(verb: str, layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write(layout, folder)
        before = {path: path.read_bytes() for path in folder.iterdir()}
        target = source.with_name("o.onnx") if layout.beside else folder / "out" / "o.onnx"
        target.parent.mkdir(exist_ok=True)
        made = VERBS[verb](source)
        made.save(target)

        (graph, data), (slim, parts) = sizes(source), sizes(target)
        assert slim <= graph
        assert sum(parts) <= sum(data)
        assert len(parts) <= len(data) + (layout.files == "shared")
        assert {path: path.read_bytes() for path in before} == before
        np.testing.assert_array_equal(run(target), run(made.embedded().SerializeToString()))


@pytest.mark.parametrize("length", [1, 3, 4, 7, 9, 20, 30])
def test_files_of_an_older_model_go(length: int, tmp_path: Path) -> None:
    """Names too short to tell that a file is ours stay; one that is somebody else's always does."""
    source, target = write(Layout(length), tmp_path), tmp_path / "o.onnx"
    model = onnxprune.load(source)
    unlike = tmp_path / "abcd"
    unlike.write_text("somebody's")
    kept = set(tmp_path.iterdir()) | {target}
    for ratio in (0.25, 0.5, 0.5):
        onnxprune.prune(model, ratio=ratio, granularity=1).model.save(target)
        assert run(target).shape == (3, 8)
    made = set(tmp_path.iterdir()) - kept
    assert all(len(path.name) <= length for path in made)
    assert len(made) == 1 if length >= 4 else len(made) <= 2
    assert unlike.read_text() == "somebody's"


def test_a_name_that_is_taken_is_not_used(tmp_path: Path) -> None:
    source, target = write(Layout(8), tmp_path), tmp_path / "o.onnx"
    model = onnxprune.load(source)
    model.save(target)
    (made,) = set(tmp_path.iterdir()) - {source, target, tmp_path / ("z" * 8)}
    assert len(made.name) == 8
    made.write_text("somebody's")
    model.save(target)
    assert made.read_text() == "somebody's"
    assert run(target).shape == (3, 8)


def test_functions_leave_the_data_where_they_are(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18, "ours" : 1]>
        g (float[n, 24] x) => (float[n, 24] y) { a = ours.dense(x, w0)  y = MatMul(a, w1) }
        <domain: "ours", opset_import: ["" : 18]>
        dense (x, w) => (y) { a = MatMul(x, w)  y = Relu(a) }
        """)
    weight = np.random.default_rng(0).standard_normal((24, 24)).astype(np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(weight, name) for name in ("w0", "w1"))
    source, target = tmp_path / "m.onnx", tmp_path / "out" / "m.onnx"
    target.parent.mkdir()
    onnx.save(model, source, save_as_external_data=True, location="m.data", size_threshold=0)
    result = onnxprune.prune(source, ratio=0.5)
    assert result.after.bytes < 0.6 * result.before.bytes
    result.model.save(target)
    assert sum(sizes(target)[1]) < 0.6 * sum(sizes(source)[1])
    assert run(target).shape == (3, 24)


def test_a_function_may_have_data_outside(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((24, 24)).astype(np.float32)
    constant = onnx.helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight, "w"))
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18, "ours" : 1]>
        g (float[n, 24] x) => (float[n, 24] y) { a = ours.dense(x) b = Relu(a) y = ours.dense(b) }
        <domain: "ours", opset_import: ["" : 18]>
        dense (x) => (y) { y = MatMul(x, w) }
        """)
    model.functions[0].node.insert(0, constant)
    tensor = model.functions[0].node[0].attribute[0].t
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "w.bin")
    tensor.ClearField("raw_data")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    result = onnxprune.prune(tmp_path / "m.onnx", ratio=0.5, verify=True, provider="cpu")
    assert result.report
    assert [len(group) for group in result.trace] == [24]
    result.model.save(tmp_path / "o.onnx")
    assert run(tmp_path / "o.onnx").shape == (3, 24)


@pytest.mark.filterwarnings("error")
def test_further_entries_are_of_no_matter(tmp_path: Path) -> None:
    source = write(Layout(), tmp_path)
    model = onnx.load(source, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="note", value="a tool's own")
    source.write_bytes(model.SerializeToString())
    onnxprune.prune(source, ratio=0.5).model.save(tmp_path / "o.onnx")
    assert run(tmp_path / "o.onnx").shape == (3, 8)


def test_a_place_of_what_lies_inside_is_of_no_matter(tmp_path: Path) -> None:
    """Tools forget it when they put weights back into a model: it does not send them out again."""
    model = network()
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="location", value="gone.bin")
    onnx.save(model, tmp_path / "model.onnx")
    for source in (model, tmp_path / "model.onnx"):
        onnxprune.prune(source, ratio=0.5, granularity=1).model.save(tmp_path / "slim.onnx")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "slim.onnx"]
    assert model.graph.initializer[0].external_data, "what was given stays as it was"


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="this system copies nothing from file to file")
def test_large_tensors_are_copied_from_file_to_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And written as others are where the system refuses, with nothing before them."""
    monkeypatch.setattr(files, "BLOCK", 16)
    monkeypatch.setattr(writing, "POURED", 1000)
    source = tmp_path / "m.onnx"
    onnx.save(onnx.load(DIGITS), source, save_as_external_data=True, size_threshold=0)
    poured, calls, digests = list[bool](), list[int](), list[str]()

    def refused(*arguments: int) -> int:
        calls.append(len(calls))
        if calls[-1] % 3 == 2:
            raise OSError("another file system")
        return copy(*arguments)

    def noted(*arguments: Any) -> bool:
        poured.append(pour(*arguments))
        return poured[-1]

    copy, pour = os.copy_file_range, writing.pour
    monkeypatch.setattr(files, "pour", noted)
    for change in (None, refused):
        if change is not None:
            monkeypatch.setattr(os, "copy_file_range", change)
        onnxprune.load(source).save(tmp_path / "out.onnx")
        (data,) = tmp_path.glob("out.onnx.*.data")
        digests.append(hashlib.sha256(data.read_bytes()).hexdigest())
        assert onnxprune.load(tmp_path / "out.onnx").embedded() == onnxprune.load(DIGITS).embedded()
    assert set(poured) == {True, False}
    assert digests[0] == digests[1]
