"""What is read from strangers: models, plans, settings and data that are not what they should be."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxprune

from .conftest import DIGITS, Run
from .fuzz_seeds import SEEDS, model, node, value, weights

Change = Callable[[onnx.ModelProto], object]


# Models ---------------------------------------------------------------------------------------


def seed(name: str = "residual") -> onnx.ModelProto:
    return SEEDS[name]()


def renamed(data: bytes, old: bytes) -> bytes:
    return data.replace(old, b"\xff" * len(old))


@pytest.mark.parametrize("name", [b"Conv_c0", b"seed", b"Relu", b"w0", b"maker", b"told"])
def test_names_that_are_no_text(name: bytes) -> None:
    model = seed()
    model.producer_name, model.graph.doc_string = "maker", "told"
    with pytest.raises(onnxprune.ModelError, match="is no UTF-8"):
        onnxprune.load(renamed(model.SerializeToString(), name))


def outside(m: onnx.ModelProto, **entries: str) -> None:
    tensor = m.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)


def nested(depth: int) -> Change:
    def change(m: onnx.ModelProto) -> None:
        inner = helper.make_graph([node("Identity", "x", "o")], "g", [], [value("o", 1)])
        for _ in range(depth):
            both = {"then_branch": inner} if depth > 5 else {"then_branch": inner, "else_branch": inner}
            inner = helper.make_graph([node("If", "x", "o", **both)], "g", [], [value("o", 1)])
        m.graph.node.append(inner.node[0])

    return change


def calling(*callees: tuple[str, ...]) -> Change:
    """Functions f0, f1, ... by what each calls."""

    def change(m: onnx.ModelProto) -> None:
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        for k, names in enumerate(callees):
            calls, x = [], "a"
            for j, name in enumerate(names):
                domain = "own" if name[0] == "f" else ""
                calls.append(onnx.NodeProto(op_type=name, domain=domain, input=[x], output=[f"t{j}"]))
                x = f"t{j}"
            m.functions.append(helper.make_function("own", f"f{k}", ["a"], [x], calls, imports))
        m.opset_import.add(domain="own", version=1)
        m.graph.node.append(onnx.NodeProto(op_type="f0", domain="own", input=["x"], output=["called"]))

    return change


def set_type(m: onnx.ModelProto, kind: int) -> None:
    m.graph.input[0].type.tensor_type.elem_type = kind


def shape(m: onnx.ModelProto) -> Any:
    return m.graph.input[0].type.tensor_type.shape


MODELS: dict[str, tuple[Change, str]] = {
    "opset 999": (lambda m: setattr(m.opset_import[0], "version", 999), "opset 999 is newer than"),
    "opset 0": (lambda m: setattr(m.opset_import[0], "version", 0), "found version 0"),
    "opset 2**40": (
        lambda m: m.opset_import.add(domain="a", version=2**40),
        "operator set 'a': found version",
    ),
    "two opsets": (
        lambda m: m.opset_import.add(domain="ai.onnx", version=7),
        "found 2 versions, expected one",
    ),
    "element type": (lambda m: set_type(m, 99), "'x': found element type 99, which is unknown"),
    "stored type": (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "found element type 99"),
    "no type": (lambda m: m.graph.input[0].type.Clear(), "input 'x' has no type"),
    "rank": (
        lambda m: [shape(m).dim.add(dim_value=1) for _ in range(40)],
        "found 44 axes, expected at most 32",
    ),
    "size": (lambda m: setattr(shape(m).dim[0], "dim_value", 2**63 - 1), "larger than any memory"),
    "negative size": (lambda m: setattr(shape(m).dim[0], "dim_value", -7), "found a size of -7"),
    "stored size": (lambda m: m.graph.initializer[0].dims.append(-1), "found a size of -1"),
    "claim": (lambda m: m.graph.initializer[0].dims.append(10**9), "its data does not fill the shape"),
    "offset": (lambda m: outside(m, location="w", offset="abc"), "found offset 'abc' of its external data"),
    "negative offset": (lambda m: outside(m, location="w", offset="-1"), "found offset '-1'"),
    "length": (lambda m: outside(m, location="w", length="1e3"), "found length '1e3'"),
    "huge length": (lambda m: outside(m, location="w", length="9" * 19), "found length '999"),
    "no location": (lambda m: outside(m, offset="0"), "its external data have no location"),
    "nul": (lambda m: outside(m, location="a\0b"), r"no file can be called 'a\\x00b'"),
    "long name": (lambda m: outside(m, location="x" * 300), "no file can be called 'xxx"),
    "long path": (lambda m: outside(m, location="x/" * 3000), "no file can be called 'x/x/"),
    "nowhere": (
        lambda m: outside(m, location="nowhere"),
        "external data 'nowhere' not found beside the model",
    ),
    "nesting": (nested(25), "found graphs nested more than 20 deep"),
    "recursion": (calling(("f0",)), "function 'f0' calls itself"),
    "mutual recursion": (calling(("f1",), ("f2",), ("f0",)), "calls itself"),
    "doubling": (
        calling(*((f"f{k + 1}", f"f{k + 1}") for k in range(31)), ("Relu",)),
        "the functions of the model expand to 2,147,483,658 nodes, expected at most 1,000,000",
    ),
    "block size": (
        lambda m: m.graph.node.append(node("DepthToSpace", "x", "z", blocksize=2**32)),
        "DepthToSpace 'DepthToSpace_z': found blocksize of 4294967296",
    ),
    "gap in Split": (
        lambda m: m.graph.node.append(node("Split", "x", "z -")),
        "found an empty name among those",
    ),
    "gap in Einsum": (
        lambda m: m.graph.node.append(node("Einsum", "x -", "z", equation="a,b->ab")),
        "found an empty name",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_refused(tmp_path: Path, name: str) -> None:
    change, message = MODELS[name]
    broken = seed()
    change(broken)
    path = tmp_path / "broken.onnx"
    path.write_bytes(broken.SerializeToString())
    with pytest.raises(onnxprune.ModelError, match=message) as caught:
        onnxprune.prune(path)
    assert "\n" not in caught.value.message


def test_doubling_within_reason() -> None:
    """The same functions, ten deep: a thousand nodes."""
    whole = model([node("Relu", "x", "y")], [value("x", 1, 4)], ["y"], weights(w0=(1,)))
    calling(*((f"f{k + 1}", f"f{k + 1}") for k in range(10)), ("Relu",))(whole)
    assert len(onnxprune.load(whole).proto.graph.node) == 1 + 2**10


def test_a_device_is_no_model() -> None:
    with pytest.raises(onnxprune.ModelError, match="cannot read '/dev/zero': it is a device"):
        onnxprune.load("/dev/zero")


# Plans ----------------------------------------------------------------------------------------

PLANS: dict[str, tuple[Callable[[Any], object], str]] = {
    "boolean": (lambda p: p["groups"][0]["keep"].__setitem__(0, True), "groups[0].keep[0]: expected 'int', got 'bool'"),
    "float": (lambda p: p["groups"][0]["keep"].__setitem__(0, 1.5), "groups[0].keep[0]: expected 'int', got 'float'"),
    "negative": (lambda p: p["groups"][1].update(keep=[-1]), "groups[1].keep[0]: expected 'int' >= 0"),
    "order": (lambda p: p["groups"][0]["keep"].reverse(), "groups[0]: found indices that do not ascend"),
    "status": (lambda p: p["groups"][0].update(status="gone"), "groups[0].status: invalid enum value 'gone'"),
    "scores": (lambda p: p["groups"][0]["scores"].pop(), "groups[0]: found 31 scores, expected 32, one per channel"),
    "twice": (lambda p: p["groups"].append(p["groups"][0]), "found group '/stem/conv/Conv' twice"),
    "member": (lambda p: p["groups"][0]["members"][0].update(axis="0"), "groups[0].members[0].axis: expected 'int', got 'str'"),
    "channels": (lambda p: p["groups"][0].update(channels=0), "groups[0].channels: expected 'int' >= 1"),
    "option": (lambda p: p["options"].update(lossless="no"), "options.lossless: expected 'bool', got 'str'"),
    "constant": (lambda p: next(iter(p["constants"].values())).update(keep={"9": [0]}), "found axis 9 of"),
    "model": (lambda p: p.update(model=[]), "model: expected 'object', got 'array'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Any:
    return onnxprune.prune(DIGITS).plan.to_dict()


@pytest.mark.parametrize("name", PLANS)
def test_plans_that_are_refused(plan: Any, name: str) -> None:
    change, message = PLANS[name]
    broken = json.loads(json.dumps(plan))
    change(broken)
    with pytest.raises(onnxprune.PlanError) as caught:
        onnxprune.Plan.from_dict(broken)
    assert caught.value.message.startswith("malformed plan: ")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("Infinity", "is not JSON: invalid character"),
        ("NaN", "is not JSON: invalid character"),
        ("1e400", "out of range"),
    ],
)
def test_numbers_that_are_none(plan: Any, tmp_path: Path, number: str, message: str) -> None:
    broken = json.loads(json.dumps(plan))
    broken["groups"][0]["scores"][0] = "HERE"
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(broken).replace('"HERE"', number))
    with pytest.raises(onnxprune.PlanError, match=message):
        onnxprune.Plan.load(path)
    broken["groups"][0]["scores"][0] = float("inf")
    with pytest.raises(onnxprune.PlanError, match=r"groups\[0\]: found a score that is no finite number"):
        onnxprune.Plan.from_dict(broken)


def test_a_plan_that_is_nested_for_ever(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[" * 100_000)
    with pytest.raises(onnxprune.PlanError, match="is not JSON: "):
        onnxprune.Plan.load(tmp_path / "plan.json")


# Settings and data ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ratio = true", "ratio: expected "),
        ("ratio = inf", "ratio: found a number that is not finite"),
        ("granularity = 8.5", "granularity: expected 'int | str', got 'float'"),
        ("granularity = true", "granularity: expected 'int | str', got 'bool'"),
        ("exclude = [1]", "exclude[0]: expected 'str', got 'int'"),
        ("[ratio]\nstem = nan", "ratio.stem: found a number that is not finite"),
        ("[remove]\nstem = [true]", "remove"),
        ("clean = 1", "clean: expected 'bool', got 'int'"),
    ],
)
def test_configurations_that_are_refused(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    outcome = run("prune", DIGITS, "-o", tmp_path / "out.onnx", "--config", tmp_path / "c.toml")
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) <= 2
    assert "internal" not in outcome.err


@pytest.mark.parametrize(
    "profile",
    [
        '{"size": [true, 8]}',
        '{"resize": -3}',
        '{"scale": 1e400}',
        '{"mean": [null]}',
        '{"std": ["1"]}',
        '{"crop": 2}',
    ],
)
def test_profiles_that_are_refused(profile: str) -> None:
    from onnxprune.data.images import read_profile

    with pytest.raises(onnxprune.UsageError, match="the profile of images"):
        read_profile(profile)


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def encrypted(path: Path) -> Path:
    archive(path, image=b"\x93NUMPY")
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.find(mark) + offset] |= 1  # the flag says so
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (encrypted, "it is encrypted"),
        (lambda path: archive(path, image=b"no array"), "its member 'image' is no array"),
        (pipe, "it is no regular file"),
    ],
)
def test_data_that_are_refused(run: Run, tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path / "data.npz")
    outcome = run("verify", DIGITS, DIGITS, "--data", path)
    assert outcome.code == 2
    assert outcome.err.splitlines()[0].endswith(message), outcome.err


@pytest.mark.parametrize("name", ["labels.json", "labels.npy", "labels.csv"])
def test_pipes_are_no_labels(run: Run, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    data = tmp_path / "d.npz"
    np.savez(data, image=np.zeros((2, 1, 8, 8), np.float32))
    outcome = run("verify", DIGITS, DIGITS, "--data", data, "--labels", tmp_path / name)
    assert outcome.code == 2
    assert "it is no regular file" in outcome.err


def test_an_image_that_says_it_is_huge(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    from onnxprune.data.images import image_reader

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (12_000, 100_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        data = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(b""))
            + chunk(b"IEND", b"")
        )
        (tmp_path / "a.png").write_bytes(data)
        read = image_reader(value("image", 1, 1, 8, 8), "unit")
        with pytest.raises(onnxprune.UsageError, match="pixels"):
            read(tmp_path / "a.png")


def test_numbers_of_a_stored_tensor() -> None:
    """The sum of what is claimed is judged by the file; one tensor by itself when it is read."""
    broken = seed()
    broken.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "w0"))
    broken.graph.initializer[0].raw_data = broken.graph.initializer[0].raw_data[:-4]
    with pytest.raises(onnxprune.ModelError, match="its data does not fill the shape"):
        onnxprune.prune(broken)


def test_an_operator_set_may_be_imported_twice() -> None:
    """onnx.compose.merge_models lists those of both models."""
    model = onnx.load(DIGITS)
    model.opset_import.extend(list(model.opset_import))
    assert onnxprune.load(model).opset == 17
