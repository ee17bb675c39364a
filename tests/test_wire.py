"""Large files: weights stay in them until somebody asks for one, and nothing else is different."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune
from models.build import BUILDERS
from onnxprune.errors import OnnxPruneError
from onnxprune.model import cut, loading
from onnxprune.model.file import Model
from onnxprune.model.protos import was_left
from onnxprune.model.source import Source
from onnxprune.model.wire import Irregular, read_around
from onnxprune.runtime import memory

from .conftest import DIGITS, IMAGES, ROOT, Run
from .full import sampled

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there files are read whole")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether every file is a large one, whose weights are read some rows at a time."""

    def say(yes: bool) -> None:
        monkeypatch.setattr(loading, "LARGE", 1 if yes else 2**40)
        monkeypatch.setattr(loading, "LEAST_LENT", 16)
        monkeypatch.setattr(cut, "BLOCK", 64)

    return say


def left(model: Model) -> int:
    return sum(map(was_left, model.proto.graph.initializer))


def outcome(path: Path) -> object:
    """What becomes of a file: what is written, or the sentence."""
    try:
        model = onnxprune.load(path)
        result = onnxprune.prune(model, ratio=0.5)
    except OnnxPruneError as error:
        return str(error)
    target = path.with_name("out.onnx")
    found: list[object] = []
    for each in (model, result.model):
        each.save(target)
        found += target.read_bytes(), each.embedded().SerializeToString(), each.nbytes()
    return *found, result.plan.to_dict()


def noted(model: onnx.ModelProto) -> onnx.ModelProto:
    """With what may stand beside raw data: a place that is said to be here, notes, a field of tomorrow."""
    for tensor in model.graph.initializer:
        tensor.data_location = TensorProto.DEFAULT
        tensor.doc_string = "measured"
        tensor.metadata_props.add(key="a", value="b")
        tensor.MergeFromString(b"\xfa\x3f\x03abc")  # field 1023
    return model


@pytest.mark.parametrize("name", sampled(sorted(BUILDERS), lambda k, _: k % 6 == 0))
def test_the_same_is_written(name: str, tmp_path: Path, large: Callable[[bool], None]) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(noted(BUILDERS[name]()), path)
    results = []
    for yes in (False, True):
        large(yes)
        results.append(outcome(path))
    assert results[0] == results[1]
    model = onnxprune.load(path)
    assert bool(left(model)) == bool(model.proto.graph.initializer), "weights of Constant nodes are not left"
    if left(model):
        with pytest.raises(onnxprune.ModelError, match="its external data have no location"):
            onnxprune.load(model.proto)


def test_damage_is_told_alike(tmp_path: Path, large: Callable[[bool], None]) -> None:
    """Bytes that are changed, left out or put in anywhere: the same sentence, or the same result."""
    whole, path = DIGITS.read_bytes(), tmp_path / "m.onnx"
    heads = [k for k in range(len(whole)) if whole[k : k + 1] in b"\x2a\x3a\x4a"][:40]
    rng, irregular = np.random.default_rng(0), 0
    for k in (*heads, *rng.integers(0, len(whole), 40).tolist(), *rng.integers(0, 200, 40).tolist()):
        data = bytearray(whole)
        data[k : k + int(rng.integers(3))] = rng.bytes(int(rng.integers(3)))
        path.write_bytes(data)
        try:
            read_around(bytes(data), 16)
        except Irregular:
            irregular += 1
        told: list[bytes | str] = []
        for yes in (False, True):
            large(yes)
            try:
                told.append(onnxprune.load(path).embedded().SerializeToString())
            except OnnxPruneError as error:
                told.append(str(error))
        assert told[0] == told[1], k
    assert 10 < irregular < 110


def test_weights_whose_data_do_not_fill_the_shape_are_refused(
    tmp_path: Path, large: Callable[[bool], None]
) -> None:
    large(True)
    model = onnx.load(DIGITS)
    weight = model.graph.initializer[0]
    weight.raw_data = weight.raw_data[:-4]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(
        onnxprune.ModelError, match=f"tensor '{weight.name}': its data does not fill the shape"
    ):
        onnxprune.prune(tmp_path / "m.onnx")


def test_a_file_that_changes_is_noticed_and_one_that_takes_its_name_is_not_read(
    tmp_path: Path, large: Callable[[bool], None]
) -> None:
    large(True)
    path = tmp_path / "m.onnx"
    path.write_bytes(DIGITS.read_bytes())
    model, digest = onnxprune.load(path), onnxprune.load(DIGITS).sha256()
    onnxprune.prune(path, ratio=0.5).model.save(path)
    assert model.embedded() == onnx.load(DIGITS)
    assert model.sha256() == digest
    model = onnxprune.load(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    name = next(t.name for t in model.proto.graph.initializer if was_left(t))
    with pytest.raises(onnxprune.ModelError, match=f"'{name}': the model's file was changed after the model"):
        onnxprune.prune(model)


def test_a_file_is_hashed_where_its_digest_is_shown(
    tmp_path: Path, large: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    large(True)
    path, hashed = tmp_path / "m.onnx", list[Source]()
    path.write_bytes(DIGITS.read_bytes())
    begin = Source.begin

    def begun(source: Source) -> None:
        hashed.append(source)
        begin(source)

    monkeypatch.setattr(Source, "begin", begun)
    for verb in ("prune", "clean"):
        assert run(verb, path, "-o", tmp_path / "slim.onnx", "--provider", "cpu").code == 0
    assert not hashed
    assert run("clean", path, "-o", tmp_path / "slim.onnx", "--provider", "cpu", "--json").code == 0
    assert hashed
    model = onnxprune.load(path)
    path.write_bytes(b"another")
    with pytest.raises(onnxprune.ModelError, match=r"m\.onnx': the model's file was changed after the model"):
        model.sha256()


def test_a_linked_file_runs(tmp_path: Path, large: Callable[[bool], None]) -> None:
    """Caches of models hold links that lead elsewhere."""
    large(True)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "m").write_bytes(DIGITS.read_bytes())
    (tmp_path / "m.onnx").symlink_to("blobs/m")
    assert onnxprune.prune(tmp_path / "m.onnx", ratio=0.5, verify=True).report


def test_what_does_not_fit_into_memory_is_told_before_it_is_tried(
    tmp_path: Path, large: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    large(True)
    monkeypatch.setattr(memory, "free", lambda: 250_000.0)
    slim = onnxprune.prune(DIGITS, ratio=0.5, verify=True)
    assert slim.report, "one run goes piece by piece"
    said = "verification takes at least 0.00 GB of memory, and 0.00 GB are free"
    with pytest.raises(onnxprune.ModelError, match=said):
        onnxprune.verify(DIGITS, slim.model, data=IMAGES, metric=lambda outputs, labels: 1.0)
    monkeypatch.setattr(memory, "free", lambda: 100_000.0)
    with pytest.raises(onnxprune.ModelError, match=said):  # its largest layer alone takes 147,456 bytes
        onnxprune.prune(DIGITS, ratio=0.5, verify=True)
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load(DIGITS), path, save_as_external_data=True, size_threshold=0)
    assert onnxprune.verify(path, path).change, "mapped weights take no memory of the process alone"


MEMORY = """
import resource, sys, onnxprune, onnxprune.passes, onnxruntime
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
base = peak()
result = onnxprune.prune(sys.argv[1], ratio=0.5)
result.model.save(sys.argv[2])
print(peak() - base)
assert onnxprune.verify(result.trace.model, result.model, plan=result.plan, traced=result.trace, provider="cpu").exact
print(peak() - base)
"""


def test_memory_is_that_of_a_weight_not_of_the_file(tmp_path: Path) -> None:
    """Loaded, analysed, cleaned, scored, cut and written; what is written is half as large."""
    width, layers = 2048, 6
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("MatMul", [f"x{k}", f"w{k}"], [f"x{k + 1}"]) for k in range(layers)]
    inputs, outputs = [value("x0", 1, [1, width])], [value(f"x{layers}", 1, [1, width])]
    weights = [
        numpy_helper.from_array(np.eye(width, dtype=np.float32)[:, ::-1], f"w{k}") for k in range(layers)
    ]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "out.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    size = path.stat().st_size
    assert size > loading.LARGE
    alone, verified = map(int, done.stdout.split())
    assert alone < size / 2  # 0.3 of it; a copy is the whole
    assert verified < 1.75 * size  # 1.4 of it; two sessions as onnxruntime opens them take 3
